import type { FamilyChoice } from './family.js';
import type { BuiltImage } from './image/engine.js';
import type { LockFile } from './repository/lock.js';
import type { LockMode } from './repository/lock-use.js';
import type { Compression } from './rootfs/layer.js';
import type { Architecture } from './support/architecture.js';
import type { Cache } from './support/cache.js';
import type { Exec } from './support/exec.js';
import type { Log } from './support/log.js';

/** Which image, from where. */
export interface ImageRequest {
  /** Path that this process can open; shown in errors. */
  readonly definition: string;
  /** Absolute path. */
  readonly lockFile: string;
  /** Undefined: those that the lock file has for the release, or the host's. */
  readonly architectures: readonly Architecture[] | undefined;
  readonly hostArchitecture: Architecture;
  readonly distro: FamilyChoice;
  /** URLs that end in `/`; none: the host's own sources, or the family's public ones. */
  readonly mirrors: readonly string[];
  readonly suite: string | undefined;
  /** Absolute path. */
  readonly keyring: string | undefined;
  readonly mode: LockMode;
  readonly offline: boolean;
  /** The command that renews the lock file, for hints. */
  readonly renewal: string;
}

/** What the pipeline works with; commands make it, tests make their own. */
export interface Services {
  readonly log: Log;
  readonly exec: Exec;
  readonly cache: Cache;
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly now: Date;
  readonly signal: AbortSignal;
}

/** The lock file as it is, and as it is to be. */
export interface LockChange {
  readonly before: LockFile | undefined;
  readonly after: LockFile;
  readonly changed: boolean;
}

export interface BuildTarget {
  /** Absolute path; made when it does not exist. */
  readonly directory: string;
  readonly engine: 'auto' | 'oci' | 'buildah';
  readonly compression: Compression;
  readonly reference: string | undefined;
}

export interface BuildOutcome {
  readonly image: BuiltImage;
  /** In the order of `image.manifests`. */
  readonly images: readonly (ScratchSummary | OnBaseSummary)[];
  readonly lockFile: string;
  readonly lockChanged: boolean;
}

export interface ScratchSummary {
  readonly release: string;
  readonly packages: number;
  /** Regular files, and their bytes together. */
  readonly files: number;
  readonly contentBytes: number;
}

export interface OnBaseSummary {
  /** The base with its digest. */
  readonly upon: string;
  readonly release: string;
  /** Packages that were installed or changed, and those of the base. */
  readonly packages: number;
  readonly basePackages: number;
}
