import { fedoraOrigin, packageUponBase } from './family.js';
import type { BasedDefinition, FedoraPackage } from './definition/definition.js';
import { buildOnBase, resolveBase, type OnBaseInput, type OnBaseManifest } from './image/on-base.js';
import { imageReference } from './image/reference.js';
import type { BuildOutcome, BuildTarget, ImageRequest, LockChange, Services } from './request.js';
import type { FedoraOrigin } from './repository/fedora/origin.js';
import { checkLockPlace, formatLock, writeLock, type LockedTarget } from './repository/lock.js';
import {
  lockedArchitectures,
  mergeLock,
  openLock,
  type LockInUse,
  type LockUse,
} from './repository/lock-use.js';
import type { Architecture } from './support/architecture.js';
import { cannotWrite } from './support/atomic.js';
import { makeDirectories } from './support/directories.js';
import { cannot } from './support/errors.js';
import { sourceDateEpoch } from './support/source-date-epoch.js';
import { shownUrl } from './support/url.js';

/**
 * The image upon a base: buildah pulls the base that the lock file names, or the newest one, and the base's own package
 * manager installs the newest packages. So the lock file pins the base alone.
 */
export async function buildImagesOnBase(
  definition: BasedDefinition,
  request: ImageRequest,
  services: Services,
  target: BuildTarget,
): Promise<BuildOutcome> {
  const reference = target.reference === undefined ? undefined : imageReference(target.reference);
  refuseWhatBuildahCannot(definition, request, target);
  const based = await openBased(definition, request, services);
  const { use, origin, service, release } = based;
  try {
    const { signal, exec, environment, log } = services;
    if (release === undefined && asksForSources(request)) throw unnamedRelease();
    const architectures = architecturesOf(request, based);
    const pins = new Map(
      architectures.map((architecture) => [architecture, pinnedDigest(based, definition, architecture)]),
    );
    if (request.mode === 'locked') requireLocked(pins, request);
    const inputs: OnBaseInput[] = [];
    for (const architecture of architectures) {
      const installation = asksForSources(request) ? await origin.installation(architecture) : undefined;
      refuseFiles(installation?.repositories.flatMap(({ urls }) => urls) ?? []);
      inputs.push({
        definition,
        architecture,
        base: { reference: definition.base, digest: pins.get(architecture) },
        package: service.package,
        release,
        // Without the keys themselves nobody knows their subkeys.
        signers: installation?.fingerprints ?? service.keys,
        state: definition.state === undefined ? undefined : service.state,
        sources: installation,
        compression: target.compression,
        epoch: sourceDateEpoch(environment),
      });
    }
    await checkLockPlace(request.lockFile);
    await makeDirectories(target.directory).catch((error: unknown) => {
      throw cannotWrite(target.directory, error);
    });
    const { image, manifests } = await buildOnBase(
      inputs,
      { exec, environment, log },
      {
        name: definition.name,
        reference: reference ?? `localhost/${definition.name}:latest`,
        directory: target.directory,
        signal,
      },
    );
    const { after, changed } = changeOf(
      based,
      manifests.map(({ architecture, baseDigest }) => targetOf(based, definition, architecture, baseDigest)),
    );
    const writesLock = changed && use.mode !== 'locked';
    if (writesLock) await writeLock(request.lockFile, after);
    return {
      image,
      images: manifests.map((manifest) => summaryOf(based, definition, manifest)),
      lockFile: request.lockFile,
      lockChanged: writesLock,
    };
  } finally {
    await origin.close();
  }
}

/** Asks the registry what the base's name stands for now; nothing is written. */
export async function lockBase(
  definition: BasedDefinition,
  request: ImageRequest,
  services: Services,
): Promise<LockChange> {
  const based = await openBased(definition, request, services);
  try {
    const targets: LockedTarget[] = [];
    for (const architecture of architecturesOf(request, based)) {
      const digest = await resolveBase(definition.base, architecture, services, services.signal);
      targets.push(targetOf(based, definition, architecture, digest));
    }
    return changeOf(based, targets);
  } finally {
    await based.origin.close();
  }
}

interface Based {
  readonly use: LockUse;
  readonly lock: LockInUse;
  readonly origin: FedoraOrigin;
  readonly service: FedoraPackage;
  /** Such as `45`; undefined for the base's own. */
  readonly release: string | undefined;
  /** The same in the words of the lock file. */
  readonly lockedRelease: string;
}

async function openBased(
  definition: BasedDefinition,
  request: ImageRequest,
  services: Services,
): Promise<Based> {
  const service = packageUponBase(request.distro, definition);
  const use: LockUse = {
    ...request,
    file: request.lockFile,
    definition: definition.sha256,
    log: services.log,
  };
  const lock = await openLock(use);
  const origin = await fedoraOrigin(service, { ...request, ...services });
  // The base stands in the place of the host.
  const isBases = request.suite === undefined && service.release === 'host';
  const release = isBases ? undefined : await origin.wantedRelease();
  return { use, lock, service, origin, release, lockedRelease: release ?? 'base' };
}

/** Whether packages come from elsewhere than the base's own repositories. */
function asksForSources({ mirrors, keyring }: ImageRequest): boolean {
  return mirrors.length > 0 || keyring !== undefined;
}

function architecturesOf(
  { architectures, hostArchitecture }: ImageRequest,
  { lock, lockedRelease }: Based,
): readonly Architecture[] {
  if (architectures !== undefined) return architectures;
  const locked = lockedArchitectures(lock.before, 'fedora', lockedRelease);
  return locked.length > 0 ? locked : [hostArchitecture];
}

function refuseWhatBuildahCannot(
  { name }: BasedDefinition,
  { offline, mirrors }: ImageRequest,
  { engine }: BuildTarget,
): void {
  if (engine === 'oci') {
    throw cannot('build', name, 'an image upon a base is made by buildah', {
      hint: 'leave --engine out',
      exitCode: 2,
    });
  }
  if (offline) {
    throw cannot('build', name, 'its packages are installed over the network', {
      hint: 'leave --offline out',
      exitCode: 2,
    });
  }
  refuseFiles(mirrors);
}

function unnamedRelease(): Error {
  return cannot('choose', 'repositories', 'the release is that of the base, and their addresses hold it', {
    hint: 'name it with --suite, such as --suite 45, or as release under packages.fedora in the definition',
    exitCode: 2,
  });
}

/** @throws ToolError with exit code 2 when one of the URLs leads to what only this machine's file system has */
function refuseFiles(urls: readonly string[]): void {
  const file = urls.find((url) => /^file:/i.test(url));
  if (file === undefined) return;
  throw cannot(
    'use',
    `mirror ${shownUrl(file)}`,
    'the package manager of the base cannot see files of this machine',
    {
      hint: 'serve the directory over http, such as with python3 -m http.server, and give its address with --mirror',
      exitCode: 2,
    },
  );
}

function requireLocked(
  pins: ReadonlyMap<Architecture, string | undefined>,
  { lockFile, renewal }: ImageRequest,
): void {
  const [missing] = [...pins].find(([, digest]) => digest === undefined) ?? [];
  if (missing === undefined) return;
  throw cannot('build from', lockFile, `it names no base for ${missing}`, {
    hint: `run ${renewal} --arch ${missing}`,
    exitCode: 2,
  });
}

function pinnedDigest(
  { lock, lockedRelease }: Based,
  { base }: BasedDefinition,
  architecture: Architecture,
): string | undefined {
  const target = lock.usable?.targets.find(
    (one) => one.family === 'fedora' && one.release === lockedRelease && one.architecture === architecture,
  );
  const [name, digest] = target?.base?.split('@') ?? [];
  return name === base ? digest : undefined;
}

function targetOf(
  { lockedRelease }: Based,
  { base }: BasedDefinition,
  architecture: Architecture,
  digest: string,
): LockedTarget {
  return {
    family: 'fedora',
    release: lockedRelease,
    architecture,
    base: `${base}@${digest}`,
    packages: [],
  };
}

function changeOf({ use, lock }: Based, targets: readonly LockedTarget[]): LockChange {
  const after = mergeLock(use, lock, targets);
  const { before } = lock;
  return { before, after, changed: before === undefined || formatLock(before) !== formatLock(after) };
}

function summaryOf(
  { lockedRelease }: Based,
  { base }: BasedDefinition,
  { baseDigest, before, after }: OnBaseManifest,
): BuildOutcome['images'][number] {
  const there = new Set(before.map(({ name, version }) => `${name} ${version}`));
  return {
    upon: `${base}@${baseDigest}`,
    release: lockedRelease,
    packages: after.filter(({ name, version }) => !there.has(`${name} ${version}`)).length,
    basePackages: before.length,
  };
}
