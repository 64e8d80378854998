import { hostRelease, readAptConfiguration, type AptConfiguration } from './apt-config.js';
import {
  locateLocked,
  openArchive,
  type DebianArchive,
  type DecompressFile,
  type OpenPackage,
} from './archive.js';
import { checkIdentity } from './identity.js';
import { debianArchitecture } from './layout.js';
import { openSuites } from './open-suites.js';
import { readPins, type Pin } from './preferences.js';
import type { Release } from './release.js';
import type { Source } from './sources.js';
import { chooseSources, type ChosenSources } from './suites.js';
import type { PackageContents } from '../../package/contents.js';
import { architectures, type Architecture } from '../../support/architecture.js';
import type { Cache } from '../../support/cache.js';
import type { Exec } from '../../support/exec.js';
import type { Log } from '../../support/log.js';
import { cannot, reasonOf, ToolError } from '../../support/errors.js';
import { shownUrl } from '../../support/url.js';
import { createFetcher, type Fetcher } from '../fetch.js';
import type { LockedPackage, LockedTarget, LockFile } from '../lock.js';
import type { LockMode } from '../lock-use.js';

export interface OriginOptions {
  /** `host` or a codename: what the definition says. */
  readonly release: string;
  /** `--suite`, `--mirror` and `--keyring`. */
  readonly suite: string | undefined;
  readonly mirrors: readonly string[];
  readonly keyring: string | undefined;
  readonly offline: boolean;
  /** `locked`: never choose packages; the lock file must be enough. */
  readonly mode: LockMode;
  /** Path of the lock file, for errors. */
  readonly lockFile: string;
  /** Command that renews the lock file, for hints. */
  readonly renewal: string;
  readonly openPackage: OpenPackage;
  readonly decompressFile: DecompressFile;
  readonly log: Log;
  readonly exec: Exec;
  readonly cache: Cache;
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly now: Date;
  readonly signal: AbortSignal;
}

export interface OpenedPackage {
  readonly contents: PackageContents;
  readonly record: Omit<LockedPackage, 'why'>;
}

/**
 * Where the Debian packages of one run come from: the lock file and the cache as far as they reach, else the
 * archive. The host's configuration, the network and the archive's indexes are touched only when they are needed.
 */
export class DebianOrigin {
  readonly #options: OriginOptions;
  readonly #opened: Promise<PackageContents>[] = [];
  readonly #archives: DebianArchive[] = [];
  readonly #releases = new Map<string, Promise<Release | undefined>>();
  #apt: Promise<AptConfiguration | undefined> | undefined;
  #fetcher: Promise<Fetcher> | undefined;
  #chosen: Promise<ChosenSources> | undefined;
  #pins: Promise<readonly Pin[]> | undefined;

  constructor(options: OriginOptions) {
    this.#options = options;
  }

  /**
   * The packages that the lock file names for this architecture, opened.
   *
   * @returns undefined when they have to be chosen from the archive: the lock file has none of this release and
   * architecture, or one of them can no longer be had
   * @throws ToolError instead, when the lock file must be enough
   */
  async locked(lock: LockFile | undefined, architecture: Architecture): Promise<LockedPackages | undefined> {
    const { mode, renewal, lockFile, offline, log } = this.#options;
    if (mode === 'renew') return undefined;
    const target = await this.#lockedTarget(lock, architecture);
    if (target === undefined) {
      if (mode === 'prefer') return undefined;
      const release = await this.wantedRelease();
      throw cannot(
        'build from',
        lockFile,
        `it names no packages of Debian${release === undefined ? '' : ` ${release}`} for ${architecture}`,
        { hint: `run ${renewal} --arch ${architecture}`, exitCode: 2 },
      );
    }
    try {
      const packages = await Promise.all(
        target.packages.map(async (record) => {
          const contents = await this.#open(await this.#fetch(record), record.sha256);
          checkIdentity(contents, record);
          return { record, contents };
        }),
      );
      return { release: target.release, packages };
    } catch (error) {
      if (!(error instanceof ToolError) || this.#options.signal.aborted) throw error;
      if (mode === 'locked' || offline) {
        throw new ToolError(error.message, {
          cause: error,
          hint:
            mode === 'locked' && !offline
              ? `if the package is gone from the archive, run ${renewal}`
              : (error.hint ?? ''),
        });
      }
      log.info(`choosing packages anew: ${reasonOf(error)}`);
      return undefined;
    }
  }

  /** The archive itself, verified, for choosing packages. */
  async archive(architecture: Architecture): Promise<DebianArchive> {
    const { cache, offline, log, now, openPackage, decompressFile } = this.#options;
    const [{ release, sources }, fetcher, pins] = await Promise.all([
      this.#sources(),
      this.#connect(),
      this.#readPins(),
    ]);
    const archive = await openArchive({
      release,
      sources,
      architecture,
      fetcher,
      releases: this.#releases,
      pins,
      cache,
      offline,
      log,
      now,
      decompressFile,
      openPackage: (path, sha256) => this.#keep(openPackage(path, sha256)),
    });
    this.#archives.push(archive);
    return archive;
  }

  /** Asks every suite for its Release, verified: whether the archive can be reached and trusted. */
  async survey(): Promise<readonly SuiteSurvey[]> {
    const [{ release, sources }, fetcher] = await Promise.all([this.#sources(), this.#connect()]);
    const { cache, offline, log, now } = this.#options;
    const suites = await openSuites(sources, {
      release,
      debian: undefined,
      fetcher,
      cache,
      offline,
      log,
      now,
    });
    return suites.map(({ source, release: { date, architectures: debian } }) => ({
      url: shownUrl(source.uri),
      suite: source.suite,
      date: new Date(date).toISOString().slice(0, 10),
      architectures: architectures.filter((name) => debian.includes(debianArchitecture(name))),
      keyring: keyringName(source),
      configuredAt: source.configuredAt,
    }));
  }

  /** Gives every opened package, index and connection back. */
  async close(): Promise<void> {
    await Promise.all(this.#archives.map((archive) => archive.close()));
    const opened = await Promise.allSettled(this.#opened);
    await Promise.all(
      opened.flatMap((result) => (result.status === 'fulfilled' ? [result.value.close()] : [])),
    );
    await (await this.#fetcher)?.close();
  }

  async #lockedTarget(
    lock: LockFile | undefined,
    architecture: Architecture,
  ): Promise<LockedTarget | undefined> {
    const targets = lock?.targets.filter((target) => target.architecture === architecture) ?? [];
    const release = await this.wantedRelease();
    if (release !== undefined) return targets.find((target) => target.release === release);
    // No release is asked for and the host has none: the lock file decides, if it can.
    return targets.length === 1 ? targets[0] : undefined;
  }

  /** `--suite`, else the definition's release, else the host's, if it is a Debian. */
  async wantedRelease(): Promise<string | undefined> {
    const { suite, release } = this.#options;
    return suite ?? (release === 'host' ? await hostRelease() : release);
  }

  async #fetch(record: LockedPackage): Promise<string> {
    const cached = await this.#options.cache.find(record.sha256);
    if (cached !== undefined) return cached;
    const [{ sources }, fetcher] = await Promise.all([this.#sources(), this.#connect()]);
    return fetcher.blob(locateLocked(sources, record), {
      sha256: record.sha256,
      size: record.size,
      label: `${record.name} ${record.version}`,
    });
  }

  #open(path: string, sha256: string): Promise<PackageContents> {
    return this.#keep(this.#options.openPackage(path, sha256));
  }

  #keep(contents: Promise<PackageContents>): Promise<PackageContents> {
    this.#opened.push(contents);
    return contents;
  }

  #sources(): Promise<ChosenSources> {
    const { mirrors, keyring, log } = this.#options;
    this.#chosen ??= (async () =>
      chooseSources(
        {
          apt: await this.#hostApt(),
          hostRelease: await hostRelease(),
          suite: await this.wantedRelease(),
          mirrors,
          keyring,
        },
        log,
      ))();
    return this.#chosen;
  }

  #connect(): Promise<Fetcher> {
    const { log, environment, signal, cache, offline } = this.#options;
    this.#fetcher ??= (async () => {
      const apt = await this.#hostApt();
      return createFetcher({
        log,
        signal,
        cache,
        offline,
        environment: { ...environment, ...apt?.proxyEnvironment },
      });
    })();
    return this.#fetcher;
  }

  #readPins(): Promise<readonly Pin[]> {
    this.#pins ??= (async () => readPins((await this.#hostApt())?.preferences ?? [], this.#options.log))();
    return this.#pins;
  }

  #hostApt(): Promise<AptConfiguration | undefined> {
    const { exec, environment, log } = this.#options;
    this.#apt ??= readAptConfiguration({ exec, environment, log });
    return this.#apt;
  }
}

export interface LockedPackages {
  readonly release: string;
  readonly packages: readonly OpenedPackage[];
}

export interface SuiteSurvey {
  /** Of the archive, without a password. */
  readonly url: string;
  readonly suite: string;
  /** Day of its Release, YYYY-MM-DD. */
  readonly date: string;
  /** Those of the known ones that it has packages for. */
  readonly architectures: readonly Architecture[];
  /** Whose keys must have signed it. */
  readonly keyring: string;
  /** Such as `/etc/apt/sources.list:3`. */
  readonly configuredAt: string;
}

function keyringName({ keyring: { files, blocks }, trusted }: Source): string {
  if (trusted === true) return 'no keys (trusted=yes)';
  const [first, ...others] = [...files, ...blocks.map(() => 'Signed-By')];
  if (first === undefined) return 'no keys';
  return others.length === 0 ? `keys of ${first}` : `keys of ${first} and ${others.length} more`;
}
