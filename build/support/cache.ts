/**
 * Content-addressed store below `$XDG_CACHE_HOME/dhcpd-scratch`. Safe for several processes at once: every
 * file appears whole by rename, and is hashed again whenever it is handed out.
 */
export interface Cache {
  /** Absolute path of the cache's own directory. */
  readonly directory: string;
  /** Path of the blob, verified just now; a broken one is removed and counts as missing. */
  find(sha256: string): Promise<string | undefined>;
  /** Reads a blob whole, verified. */
  read(sha256: string): Promise<Buffer | undefined>;
  /** A new empty file on the cache's own file system to fill and then `keep`; removed by `discard` or at exit. */
  temporary(): Promise<TemporaryBlob>;
  /**
   * Small named records (what has been seen of a Release; which blob an unpacked package is), JSON text.
   * Integrity-protected: a damaged record counts as missing.
   */
  readRecord(kind: string, key: string): Promise<string | undefined>;
  writeRecord(kind: string, key: string, text: string): Promise<void>;
  /** Removes everything; gives the number of files and bytes freed. */
  clean(): Promise<{ readonly files: number; readonly bytes: number }>;
}

export interface TemporaryBlob {
  readonly path: string;
  /** fsync, hash, rename into place. @param expected when given, a different hash is an error and nothing is kept */
  keep(expected?: string): Promise<{ readonly sha256: string; readonly path: string; readonly size: number }>;
  discard(): Promise<void>;
}
