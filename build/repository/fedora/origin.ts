import type { PackageContents } from '../../package/contents.js';
import type { Architecture } from '../../support/architecture.js';
import { allOf } from '../../support/all-of.js';
import { cannot, ToolError } from '../../support/errors.js';
import { shownUrl, tryUrl } from '../../support/url.js';
import { createFetcher, type Fetcher } from '../fetch.js';
import { checkIdentity } from '../identity.js';
import type { LockFile } from '../lock.js';
import { openLocked } from '../locked.js';
import type {
  LockedPackages,
  OpenedPackage,
  OriginOptions,
  PackageArchive,
  PackageOrigin,
  PackageRecord,
  RepositorySurvey,
} from '../origin.js';
import { familyOfSystem, readOsRelease } from '../os-release.js';
import type { Keyring } from '../signature.js';
import { fetchChecked } from './checked-blob.js';
import { evrText } from './evr.js';
import { keyIdOf } from './key-id.js';
import { keyFile, packageKeys, type PackageKeys } from './keys.js';
import { layoutPackages } from './layout.js';
import { locate } from './location.js';
import { mergeRepositories, type FoundPackage, type RpmPackages } from './packages.js';
import { chooseProvider } from './provider.js';
import { openRpmRepository, type DecompressFile } from './repository.js';
import type { RpmSource } from './source.js';
import { checkedRelease, chooseRpmSources, noRelease } from './sources.js';
import { fetchRepomd, unlessUnavailable, type RepomdContext, type TrustedRepomd } from './trusted-repomd.js';

export interface FedoraOriginOptions extends OriginOptions {
  /** Fingerprints of the keys that may sign packages, unless `keyring` names others. */
  readonly pinned: readonly string[];
  /** Packages to take where several provide one library. */
  readonly prefer: readonly string[];
  /** package/ comes after this stage, so its functions are handed in. Who hands them in need not close the packages. */
  readonly openPackage: (
    path: string,
    sha256: string,
    keys: PackageKeys,
    /** What the package is called in errors. */
    name: string,
  ) => Promise<PackageContents>;
  readonly decompressFile: DecompressFile;
  /** Directory that stands for `/`, with /etc/os-release and /etc/yum.repos.d. Default: `/`. */
  readonly root?: string;
}

/** Where the Fedora packages of one run come from. */
export class FedoraOrigin implements PackageOrigin {
  readonly #options: FedoraOriginOptions;
  readonly #root: string;
  readonly #opened = new Map<string, Promise<PackageContents>>();
  readonly #indexes: RpmPackages[] = [];
  readonly #sources = new Map<Architecture, Promise<readonly RpmSource[]>>();
  readonly #tops = new Map<RpmSource, Promise<TrustedRepomd>>();
  #fetcher: Promise<Fetcher> | undefined;
  #keys: Promise<PackageKeys> | undefined;

  constructor(options: FedoraOriginOptions) {
    this.#options = options;
    this.#root = options.root ?? '/';
  }

  async wantedRelease(): Promise<string | undefined> {
    const { suite, release } = this.#options;
    if (suite !== undefined) return checkedRelease(suite, '--suite');
    if (release !== 'host') return release;
    const host = await readOsRelease(`${this.#root}/etc/os-release`);
    const version = familyOfSystem(host) === 'fedora' ? host.get('VERSION_ID') : undefined;
    return version === undefined ? undefined : checkedRelease(version, '/etc/os-release');
  }

  async locked(lock: LockFile | undefined, architecture: Architecture): Promise<LockedPackages | undefined> {
    return openLocked(lock, architecture, {
      ...this.#options,
      family: 'fedora',
      title: 'Fedora',
      release: await this.wantedRelease(),
      open: async (record) => this.#open(await this.#fetchLocked(record, architecture), record),
    });
  }

  async archive(architecture: Architecture): Promise<PackageArchive> {
    const release = (await this.wantedRelease()) ?? noRelease();
    const context = await this.#context();
    const { decompressFile, log } = this.#options;
    const sources = await this.#sourcesFor(architecture);
    const opened = await allOrNone(
      sources.map(async (source) =>
        unlessUnavailable(source, context, async () =>
          openRpmRepository(source, {
            ...context,
            architecture,
            decompressFile,
            keyring: await this.#keyringOf(source),
          }),
        ),
      ),
    );
    const repositories = opened.filter((repository) => repository !== undefined);
    if (repositories.length === 0) {
      throw cannot('find', 'packages', 'none of the repositories can be had', {
        hint: 'see the warnings, try again later, or choose another repository with --mirror URL',
      });
    }
    const packages = mergeRepositories(repositories, architecture);
    this.#indexes.push(packages);
    return new FedoraArchive({
      release,
      architecture,
      packages,
      prefer: this.#options.prefer,
      warn: (message) => {
        log.warn(message);
      },
      open: (found) => this.#openFound(found),
    });
  }

  async survey(architecture: Architecture): Promise<readonly RepositorySurvey[]> {
    return (await this.#available(architecture)).map(({ source, top: { repomd, url, trust } }) => ({
      url,
      suite: source.id,
      date: dayOf(repomd.timestamp),
      architectures: [architecture],
      keyring: `vouched for by ${trust}`,
      configuredAt: source.configuredAt,
    }));
  }

  /**
   * For another installer than this program: where the repositories are, and the keys that count.
   *
   * @throws ToolError also when none of the keys is to be found
   */
  async installation(architecture: Architecture): Promise<Installation> {
    const available = await this.#available(architecture);
    const repositories = available.map(({ source, top }) => ({ id: source.id, urls: top.mirrors }));
    const { pinned, keys } = await this.#packageKeys();
    const found = (await Promise.all(pinned.map((fingerprint) => keys(keyIdOf(fingerprint))))).flat();
    const counting = found.filter((key) => pinned.includes(fingerprintOf(key)));
    if (counting.length === 0) {
      throw cannot('find', `the keys ${pinned.join(', ')}`, 'neither this host nor the network has them', {
        hint: 'give the file that holds them with --keyring FILE',
      });
    }
    return {
      repositories,
      keys: [...new Set(counting.map((key) => key.armor()))].join('\n'),
      fingerprints: [...new Set(counting.flatMap((key) => key.getKeys().map(fingerprintOf)))],
    };
  }

  async close(): Promise<void> {
    try {
      for (const index of this.#indexes) index.close();
      const opened = await Promise.allSettled(this.#opened.values());
      await Promise.all(
        opened.flatMap((result) => (result.status === 'fulfilled' ? [result.value.close()] : [])),
      );
    } finally {
      await (await this.#fetcher)?.close();
    }
  }

  async #fetchLocked(record: PackageRecord, architecture: Architecture): Promise<string> {
    const { sha256, size, suite, name, version } = record;
    const cached = await this.#options.cache.find(sha256);
    if (cached !== undefined) return cached;
    const sources = await this.#sourcesFor(architecture);
    const own = sources.filter(({ id }) => id === suite);
    const others = sources.filter(({ id }) => id !== suite);
    // Where one repository cannot be had, another may still have the package.
    const tops = await Promise.allSettled([...own, ...others].map((source) => this.#top(source)));
    const mirrors = tops.flatMap((top) => (top.status === 'fulfilled' ? top.value.mirrors : []));
    if (mirrors.length === 0) await Promise.all([...own, ...others].map((source) => this.#top(source)));
    const fetcher = await this.#connect();
    const urls = [...new Set(mirrors.map((mirror) => locate(mirror, record.path)))];
    return fetcher.blob(urls, { sha256, size, label: `${name} ${version}` });
  }

  /** Fetches a package that was chosen, proves that it is what its repository says, and opens it. */
  async #openFound({ record, repository }: FoundPackage): Promise<OpenedPackage> {
    const { name, architecture, checksum, size } = record;
    const version = evrText(record);
    const { cache, log } = this.#options;
    const { path, sha256 } = await fetchChecked(
      repository.urls(record),
      { checksum, size, label: `${name} ${version}` },
      { fetcher: await this.#connect(), cache, log },
    );
    const known = {
      name,
      version,
      architecture,
      suite: repository.source.id,
      path: plainPath(record.path),
      size,
      sha256,
    };
    const contents = await this.#open(path, known);
    checkIdentity(contents, known);
    return { contents, record: known };
  }

  #open(path: string, record: PackageRecord): Promise<PackageContents> {
    const opened = this.#opened.get(record.sha256) ?? this.#openFile(path, record);
    this.#opened.set(record.sha256, opened);
    return opened;
  }

  async #openFile(path: string, { name, version, sha256 }: PackageRecord): Promise<PackageContents> {
    const keys = await this.#packageKeys();
    try {
      return await this.#options.openPackage(path, sha256, keys, `package ${name} ${version}`);
    } catch (error) {
      if (!(error instanceof ToolError) || error.hint !== undefined) throw error;
      const { message, exitCode, details } = error;
      const hint = 'the repository is broken or hostile; use another';
      throw new ToolError(message, { cause: error, hint, exitCode, details });
    }
  }

  #packageKeys(): Promise<PackageKeys> {
    const { pinned, keyring, offline, cache, log } = this.#options;
    this.#keys ??= (async () =>
      packageKeys({
        pinned,
        keyring,
        configured: async () => {
          const chosen = await Promise.all(this.#sources.values());
          return chosen.flat().flatMap(({ gpgKeys }) => gpgKeys);
        },
        release: (await this.wantedRelease()) ?? '',
        connect: () => this.#connect(),
        offline,
        cache,
        log,
      }))();
    return this.#keys;
  }

  #sourcesFor(architecture: Architecture): Promise<readonly RpmSource[]> {
    const { mirrors, offline, cache, log, signal } = this.#options;
    const chosen =
      this.#sources.get(architecture) ??
      (async () =>
        chooseRpmSources({
          release: (await this.wantedRelease()) ?? noRelease(),
          architecture,
          mirrors,
          connect: () => this.#connect(),
          offline,
          cache,
          log,
          signal,
          root: this.#root,
        }))();
    this.#sources.set(architecture, chosen);
    return chosen;
  }

  /** The top documents of the repositories, without those that may be missing and are. */
  async #available(
    architecture: Architecture,
  ): Promise<readonly { readonly source: RpmSource; readonly top: TrustedRepomd }[]> {
    const { log, signal } = this.#options;
    const tops = await allOf(
      (await this.#sourcesFor(architecture)).map((source) =>
        unlessUnavailable(source, { log, signal }, async () => ({ source, top: await this.#top(source) })),
      ),
    );
    return tops.filter((one) => one !== undefined);
  }

  #top(source: RpmSource): Promise<TrustedRepomd> {
    const top =
      this.#tops.get(source) ??
      (async () =>
        fetchRepomd(source, { ...(await this.#context()), keyring: await this.#keyringOf(source) }))();
    this.#tops.set(source, top);
    return top;
  }

  async #context(): Promise<RepomdContext> {
    const { cache, offline, now, log, signal } = this.#options;
    return { fetcher: await this.#connect(), cache, offline, now, log, signal };
  }

  /** Keys of which one must have signed repomd.xml: only where the host asks for that, because Fedora signs none. */
  async #keyringOf({ repoGpgCheck, gpgKeys, configuredAt }: RpmSource): Promise<Keyring | undefined> {
    if (!repoGpgCheck) return undefined;
    const files: string[] = [];
    const blocks: string[] = [];
    for (const place of gpgKeys) {
      const file = keyFile(place);
      if (file !== undefined) files.push(file);
      else if (/^https:\/\//i.test(place) && tryUrl(place) !== undefined) {
        const bytes = await (await this.#connect()).document(place, largestKeyFile);
        if (bytes !== undefined) blocks.push(bytes.toString('latin1'));
      } else {
        throw cannot('use', configuredAt, `its key ${shownUrl(place)} is neither a file nor an https URL`, {
          hint: 'correct gpgkey there',
        });
      }
    }
    return { files, blocks, fingerprints: [], remedy: `correct gpgkey in ${configuredAt}` };
  }

  #connect(): Promise<Fetcher> {
    const { log, environment, signal, cache, offline } = this.#options;
    this.#fetcher ??= Promise.resolve(createFetcher({ log, signal, cache, offline, environment }));
    return this.#fetcher;
  }
}

/** Bytes. */
const largestKeyFile = 1024 ** 2;

export interface Installation {
  readonly repositories: readonly {
    readonly id: string;
    /** Base URLs of its mirrors, in the order in which they are to be tried. */
    readonly urls: readonly string[];
  }[];
  /** Armoured. */
  readonly keys: string;
  /** Upper-case, of these keys and of their subkeys. */
  readonly fingerprints: readonly string[];
}

function fingerprintOf(key: { getFingerprint(): string }): string {
  return key.getFingerprint().toUpperCase();
}

interface ArchiveOptions {
  readonly release: string;
  readonly architecture: Architecture;
  readonly packages: RpmPackages;
  readonly prefer: readonly string[];
  readonly warn: (message: string) => void;
  readonly open: (found: FoundPackage) => Promise<OpenedPackage>;
}

/** A candidate of the repositories, in the words of who chooses. */
interface RpmCandidate {
  readonly name: string;
  readonly requires: readonly string[];
  readonly found: FoundPackage;
}

class FedoraArchive implements PackageArchive {
  readonly release: string;
  readonly architecture: Architecture;
  readonly layout: readonly string[];
  readonly #options: ArchiveOptions;
  /** Names of the packages that the image has so far. */
  readonly #taken = new Set<string>();

  constructor(options: ArchiveOptions) {
    this.#options = options;
    this.release = options.release;
    this.architecture = options.architecture;
    this.layout = layoutPackages.filter((name) => options.packages.find(name) !== undefined);
  }

  async select(names: readonly string[]): Promise<readonly OpenedPackage[]> {
    const { packages, open } = this.#options;
    const found = names.map((name) => packages.find(name) ?? this.#missing(name));
    for (const name of names) this.#taken.add(name);
    return allOf(found.map((one) => open(one)));
  }

  /** Fedora's two, or the one package of another distribution that says what system it makes. */
  releasePackages(): Promise<readonly string[]> {
    const { packages, warn } = this.#options;
    const fedora = ['fedora-release-common', 'fedora-release-identity-basic'];
    if (fedora.every((name) => packages.find(name) !== undefined)) return Promise.resolve(fedora);
    const [only, ...others] = packages.providers('system-release').map(({ record }) => record.name);
    if (only !== undefined && others.length === 0) return Promise.resolve([only]);
    warn(
      'no package says which release this is: the image has no /etc/os-release, and scanners may not know it',
    );
    return Promise.resolve([]);
  }

  async provide(request: Parameters<PackageArchive['provide']>[0]): ReturnType<PackageArchive['provide']> {
    const { packages, architecture, prefer, open } = this.#options;
    const candidate = (found: FoundPackage): RpmCandidate => ({
      name: found.record.name,
      requires: found.record.requires.map(({ name }) => name),
      found,
    });
    const choice = await chooseProvider<RpmCandidate>(request, {
      architecture,
      prefer,
      index: {
        find: (name) => {
          const found = packages.find(name);
          return found === undefined ? undefined : candidate(found);
        },
        providers: (capability) => packages.providers(capability).map(candidate),
        owners: async (paths) => (await packages.owners(paths)).map(candidate),
      },
      isTaken: ({ name }) => this.#taken.has(name),
      open: async ({ found }) => (await open(found)).contents,
    });
    if (choice === undefined) return undefined;
    this.#taken.add(choice.candidate.name);
    return { ...(await open(choice.candidate.found)), explanation: choice.explanation };
  }

  #missing(name: string): never {
    const { packages, release, architecture } = this.#options;
    const [close] = packages.similar(name);
    throw cannot('find', `package ${name}`, `Fedora ${release} has none of that name for ${architecture}`, {
      hint: `choose another release with --suite, or correct packages in the definition${close === undefined ? '' : ` (did you mean ${close}?)`}`,
    });
  }
}

/** A day such as `2026-11-20`. @param seconds whatever a repository says, even what no calendar has */
function dayOf(seconds: number): string {
  const time = new Date(seconds * 1000);
  return Number.isNaN(time.getTime()) ? 'a day that is none' : time.toISOString().slice(0, 10);
}

/** The spelling of a location that a lock file can have; it leads to the same URL. */
function plainPath(path: string): string {
  return path.replace(/[ ?#\u0080-\u009f]/g, encodeURIComponent);
}

/** Like Promise.all, but what was opened beside a failure is closed. */
async function allOrNone<Closable extends { close(): void } | undefined>(
  work: readonly Promise<Closable>[],
): Promise<readonly Closable[]> {
  const results = await Promise.allSettled(work);
  if (results.some(({ status }) => status === 'rejected')) {
    for (const result of results) if (result.status === 'fulfilled') result.value?.close();
  }
  return Promise.all(work);
}
