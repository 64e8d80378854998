import type { RootfsPlan } from './plan.js';

export type Compression = 'gzip' | 'zstd' | 'none';

/** One image layer on disk. Digests are `sha256:` and 64 lower-case hexadecimal digits. */
export interface Layer {
  /** File that holds the compressed bytes. */
  readonly path: string;
  readonly compression: Compression;
  /** Of the compressed bytes: the blob's name in a registry. */
  readonly digest: string;
  /** Of the uncompressed tar: the image configuration's `rootfs.diff_ids`. */
  readonly diffId: string;
  /** Compressed bytes. */
  readonly size: number;
  /** Bytes of the uncompressed tar. */
  readonly tarSize: number;
}

/** Writes the plan as one deterministic tar layer. Same plan, same bytes, on any machine and Node version. */
export type WriteLayer = (plan: RootfsPlan, compression: Compression, path: string) => Promise<Layer>;
