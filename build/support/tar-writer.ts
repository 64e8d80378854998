import { cannot } from './errors.js';

const blockSize = 512;

export interface TarEntry {
  readonly kind: 'directory' | 'file' | 'symlink';
  /** Relative, `/`-separated, no trailing slash: the type flag alone makes a directory, as in the layers of buildah. */
  readonly path: string;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Seconds since the epoch. */
  readonly mtime: number;
  /** Bytes of a file's content; 0 for anything else. */
  readonly size: number;
  /** Of a symbolic link. */
  readonly target?: string;
  /** Raw value of the security.capability extended attribute. */
  readonly capability?: Buffer | undefined;
}

/** Two zero blocks. Nothing follows them: padding to a tape record would only add bytes. */
export const endOfArchive = Buffer.alloc(2 * blockSize);

/** The zero bytes that fill an entry's content up to a whole block. */
export function padding(size: number): Buffer {
  return Buffer.alloc((blockSize - (size % blockSize)) % blockSize);
}

/**
 * The header blocks of one entry: POSIX.1-1988 ustar, preceded by a POSIX.1-2001 extended header (pax(1)) only
 * when ustar cannot say it. Field for field what Go's archive/tar writes, which the container tools use.
 *
 * @throws ToolError for a path, target or number that no tar can hold or that leaves the root
 */
export function tarHeader(entry: TarEntry): Buffer {
  const { path, target = '' } = entry;
  if (path.split('/').some((part) => part === '' || part === '.' || part === '..') || path.includes('\0')) {
    throw cannot('write', `the entry ${JSON.stringify(path)}`, 'its path is not a plain relative path');
  }
  if ((entry.kind === 'symlink') !== (target !== '') || target.includes('\0')) {
    throw cannot('write', path, 'only a symbolic link has a target, and it must have one');
  }
  const numbers = [entry.mode, entry.uid, entry.gid, entry.size, entry.mtime];
  if (!numbers.every(Number.isSafeInteger) || numbers.slice(0, 4).some((number) => number < 0)) {
    throw cannot('write', path, 'its mode, owner, size or time is not a whole number in range');
  }

  const records = new Map<string, string | Buffer>();
  const split = splitName(path);
  if (split === undefined) records.set('path', path);
  if (!isAscii(target) || target.length > 100) records.set('linkpath', target);
  if (!fitsOctal(entry.uid, 8)) records.set('uid', String(entry.uid));
  if (!fitsOctal(entry.gid, 8)) records.set('gid', String(entry.gid));
  if (!fitsOctal(entry.size, 12)) records.set('size', String(entry.size));
  if (!fitsOctal(entry.mtime, 12)) records.set('mtime', String(entry.mtime));
  if (entry.capability !== undefined) records.set('SCHILY.xattr.security.capability', entry.capability);

  const header = ustar({
    ...entry,
    target,
    type: { file: '0', symlink: '2', directory: '5' }[entry.kind],
    name: split?.name ?? path,
    prefix: split?.prefix ?? '',
  });
  return records.size === 0 ? header : Buffer.concat([extendedHeader(path, records), header]);
}

/** Writes the pax records as an entry of their own in front of the entry they describe. */
function extendedHeader(path: string, records: ReadonlyMap<string, string | Buffer>): Buffer {
  const keys = [...records.keys()].sort();
  const body = Buffer.concat(keys.map((key) => record(key, records.get(key) ?? '')));
  const file = path.lastIndexOf('/') + 1;
  const name = `${path.slice(0, file)}PaxHeaders.0/${path.slice(file)}`;
  const header = ustar({
    type: 'x',
    name: asciiOnly(name).slice(0, 100).replace(/\/+$/, ''),
    prefix: '',
    target: '',
    mode: 0,
    uid: 0,
    gid: 0,
    mtime: 0,
    size: body.length,
  });
  return Buffer.concat([header, body, padding(body.length)]);
}

/** `LENGTH KEY=VALUE\n`, where the length counts its own digits. */
function record(key: string, value: string | Buffer): Buffer {
  const rest = Buffer.concat([Buffer.from(` ${key}=`), Buffer.from(value), Buffer.from('\n')]);
  let length = rest.length;
  while (length !== rest.length + String(length).length) length = rest.length + String(length).length;
  return Buffer.concat([Buffer.from(String(length)), rest]);
}

interface UstarFields {
  readonly type: string;
  readonly name: string;
  readonly prefix: string;
  readonly target: string;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly mtime: number;
  readonly size: number;
}

function ustar(fields: UstarFields): Buffer {
  const block = Buffer.alloc(blockSize);
  const text = (offset: number, length: number, value: string): void => {
    block.write(asciiOnly(value).slice(0, length), offset, 'latin1');
  };
  const octal = (offset: number, length: number, value: number): void => {
    const digits = (fitsOctal(value, length) ? value : 0).toString(8);
    block.write(digits.padStart(length - 1, '0'), offset, 'latin1');
  };
  text(0, 100, fields.name);
  octal(100, 8, fields.mode);
  octal(108, 8, fields.uid);
  octal(116, 8, fields.gid);
  octal(124, 12, fields.size);
  octal(136, 12, fields.mtime);
  text(156, 1, fields.type);
  text(157, 100, fields.target);
  block.write('ustar\x0000', 257, 'latin1');
  if (fields.type !== 'x') {
    octal(329, 8, 0);
    octal(337, 8, 0);
  }
  text(345, 155, fields.prefix);
  // The checksum is taken over a header whose checksum field holds eight spaces.
  block.fill(' ', 148, 156);
  const sum = block.reduce((total, byte) => total + byte, 0);
  octal(148, 7, sum);
  block[154] = 0;
  return block;
}

/** Where a path is cut so that ustar holds it; undefined when only an extended header can. */
function splitName(path: string): { readonly name: string; readonly prefix: string } | undefined {
  if (!isAscii(path)) return undefined;
  if (path.length <= 100) return { name: path, prefix: '' };
  const cut = path.slice(0, 156).lastIndexOf('/');
  if (cut <= 0 || path.length - cut - 1 > 100) return undefined;
  return { prefix: path.slice(0, cut), name: path.slice(cut + 1) };
}

function fitsOctal(value: number, fieldLength: number): boolean {
  return value >= 0 && value < 8 ** (fieldLength - 1);
}

function isAscii(text: string): boolean {
  return asciiOnly(text) === text;
}

function asciiOnly(text: string): string {
  // eslint-disable-next-line no-control-regex -- the whole 7-bit range, control characters too
  return text.replace(/[^\u0001-\u007f]/g, '');
}
