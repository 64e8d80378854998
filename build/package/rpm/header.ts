import { isUtf8 } from 'node:buffer';

export type Fail = (reason: string) => Error;

/** One tag: its type, where its data lies in the data area, and how many values there are. */
interface IndexEntry {
  readonly type: number;
  readonly offset: number;
  readonly count: number;
  /** Bytes of the data. */
  readonly length: number;
}

export const headerMagic = Buffer.from('8eade80100000000', 'hex');
/** Magic, number of index entries, bytes of data. */
export const introBytes = 16;
export const indexEntryBytes = 16;

/** Value sizes of the types from NULL to I18NSTRING; undefined for strings, which end with NUL. */
const valueBytes = [0, 1, 1, 2, 4, 8, undefined, 1, undefined, undefined];
const binaryType = 7;
const stringType = 6;
/** HEADER_I18NTABLE: below it are only tags that stand for regions. */
const firstTag = 100;
/** HEADERIMAGE, which old signers wrote into the trailer of the signature region. */
const headerImage = 61;

/**
 * A header of an RPM package: tags with typed values. Everything rpm checks of its structure has been checked: types,
 * alignment, bounds, no overlap, and the region, which says that the signed bytes are the whole header.
 */
export class RpmHeader {
  readonly #entries: ReadonlyMap<number, IndexEntry>;
  readonly #data: Buffer;
  readonly #fail: Fail;

  /**
   * @param bytes from the magic to the last byte of data
   * @param what `its header` or `its signature header`, for errors
   * @param whole whether the region must span all of it, as in the header proper
   */
  constructor(
    readonly bytes: Buffer,
    region: { readonly tag: number; readonly whole: boolean },
    what: string,
    fail: Fail,
  ) {
    this.#fail = (reason) => fail(`${what} ${reason}`);
    const count = bytes.readUInt32BE(8);
    const index = bytes.subarray(introBytes, introBytes + count * indexEntryBytes);
    this.#data = bytes.subarray(introBytes + index.length);
    checkRegion(index, this.#data, region, this.#fail);
    this.#entries = readIndex(index, this.#data, this.#fail);
  }

  has(tag: number): boolean {
    return this.#entries.has(tag);
  }

  /** A single string, or the first of a translated one, which is in the C locale. */
  text(tag: number): string | undefined {
    const all = this.texts(tag);
    if (all === undefined) return undefined;
    const entry = this.#entries.get(tag);
    if (entry?.type === 8 && entry.count !== 1) throw this.#bad(tag, 'holds several strings');
    return all[0];
  }

  texts(tag: number): readonly string[] | undefined {
    const entry = this.#entries.get(tag);
    if (entry === undefined) return undefined;
    if (valueBytes[entry.type] !== undefined) throw this.#bad(tag, 'holds no strings');
    const data = this.#data.subarray(entry.offset, entry.offset + entry.length - 1);
    if (!isUtf8(data)) throw this.#bad(tag, 'is not UTF-8');
    return data.toString().split('\0');
  }

  /** Whole numbers of any width, unsigned. */
  numbers(tag: number): readonly number[] | undefined {
    const entry = this.#entries.get(tag);
    if (entry === undefined) return undefined;
    const { type, offset, count } = entry;
    const width = valueBytes[type];
    if (width === undefined || type === binaryType) throw this.#bad(tag, 'holds no numbers');
    return Array.from({ length: count }, (_, index) => {
      const at = offset + index * width;
      if (width < 8) return this.#data.readUIntBE(at, width);
      const value = Number(this.#data.readBigUInt64BE(at));
      if (!Number.isSafeInteger(value)) throw this.#bad(tag, 'holds a number out of range');
      return value;
    });
  }

  number(tag: number): number | undefined {
    const all = this.numbers(tag);
    if (all !== undefined && all.length !== 1) throw this.#bad(tag, 'holds several numbers');
    return all?.[0];
  }

  binary(tag: number): Buffer | undefined {
    const entry = this.#entries.get(tag);
    if (entry === undefined) return undefined;
    if (entry.type !== binaryType) throw this.#bad(tag, 'holds no binary data');
    return this.#data.subarray(entry.offset, entry.offset + entry.length);
  }

  #bad(tag: number, reason: string): Error {
    return this.#fail(`is damaged: the tag ${tag} ${reason}`);
  }
}

/**
 * The first entry stands for a region. Its data are an index entry again, the trailer, which says how many entries
 * before the data belong to the region (rpm's docs/manual/format_header.md).
 */
function checkRegion(
  index: Buffer,
  data: Buffer,
  region: { readonly tag: number; readonly whole: boolean },
  fail: Fail,
): void {
  const bad = (): Error => fail('is damaged: its region is wrong');
  if (index.length === 0) throw fail('is empty');
  const offset = index.readUInt32BE(8);
  if (index.readUInt32BE(0) !== region.tag) throw fail('has no region, as packages have had since rpm 4.0');
  if (index.readUInt32BE(4) !== binaryType || index.readUInt32BE(12) !== indexEntryBytes) throw bad();
  if (offset + indexEntryBytes > data.length) throw bad();
  const trailer = data.subarray(offset, offset + indexEntryBytes);
  const tag = trailer.readUInt32BE(0);
  const old = !region.whole && tag === headerImage;
  if (tag !== region.tag && !old) throw bad();
  if (trailer.readUInt32BE(4) !== binaryType || trailer.readUInt32BE(12) !== indexEntryBytes) throw bad();
  const span = -trailer.readInt32BE(8);
  if (span <= 0 || span % indexEntryBytes !== 0 || span > index.length) throw bad();
  // What lies outside of the region is not signed.
  if (region.whole && (span !== index.length || offset + indexEntryBytes !== data.length)) throw bad();
}

function readIndex(index: Buffer, data: Buffer, fail: Fail): ReadonlyMap<number, IndexEntry> {
  const entries = new Map<number, IndexEntry>();
  let end = 0;
  for (let at = indexEntryBytes; at < index.length; at += indexEntryBytes) {
    const tag = index.readUInt32BE(at);
    const type = index.readUInt32BE(at + 4);
    const offset = index.readUInt32BE(at + 8);
    const count = index.readUInt32BE(at + 12);
    const bad = (reason: string): Error => fail(`is damaged: the tag ${tag} ${reason}`);
    if (tag < firstTag || tag > 0x7fffffff) throw bad('is out of range');
    if (type >= valueBytes.length) throw bad('has an unknown type');
    const width = valueBytes[type];
    if (width !== undefined && width > 1 && offset % width !== 0) throw bad('is not aligned');
    if (offset < end || offset > data.length) throw bad('has its data in the wrong place');
    if (type === stringType && count !== 1) throw bad('has a wrong count');
    const length = width === undefined ? stringsLength(data, offset, count) : width * count;
    if (length === undefined || length === 0 || length > data.length - offset) {
      throw bad('has data that do not fit');
    }
    if (entries.has(tag)) throw bad('is there twice');
    end = offset + length;
    entries.set(tag, { type, offset, count, length });
  }
  return entries;
}

/** Bytes that so many strings take with their NULs; undefined when the data end before. */
function stringsLength(data: Buffer, offset: number, count: number): number | undefined {
  let at = offset;
  for (let left = count; left > 0; left -= 1) {
    const end = data.indexOf(0, at);
    if (end === -1) return undefined;
    at = end + 1;
  }
  return at - offset;
}
