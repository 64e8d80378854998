import type { Architecture } from '../support/architecture.js';

export type Family = 'debian';

/** One package, named exactly enough to fetch and prove it again. */
export interface LockedPackage {
  readonly name: string;
  readonly version: string;
  /** The distribution's architecture name, such as `amd64` or `all`. */
  readonly architecture: string;
  /** Suite whose index named it, such as `bookworm-security`; finds the mirror again. */
  readonly suite: string;
  /** URL path below the archive's base, such as `pool/main/g/glibc/libc6_2.36-9_amd64.deb`. */
  readonly path: string;
  /** Bytes. */
  readonly size: number;
  /** Lower-case hexadecimal. */
  readonly sha256: string;
  /** One line: which file of it the image needs, and for whom. */
  readonly why: string;
}

/** The packages of one image for one architecture of one release. */
export interface LockedTarget {
  readonly family: Family;
  /** Codename of the release, such as `bookworm`. */
  readonly release: string;
  readonly architecture: Architecture;
  /** Sorted by name. */
  readonly packages: readonly LockedPackage[];
}

export interface LockFile {
  /** sha256 of the definition file's bytes when the packages were chosen. */
  readonly definition: string;
  /** Sorted by family, release, architecture. */
  readonly targets: readonly LockedTarget[];
}
