import { open, type FileHandle } from 'node:fs/promises';
import { cannotWrite } from '../support/atomic.js';
import type { Cache } from '../support/cache.js';
import { cannot, reasonOf } from '../support/errors.js';
import { readAt, readRange } from './bytes.js';
import type { FileEntry, HardlinkEntry, PackageContents } from './contents.js';
import { decompress, type DecompressOptions } from './decompress.js';
import type { CollectedEntries } from './entries.js';

/** An unpacked archive, in the cache or in the package itself, and what it holds. */
export interface Spool {
  readonly handle: FileHandle;
  /** Byte offset of the archive in the file. */
  readonly offset: number;
  readonly collected: CollectedEntries;
}

type Collect = (chunks: AsyncIterable<Uint8Array>) => Promise<CollectedEntries>;

/** Opens a file to read it. @throws ToolError */
export async function openFile(path: string): Promise<FileHandle> {
  try {
    return await open(path);
  } catch (error) {
    throw cannot('read', path, reasonOf(error), { cause: error });
  }
}

/** Reads an archive that has been unpacked before. @throws ToolError */
export async function openSpool(path: string, options: DecompressOptions, collect: Collect): Promise<Spool> {
  const handle = await openFile(path);
  try {
    const { size } = await handle.stat();
    const chunks = decompress(readRange(handle, path, 0, size), 'none', options);
    return { handle, offset: 0, collected: await collect(chunks) };
  } catch (error) {
    await handle.close();
    throw error;
  }
}

/** Reads an archive while it is unpacked into the cache. @returns also the sha256 it has there. @throws ToolError */
export async function fillSpool(
  chunks: AsyncIterable<Uint8Array>,
  cache: Cache,
  collect: Collect,
): Promise<Spool & { readonly sha256: string }> {
  const temporary = await cache.temporary();
  try {
    const handle = await open(temporary.path, 'w+');
    try {
      const collected = await collect(copied(chunks, handle, temporary.path));
      const { sha256 } = await temporary.keep();
      return { handle, offset: 0, collected, sha256 };
    } catch (error) {
      await handle.close();
      throw error;
    }
  } finally {
    await temporary.discard();
  }
}

/**
 * What package contents do with their archive.
 *
 * @param name what the package is called in errors
 */
export function spoolAccess(
  { handle, offset, collected }: Spool,
  name: string,
): Pick<PackageContents, 'read' | 'close'> {
  const { offsets } = collected;
  const files = new Map([...offsets.keys()].map((entry) => [entry.path, entry]));
  let closed = false;
  return {
    read: async (entry: FileEntry | HardlinkEntry): Promise<Buffer> => {
      const what = `${entry.path} of ${name}`;
      const holder = entry.kind === 'hardlink' ? files.get(entry.target) : entry;
      const start = holder === undefined ? undefined : offsets.get(holder);
      if (holder === undefined || start === undefined)
        throw cannot('read', what, 'it is no file of this package');
      if (closed) throw cannot('read', what, 'the package has been closed');
      return readAt(handle, what, offset + start, holder.size);
    },
    close: async () => {
      if (closed) return;
      closed = true;
      await handle.close();
    },
  };
}

/** Passes the chunks on and writes them to the file. */
async function* copied(
  chunks: AsyncIterable<Uint8Array>,
  output: FileHandle,
  path: string,
): AsyncGenerator<Uint8Array, void, undefined> {
  for await (const chunk of chunks) {
    try {
      await output.writeFile(chunk);
    } catch (error) {
      throw cannotWrite(path, error);
    }
    yield chunk;
  }
}
