import type { PackageLimits } from './contents.js';

/** How a package file is opened. */
export interface OpenOptions {
  /** What the package is called in errors, such as its name and version; the path of its file otherwise. */
  readonly name?: string;
  readonly limits?: PackageLimits;
}
