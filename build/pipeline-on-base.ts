import { chooseFamily, fedoraOrigin } from './family.js';
import type { FedoraPackage, ImageDefinition } from './definition/definition.js';
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

/** A definition of an image upon another. */
export type BasedDefinition = ImageDefinition & { readonly base: string };

export function isBased(definition: ImageDefinition): definition is BasedDefinition {
  return definition.base !== undefined;
}

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
  const { use, lock, origin, service } = based;
  try {
    const { signal, exec, environment, log } = services;
    const release = await origin.wantedRelease();
    const architectures = await architecturesOf(request, based);
    const sources = request.mirrors.length === 0 && request.keyring === undefined;
    const inputs: OnBaseInput[] = [];
    for (const architecture of architectures) {
      inputs.push({
        definition,
        architecture,
        base: {
          reference: definition.base,
          digest: pinnedDigest(lock, definition, release, architecture),
        },
        package: service.package,
        release,
        state: definition.state === undefined ? undefined : service.state,
        sources: sources ? undefined : await origin.installation(architecture),
        compression: target.compression,
        epoch: sourceDateEpoch(environment),
      });
    }
    if (request.mode === 'locked') requireLocked(inputs, request);
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
      manifests.map(({ architecture, baseDigest }) =>
        targetOf(definition, release, architecture, baseDigest),
      ),
    );
    const writesLock = changed && use.mode !== 'locked';
    if (writesLock) await writeLock(request.lockFile, after);
    return {
      image,
      images: manifests.map((manifest) => summaryOf(definition, release, manifest)),
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
    const release = await based.origin.wantedRelease();
    const targets: LockedTarget[] = [];
    for (const architecture of await architecturesOf(request, based)) {
      const digest = await resolveBase(definition.base, architecture, services, services.signal);
      targets.push(targetOf(definition, release, architecture, digest));
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
}

async function openBased(
  definition: BasedDefinition,
  request: ImageRequest,
  services: Services,
): Promise<Based> {
  const { family } = await chooseFamily(request.distro, definition);
  const service = definition.packages.fedora;
  if (family !== 'fedora' || service === undefined) {
    throw cannot('build', definition.name, 'an image upon a base is made of Fedora packages', {
      hint: 'leave --distro out',
      exitCode: 2,
    });
  }
  const use: LockUse = {
    ...request,
    file: request.lockFile,
    definition: definition.sha256,
    log: services.log,
  };
  const lock = await openLock(use);
  return { use, lock, service, origin: fedoraOrigin(service, { ...request, ...services }) };
}

async function architecturesOf(
  { architectures, hostArchitecture }: ImageRequest,
  { lock, origin }: Based,
): Promise<readonly Architecture[]> {
  if (architectures !== undefined) return architectures;
  const locked = lockedArchitectures(lock.before, 'fedora', await origin.wantedRelease());
  return locked.length > 0 ? locked : [hostArchitecture];
}

function refuseWhatBuildahCannot(
  { name }: BasedDefinition,
  { offline }: ImageRequest,
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
}

function requireLocked(inputs: readonly OnBaseInput[], { lockFile, renewal }: ImageRequest): void {
  const missing = inputs.find(({ base }) => base.digest === undefined);
  if (missing === undefined) return;
  throw cannot('build from', lockFile, `it names no base for ${missing.architecture}`, {
    hint: `run ${renewal} --arch ${missing.architecture}`,
    exitCode: 2,
  });
}

function pinnedDigest(
  { usable }: LockInUse,
  { base }: BasedDefinition,
  release: string | undefined,
  architecture: Architecture,
): string | undefined {
  const target = usable?.targets.find(
    (one) => one.family === 'fedora' && one.release === release && one.architecture === architecture,
  );
  const [name, digest] = target?.base?.split('@') ?? [];
  return name === base ? digest : undefined;
}

function targetOf(
  { base }: BasedDefinition,
  release: string | undefined,
  architecture: Architecture,
  digest: string,
): LockedTarget {
  return {
    family: 'fedora',
    release: release ?? 'base',
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
  { base }: BasedDefinition,
  release: string | undefined,
  { baseDigest, before, after }: OnBaseManifest,
): BuildOutcome['images'][number] {
  const there = new Set(before.map(({ name, version }) => `${name} ${version}`));
  return {
    upon: `${base}@${baseDigest}`,
    release: release ?? 'base',
    packages: after.filter(({ name, version }) => !there.has(`${name} ${version}`)).length,
    basePackages: before.length,
  };
}
