import type { Architecture } from '../support/architecture.js';

/** A regular file found by the loader's view of the file system. `Owner` is opaque to this stage. */
export interface LoaderFile<Owner> {
  /** Real path, absolute, no link in any component. */
  readonly path: string;
  readonly owner: Owner;
  read(): Promise<Buffer>;
}

/** The file system as the loader will see it. */
export interface LoaderView<Owner> {
  /** @param path absolute, as the loader would open it; links are followed by the view */
  lookup(path: string): LoaderFile<Owner> | undefined;
}

/** Asked for a soname that no directory of the view holds. Adds its provider to the view and returns true, or returns false. */
export type ProviderLookup<Owner> = (soname: string, neededBy: LoaderFile<Owner>) => Promise<boolean>;

export interface LoaderConfig {
  readonly architecture: Architecture;
  /** Directories of ld.so.conf in their order, absolute. */
  readonly configured: readonly string[];
  /** The loader's built-in directories in their order, absolute. */
  readonly builtIn: readonly string[];
  /** What $LIB stands for, such as `lib/x86_64-linux-gnu`. */
  readonly lib: string;
}

export interface DlopenNote {
  readonly sonames: readonly string[];
  readonly feature: string | undefined;
  readonly description: string | undefined;
  readonly priority: 'required' | 'recommended' | 'suggested';
}

export interface ClosureObject<Owner> {
  readonly file: LoaderFile<Owner>;
  /** Path the loader opens, absolute; may run over links to `file.path`. For roots the path asked for. */
  readonly path: string;
  readonly soname: string | undefined;
  readonly role: 'root' | 'interpreter' | 'library' | 'dlopen';
  /** Shortest chain from a root to this object: root path first, this object's path last. */
  readonly chain: readonly string[];
  /** The DT_NEEDED name (or PT_INTERP path) that asked for it first; undefined for a root. */
  readonly neededAs: string | undefined;
  readonly dlopenNotes: readonly DlopenNote[];
  /** Imports dlopen or dlmopen. */
  readonly callsDlopen: boolean;
}

export interface LibraryClosure<Owner> {
  /** In load order: roots, then breadth first; one entry per real path. */
  readonly objects: readonly ClosureObject<Owner>[];
  readonly warnings: readonly string[];
}
