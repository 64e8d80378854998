import type { PackageContents } from '../package/contents.js';
import type { Architecture } from '../support/architecture.js';
import type { Cache } from '../support/cache.js';
import type { Exec } from '../support/exec.js';
import type { Log } from '../support/log.js';
import type { LockedPackage, LockFile } from './lock.js';
import type { LockMode } from './lock-use.js';

/** What a package source needs of the run, whatever the family. */
export interface OriginOptions {
  /** `host`, or a release: what the definition says. */
  readonly release: string;
  /** `--suite`, `--mirror` and `--keyring`. */
  readonly suite: string | undefined;
  /** URLs that end in `/`. */
  readonly mirrors: readonly string[];
  /** Absolute path. */
  readonly keyring: string | undefined;
  readonly offline: boolean;
  /** `locked`: never choose packages; the lock file must be enough. */
  readonly mode: LockMode;
  /** Path of the lock file, for errors. */
  readonly lockFile: string;
  /** Command that renews the lock file, for hints. */
  readonly renewal: string;
  readonly log: Log;
  readonly exec: Exec;
  readonly cache: Cache;
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly now: Date;
  readonly signal: AbortSignal;
}

/** A package named exactly enough to fetch and prove it. */
export type PackageRecord = Omit<LockedPackage, 'why'>;

export interface OpenedPackage {
  readonly contents: PackageContents;
  readonly record: PackageRecord;
}

export interface LockedPackages {
  readonly release: string;
  readonly packages: readonly OpenedPackage[];
}

/**
 * Where the packages of one run come from, for one family: the lock file and the cache as far as they reach, else the
 * family's repositories. Host configuration, network and indexes are touched only when they are needed.
 */
export interface PackageOrigin {
  /** The release that is asked for: `--suite`, else the definition's, else the host's, if it is of the family. */
  wantedRelease(): Promise<string | undefined>;
  /**
   * The packages that the lock file names for this architecture, opened.
   *
   * @returns undefined when they have to be chosen anew: the lock file has none of this release and architecture, or
   * one of them can no longer be had
   * @throws ToolError instead, when the lock file must be enough
   */
  locked(lock: LockFile | undefined, architecture: Architecture): Promise<LockedPackages | undefined>;
  /** The repositories themselves, verified, for choosing packages. */
  archive(architecture: Architecture): Promise<PackageArchive>;
  /** Asks every repository for its top document, verified: whether it can be reached and trusted; for `doctor`. */
  survey(architecture: Architecture): Promise<readonly RepositorySurvey[]>;
  /** Gives every opened package, index and connection back. */
  close(): Promise<void>;
}

/** The packages of one release for one architecture. */
export interface PackageArchive {
  /** Such as `bookworm` or `45`. */
  readonly release: string;
  readonly architecture: Architecture;
  /**
   * Opens the newest version of each package, by name, in this order.
   *
   * @throws ToolError for a name that there is no package of, with the nearest one as a hint
   */
  select(names: readonly string[]): Promise<readonly OpenedPackage[]>;
  /** Names of the packages that every image of this release begins with: what makes its layout. */
  readonly layout: readonly string[];
  /** Names of the packages that tell scanners what release it is; may be none. */
  releasePackages(): Promise<readonly string[]>;
  /** The package that provides a soname in one of the loader's directories, opened; undefined when there is none. */
  provide(request: ProviderRequest): Promise<ProvidedPackage | undefined>;
}

export interface ProviderRequest {
  readonly soname: string;
  /** Package that owns the object which needs it. */
  readonly neededBy: string;
  /** Root package of the image. */
  readonly root: string;
  /** Directories, relative to the root, in the loader's order; merged spellings are equal. */
  readonly directories: readonly string[];
}

export interface ProvidedPackage extends OpenedPackage {
  /** One line: why this package and not another, such as `libc6 is a dependency of isc-dhcp-server`. */
  readonly explanation: string;
}

/** One repository as `doctor` tells of it. */
export interface RepositorySurvey {
  /** Without a password. */
  readonly url: string;
  /** Suite of a Debian archive, or repository id. */
  readonly suite: string;
  /** Day of its top document, YYYY-MM-DD. */
  readonly date: string;
  /** Those of the known ones that it has packages for. */
  readonly architectures: readonly Architecture[];
  /** What vouches for it, such as `signed with keys of /usr/share/keyrings/debian-archive-keyring.gpg`. */
  readonly keyring: string;
  /** Such as `/etc/apt/sources.list:3`. */
  readonly configuredAt: string;
}
