import type { FileEntry, HardlinkEntry, PackageContents } from './contents.js';

/** One symbolic link that was followed on the way to a file. */
export interface FollowedLink {
  /** Path of the link itself, relative to the root, with every directory link before it already resolved. */
  readonly path: string;
  readonly target: string;
  /** Package that ships the link, or undefined for a link of the family's merged /usr layout. */
  readonly owner: PackageContents | undefined;
}

export interface FoundFile {
  /** Real path, relative to the root, no link in any component. */
  readonly path: string;
  readonly links: readonly FollowedLink[];
  readonly owner: PackageContents;
  readonly entry: FileEntry | HardlinkEntry;
}

/**
 * The file system that the packages would make together, seen through the links of a merged /usr
 * (directory aliases such as `lib64` -> `usr/lib64`). Nothing is unpacked.
 */
export interface PackageTree {
  readonly packages: readonly PackageContents[];
  /** @throws ToolError when two packages own one path with differing contents */
  add(contents: PackageContents): void;
  /** Resolves like the kernel: links in every component, `..`, at most 40 links; undefined when nothing is there or it is no regular file. */
  lookup(path: string): FoundFile | undefined;
  /** Names in a directory, sorted by bytes. */
  list(path: string): readonly string[];
}
