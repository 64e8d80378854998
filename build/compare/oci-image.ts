import { ociPlatform } from '../image/config.js';
import type { CompressionFormat } from '../package/decompress.js';
import { architectures, type Architecture } from '../support/architecture.js';
import { cannot, type ToolError } from '../support/errors.js';
import { isDigest, type Described, type ImageStore } from './image-store.js';
import { JsonValue } from './json.js';

/** One architecture's image in a store: what its manifest and configuration say. */
export interface OciImage {
  /** Of the manifest. */
  readonly digest: string;
  /** Of the configuration: the image ID that podman shows. */
  readonly configDigest: string;
  /** `org.opencontainers.image.ref.name` in index.json. */
  readonly reference: string | undefined;
  readonly architecture: Architecture;
  readonly layers: readonly OciLayer[];
  /** Empty for root. */
  readonly user: string;
  readonly entrypoint: readonly string[];
  readonly command: readonly string[];
  /** Absolute paths, as written. */
  readonly volumes: readonly string[];
  /** Without the CAP_ prefix; undefined when the image declares nothing. */
  readonly capabilities: readonly string[] | undefined;
}

export interface OciLayer extends Described {
  readonly diffId: string;
  readonly compression: CompressionFormat;
}

interface Candidate {
  readonly descriptor: Described;
  readonly reference: string | undefined;
  /** Undefined where the descriptor names none: the configuration does. */
  readonly platform: Platform | undefined;
}

interface Platform {
  readonly os: string;
  readonly architecture: string;
  readonly variant: string | undefined;
}

/** podman-run(1): capabilities that an image says it needs. */
const capabilityLabel = 'io.containers.capabilities';

const maxManifests = 1000;
const maxLayers = 512;
const maxWords = 1000;
/** index.json, an index it names, and one index more. */
const maxIndexDepth = 3;

const indexTypes: ReadonlySet<string> = new Set([
  'application/vnd.oci.image.index.v1+json',
  'application/vnd.docker.distribution.manifest.list.v2+json',
]);
const manifestTypes: ReadonlySet<string> = new Set([
  'application/vnd.oci.image.manifest.v1+json',
  'application/vnd.docker.distribution.manifest.v2+json',
]);
const configTypes: ReadonlySet<string> = new Set([
  'application/vnd.oci.image.config.v1+json',
  'application/vnd.docker.container.image.v1+json',
]);
/** image-spec layer.md and Docker's image manifest, version 2, schema 2. */
const layerType =
  /^application\/vnd\.(?:oci\.image\.layer\.(?:nondistributable\.)?v1\.tar|docker\.image\.rootfs\.(?:foreign\.)?diff\.tar)(?:[+.](gzip|zstd))?$/;

/**
 * Reads the image of one architecture.
 *
 * @throws ToolError with exit code 2 when the store holds none, or several
 */
export async function readOciImage(store: ImageStore, wanted: Architecture): Promise<OciImage> {
  const found = new Map<string, OciImage>();
  const others = new Set<string>();
  for (const candidate of await candidatesOf(store)) {
    const named = candidate.platform === undefined ? undefined : platformName(candidate.platform);
    if (named !== undefined && named !== wanted) {
      // `unknown/unknown` is what attestations are filed under.
      if (named !== 'unknown') others.add(named);
      continue;
    }
    if (found.has(candidate.descriptor.digest)) continue;
    const image = await imageOf(store, candidate);
    if (image === undefined) continue;
    if (typeof image === 'string') others.add(image);
    else if (image.architecture === wanted) found.set(image.digest, image);
    else others.add(image.architecture);
  }
  const [image, ...more] = found.values();
  if (image === undefined) throw notThere(store, wanted, [...others].sort());
  if (more.length > 0) {
    const names = [image, ...more].map(({ reference, digest }) => reference ?? digest);
    throw cannot('read', store.name, `it holds ${names.length} images for ${wanted}: ${names.join(', ')}`, {
      hint: 'save the one of interest into an archive of its own',
      exitCode: 2,
    });
  }
  return image;
}

function notThere(store: ImageStore, wanted: Architecture, others: readonly string[]): ToolError {
  const known = others.find((name) => architectures.some((architecture) => architecture === name));
  return cannot(
    'read',
    store.name,
    others.length === 0
      ? 'it holds no container image'
      : `it holds no image for ${wanted}, only for ${others.join(', ')}`,
    {
      exitCode: 2,
      ...(known === undefined ? {} : { hint: `choose another, such as --arch ${known}` }),
    },
  );
}

async function candidatesOf(store: ImageStore): Promise<readonly Candidate[]> {
  const candidates: Candidate[] = [];
  const seen = new Set<string>();
  const collect = async (index: JsonValue, depth: number, above: string | undefined): Promise<void> => {
    for (const item of index.get('manifests').list(maxManifests)) {
      const type = item.get('mediaType').text();
      const descriptor = describedBy(item);
      const reference =
        item.optional('annotations')?.optional('org.opencontainers.image.ref.name')?.text() ?? above;
      if (manifestTypes.has(type)) {
        candidates.push({ descriptor, reference, platform: platformOf(item.optional('platform')) });
        if (candidates.length > maxManifests) throw index.wrong(`names more than ${maxManifests} manifests`);
      } else if (indexTypes.has(type) && !seen.has(descriptor.digest)) {
        if (depth >= maxIndexDepth) throw item.wrong('is an index too deep inside of others');
        seen.add(descriptor.digest);
        const name = `${store.name} (index ${descriptor.digest})`;
        await collect(JsonValue.parse(await store.blob(descriptor), name), depth + 1, reference);
      }
    }
  };
  const name = `${store.name} (index.json)`;
  await collect(JsonValue.parse(await store.file('index.json'), name), 1, undefined);
  return candidates;
}

/** The image; the name of an architecture that the program does not know; or undefined for what is no image. */
async function imageOf(
  store: ImageStore,
  { descriptor, reference }: Candidate,
): Promise<OciImage | string | undefined> {
  const manifest = JsonValue.parse(
    await store.blob(descriptor),
    `${store.name} (manifest ${descriptor.digest})`,
  );
  const config = manifest.get('config');
  if (!configTypes.has(config.get('mediaType').text())) return undefined;
  const configBlob = describedBy(config);
  const configuration = JsonValue.parse(
    await store.blob(configBlob),
    `${store.name} (configuration ${configBlob.digest})`,
  );
  const name = platformName(platformOf(configuration) ?? { os: '', architecture: '', variant: undefined });
  const architecture = architectures.find((known) => known === name);
  if (architecture === undefined) return name;
  const run = configuration.optional('config');
  const words = (field: string): readonly string[] =>
    run
      ?.optional(field)
      ?.list(maxWords)
      .map((word) => word.text()) ?? [];
  const label = run?.optional('Labels')?.optional(capabilityLabel)?.text();
  return {
    digest: descriptor.digest,
    configDigest: configBlob.digest,
    reference,
    architecture,
    layers: layersOf(manifest, configuration),
    user: run?.optional('User')?.text() ?? '',
    entrypoint: words('Entrypoint'),
    command: words('Cmd'),
    volumes: [...(run?.optional('Volumes')?.names() ?? [])].sort(),
    capabilities: label
      ?.split(',')
      .map((capability) => capability.trim().toUpperCase().replace(/^CAP_/, ''))
      .filter((capability) => capability !== ''),
  };
}

function layersOf(manifest: JsonValue, configuration: JsonValue): readonly OciLayer[] {
  const layers = manifest.get('layers').list(maxLayers);
  const diffIds = configuration.get('rootfs').get('diff_ids').list(maxLayers);
  if (diffIds.length !== layers.length) {
    throw configuration.wrong(`names ${diffIds.length} layers, and the manifest ${layers.length}`);
  }
  return diffIds.map((value, index) => {
    const layer = layers[index] ?? value;
    const type = layer.get('mediaType').text();
    const match = layerType.exec(type);
    if (match === null) throw layer.wrong(`is of the unknown type ${JSON.stringify(type)}`);
    return { ...describedBy(layer), diffId: digestIn(value), compression: formats.get(match[1]) ?? 'none' };
  });
}

const formats = new Map<string | undefined, CompressionFormat>([
  ['gzip', 'gz'],
  ['zstd', 'zst'],
]);

function describedBy(value: JsonValue): Described {
  return { digest: digestIn(value.get('digest')), size: value.get('size').size() };
}

function digestIn(value: JsonValue): string {
  const digest = value.text();
  if (!isDigest(digest)) throw value.wrong('is no SHA-256 or SHA-512 digest');
  return digest;
}

/** Also of a configuration, which has the same fields. */
function platformOf(value: JsonValue | undefined): Platform | undefined {
  if (value === undefined) return undefined;
  return {
    os: value.optional('os')?.text() ?? '',
    architecture: value.optional('architecture')?.text() ?? '',
    variant: value.optional('variant')?.text(),
  };
}

/** The kernel's name where it is one that the program knows; otherwise the platform in its own words. */
function platformName({ os, architecture, variant }: Platform): string {
  if (os === 'unknown' || architecture === 'unknown') return 'unknown';
  const known = architectures.find((name) => {
    const platform = ociPlatform(name);
    return (
      os === 'linux' &&
      platform.architecture === architecture &&
      (variant === undefined || variant === '' || platform.variant === variant)
    );
  });
  return known ?? [os, architecture, variant].filter(Boolean).join('/');
}
