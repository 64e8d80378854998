import { posix } from 'node:path';
import { loadDefinition } from './definition/load.js';
import { isBased, type Family, type FamilyPackage, type ImageDefinition } from './definition/definition.js';
import { closeLibraries, type ClosureObject, type LoaderView } from './elf/closure.js';
import type { DlopenNote } from './elf/dlopen-note.js';
import { readLdSoConf, type ConfigurationView } from './elf/ld-so-conf.js';
import { chooseFamily, type FamilySupport } from './family.js';
import { createBuildahEngine } from './image/buildah.js';
import { imageConfig } from './image/describe.js';
import type { ImageConfig, ImageEngine, ImageInput } from './image/engine.js';
import { createOciEngine } from './image/oci.js';
import { imageReference } from './image/reference.js';
import type {
  BuildOutcome,
  BuildTarget,
  ImageRequest,
  LockChange,
  ScratchSummary,
  Services,
} from './request.js';
import { scannerFiles } from './inventory/scanner-files.js';
import type { PackageContents } from './package/contents.js';
import { locateProgram } from './package/program.js';
import { createPackageTree, type PackageTree } from './package/tree.js';
import {
  checkLockPlace,
  formatLock,
  writeLock,
  type LockedPackage,
  type LockedTarget,
  type LockFile,
} from './repository/lock.js';
import { lockedArchitectures, mergeLock, openLock, type LockUse } from './repository/lock-use.js';
import type { OpenedPackage, PackageArchive, PackageOrigin, RepositorySurvey } from './repository/origin.js';
import { ldSoCache } from './rootfs/ld-so-cache.js';
import { cachedLayer } from './rootfs/layer-cache.js';
import { planRootfs, type Reason, type RootfsPlan } from './rootfs/plan.js';
import { describeReason, rankOfReason } from './rootfs/reason.js';
import type { Architecture } from './support/architecture.js';
import { allOf } from './support/all-of.js';
import { cannotWrite } from './support/atomic.js';
import { makeDirectories } from './support/directories.js';
import { cannot } from './support/errors.js';
import { sourceDateEpoch } from './support/source-date-epoch.js';
import { compareBytes } from './support/order.js';

/** One architecture, decided: nothing has been written yet. */
export interface PreparedImage {
  readonly architecture: Architecture;
  readonly target: LockedTarget;
  readonly plan: RootfsPlan;
  readonly config: ImageConfig;
  /** What objects of the image say in `.note.dlopen` that they may load at run time. */
  readonly dlopenNotes: readonly { readonly path: string; readonly note: DlopenNote }[];
}

export interface Preparation {
  readonly images: readonly PreparedImage[];
  readonly lock: LockChange;
  /** Gives the opened packages back; bytes of the plans cannot be read afterwards. */
  close(): Promise<void>;
}

/**
 * Definition -> packages -> closure -> plan, for every architecture asked for.
 *
 * @throws ToolError of any stage; with exit code 2 for what the user asked wrongly
 */
export async function prepareImages(request: ImageRequest, services: Services): Promise<Preparation> {
  const definition = await loadDefinition(request.definition);
  if (isBased(definition)) {
    throw cannot(
      'say',
      `what ${definition.name} holds`,
      `the package manager of ${definition.base} chooses it`,
      {
        hint: 'build it, and see what is in it with npx dhcpd-scratch compare',
        exitCode: 2,
      },
    );
  }
  return prepare(definition, request, services);
}

/** The lock file with the newest packages, or with the newest base; nothing is written. @throws ToolError */
export async function renewLock(request: ImageRequest, services: Services): Promise<LockChange> {
  const definition = await loadDefinition(request.definition);
  if (isBased(definition)) {
    const { lockBase } = await import('./pipeline-on-base.js');
    return lockBase(definition, request, services);
  }
  const prepared = await prepare(definition, request, services);
  await prepared.close();
  return prepared.lock;
}

async function prepare(
  definition: ImageDefinition,
  request: ImageRequest,
  services: Services,
): Promise<Preparation> {
  const family = await chooseFamily(request.distro, definition);
  const use: LockUse = {
    ...request,
    file: request.lockFile,
    definition: definition.sha256,
    log: services.log,
  };
  const lock = await openLock(use);
  const origin = await family.origin({ ...request, ...services });
  const job: Job = { definition, family, origin, services };
  try {
    const locked = lockedArchitectures(lock.before, family.family, await origin.wantedRelease());
    const architectures = request.architectures ?? (locked.length > 0 ? locked : [request.hostArchitecture]);
    const images = await allOf(
      architectures.map((architecture) => prepareImage(architecture, lock.usable, job)),
    );
    const after = mergeLock(
      use,
      lock,
      images.map((image) => image.target),
    );
    const { before } = lock;
    const changed = before === undefined || formatLock(before) !== formatLock(after);
    return { images, lock: { before, after, changed }, close: () => origin.close() };
  } catch (error) {
    await origin.close();
    throw error;
  }
}

/** Prepares, writes one layer per architecture, lets the engine write the image, then writes the lock file. */
export async function buildImages(
  request: ImageRequest,
  services: Services,
  target: BuildTarget,
): Promise<BuildOutcome> {
  const definition = await loadDefinition(request.definition);
  if (isBased(definition)) {
    const { buildImagesOnBase } = await import('./pipeline-on-base.js');
    return buildImagesOnBase(definition, request, services, target);
  }
  const reference = target.reference === undefined ? undefined : imageReference(target.reference);
  const prepared = await prepare(definition, request, services);
  try {
    const { images, lock } = prepared;
    const writesLock = lock.changed && request.mode !== 'locked';
    // A place that cannot be written to is told before the work, and before a new image replaces the old one.
    if (writesLock) await checkLockPlace(request.lockFile);
    await makeDirectories(target.directory).catch((error: unknown) => {
      throw cannotWrite(target.directory, error);
    });
    const inputs = await allOf(
      images.map(async ({ plan, config }): Promise<ImageInput> => ({
        plan,
        config,
        layer: await cachedLayer(plan, target.compression, services.cache),
      })),
    );
    services.signal.throwIfAborted();
    const image = await engineOf(target.engine, services).build(inputs, {
      name: definition.name,
      reference: reference ?? `localhost/${definition.name}:latest`,
      directory: target.directory,
      signal: services.signal,
    });
    if (writesLock) await writeLock(request.lockFile, lock.after);
    return {
      image,
      images: images.map(summaryOf),
      lockFile: request.lockFile,
      lockChanged: writesLock,
    };
  } finally {
    await prepared.close();
  }
}

/** `auto` is the embedded writer: its digest is the same on every machine, whether buildah is there or not. */
function engineOf(name: BuildTarget['engine'], { exec, environment }: Services): ImageEngine {
  return name === 'buildah' ? createBuildahEngine({ exec, environment }) : createOciEngine();
}

/** What `doctor` wants to know of a definition's repositories. */
export interface Survey {
  readonly family: Family;
  readonly repositories: readonly RepositorySurvey[];
}

/** Whether the repositories of a definition can be reached and trusted, one by one; for `doctor`. */
export async function surveyRepositories(
  request: Pick<
    ImageRequest,
    'definition' | 'hostArchitecture' | 'distro' | 'suite' | 'mirrors' | 'keyring' | 'offline'
  >,
  services: Services,
): Promise<Survey> {
  const family = await chooseFamily(request.distro, await loadDefinition(request.definition));
  const origin = await family.origin({ ...request, ...services, mode: 'renew', lockFile: '', renewal: '' });
  try {
    return { family: family.family, repositories: await origin.survey(request.hostArchitecture) };
  } finally {
    await origin.close();
  }
}

interface Job {
  readonly definition: ImageDefinition;
  readonly family: FamilySupport;
  readonly origin: PackageOrigin;
  readonly services: Services;
}

/** Packages of one architecture: from the lock file as far as it may and can be used, else chosen anew. */
async function prepareImage(
  architecture: Architecture,
  lock: LockFile | undefined,
  job: Job,
): Promise<PreparedImage> {
  const locked = await job.origin.locked(lock, architecture);
  if (locked !== undefined) return decide(architecture, job, locked.release, locked.packages, undefined);
  const archive = await job.origin.archive(architecture);
  const names = [
    job.family.package.package,
    ...archive.layout,
    ...(job.definition.inventory ? await archive.releasePackages() : []),
  ];
  return decide(architecture, job, archive.release, await archive.select(names), archive);
}

/** Closure, plan, configuration and lock entry. Without an archive the packages given must be enough. */
async function decide(
  architecture: Architecture,
  { definition, family, services }: Job,
  release: string,
  packages: readonly OpenedPackage[],
  archive: PackageArchive | undefined,
): Promise<PreparedImage> {
  const tree = createPackageTree(family.directoryLinks(packages.map(({ contents }) => contents)));
  const opened: OpenedPackage[] = [];
  // Of the packages so far: what a package puts into /etc/ld.so.conf.d counts from the moment it is there.
  let configured: readonly string[] = [];
  const configuring = new Set<PackageContents>();
  const add = async (found: OpenedPackage): Promise<void> => {
    if (opened.some(({ contents }) => contents === found.contents)) return;
    opened.push(found);
    await tree.add(found.contents);
    configured = await readLdSoConf(configurationOf(tree, configuring));
  };
  for (const found of packages) await add(found);

  const { package: service, layoutPackages } = family;
  const loader = {
    architecture,
    ...family.loader(architecture),
    get configured() {
      return configured;
    },
  };
  const programs = definition.roots.map((name) => locateProgram(tree, service.package, name));
  const closure = await closeLibraries<PackageContents>({
    roots: programs,
    dlopen: definition.dlopen,
    view: viewOf(tree),
    config: loader,
    provide: async (soname, neededBy) => {
      // The loader itself, or a library needed by its path, stands in one place alone.
      const isPath = soname.includes('/');
      const searched = isPath ? [posix.dirname(soname)] : [...configured, ...loader.builtIn];
      const provider = await archive?.provide({
        soname: posix.basename(soname),
        neededBy: neededBy.owner.name,
        root: service.package,
        directories: searched.map((path) => path.replace(/^\/+/, '')),
      });
      if (provider === undefined) return false;
      services.log.debug(`${soname}: ${provider.explanation}`);
      await add(provider);
      return true;
    },
  });
  for (const warning of closure.warnings) services.log.warn(warning);

  const realPaths = new Map(
    closure.objects.flatMap(({ file, path, otherPaths }) =>
      [path, ...otherPaths].map((opened): [string, string] => [opened, file.path]),
    ),
  );
  const state = stateOf(definition, service);
  const plan = planRootfs({
    tree,
    wanted: [
      ...closure.objects.flatMap((object) =>
        [object.path, ...object.otherPaths].map((path) => ({
          path,
          reason: reasonOfObject(object, realPaths),
        })),
      ),
      ...definition.files.map((path) => ({ path, reason: { kind: 'declared', field: 'files' } as const })),
      // Some distributions have no package of it in reach: the image is then one of an unknown release.
      ...(definition.inventory && tree.lookup('etc/os-release') !== undefined
        ? [{ path: '/etc/os-release', reason: { kind: 'inventory', about: 'the release' } as const }]
        : []),
    ],
    user: definition.user,
    state,
    config: definition.config,
    capabilities: definition.capabilities,
    // The loader finds what lies in the directories of ld.so.conf through its cache alone.
    loaderCache: closure.cached.length === 0 ? undefined : ldSoCache(architecture, closure.cached),
    inventory: definition.inventory ? scannerFiles : undefined,
    epoch: epochOf(services.environment, opened),
  });
  const target: LockedTarget = {
    family: family.family,
    release,
    architecture,
    packages: lockedPackages(opened, plan, (contents) => {
      if (layoutPackages.includes(contents.name)) return 'its links say which directories are one';
      return configuring.has(contents) ? 'its ld.so.conf says where the loader searches' : undefined;
    }),
  };
  const [program = unreachable()] = programs;
  const owner = tree.lookup(program.slice(1))?.owner ?? unreachable();
  const config = imageConfig({
    definition,
    architecture,
    program,
    version: owner.version,
    state: state?.directory,
    created: plan.epoch,
  });
  const dlopenNotes = closure.objects.flatMap(({ file, dlopenNotes: notes }) =>
    notes.map((note) => ({ path: file.path, note })),
  );
  return { architecture, target, plan, config, dlopenNotes };
}

/** The files of the packages as ldconfig would read them. @param read gets the packages whose files were read */
function configurationOf(tree: PackageTree, read: Set<PackageContents>): ConfigurationView {
  return {
    read: async (path) => {
      const found = tree.lookup(path.replace(/^\/+/, ''));
      if (found === undefined) return undefined;
      read.add(found.owner);
      return found.owner.read(found.entry);
    },
    list: (directory) => tree.list(directory.replace(/^\/+/, '')),
  };
}

function viewOf(tree: PackageTree): LoaderView<PackageContents> {
  return {
    lookup: (path) => {
      const found = tree.lookup(path.replace(/^\/+/, ''));
      if (found === undefined) return undefined;
      return { path: `/${found.path}`, owner: found.owner, read: () => found.owner.read(found.entry) };
    },
  };
}

/** @param realPaths of every path over which the loader opens an object */
function reasonOfObject(
  object: ClosureObject<PackageContents>,
  realPaths: ReadonlyMap<string, string>,
): Reason {
  const name = object.neededAs ?? object.path;
  const chain = object.chain.map((path) => realPaths.get(path) ?? path);
  switch (object.role) {
    case 'root':
      return { kind: 'root', program: object.path };
    case 'interpreter':
      return { kind: 'interpreter', of: chain.at(-2) ?? object.path };
    case 'library':
      return { kind: 'needed', chain, name };
    case 'dlopen':
      return { kind: 'dlopen', by: chain.at(-2) ?? object.path, name };
  }
}

function stateOf(
  definition: ImageDefinition,
  service: FamilyPackage,
): { directory: string; volume: string; files: readonly string[] } | undefined {
  if (definition.state === undefined || service.state === undefined) return undefined;
  return { directory: service.state, ...definition.state };
}

/** Times in the image: what SOURCE_DATE_EPOCH says, or when the newest of its packages was built. */
function epochOf(environment: Services['environment'], opened: readonly OpenedPackage[]): number {
  return sourceDateEpoch(environment) ?? Math.max(0, ...opened.map(({ contents }) => contents.built));
}

/**
 * The packages that a file of the image comes from, each with the weightiest of its files' reasons, and those without
 * which it would be another image.
 */
function lockedPackages(
  opened: readonly OpenedPackage[],
  plan: RootfsPlan,
  reasonWithoutFile: (contents: PackageContents) => string | undefined,
): readonly LockedPackage[] {
  return opened
    .flatMap(({ contents, record }): LockedPackage[] => {
      const entries = plan.entries.filter((entry) => entry.owner === contents);
      const [best] = entries.sort((a, b) => rankOfReason(a.reason) - rankOfReason(b.reason));
      const why =
        best === undefined ? reasonWithoutFile(contents) : `/${best.path}: ${describeReason(best.reason)}`;
      if (why === undefined) return [];
      const { name, version, architecture, suite, path, size, sha256 } = record;
      return [
        {
          name,
          version,
          architecture,
          suite,
          path,
          size,
          sha256,
          why,
        },
      ];
    })
    .sort((a, b) => compareBytes(a.name, b.name));
}

function summaryOf({ target, plan }: PreparedImage): ScratchSummary {
  const sizes = plan.entries.flatMap((entry) => {
    if (entry.kind === 'file') return [entry.size];
    return entry.kind === 'text' ? [entry.content.length] : [];
  });
  return {
    release: target.release,
    packages: target.packages.length,
    files: sizes.length,
    contentBytes: sizes.reduce((sum, size) => sum + size, 0),
  };
}

function unreachable(): never {
  throw new Error('this cannot happen');
}
