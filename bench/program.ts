import { copyFile, mkdtemp, readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { createReadStream } from 'node:fs';
import { createGunzip } from 'node:zlib';
import { fileURLToPath } from 'node:url';
import { contentOfTar } from './archive.js';
import { measure, type Command } from './process.js';

const program = fileURLToPath(new URL('../dist/cli.js', import.meta.url));

/** The image that is measured: the definition that comes with the program. */
export const definition = 'dhcpd';

/** The options of the program that say where packages come from. */
export type Source = readonly string[];

/** The command of one build. Its lock file, cache and results are all in `cwd`. */
export function buildCommand(cwd: string, architectures: readonly string[], source: Source): Command {
  return commandOf(cwd, [
    ...['build', definition, '--quiet', '--json', '--arch', architectures.join(',')],
    ...source,
  ]);
}

function commandOf(cwd: string, parameters: readonly string[]): Command {
  return {
    argv: [process.execPath, program, ...parameters],
    cwd,
    environment: { XDG_CACHE_HOME: join(cwd, 'cache') },
  };
}

/** The same with a layer that the cache does not hold, because its files are dated otherwise. */
export function otherLayerCommand(
  cwd: string,
  architectures: readonly string[],
  source: Source,
  epoch: number,
): Command {
  const { environment, ...command } = buildCommand(cwd, architectures, source);
  return { ...command, environment: { ...environment, SOURCE_DATE_EPOCH: String(epoch) } };
}

/** The part of `plan --json` that is needed here. */
interface PlanDocument {
  readonly images: readonly {
    readonly packages: readonly { readonly name: string; readonly sha256: string }[];
    readonly entries: readonly {
      readonly path: string;
      readonly kind: string;
      readonly size: number;
      readonly package: object | null;
    }[];
  }[];
}

/** What the image of one architecture is made of, from Debian. */
export interface Closure {
  /** Copies of the package files. */
  readonly packages: readonly string[];
  /** Names of everything that packages bring, relative to the root. */
  readonly paths: readonly string[];
  /** Of the regular files that come from packages. */
  readonly fileBytes: number;
}

/** Reads the plan of a directory that has been built in, and copies its package files out of the cache. */
export async function closureOf(cwd: string, architecture: string, source: Source): Promise<Closure> {
  const { stdout } = await measure(
    commandOf(cwd, [
      ...['plan', definition, '--json', '--locked', '--offline', '--arch', architecture],
      ...source,
    ]),
    undefined,
  );
  const [image] = (JSON.parse(stdout) as PlanDocument).images;
  if (image === undefined) throw new Error('the plan has no image');
  const directory = await mkdtemp(join(cwd, 'packages-'));
  const packages: string[] = [];
  for (const { name, sha256 } of image.packages) {
    const copy = join(directory, `${name}.deb`);
    const blob = join('cache/dhcpd-scratch/blobs/sha256', sha256.slice(0, 2), sha256.slice(2));
    await copyFile(join(cwd, blob), copy);
    packages.push(copy);
  }
  const brought = image.entries.filter((entry) => entry.package !== null);
  return {
    packages,
    paths: brought.map(({ path }) => path.replace(/^\/+/, '')),
    fileBytes: brought.reduce((sum, { kind, size }) => sum + (kind === 'file' ? size : 0), 0),
  };
}

/** The part of `build --json` that is needed here. */
interface BuildDocument {
  readonly layout: string;
  readonly archive: string;
  readonly manifests: readonly { readonly layerDigest: string; readonly layerSize: number }[];
}

/** The sizes of a built image, bytes, read from its files. */
export interface ImageSize {
  /** Manifest, configuration and layer together. */
  readonly image: number;
  readonly archive: number;
  readonly layer: number;
  /** The layer unpacked. */
  readonly tar: number;
  readonly entries: number;
  readonly files: number;
  readonly fileBytes: number;
}

/** @param stdout of a build of one architecture */
export async function imageSize(stdout: string, cwd: string): Promise<ImageSize> {
  const { archive, blobs, layer } = builtFiles(stdout);
  const sizes = await Promise.all((await readdir(blobs)).map(async (name) => sizeOf(join(blobs, name))));
  return {
    image: sizes.reduce((sum, size) => sum + size, 0),
    archive: await sizeOf(archive),
    layer: await sizeOf(layer),
    tar: await unpackedSize(layer),
    ...(await contentOfTar(layer, cwd)),
  };
}

/**
 * The paths of what a build has made.
 *
 * @param stdout of a build of one architecture
 */
export function builtFiles(stdout: string): {
  readonly archive: string;
  /** Directory. */
  readonly blobs: string;
  readonly layer: string;
} {
  const { layout, archive, manifests } = JSON.parse(stdout) as BuildDocument;
  const [manifest] = manifests;
  if (manifest === undefined) throw new Error('the image has no manifest');
  const blobs = join(layout, 'blobs/sha256');
  return { archive, blobs, layer: join(blobs, manifest.layerDigest.replace('sha256:', '')) };
}

async function sizeOf(path: string): Promise<number> {
  return (await stat(path)).size;
}

async function unpackedSize(path: string): Promise<number> {
  let size = 0;
  const unpacked: AsyncIterable<Buffer> = createReadStream(path).pipe(createGunzip());
  for await (const chunk of unpacked) size += chunk.length;
  return size;
}
