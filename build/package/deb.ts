import type { FileHandle } from 'node:fs/promises';
import { parseStanza } from '../repository/debian/deb822.js';
import type { Cache } from '../support/cache.js';
import { cannot } from '../support/errors.js';
import { readArMembers, type ArMember } from './ar.js';
import { readAt, readRange } from './bytes.js';
import { defaultPackageLimits, type PackageContents, type PackageLimits } from './contents.js';
import { decompress, type CompressionFormat } from './decompress.js';
import { collectEntries } from './entries.js';
import type { OpenOptions } from './open-options.js';
import { fillSpool, openFile, openSpool, spoolAccess, type Spool } from './spool.js';
import { readTar } from './tar.js';

/** Kind of the cache records that map a package's sha256 to that of its unpacked data archive. */
const unpackedRecords = 'deb-data';

/**
 * Opens a Debian binary package (deb(5)). Its data archive is unpacked once, into the cache; opening the same package
 * again decompresses nothing. The file's bytes must have been verified to have the hash.
 *
 * @param sha256 of the package file, lower-case hexadecimal
 * @throws ToolError `cannot read NAME: reason` for anything the package should not be
 */
export async function openDeb(
  file: string,
  sha256: string,
  cache: Cache,
  { name = file, limits = defaultPackageLimits }: OpenOptions = {},
): Promise<PackageContents> {
  const handle = await openFile(file);
  let spool: Spool | undefined;
  try {
    const members = await readArMembers(handle, name);
    const { control, data } = await findParts(handle, name, members);
    const { text, bytes } = await readControl(handle, name, control, limits);
    const fields = controlFields(text, name);
    spool = await openData(handle, name, data, sha256, cache, {
      ...limits,
      unpackedBytes: Math.max(0, limits.unpackedBytes - bytes),
    });
    return contentsOf(fields, text, members, spool);
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
  name: string,
  members: readonly ArMember[],
): Promise<{ readonly control: Part; readonly data: Part }> {
  const fail = (reason: string) => cannot('read', name, reason);
  const [first, ...others] = members;
  if (first?.name !== 'debian-binary')
    throw fail('it is no Debian package: its first member is not debian-binary');
  if (first.size > 1024) throw fail('its debian-binary member is too large');
  const version = (await readAt(handle, name, first.offset, first.size)).toString('latin1');
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
  name: string,
  part: Part,
  limits: PackageLimits,
): Promise<{ readonly text: string; readonly bytes: number }> {
  const what = `${part.name} of ${name}`;
  const limit = Math.min(limits.controlBytes, limits.unpackedBytes);
  const chunks: Uint8Array[] = [];
  const packed = readRange(handle, name, part.offset, part.size);
  for await (const chunk of decompress(packed, part.format, { name: what, limit })) chunks.push(chunk);
  const archive = Buffer.concat(chunks);
  const { entries, offsets } = await collectEntries(readTar(inMemory(archive), what), what, limits.entries);
  const entry = entries.find(({ path }) => path === 'control');
  if (entry?.kind !== 'file') throw cannot('read', what, 'it holds no control file');
  const offset = offsets.get(entry) ?? 0;
  const bytes = archive.subarray(offset, offset + entry.size);
  return { text: decode(bytes, what), bytes: archive.length };
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

function controlFields(text: string, name: string): ReadonlyMap<string, string> {
  const fields = parseStanza(text, `the control file of ${name}`);
  for (const [field, syntax] of fieldSyntax) {
    const value = fields.get(field);
    if (value === undefined) throw cannot('read', name, `its control file has no field ${field}`);
    if (value.length > 255 || !syntax.test(value)) {
      throw cannot('read', name, `its ${field} ${JSON.stringify(value.slice(0, 80))} is not valid`);
    }
  }
  return fields;
}

async function openData(
  deb: FileHandle,
  name: string,
  part: Part,
  sha256: string,
  cache: Cache,
  limits: PackageLimits,
): Promise<Spool> {
  const what = `${part.name} of ${name}`;
  const collect = (chunks: AsyncIterable<Uint8Array>) =>
    collectEntries(readTar(chunks, what), what, limits.entries);
  const packed = readRange(deb, name, part.offset, part.size);
  const options = { name: what, limit: limits.unpackedBytes };
  const unpacked = decompress(packed, part.format, options);
  if (part.format === 'none') {
    return { handle: deb, offset: part.offset, collected: await collect(unpacked) };
  }

  const known = await findUnpacked(cache, sha256);
  if (known !== undefined) return openSpool(known, options, collect);
  const spool = await fillSpool(unpacked, cache, collect);
  try {
    await cache.writeRecord(unpackedRecords, sha256, JSON.stringify({ sha256: spool.sha256 }));
    return spool;
  } catch (error) {
    await spool.handle.close();
    throw error;
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

function contentsOf(
  control: ReadonlyMap<string, string>,
  controlText: string,
  members: readonly ArMember[],
  spool: Spool,
): PackageContents {
  const name = control.get('Package') ?? '';
  const version = control.get('Version') ?? '';
  return {
    name,
    version,
    architecture: control.get('Architecture') ?? '',
    metadata: { format: 'deb', control, controlText },
    // The build's SOURCE_DATE_EPOCH: dpkg-deb gives it to every member of the container.
    built: Math.max(...members.map(({ mtime }) => mtime)),
    entries: spool.collected.entries,
    ...spoolAccess(spool, `${name} ${version}`),
  };
}

// eslint-disable-next-line @typescript-eslint/require-await -- makes a stream of what is in memory
async function* inMemory(bytes: Buffer): AsyncGenerator<Buffer, void, undefined> {
  yield bytes;
}
