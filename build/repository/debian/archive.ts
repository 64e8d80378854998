import type { Architecture } from '../../support/architecture.js';
import type { PackageContents } from '../../package/contents.js';
import type { LockedPackage } from '../lock.js';

/** The archive of one release for one architecture, verified: what pipeline needs of any family. */
export interface DebianArchive {
  /** Codename of the release, such as `bookworm`. */
  readonly release: string;
  readonly architecture: Architecture;
  /** The newest version of a binary package over all suites; virtual packages are not resolved here. */
  find(name: string): PackageRecord | undefined;
  /** Names near to a missing one, best first, for error messages. */
  similar(name: string): readonly string[];
  /** Fetches and opens packages, in parallel, each once. */
  open(records: readonly PackageRecord[]): Promise<readonly PackageContents[]>;
  /**
   * The package that provides a soname in one of the loader's directories. Walks the dependency graph from the package
   * that owns the needing object, then from the root package; the Contents index answers for the rest.
   */
  provider(request: ProviderRequest): Promise<Provider | undefined>;
}

export interface ProviderRequest {
  readonly soname: string;
  /** Package that owns the object which needs it. */
  readonly neededBy: string;
  /** Root package of the image. */
  readonly root: string;
  /** Directories, relative to the root, in the loader's order; usr-merged spellings are equal. */
  readonly directories: readonly string[];
}

export interface Provider {
  readonly record: PackageRecord;
  /** One line: why this package and not another, such as `libc6 is a dependency of isc-dhcp-server`. */
  readonly explanation: string;
}

/** One stanza of a Packages index, reduced to what choosing and fetching need. */
export interface PackageRecord extends Omit<LockedPackage, 'why'> {
  readonly section: string;
  /** Each group is a list of alternatives: Pre-Depends then Depends, version constraints kept as text. */
  readonly depends: readonly (readonly Dependency[])[];
  readonly provides: readonly Dependency[];
}

export interface Dependency {
  readonly name: string;
  /** Such as `>= 2.36`, or undefined. */
  readonly constraint: string | undefined;
}
