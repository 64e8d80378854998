/** Why an entry is in the image. Every entry has exactly one reason. */
export type Reason =
  | { readonly kind: 'root'; readonly program: string }
  /** Needed by the loader: root path first, this file last. */
  | { readonly kind: 'needed'; readonly chain: readonly string[]; readonly name: string }
  | { readonly kind: 'interpreter'; readonly of: string }
  | { readonly kind: 'dlopen'; readonly by: string; readonly name: string }
  /** A link or directory on the way to another entry. */
  | { readonly kind: 'path'; readonly to: string }
  | { readonly kind: 'state'; readonly volume: string }
  | { readonly kind: 'config' }
  | { readonly kind: 'account'; readonly user: string }
  | { readonly kind: 'inventory'; readonly about: string }
  | { readonly kind: 'declared'; readonly field: string };

interface EntryBase {
  /** Relative to the root, `/`-separated, no trailing slash. The root directory itself is not an entry. */
  readonly path: string;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** `name version` of the package the bytes come from, or undefined for what the plan itself writes. */
  readonly origin: string | undefined;
  readonly reason: Reason;
}
export interface PlannedDirectory extends EntryBase {
  readonly kind: 'directory';
}
export interface PlannedFile extends EntryBase {
  readonly kind: 'file';
  readonly size: number;
  /** Raw security.capability value to set, or undefined. */
  readonly capability: Buffer | undefined;
  read(): Promise<Buffer>;
}
export interface PlannedSymlink extends EntryBase {
  readonly kind: 'symlink';
  readonly target: string;
}
/** A file whose bytes the plan itself states. */
export interface PlannedText extends EntryBase {
  readonly kind: 'text';
  readonly text: string;
}
export type RootfsEntry = PlannedDirectory | PlannedFile | PlannedSymlink | PlannedText;

export interface RootfsPlan {
  /** Sorted by the bytes of the path; a directory before what it holds. */
  readonly entries: readonly RootfsEntry[];
  /** Modification time of every entry, seconds since the epoch. */
  readonly epoch: number;
  readonly warnings: readonly string[];
}
