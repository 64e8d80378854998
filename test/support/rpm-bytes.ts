import { createHash } from 'node:crypto';

/** One tag of a header, its values as they stand in the data area. */
export interface RpmTag {
  readonly tag: number;
  readonly type: number;
  readonly count: number;
  readonly data: Buffer;
}

/** A package file taken apart, to be put together otherwise. */
export interface RpmParts {
  readonly lead: Buffer;
  readonly signatures: readonly RpmTag[];
  readonly header: readonly RpmTag[];
  readonly payload: Buffer;
}

const alignment = new Map([
  [3, 2],
  [4, 4],
  [5, 8],
]);

export const textTag = (tag: number, value: string): RpmTag => ({
  tag,
  type: 6,
  count: 1,
  data: Buffer.from(`${value}\0`),
});
export const textsTag = (tag: number, values: readonly string[]): RpmTag => ({
  tag,
  type: 8,
  count: values.length,
  data: Buffer.from(values.map((value) => `${value}\0`).join('')),
});
export const binaryTag = (tag: number, data: Buffer): RpmTag => ({
  tag,
  type: 7,
  count: data.length,
  data,
});

/** @param bytes of each value: 2, 4 or 8 */
export function numbersTag(tag: number, values: readonly number[], bytes: 2 | 4 | 8 = 4): RpmTag {
  const data = Buffer.alloc(values.length * bytes);
  values.forEach((value, index) => {
    if (bytes === 8) data.writeBigUInt64BE(BigInt(value), index * 8);
    else data.writeUIntBE(value, index * bytes, bytes);
  });
  return { tag, type: { 2: 3, 4: 4, 8: 5 }[bytes], count: values.length, data };
}

/** A header with its magic; its region spans all of it. */
export function headerOf(region: number, tags: readonly RpmTag[]): Buffer {
  const entry = (tag: number, type: number, offset: number, count: number): Buffer => {
    const bytes = Buffer.alloc(16);
    bytes.writeUInt32BE(tag, 0);
    bytes.writeUInt32BE(type, 4);
    bytes.writeInt32BE(offset, 8);
    bytes.writeUInt32BE(count, 12);
    return bytes;
  };
  const index: Buffer[] = [];
  let data = Buffer.alloc(0);
  for (const { tag, type, count, data: values } of tags) {
    const align = alignment.get(type) ?? 1;
    const padding = (align - (data.length % align)) % align;
    index.push(entry(tag, type, data.length + padding, count));
    data = Buffer.concat([data, Buffer.alloc(padding), values]);
  }
  const trailer = entry(region, 7, -16 * (tags.length + 1), 16);
  const intro = Buffer.from('8eade801000000000000000000000000', 'hex');
  intro.writeUInt32BE(tags.length + 1, 8);
  intro.writeUInt32BE(data.length + 16, 12);
  return Buffer.concat([intro, entry(region, 7, data.length, 16), ...index, data, trailer]);
}

export function partsOf(rpm: Buffer): RpmParts {
  const signatures = headerAt(rpm, 96);
  const start = 96 + signatures.length + ((8 - (signatures.length % 8)) % 8);
  const header = headerAt(rpm, start);
  return {
    lead: rpm.subarray(0, 96),
    signatures: tagsOf(signatures),
    header: tagsOf(header),
    payload: rpm.subarray(start + header.length),
  };
}

/** A package file of these parts, whether they fit together or not. */
export function rpmOf({ lead, signatures, header, payload }: RpmParts): Buffer {
  const first = headerOf(62, signatures);
  const padding = Buffer.alloc((8 - (first.length % 8)) % 8);
  return Buffer.concat([lead, first, padding, headerOf(63, header), payload]);
}

/** The same with right digests in place of those that were there, and without signatures. */
export function resealed(parts: RpmParts): Buffer {
  const digest = createHash('sha256').update(parts.payload).digest('hex');
  const header = parts.header.map((one) => (one.tag === 5092 ? textsTag(5092, [digest]) : one));
  const bytes = headerOf(63, header);
  const md5 = createHash('md5').update(bytes).update(parts.payload).digest();
  const signatures = [textTag(273, createHash('sha256').update(bytes).digest('hex')), binaryTag(1004, md5)];
  return rpmOf({ ...parts, header, signatures });
}

/** Tags in place of those of the same number; further ones by their number. */
export function withTags(tags: readonly RpmTag[], ...others: readonly RpmTag[]): readonly RpmTag[] {
  return [...withoutTags(tags, ...others.map(({ tag }) => tag)), ...others].sort((a, b) => a.tag - b.tag);
}

export function withoutTags(tags: readonly RpmTag[], ...numbers: readonly number[]): readonly RpmTag[] {
  return tags.filter(({ tag }) => !numbers.includes(tag));
}

function headerAt(rpm: Buffer, at: number): Buffer {
  return rpm.subarray(at, at + 16 + rpm.readUInt32BE(at + 8) * 16 + rpm.readUInt32BE(at + 12));
}

function tagsOf(header: Buffer): readonly RpmTag[] {
  const count = header.readUInt32BE(8);
  const data = header.subarray(16 + count * 16);
  return Array.from({ length: count - 1 }, (_, index) => {
    const at = 32 + index * 16;
    const [tag, type, offset, values] = [0, 4, 8, 12].map((field) => header.readUInt32BE(at + field));
    const rest = data.subarray(offset);
    const width = [0, 1, 1, 2, 4, 8, 0, 1, 0, 0][type ?? 0] ?? 0;
    return {
      tag: tag ?? 0,
      type: type ?? 0,
      count: values ?? 0,
      data: rest.subarray(0, width === 0 ? stringsEnd(rest, values ?? 0) : width * (values ?? 0)),
    };
  });
}

function stringsEnd(data: Buffer, count: number): number {
  let at = 0;
  for (let left = count; left > 0; left -= 1) at = data.indexOf(0, at) + 1;
  return at;
}

/** A record of a cpio archive of the format "newc", or "crc" with a checksum. */
export function cpioRecord(
  name: string,
  data: Buffer = Buffer.alloc(0),
  options: { readonly mode?: number; readonly checksum?: number; readonly size?: number } = {},
): Buffer {
  const numbers = [
    0,
    options.mode ?? 0o100644,
    0,
    0,
    1,
    0,
    options.size ?? data.length,
    0,
    0,
    0,
    0,
    Buffer.byteLength(name) + 1,
    options.checksum ?? 0,
  ];
  const magic = options.checksum === undefined ? '070701' : '070702';
  const fields = numbers.map((number) => number.toString(16).padStart(8, '0')).join('');
  return Buffer.concat([padded(Buffer.from(`${magic}${fields}${name}\0`)), padded(data)]);
}

/** A record of rpm's stripped archives. */
export function strippedRecord(index: number, data: Buffer = Buffer.alloc(0)): Buffer {
  return Buffer.concat([padded(Buffer.from(`07070X${index.toString(16).padStart(8, '0')}`)), padded(data)]);
}

export const cpioTrailer = cpioRecord('TRAILER!!!', undefined, { mode: 0 });

function padded(bytes: Buffer): Buffer {
  return Buffer.concat([bytes, Buffer.alloc((4 - (bytes.length % 4)) % 4)]);
}

/** A file of a package made here: header and payload say the same of it. */
export interface RpmFileSpec {
  readonly path: string;
  /** Type and permission bits. */
  readonly mode?: number;
  readonly data?: string;
  readonly target?: string;
  readonly inode?: number;
  readonly flags?: number;
  readonly capabilities?: string;
  readonly digest?: string;
}

/** An unsigned package with an uncompressed payload, built byte by byte. */
export function rpmParts(files: readonly RpmFileSpec[], payload = cpioOf(files)): RpmParts {
  const lead = Buffer.alloc(96);
  lead.write('edabeedb0300', 'hex');
  const digest = createHash('sha256').update(payload).digest('hex');
  const names = files.map(({ path }) => path.slice(path.lastIndexOf('/') + 1));
  const directories = files.map(({ path }) => path.slice(0, path.lastIndexOf('/') + 1));
  const list: readonly RpmTag[] = [
    numbersTag(1028, files.map(sizeOf)),
    numbersTag(1030, files.map(modeOf), 2),
    numbersTag(
      1033,
      files.map(() => 0x1234),
      2,
    ),
    numbersTag(
      1034,
      files.map(() => 1_600_000_000),
    ),
    textsTag(
      1035,
      files.map((file) => file.digest ?? ''),
    ),
    textsTag(
      1036,
      files.map(({ target }) => target ?? ''),
    ),
    numbersTag(
      1037,
      files.map(({ flags }) => flags ?? 0),
    ),
    textsTag(
      1039,
      files.map(() => 'root'),
    ),
    textsTag(
      1040,
      files.map(() => 'root'),
    ),
    numbersTag(
      1095,
      files.map(() => 1),
    ),
    numbersTag(
      1096,
      files.map(({ inode }, index) => inode ?? index + 1),
    ),
    numbersTag(
      1116,
      files.map((_, index) => index),
    ),
    textsTag(1117, names),
    textsTag(1118, directories),
    textsTag(
      5010,
      files.map(({ capabilities }) => capabilities ?? ''),
    ),
  ];
  const header = [
    textTag(1000, 'sample'),
    textTag(1001, '1.0'),
    textTag(1002, '1'),
    numbersTag(1006, [1_700_000_000]),
    textTag(1022, 'noarch'),
    ...(files.length === 0 ? [] : list),
    textsTag(5092, [digest]),
    numbersTag(5093, [8]),
  ];
  return { lead, header: withTags(header), signatures: [], payload };
}

/** The payload that goes with the files; the last of the names of one inode has the bytes. */
export function cpioOf(files: readonly RpmFileSpec[]): Buffer {
  const records = files.flatMap((file, index) => {
    if (((file.flags ?? 0) & 64) !== 0) return [];
    const isLast = !files.some(
      (other, at) => at > index && file.inode !== undefined && other.inode === file.inode,
    );
    return [cpioRecord(`.${file.path}`, isLast ? dataOf(file) : Buffer.alloc(0), { mode: modeOf(file) })];
  });
  return Buffer.concat([...records, cpioTrailer]);
}

function modeOf({ mode, target }: RpmFileSpec): number {
  return mode ?? (target === undefined ? 0o100644 : 0o120777);
}

function dataOf({ data, target }: RpmFileSpec): Buffer {
  return Buffer.from(target ?? data ?? '');
}

function sizeOf(file: RpmFileSpec): number {
  return dataOf(file).length;
}
