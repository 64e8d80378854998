import { createHash } from 'node:crypto';
import { rmSync } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import { lstat, open, readdir, readFile, rename, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';

import { cannotWrite, isCode, writeFileAtomically } from './atomic.js';
import { prepareCacheDirectory, requireTag } from './cache-directory.js';
import { makeDirectory } from './directories.js';
import { cannot, reasonOf, ToolError } from './errors.js';
import { isLeftover, removeLeftovers, temporaryFor, temporaryPath } from './temporary.js';

export { defaultCacheDirectory } from './cache-directory.js';

/**
 * Content-addressed store below `$XDG_CACHE_HOME/dhcpd-scratch`. Safe for several processes at once: every
 * file appears whole by rename, and is hashed again whenever it is handed out.
 *
 * Layout: `blobs/sha256/<2>/<62>`, `records/<kind>/<sha256 of key>.json`, `partial/` (transfers to go on with),
 * `tmp/`, and `CACHEDIR.TAG` (https://bford.info/cachedir/), which keeps it out of backups.
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
   * The file that collects a blob's bytes over several runs, claimed for this process alone. It holds what an
   * earlier transfer left, or nothing when there is none or another living process has it.
   */
  partial(sha256: string): Promise<PartialBlob>;
  /**
   * Small named records (what has been seen of a Release; which blob an unpacked package is), JSON text.
   * Integrity-protected: a damaged record counts as missing.
   */
  readRecord(kind: string, key: string): Promise<string | undefined>;
  writeRecord(kind: string, key: string, text: string): Promise<void>;
  /**
   * Removes every file but those that a living process is writing; gives the number of files and bytes freed.
   * Follows no symbolic link. The empty directories stay, because another process may be about to use them.
   */
  clean(): Promise<{ readonly files: number; readonly bytes: number }>;
}

export interface TemporaryBlob {
  readonly path: string;
  /**
   * fsync, hash, rename into place.
   *
   * @param expected when given, a different hash is an error and nothing is kept
   * @throws ToolError whose cause is a HashMismatch
   */
  keep(expected?: string): Promise<{ readonly sha256: string; readonly path: string; readonly size: number }>;
  discard(): Promise<void>;
}

export interface PartialBlob extends TemporaryBlob {
  /** Gives the bytes so far back for a later transfer to go on with. */
  release(): Promise<void>;
}

/** Cause of the error of `keep`: the bytes are not the expected ones. */
export class HashMismatch extends Error {
  constructor(
    readonly expected: string,
    readonly actual: string,
  ) {
    super(`expected sha256 ${expected}, got ${actual}`);
    this.name = 'HashMismatch';
  }
}

const parts = ['blobs', 'records', 'partial', 'tmp'];

/**
 * Opens the cache, and makes it when it does not exist (mode 0700). One that cannot be written to still answers
 * for what it holds.
 *
 * @throws ToolError when it cannot be made, belongs to somebody else, or is a directory of another purpose
 */
export async function openCache(directory: string): Promise<Cache> {
  const path = await prepareCacheDirectory(directory);
  const records = join(path, 'records');
  const kinds = await readdir(records).catch(() => []);
  for (const place of [join(path, 'tmp'), ...kinds.map((kind) => join(records, kind))]) {
    await removeLeftovers(place);
  }
  return new DirectoryCache(path);
}

/** Files to remove when the process ends without having kept or discarded them. */
const unfinished = new Set<string>();
process.once('exit', () => {
  for (const path of unfinished) rmSync(path, { force: true });
});

class DirectoryCache implements Cache {
  constructor(readonly directory: string) {}

  async find(sha256: string): Promise<string | undefined> {
    return this.#verified(sha256, async (file, path) => ({ hash: await hashOf(file), result: path }));
  }

  async read(sha256: string): Promise<Buffer | undefined> {
    return this.#verified(sha256, async (file) => {
      const bytes = await file.readFile();
      return { hash: createHash('sha256').update(bytes).digest('hex'), result: bytes };
    });
  }

  /** Opens a blob and hands out what was made of it, if the bytes hash to its name; a broken one is removed. */
  async #verified<Result>(
    sha256: string,
    work: (file: FileHandle, path: string) => Promise<{ readonly hash: string; readonly result: Result }>,
  ): Promise<Result | undefined> {
    const path = this.#blobPath(sha256);
    try {
      const file = await open(path, 'r');
      try {
        const { hash, result } = await work(file, path);
        if (hash === sha256) return result;
        await removeIfSame(path, (await file.stat()).ino);
        return undefined;
      } finally {
        await file.close();
      }
    } catch (error) {
      throwUnlessMissing(path, error);
      return undefined;
    }
  }

  async temporary(): Promise<TemporaryBlob> {
    const path = temporaryPath(join(this.directory, 'tmp', 'blob'));
    await this.#create(path);
    unfinished.add(path);
    return this.#blobFile(path);
  }

  async partial(sha256: string): Promise<PartialBlob> {
    const free = join(this.directory, 'partial', blobName(sha256));
    const path = temporaryPath(free);
    if (!(await this.#claim(free, path))) await this.#create(path);
    const release = async (): Promise<void> => {
      try {
        await rename(path, free);
      } catch (error) {
        if (!isCode(error, 'ENOENT')) throw cannotWrite(free, error); // kept or discarded
      }
    };
    return { ...this.#blobFile(path), release };
  }

  async readRecord(kind: string, key: string): Promise<string | undefined> {
    const path = this.#recordPath(kind, key);
    try {
      const record: unknown = JSON.parse(await readFile(path, 'utf8'));
      if (typeof record !== 'object' || record === null) return undefined;
      if (!('text' in record) || typeof record.text !== 'string' || !('sha256' in record)) return undefined;
      return record.sha256 === recordHash(kind, key, record.text) ? record.text : undefined;
    } catch (error) {
      if (!(error instanceof SyntaxError)) throwUnlessMissing(path, error);
      return undefined;
    }
  }

  async writeRecord(kind: string, key: string, text: string): Promise<void> {
    const path = this.#recordPath(kind, key);
    const record = { kind, key, text, sha256: recordHash(kind, key, text) };
    await this.#makeDirectory('records', kind);
    await writeFileAtomically(path, `${JSON.stringify(record)}\n`, { mode: 0o600 });
  }

  async clean(): Promise<{ readonly files: number; readonly bytes: number }> {
    await requireTag(this.directory);
    const freed = { files: 0, bytes: 0 };
    try {
      for (const part of parts) await this.#remove(join(this.directory, part), part, freed);
    } catch (error) {
      throw cannot('clean', `the cache ${this.directory}`, reasonOf(error), { cause: error });
    }
    return freed;
  }

  #blobFile(path: string): TemporaryBlob {
    const discard = async (): Promise<void> => {
      await rm(path, { force: true });
      unfinished.delete(path);
    };
    const keep = async (
      expected?: string,
    ): Promise<{ readonly sha256: string; readonly path: string; readonly size: number }> => {
      try {
        const { sha256, size } = await syncAndHash(path);
        if (expected !== undefined && sha256 !== expected) {
          const cause = new HashMismatch(expected, sha256);
          throw cannot('keep', path, cause.message, { cause });
        }
        const kept = this.#blobPath(sha256);
        await this.#makeDirectory('blobs', 'sha256', sha256.slice(0, 2));
        await rename(path, kept); // a name that a power cut loses is fetched again
        unfinished.delete(path);
        return { sha256, path: kept, size };
      } catch (error) {
        await discard();
        throw cannotWrite(path, error);
      }
    };
    return { path, keep, discard };
  }

  /** Takes over the bytes that nobody works on: a released file first, else one whose owner died. */
  async #claim(free: string, path: string): Promise<boolean> {
    const directory = join(this.directory, 'partial');
    const candidates = [free];
    for (const name of await readdir(directory).catch(() => [])) {
      const owned = join(directory, name);
      if (temporaryFor(name) !== basename(free)) continue;
      const stats = await lstat(owned).catch(() => undefined);
      if (stats !== undefined && isLeftover(name, stats)) candidates.push(owned);
    }
    for (const candidate of candidates) {
      try {
        await rename(candidate, path); // one process alone succeeds
        return true;
      } catch (error) {
        if (!isCode(error, 'ENOENT')) throw cannotWrite(path, error);
      }
    }
    return false;
  }

  async #create(path: string): Promise<void> {
    try {
      await this.#makeDirectory(basename(dirname(path)));
      const file = await open(path, 'wx', 0o600);
      await file.chmod(0o600).finally(() => file.close());
    } catch (error) {
      throw cannotWrite(`to the cache ${this.directory}`, error);
    }
  }

  async #makeDirectory(...components: readonly string[]): Promise<void> {
    let path = this.directory;
    for (const component of components) {
      path = join(path, component);
      await makeDirectory(path, 0o700).catch((error: unknown) => {
        throw cannotWrite(`to the cache ${this.directory}`, error);
      });
    }
  }

  async #remove(path: string, name: string, freed: { files: number; bytes: number }): Promise<void> {
    const stats = await lstat(path).catch(() => undefined);
    if (stats === undefined) return;
    if (stats.isDirectory()) {
      for (const child of await readdir(path)) await this.#remove(join(path, child), child, freed);
      return;
    }
    if (temporaryFor(name) !== undefined && !isLeftover(name, stats)) return;
    await rm(path, { force: true });
    freed.files += 1;
    freed.bytes += stats.size;
  }

  #blobPath(sha256: string): string {
    const name = blobName(sha256);
    return join(this.directory, 'blobs', 'sha256', name.slice(0, 2), name.slice(2));
  }

  #recordPath(kind: string, key: string): string {
    if (!/^[a-z][a-z0-9-]{0,63}$/.test(kind)) {
      throw cannot(
        'use',
        `a cache record of kind ${JSON.stringify(kind)}`,
        'this is not a plain lower-case word',
      );
    }
    return join(this.directory, 'records', kind, `${createHash('sha256').update(key).digest('hex')}.json`);
  }
}

function blobName(sha256: string): string {
  if (/^[0-9a-f]{64}$/.test(sha256)) return sha256;
  throw cannot(
    'find',
    `the blob ${JSON.stringify(sha256.slice(0, 80))}`,
    'its name is not a lower-case sha256',
  );
}

function recordHash(kind: string, key: string, text: string): string {
  return createHash('sha256')
    .update(JSON.stringify([kind, key, text]))
    .digest('hex');
}

/** Removes the file that was just found broken, unless another process has put a new one there meanwhile. */
async function removeIfSame(path: string, inode: number): Promise<void> {
  const now = await lstat(path).catch(() => undefined);
  if (now?.ino === inode) await rm(path, { force: true }).catch(() => undefined);
}

function throwUnlessMissing(path: string, error: unknown): void {
  if (isCode(error, 'ENOENT', 'ENOTDIR')) return;
  if (error instanceof ToolError) throw error;
  throw cannot('read', path, reasonOf(error), { cause: error });
}

async function syncAndHash(path: string): Promise<{ readonly sha256: string; readonly size: number }> {
  const file = await open(path, 'r');
  try {
    await file.sync();
    return { sha256: await hashOf(file), size: (await file.stat()).size };
  } finally {
    await file.close();
  }
}

async function hashOf(file: FileHandle): Promise<string> {
  const hash = createHash('sha256');
  const buffer = Buffer.allocUnsafe(256 * 1024);
  for (;;) {
    const { bytesRead } = await file.read(buffer, 0, buffer.length);
    if (bytesRead === 0) return hash.digest('hex');
    hash.update(buffer.subarray(0, bytesRead));
  }
}
