/**
 * What a distribution package holds, whatever its format. Entries are as the archive states them: hostile
 * until a plan has accepted them. Paths are normalised: no leading `/` or `./`, no `.`/`..`/empty component,
 * never absolute, valid UTF-8; a package that needs another path is refused when it is opened.
 */
export interface PackageContents {
  readonly name: string;
  /** In the distribution's own spelling: `1:2.3-4` for Debian and for RPM, where it is EPOCH:VERSION-RELEASE. */
  readonly version: string;
  /** The distribution's own name for the architecture, such as `amd64`, `all`, `x86_64` or `noarch`. */
  readonly architecture: string;
  readonly metadata: DebMetadata | RpmMetadata;
  /** When the package was built, seconds since the epoch. */
  readonly built: number;
  /**
   * In archive order, without the root directory; the last entry of a path wins and is the only one kept. No entry
   * lies below another that is no directory.
   */
  readonly entries: readonly PackageEntry[];
  /** Bytes of a regular file among `entries`, hard links followed. @throws ToolError */
  read(entry: FileEntry | HardlinkEntry): Promise<Buffer>;
  /** Gives the file descriptor back. Reading afterwards is an error. */
  close(): Promise<void>;
}

export interface DebMetadata {
  readonly format: 'deb';
  /** Control fields in their order, unfolded as written. */
  readonly control: ReadonlyMap<string, string>;
  /** The control stanza as the package carries it, for scanner files. */
  readonly controlText: string;
}

export interface RpmMetadata {
  readonly format: 'rpm';
  /** Undefined where the header has none, which is not the same as 0 to rpm's own queries. */
  readonly epoch: number | undefined;
  /** Without epoch and release. */
  readonly version: string;
  readonly release: string;
  readonly vendor: string;
  readonly license: string;
  /** File name of the source package, such as `dhcp-4.4.3-27.fc45.src.rpm`. */
  readonly sourceRpm: string;
  /** Installed bytes, as the header states them. */
  readonly installedSize: number;
  /** Upper-case fingerprint of the primary key that has signed the header; undefined when no signature was asked for. */
  readonly signer: string | undefined;
  /** Symbolic links that the package owns without shipping them (`%ghost`): scriptlets or triggers make them. */
  readonly ghostLinks: readonly SymlinkEntry[];
}

interface EntryBase {
  /** Relative to the root, `/`-separated, UTF-8. */
  readonly path: string;
  /** Permission bits with setuid, setgid and sticky: 0 to 0o7777. */
  readonly mode: number;
  /** Undefined when the package names an account that nothing in it defines: such a file fits into no image. */
  readonly uid: number | undefined;
  readonly gid: number | undefined;
  /** Owner names, where the archive carries names; the numeric ids hold otherwise. */
  readonly userName: string;
  readonly groupName: string;
  /** Whole seconds since the epoch, rounded down; may be negative. */
  readonly mtime: number;
}

export interface FileEntry extends EntryBase {
  readonly kind: 'file';
  readonly size: number;
  /** Raw value of the security.capability extended attribute (capabilities(7)), if the archive carries one. */
  readonly capability: Buffer | undefined;
}
export interface DirectoryEntry extends EntryBase {
  readonly kind: 'directory';
}
export interface SymlinkEntry extends EntryBase {
  readonly kind: 'symlink';
  /** As written: may be absolute, relative, dangling or climb out of the root. */
  readonly target: string;
}
/** A further name of a regular file of the same package. */
export interface HardlinkEntry extends EntryBase {
  readonly kind: 'hardlink';
  /** Normalised path of the file entry that holds the bytes; its existence has been checked. */
  readonly target: string;
  readonly size: number;
}
export interface DeviceEntry extends EntryBase {
  readonly kind: 'character-device' | 'block-device';
  readonly major: number;
  readonly minor: number;
}
export interface FifoEntry extends EntryBase {
  readonly kind: 'fifo';
}
export type PackageEntry =
  FileEntry | DirectoryEntry | SymlinkEntry | HardlinkEntry | DeviceEntry | FifoEntry;

/** Bounds that keep a hostile package from using up memory, disk or time. */
export interface PackageLimits {
  /** Unpacked bytes of all members together. */
  readonly unpackedBytes: number;
  readonly entries: number;
  /** Bytes of the control archive, unpacked. */
  readonly controlBytes: number;
}
export const defaultPackageLimits: PackageLimits = {
  unpackedBytes: 2 * 1024 ** 3,
  entries: 200_000,
  controlBytes: 16 * 1024 ** 2,
};
