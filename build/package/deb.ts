import { open, type FileHandle } from 'node:fs/promises';
import { parseStanza } from '../repository/debian/deb822.js';
import { cannotWrite } from '../support/atomic.js';
import type { Cache } from '../support/cache.js';
import { cannot, reasonOf } from '../support/errors.js';
import { readArMembers, type ArMember } from './ar.js';
import { readAt, readRange } from './bytes.js';
import {
  defaultPackageLimits,
  type FileEntry,
  type HardlinkEntry,
  type PackageContents,
  type PackageLimits,
} from './contents.js';
import { decompress, type CompressionFormat } from './decompress.js';
import { collectEntries, type CollectedEntries } from './entries.js';
import { readTar } from './tar.js';

/** Kind of the cache records that map a package's sha256 to that of its unpacked data archive. */
const unpackedRecords = 'deb-data';

/** Where the unpacked data archive is. */
interface Spool {
  readonly handle: FileHandle;
  /** Byte offset of the archive in the file. */
  readonly offset: number;
  readonly collected: CollectedEntries;
}

/**
 * Opens a Debian binary package (deb(5)). Its data archive is unpacked once, into the cache; opening the same package
 * again decompresses nothing. The file's bytes must have been verified to have the hash.
 *
 * @param sha256 of the package file, lower-case hexadecimal
 * @throws ToolError `cannot read FILE: reason` for anything the package should not be
 */
export async function openDeb(
  file: string,
  sha256: string,
  cache: Cache,
  limits: PackageLimits = defaultPackageLimits,
): Promise<PackageContents> {
  const handle = await openFile(file);
  let spool: Spool | undefined;
  try {
    const members = await readArMembers(handle, file);
    const { control, data } = await findParts(handle, file, members);
    const { text, bytes } = await readControl(handle, file, control, limits);
    const fields = controlFields(text, file);
    spool = await openSpool(handle, file, data, sha256, cache, {
      ...limits,
      unpackedBytes: Math.max(0, limits.unpackedBytes - bytes),
    });
    return contentsOf(file, fields, text, members, spool);
  } catch (error) {
    await spool?.handle.close();
    throw error;
  } finally {
    if (spool?.handle !== handle) await handle.close();
  }
}

interface Part extends ArMember {
  readonly format: CompressionFormat;
}

/**
 * The two archives of the container: `debian-binary`, `control.tar`, `data.tar`, in this order. Members whose names
 * begin with `_` may stand between them, any may follow.
 */
async function findParts(
  handle: FileHandle,
  file: string,
  members: readonly ArMember[],
): Promise<{ readonly control: Part; readonly data: Part }> {
  const fail = (reason: string) => cannot('read', file, reason);
  const [first, ...others] = members;
  if (first?.name !== 'debian-binary')
    throw fail('it is no Debian package: its first member is not debian-binary');
  if (first.size > 1024) throw fail('its debian-binary member is too large');
  const version = (await readAt(handle, file, first.offset, first.size)).toString('latin1');
  if (!/^2\.\d+\n/.test(version)) throw fail('its package format is not 2.x');
  const [control, data] = others.filter((member) => !member.name.startsWith('_'));
  const part = (member: ArMember | undefined, stem: string): Part => {
    if (member === undefined) throw fail(`it has no member ${stem}`);
    const ending = member.name.startsWith(stem) ? member.name.slice(stem.length) : undefined;
    const format = formats.get(ending ?? '-');
    if (ending?.startsWith('.') === true && format === undefined) {
      throw fail(`the compression of its member ${member.name} is not supported`);
    }
    if (format === undefined) throw fail(`it has the member ${member.name} in place of ${stem}`);
    return { ...member, format };
  };
  return { control: part(control, 'control.tar'), data: part(data, 'data.tar') };
}

const formats = new Map<string, CompressionFormat>([
  ['', 'none'],
  ['.gz', 'gz'],
  ['.xz', 'xz'],
  ['.zst', 'zst'],
]);

/** The control file's text, and how many bytes the control archive unpacks to. */
async function readControl(
  handle: FileHandle,
  file: string,
  part: Part,
  limits: PackageLimits,
): Promise<{ readonly text: string; readonly bytes: number }> {
  const name = `${part.name} of ${file}`;
  const limit = Math.min(limits.controlBytes, limits.unpackedBytes);
  const chunks: Uint8Array[] = [];
  const packed = readRange(handle, file, part.offset, part.size);
  for await (const chunk of decompress(packed, part.format, { name, limit })) chunks.push(chunk);
  const archive = Buffer.concat(chunks);
  const { entries, offsets } = await collectEntries(readTar(inMemory(archive), name), name, limits.entries);
  const entry = entries.find(({ path }) => path === 'control');
  if (entry?.kind !== 'file') throw cannot('read', name, 'it holds no control file');
  const offset = offsets.get(entry) ?? 0;
  const bytes = archive.subarray(offset, offset + entry.size);
  return { text: decode(bytes, name), bytes: archive.length };
}

function decode(bytes: Buffer, name: string): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw cannot('read', name, 'its control file is not UTF-8');
  }
}

/** Debian policy 5.6.7, 5.6.12, 5.6.8. */
const fieldSyntax = new Map([
  ['Package', /^[a-z0-9][a-z0-9+.-]+$/],
  ['Version', /^(?:\d+:)?\d[A-Za-z0-9.+~-]*$/],
  ['Architecture', /^[a-z0-9][a-z0-9-]*$/],
]);

function controlFields(text: string, file: string): ReadonlyMap<string, string> {
  const fields = parseStanza(text, `the control file of ${file}`);
  for (const [name, syntax] of fieldSyntax) {
    const value = fields.get(name);
    if (value === undefined) throw cannot('read', file, `its control file has no field ${name}`);
    if (value.length > 255 || !syntax.test(value)) {
      throw cannot('read', file, `its ${name} ${JSON.stringify(value.slice(0, 80))} is not valid`);
    }
  }
  return fields;
}

async function openSpool(
  deb: FileHandle,
  file: string,
  part: Part,
  sha256: string,
  cache: Cache,
  limits: PackageLimits,
): Promise<Spool> {
  const name = `${part.name} of ${file}`;
  const collect = (chunks: AsyncIterable<Uint8Array>) =>
    collectEntries(readTar(chunks, name), name, limits.entries);
  const packed = readRange(deb, file, part.offset, part.size);
  const options = { name, limit: limits.unpackedBytes };
  const unpacked = decompress(packed, part.format, options);
  if (part.format === 'none') {
    return { handle: deb, offset: part.offset, collected: await collect(unpacked) };
  }

  const known = await findUnpacked(cache, sha256);
  if (known !== undefined) {
    const handle = await openFile(known);
    try {
      const { size } = await handle.stat();
      const spooled = decompress(readRange(handle, known, 0, size), 'none', options);
      return { handle, offset: 0, collected: await collect(spooled) };
    } catch (error) {
      await handle.close();
      throw error;
    }
  }

  const temporary = await cache.temporary();
  try {
    const output = await open(temporary.path, 'w+');
    try {
      const collected = await collect(copied(unpacked, output, temporary.path));
      const kept = await temporary.keep();
      await cache.writeRecord(unpackedRecords, sha256, JSON.stringify({ sha256: kept.sha256 }));
      return { handle: output, offset: 0, collected };
    } catch (error) {
      await output.close();
      throw error;
    }
  } finally {
    await temporary.discard();
  }
}

/** Path of the unpacked data archive of a package seen before. */
async function findUnpacked(cache: Cache, sha256: string): Promise<string | undefined> {
  const text = await cache.readRecord(unpackedRecords, sha256);
  if (text === undefined) return undefined;
  const record: unknown = JSON.parse(text);
  if (typeof record !== 'object' || record === null || !('sha256' in record)) return undefined;
  return typeof record.sha256 === 'string' ? cache.find(record.sha256) : undefined;
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

function contentsOf(
  file: string,
  control: ReadonlyMap<string, string>,
  controlText: string,
  members: readonly ArMember[],
  { handle, offset, collected: { entries, offsets } }: Spool,
): PackageContents {
  const name = control.get('Package') ?? '';
  const version = control.get('Version') ?? '';
  const files = new Map([...offsets.keys()].map((entry) => [entry.path, entry]));
  let closed = false;
  return {
    name,
    version,
    architecture: control.get('Architecture') ?? '',
    metadata: { format: 'deb', control, controlText },
    // The build's SOURCE_DATE_EPOCH: dpkg-deb gives it to every member of the container.
    built: Math.max(...members.map(({ mtime }) => mtime)),
    entries,
    read: async (entry: FileEntry | HardlinkEntry): Promise<Buffer> => {
      const what = `${entry.path} of ${name} ${version}`;
      const holder = entry.kind === 'hardlink' ? files.get(entry.target) : entry;
      const start = holder === undefined ? undefined : offsets.get(holder);
      if (holder === undefined || start === undefined)
        throw cannot('read', what, 'it is no file of this package');
      if (closed) throw cannot('read', what, 'the package has been closed');
      return readAt(handle, file, offset + start, holder.size);
    },
    close: async () => {
      if (closed) return;
      closed = true;
      await handle.close();
    },
  };
}

async function openFile(path: string): Promise<FileHandle> {
  try {
    return await open(path);
  } catch (error) {
    throw cannot('read', path, reasonOf(error), { cause: error });
  }
}

// eslint-disable-next-line @typescript-eslint/require-await -- makes a stream of what is in memory
async function* inMemory(bytes: Buffer): AsyncGenerator<Buffer, void, undefined> {
  yield bytes;
}
