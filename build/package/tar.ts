import { isUtf8 } from 'node:buffer';
import { cannot } from '../support/errors.js';
import { ByteReader } from './bytes.js';
import type { PackageEntry } from './contents.js';
import { readPaxRecords } from './pax.js';

/** One member of a tar archive. */
export interface TarMember {
  /** Path and hard link target normalised; a hard link's size is 0 here. The root directory has the path ''. */
  readonly entry: PackageEntry;
  /** Byte offset of a regular file's data in the unpacked archive. */
  readonly offset: number;
}

const blockBytes = 512;
const zeroBlock = Buffer.alloc(blockBytes);
/** PATH_MAX without its NUL (limits.h). */
const maxPathBytes = 4095;
/** Deeper than any real package; bounds what a path costs whoever walks it. */
const maxDepth = 64;
const maxExtendedBytes = 1024 ** 2;
/** struct vfs_ns_cap_data (linux/capability.h) has 24 bytes; a later one may be larger. */
const maxCapabilityBytes = 64;
/** Paths, link targets and owner names of all members together, characters. */
const maxNames = 64 * 1024 ** 2;

type Fail = (reason: string) => Error;

/**
 * Reads a tar archive as it streams by: v7, POSIX.1-1988 ustar, GNU (`L`, `K`, base-256 numbers) and POSIX.1-2001
 * pax (`x`, `g`), as described in pax(1) and GNU tar's "Basic Tar Format". Members are as the archive states them,
 * but for the path, which is normalised.
 *
 * @param name what the archive is called in error messages
 * @throws ToolError for damage, truncation, and what a package may not hold: sparse files, `..`, names not in UTF-8
 */
export async function* readTar(
  chunks: AsyncIterable<Uint8Array>,
  name: string,
): AsyncGenerator<TarMember, void, undefined> {
  const reader = new ByteReader(chunks);
  let names = 0;
  let pending = new Extensions();
  const global = new Map<string, Buffer>();
  try {
    for (;;) {
      const at = reader.position;
      const fail: Fail = (reason) => cannot('read', name, `${reason} (tar header at byte ${at})`);
      const block = await reader.take(blockBytes);
      if (block.length < blockBytes) throw fail('the archive ends without its end mark');
      if (block.equals(zeroBlock)) {
        if (pending.used) throw fail('an extended header has no file after it');
        if (!(await isZeroToTheEnd(reader))) throw fail('there is data after the end mark');
        return;
      }
      const header = readHeader(block, fail);
      switch (header.type) {
        case 'x':
          for (const [key, value] of readPaxRecords(await readExtended(reader, header.size, fail), fail)) {
            pending.pax.set(key, value);
          }
          pending.used = true;
          continue;
        case 'g':
          for (const [key, value] of readPaxRecords(await readExtended(reader, header.size, fail), fail)) {
            global.set(key, value);
          }
          continue;
        case 'L':
          pending.longName = terminated(await readExtended(reader, header.size, fail));
          pending.used = true;
          continue;
        case 'K':
          pending.longLink = terminated(await readExtended(reader, header.size, fail));
          pending.used = true;
          continue;
        default:
      }
      const { entry, size } = entryOf(header, pending, global, fail);
      pending = new Extensions();
      names += entry.path.length + entry.userName.length + entry.groupName.length;
      if ('target' in entry) names += entry.target.length;
      if (names > maxNames) throw fail(`its names take more than ${maxNames} characters`);
      yield { entry, offset: reader.position };
      if (!(await reader.skip(size + paddingOf(size)))) throw fail(`the data of ${entry.path} is cut off`);
    }
  } finally {
    await reader.close();
  }
}

/** What extended headers say about the next member. */
class Extensions {
  used = false;
  longName: Buffer | undefined;
  longLink: Buffer | undefined;
  readonly pax = new Map<string, Buffer>();
}

/** A header block, fields decoded. Names stay bytes until it is clear which of them count. */
interface Header {
  readonly type: string;
  readonly name: Buffer;
  readonly linkName: Buffer;
  readonly userName: Buffer;
  readonly groupName: Buffer;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly size: number;
  readonly mtime: number;
  readonly major: number;
  readonly minor: number;
}

function readHeader(block: Buffer, fail: Fail): Header {
  const number = (start: number, length: number, what: string) =>
    readNumber(block.subarray(start, start + length), what, fail);
  if (number(148, 8, 'checksum') !== checksumOf(block)) throw fail('the header checksum is wrong');
  const magic = block.toString('latin1', 257, 265);
  const posix = magic.startsWith('ustar\0');
  const known = posix || magic === 'ustar  \0';
  const prefix = posix ? terminated(block.subarray(345, 500)) : Buffer.alloc(0);
  const name = terminated(block.subarray(0, 100));
  const header = {
    type: block.toString('latin1', 156, 157),
    name: prefix.length === 0 ? name : Buffer.concat([prefix, Buffer.from('/'), name]),
    linkName: terminated(block.subarray(157, 257)),
    userName: known ? terminated(block.subarray(265, 297)) : Buffer.alloc(0),
    groupName: known ? terminated(block.subarray(297, 329)) : Buffer.alloc(0),
    mode: number(100, 8, 'mode'),
    uid: number(108, 8, 'owner'),
    gid: number(116, 8, 'group'),
    size: number(124, 12, 'size'),
    mtime: number(136, 12, 'time'),
    major: known ? number(329, 8, 'device number') : 0,
    minor: known ? number(337, 8, 'device number') : 0,
  };
  if (header.size < 0) throw fail('the size is negative');
  return header;
}

/** The member that a header and the extended headers before it describe, and the bytes of data that follow. */
function entryOf(
  header: Header,
  extensions: Extensions,
  global: ReadonlyMap<string, Buffer>,
  fail: Fail,
): { readonly entry: PackageEntry; readonly size: number } {
  const pax = (key: string): Buffer | undefined => {
    const value = extensions.pax.get(key) ?? global.get(key);
    // An empty value takes back what was said before (pax(1)).
    return value === undefined || value.length === 0 ? undefined : value;
  };
  for (const key of [...extensions.pax.keys(), ...global.keys()]) {
    if (key.startsWith('GNU.sparse.')) throw fail('sparse files are not supported');
  }
  const number = (key: string, otherwise: number) => paxNumber(pax(key), key, otherwise, fail);

  const rawPath = textOf(pax('path') ?? extensions.longName ?? header.name, fail);
  const path = normalise(rawPath, fail);
  const link = pax('linkpath') ?? extensions.longLink ?? header.linkName;
  const size = number('size', header.size);
  const base = {
    path,
    mode: header.mode & 0o7777,
    uid: number('uid', header.uid),
    gid: number('gid', header.gid),
    userName: textOf(pax('uname') ?? header.userName, fail),
    groupName: textOf(pax('gname') ?? header.groupName, fail),
    mtime: number('mtime', header.mtime),
  };
  if (header.mode < 0 || base.uid < 0 || base.gid < 0 || size < 0) throw fail('a number is negative');

  // Archives older than ustar mark a directory with a slash at the end of a regular file's name.
  const isFile = header.type === '0' || header.type === '\0' || header.type === '7';
  const kind = isFile && rawPath.endsWith('/') ? 'directory' : kinds.get(header.type);
  if (kind === undefined) throw fail(describeType(header.type));
  if (kind !== 'file' && size !== 0) throw fail(`${path} has data and is no regular file`);
  if (path === '' && kind !== 'directory') throw fail('the root is not a directory');
  switch (kind) {
    case 'file': {
      const capability = pax('SCHILY.xattr.security.capability');
      if (capability !== undefined && capability.length > maxCapabilityBytes) {
        throw fail(`the capabilities of ${path} are damaged`);
      }
      return { entry: { ...base, kind, size, capability }, size };
    }
    case 'symlink': {
      const target = textOf(link, fail);
      if (target === '') throw fail(`the symbolic link ${path} has no target`);
      if (link.length > maxPathBytes) throw fail(`the target of ${path} is too long`);
      return { entry: { ...base, kind, target }, size };
    }
    case 'hardlink':
      return { entry: { ...base, kind, target: normalise(textOf(link, fail), fail), size: 0 }, size };
    case 'character-device':
    case 'block-device':
      if (header.major < 0 || header.minor < 0) throw fail('a number is negative');
      return { entry: { ...base, kind, major: header.major, minor: header.minor }, size };
    case 'directory':
    case 'fifo':
      return { entry: { ...base, kind }, size };
  }
}

const kinds = new Map<string, PackageEntry['kind']>([
  ['0', 'file'],
  ['\0', 'file'],
  ['7', 'file'],
  ['1', 'hardlink'],
  ['2', 'symlink'],
  ['3', 'character-device'],
  ['4', 'block-device'],
  ['5', 'directory'],
  ['6', 'fifo'],
]);

function describeType(type: string): string {
  return type === 'S'
    ? 'sparse files are not supported'
    : `the member type ${JSON.stringify(type)} is not supported`;
}

/**
 * Without leading `/` and `./`, empty and `.` components; '' for the root.
 *
 * @throws when it climbs, or is longer or deeper than a real path
 */
function normalise(path: string, fail: Fail): string {
  if (Buffer.byteLength(path) > maxPathBytes) throw fail('a path is too long');
  const parts = path.split('/').filter((part) => part !== '' && part !== '.');
  if (parts.includes('..')) throw fail(`the path ${JSON.stringify(path)} leaves the package`);
  if (parts.length > maxDepth) throw fail('a path is too deep');
  if (path === '') throw fail('a path is empty');
  return parts.join('/');
}

function textOf(bytes: Buffer, fail: Fail): string {
  if (!isUtf8(bytes)) throw fail(`the name ${JSON.stringify(bytes.toString('latin1'))} is not UTF-8`);
  const text = bytes.toString();
  if (text.includes('\0')) throw fail('a name holds a NUL byte');
  return text;
}

/** A field up to its first NUL. */
function terminated(field: Buffer): Buffer {
  const end = field.indexOf(0);
  return end === -1 ? field : field.subarray(0, end);
}

/** Octal digits between blanks, or GNU's base-256: two's complement, big-endian, top bit set. */
function readNumber(field: Buffer, what: string, fail: Fail): number {
  const first = field[0] ?? 0;
  if ((first & 0x80) === 0) {
    const digits = /^ *([0-7]*)[ \0]*$/.exec(field.toString('latin1'))?.[1];
    if (digits === undefined) throw fail(`the ${what} field is damaged`);
    return digits === '' ? 0 : Number.parseInt(digits, 8);
  }
  // Bit 7 is the mark, bit 6 the sign.
  let value = BigInt(first & 0x7f) - ((first & 0x40) === 0 ? 0n : 0x80n);
  for (const byte of field.subarray(1)) value = value * 256n + BigInt(byte);
  const exact = Number(value);
  if (!Number.isSafeInteger(exact)) throw fail(`the ${what} is out of range`);
  return exact;
}

function paxNumber(value: Buffer | undefined, key: string, otherwise: number, fail: Fail): number {
  if (value === undefined) return otherwise;
  const text = value.toString('latin1');
  // Times may have a fraction; whole seconds are kept, rounded down.
  if (!(key === 'mtime' ? /^-?\d+(\.\d*)?$/ : /^\d+$/).test(text)) throw fail(`the pax ${key} is damaged`);
  const number = Math.floor(Number(text));
  if (!Number.isSafeInteger(number)) throw fail(`the pax ${key} is out of range`);
  return number;
}

/** Sum of the header's bytes as if the checksum field held blanks. */
function checksumOf(block: Buffer): number {
  let sum = 8 * 0x20;
  for (let index = 0; index < blockBytes; index += 1) {
    if (index < 148 || index >= 156) sum += block[index] ?? 0;
  }
  return sum;
}

async function readExtended(reader: ByteReader, size: number, fail: Fail): Promise<Buffer> {
  if (size > maxExtendedBytes) throw fail('an extended header is too large');
  const data = await reader.take(size);
  if (data.length < size || !(await reader.skip(paddingOf(size))))
    throw fail('an extended header is cut off');
  return data;
}

/** The end mark is two zero blocks, and usually more to fill a tape record. */
async function isZeroToTheEnd(reader: ByteReader): Promise<boolean> {
  let left = 0;
  for await (const chunk of reader.rest()) {
    for (let at = 0; at < chunk.length; at += blockBytes) {
      const part = chunk.subarray(at, at + blockBytes);
      if (!part.equals(zeroBlock.subarray(0, part.length))) return false;
    }
    left += chunk.length;
  }
  return left >= blockBytes;
}

function paddingOf(size: number): number {
  return (blockBytes - (size % blockBytes)) % blockBytes;
}
