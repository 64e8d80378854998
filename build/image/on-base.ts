import { mkdir, writeFile } from 'node:fs/promises';
import { posix, join } from 'node:path';

import type { ImageDefinition } from '../definition/definition.js';
import type { Compression } from '../rootfs/layer.js';
import type { Architecture } from '../support/architecture.js';
import { cannot } from '../support/errors.js';
import type { Log } from '../support/log.js';
import { nearest } from '../support/nearest.js';
import { tryUrl } from '../support/url.js';
import { commitArguments, configArguments, forgetBase, pushImage } from './buildah-push.js';
import { Storage, type BuildahHost, type StoredImage } from './buildah-storage.js';
import { inScratch } from './buildah.js';
import { imageConfig } from './describe.js';
import type { BuiltImage, ImageConfig, ImageTarget } from './engine.js';
import { publish, type FinishedImage } from './layout.js';
import { withAccount } from './on-base/accounts.js';
import { pullBase, type Base } from './on-base/base.js';
import { Container, shell } from './on-base/container.js';
import { commandFailure } from './on-base/failure.js';
import {
  findPackageManager,
  install,
  installedPackages,
  packageFacts,
  repositoryFile,
  type BaseSources,
  type InstalledPackage,
} from './on-base/package-manager.js';
import { checkRelease } from './on-base/release.js';
import { checkSigners } from './on-base/signers.js';
import { directoriesOf, tidy } from './on-base/tidy.js';

/** One architecture of an image upon a base image, whose own package manager installs the service. */
export interface OnBaseInput {
  readonly definition: ImageDefinition;
  readonly architecture: Architecture;
  readonly base: {
    /** The definition's `base`. */
    readonly reference: string;
    /** Digest of its manifest for this architecture; undefined for what the registry gives now. */
    readonly digest: string | undefined;
  };
  readonly package: string;
  /** Such as `45`, which the base must then be of; undefined for the base's own. */
  readonly release: string | undefined;
  /** Upper-case fingerprints of the keys and subkeys of which one must have signed each package that is installed. */
  readonly signers: readonly string[];
  /** Absolute path. */
  readonly state: string | undefined;
  /** Undefined: the base's own repositories and keys. */
  readonly sources: BaseSources | undefined;
  readonly compression: Compression;
  /** Time of the image, seconds since the epoch; undefined: when the package was built. */
  readonly epoch: number | undefined;
}

export interface OnBaseHost extends BuildahHost {
  readonly log: Log;
}

/** What one architecture's image has come to hold. */
export interface OnBaseManifest {
  readonly architecture: Architecture;
  /** Digest of the base's manifest. */
  readonly baseDigest: string;
  /** Version of the service's package. */
  readonly version: string;
  /** Absolute path of what the image runs. */
  readonly program: string;
  /** Packages of the base, and those of the image; by name. */
  readonly before: readonly InstalledPackage[];
  readonly after: readonly InstalledPackage[];
}

export interface BuiltOnBase {
  readonly image: BuiltImage;
  /** In the order of `image.manifests`. */
  readonly manifests: readonly OnBaseManifest[];
}

/**
 * Builds with buildah upon a base image: one layer above the base's own ones, which it shares with every other image
 * of that base. The image stays in the user's container storage under its reference, and so does the base under its
 * digest. What is temporary goes away on success, error and interruption, as with images from nothing.
 *
 * @throws ToolError
 */
export async function buildOnBase(
  inputs: readonly OnBaseInput[],
  host: OnBaseHost,
  target: ImageTarget,
): Promise<BuiltOnBase> {
  return inScratch(target, async (scratch) => {
    const storage = await Storage.open(host, target);
    try {
      const images: StoredImage[] = [];
      const finished: FinishedImage[] = [];
      const manifests: OnBaseManifest[] = [];
      for (const [index, input] of inputs.entries()) {
        const work = join(scratch, String(index));
        await mkdir(work);
        const made = await makeImage(storage, input, host.log, work);
        images.push(made.image);
        manifests.push(made.manifest);
        const directory = join(work, 'image');
        finished.push(await pushImage(storage, made.image, input.compression, made.base, directory));
      }
      const image = await publish('buildah', finished, target);
      await storage.nameResult(images);
      return { image, manifests };
    } catch (error) {
      throw commandFailure(error, 'build', target.reference, () => ({}));
    } finally {
      await storage.clean();
    }
  });
}

/**
 * What the registry gives now for a base's name: the digest of the manifest for the architecture, for a lock file.
 * The image is then in the user's container storage under that digest.
 *
 * @throws ToolError
 */
export async function resolveBase(
  reference: string,
  architecture: Architecture,
  host: BuildahHost,
  signal: AbortSignal,
): Promise<string> {
  const storage = await Storage.open(host, { reference, signal });
  try {
    return (await pullBase(storage, reference, architecture, undefined)).digest;
  } finally {
    await storage.clean();
  }
}

/** Where files for the run alone are put: no package has anything there, and nothing is mounted over it. */
const visit = '/.dhcpd-scratch';

/** @param work empty directory */
async function makeImage(
  storage: Storage,
  input: OnBaseInput,
  log: Log,
  work: string,
): Promise<{ readonly image: StoredImage; readonly manifest: OnBaseManifest; readonly base: Base }> {
  const { definition, architecture, base: wanted } = input;
  log.info(`pulling ${wanted.reference} for ${architecture}`);
  const base = await pullBase(storage, wanted.reference, architecture, wanted.digest);
  log.debug(`${wanted.reference} for ${architecture} is ${base.digest}`);
  const made: { config?: ImageConfig; manifest?: OnBaseManifest } = {};
  const id = await storage.inContainer(['--pull=false', base.id], async (name) => {
    const container = new Container(storage, name, input.epoch ?? base.created);
    const manager = await findPackageManager(container, wanted.reference);
    await checkRelease(container, wanted.reference, input.release);
    const before = await installedPackages(container);
    const directories = await directoriesOf(container);
    log.info(`installing ${input.package} for ${architecture} with ${posix.basename(manager)}`);
    await bringPackage(container, manager, input, work);
    await checkSigners(container, before, input.signers);
    const { version, built, programs } = await packageFacts(container, input.package);
    const program = findPrograms(input, programs);
    await giveAccount(container, definition.user, work);
    await makeDirectories(container, input);
    const after = await installedPackages(container);
    await tidy(container, manager, directories, [visit]);

    const config = imageConfig({
      definition,
      architecture,
      program,
      version,
      state: input.state,
      created: input.epoch ?? built,
      base: { reference: wanted.reference, digest: base.digest },
    });
    await container.configure([...forgetBase, ...configArguments(config)]);
    made.config = config;
    made.manifest = { architecture, baseDigest: base.digest, version, program, before, after };
    return commitArguments(config);
  });
  const { config, manifest } = made;
  if (config === undefined || manifest === undefined) throw new Error('this cannot happen');
  return { image: { id, config }, manifest, base };
}

async function bringPackage(
  container: Container,
  manager: string,
  { package: name, release, sources }: OnBaseInput,
  work: string,
): Promise<void> {
  const wanted = { package: name, release };
  if (sources === undefined) {
    await install(container, manager, { ...wanted, repositories: undefined, hostNetwork: false });
    return;
  }
  const directory = join(work, 'visit');
  await mkdir(join(directory, 'repositories'), { recursive: true });
  await writeFile(join(directory, 'keys.asc'), sources.keys);
  const text = repositoryFile(sources, `${visit}/keys.asc`);
  await writeFile(join(directory, 'repositories/mirror.repo'), text);
  await container.copy(directory, visit);
  const urls = sources.repositories.flatMap((repository) => repository.urls);
  await install(container, manager, {
    ...wanted,
    repositories: `${visit}/repositories`,
    hostNetwork: urls.some(isLoopback),
  });
}

/** Whether only this machine itself can reach the server: RFC 6890 127.0.0.0/8 and ::1, RFC 6761 localhost. */
function isLoopback(address: string): boolean {
  const host = tryUrl(address)?.hostname ?? '';
  return /^127\./.test(host) || host === '[::1]' || /(?:^|\.)localhost$/.test(host);
}

/** Where the package has put the definition's programs; gives the first one, which the image runs. */
function findPrograms({ definition, package: name }: OnBaseInput, programs: readonly string[]): string {
  const places = programs.filter((path) => /^\/(?:usr\/(?:local\/)?)?(?:s?bin|libexec)\/[^/]+$/.test(path));
  const names = places.map((path) => posix.basename(path));
  const [program] = definition.roots.map((root) => {
    const path = places[names.indexOf(root)];
    if (path !== undefined) return path;
    const close = nearest(root, names);
    throw cannot('find', `program ${root}`, `package ${name} has no program of that name`, {
      hint: close === undefined ? 'correct roots or packages in the definition' : `did you mean ${close}?`,
    });
  });
  if (program === undefined) throw new Error('this cannot happen');
  return program;
}

async function giveAccount(container: Container, user: ImageDefinition['user'], work: string): Promise<void> {
  const texts = await container.read(shell("cat /etc/passwd && printf '\\0' && cat /etc/group"));
  const [passwd = '', group = ''] = texts.split('\0');
  const change = withAccount({ passwd, group }, user);
  if (change === undefined) return;
  for (const name of ['passwd', 'group'] as const) {
    const file = join(work, name);
    await writeFile(file, change[name]);
    await container.copy(file, `/etc/${name}`, '0644');
  }
  const { oldUser, oldGroup } = change;
  if (oldUser !== undefined) await reown(container, String(oldUser), String(user.id));
  if (oldGroup !== undefined) await reown(container, `:${oldGroup}`, `:${user.id}`);
}

/** Gives what belongs to one account, or `:GROUP`, to another. */
async function reown(container: Container, from: string, to: string): Promise<void> {
  const script =
    'from=$1 to=$2; for tree in /etc /opt /srv /usr /var; do chown -hR --from="$from" "$to" "$tree" || exit; done';
  await container.run(shell(script, [from, to]));
}

/** The directories that volumes cover, with the owners and modes that a new volume takes from them. */
async function makeDirectories(container: Container, { definition, state }: OnBaseInput): Promise<void> {
  const { config, user } = definition;
  const script = `
    set -e
    umask 022
    id=$1 config=$2 state=$3
    shift 3
    if [ -n "$config" ]; then
      mkdir -p "$config"
      chown 0:0 "$config"
      chmod 0755 "$config"
    fi
    [ -n "$state" ] || exit 0
    mkdir -p "$state"
    for file; do
      [ -e "$state/$file" ] || : >"$state/$file"
      chmod 0644 "$state/$file"
    done
    chown -hR "$id:$id" "$state"
    chmod 0755 "$state"
  `;
  const files = definition.state?.files ?? [];
  await container.run(shell(script, [String(user.id), config ?? '', state ?? '', ...files]));
}
