import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { open, type FileHandle } from 'node:fs/promises';
import { endianness } from 'node:os';
import { cannotWrite } from '../../support/atomic.js';
import { cannot, reasonOf } from '../../support/errors.js';
import type { ByteText } from './byte-text.js';
import { readRecord, type RpmRecord } from './record.js';

/**
 * The packages of one primary.xml on disk. Records are lines of JSON, in their order. Behind them stand the names, one
 * to a line; the offsets of the records (6 bytes each, and where the last one ends); and the keys, sorted: 64 bits
 * each, of which 40 are a hash and 24 the number of a record. Numbers are little-endian. The last line says where
 * everything is. What the hash finds is always compared with the record itself.
 */
export const indexFormat = 1;

const offsetBytes = 6;
const keyBytes = 8;
const lastLine = 256;
/** Fedora has 80,000 packages, with a million keys. */
const mostPackages = 1_000_000;
const mostKeys = 16_000_000;
/** As many records are read for one key at most. */
const mostMatches = 2000;
/** Bytes; the largest record today, of a kernel, has a fiftieth of it. */
const longestRecord = 64 * 1024 ** 2;

/** What a key is for: packages are looked for by their own name, or by what they provide, which a file can be too. */
export type KeyKind = 'name' | 'provides';
const seeds: Readonly<Record<KeyKind, number>> = { name: 0x2545f491, provides: 0x811c9dc5 };

interface Places {
  readonly format: number;
  readonly packages: number;
  readonly names: number;
  readonly offsets: number;
  readonly keys: number;
  readonly end: number;
}

/** Writes an index into a file that is there already. */
export class IndexWriter {
  readonly #file: FileHandle;
  readonly #path: string;
  readonly #names: ByteText;
  #written = 0;
  #offsets = Buffer.alloc(offsetBytes * 1024);
  #packages = 0;
  /** Two words to a key, in the processor's own order. */
  #keys = new Uint32Array(2 * 64 * 1024);
  #keyCount = 0;
  /** Keys of packages that are finished. */
  #keptKeys = 0;

  private constructor(file: FileHandle, path: string, names: ByteText) {
    this.#file = file;
    this.#path = path;
    this.#names = names;
  }

  /** @param names an empty text to collect names in */
  static async create(path: string, names: ByteText): Promise<IndexWriter> {
    const file = await open(path, 'r+').catch((error: unknown) => {
      throw cannotWrite(path, error);
    });
    return new IndexWriter(file, path, names);
  }

  /** Adds a key of the package that is being read. */
  addKey(kind: KeyKind, bytes: Uint8Array, start: number, end: number): void {
    if (this.#keyCount >= mostKeys) throw new Error('its packages provide too much');
    if (2 * this.#keyCount >= this.#keys.length) {
      const larger = new Uint32Array(2 * this.#keys.length);
      larger.set(this.#keys);
      this.#keys = larger;
    }
    hash(kind, bytes, start, end);
    this.#keys[2 * this.#keyCount + highWord] = hashed[0] ?? 0;
    this.#keys[2 * this.#keyCount + lowWord] = (hashed[1] ?? 0) | this.#packages;
    this.#keyCount++;
  }

  /** Forgets the keys of the package that is being read. */
  dropPackage(): void {
    this.#keyCount = this.#keptKeys;
  }

  /** Finishes the package that is being read. @param at where its record begins, counted from the last `write` */
  keepPackage(name: string, at: number): void {
    if (this.#packages >= mostPackages) throw new Error('it has too many packages');
    this.#keptKeys = this.#keyCount;
    this.#noteOffset(this.#written + at);
    this.#packages++;
    this.#names.utf8(`${name}\n`);
  }

  async write(bytes: Uint8Array): Promise<void> {
    await this.#file.writeFile(bytes).catch((error: unknown) => {
      throw cannotWrite(this.#path, error);
    });
    this.#written += bytes.length;
  }

  async finish(): Promise<void> {
    this.#noteOffset(this.#written);
    const names = this.#written;
    await this.write(this.#names.view());
    const offsets = this.#written;
    await this.write(this.#offsets.subarray(0, (this.#packages + 1) * offsetBytes));
    const keys = this.#written;
    const used = this.#keys.subarray(0, 2 * this.#keyCount);
    new BigUint64Array(used.buffer, 0, this.#keyCount).sort();
    const bytes = Buffer.from(used.buffer, 0, this.#keyCount * keyBytes);
    await this.write(isLittleEndian ? bytes : bytes.swap64());
    const places: Places = {
      format: indexFormat,
      packages: this.#packages,
      names,
      offsets,
      keys,
      end: this.#written,
    };
    await this.write(Buffer.from(`${JSON.stringify(places).padEnd(lastLine - 1)}\n`));
  }

  async close(): Promise<void> {
    await this.#file.close();
  }

  #noteOffset(offset: number): void {
    const at = this.#packages * offsetBytes;
    if (at + offsetBytes > this.#offsets.length)
      this.#offsets = Buffer.concat([this.#offsets, Buffer.alloc(this.#offsets.length)]);
    this.#offsets.writeUIntLE(offset, at, offsetBytes);
  }
}

const isLittleEndian = endianness() === 'LE';
const [lowWord, highWord] = isLittleEndian ? [0, 1] : [1, 0];
const recordMask = 0x00ffffff;

/** The result of `hash`, without an object for each: 32 bits, and 8 bits above the place of the record's number. */
const hashed = new Uint32Array(2);

function hash(kind: KeyKind, bytes: Uint8Array, start: number, end: number): void {
  let first = seeds[kind];
  let second = ~first;
  for (let at = start; at < end; at++) {
    const byte = bytes[at] ?? 0;
    first = Math.imul(first ^ byte, 0x01000193);
    second = Math.imul(second ^ byte, 0x5bd1e995);
  }
  hashed[0] = Math.imul(first ^ (first >>> 15), 0x2c1b3c6d);
  hashed[1] = Math.imul(second ^ (second >>> 15), 0x297a2d39) & ~recordMask;
}

/** An index that can be asked. Records are read from the disk when they are. */
export interface RpmIndex {
  /** How many packages there are. */
  readonly packages: number;
  /** Records that may have a key, in their order: those that have another with the same hash are among them. */
  find(kind: KeyKind, key: string): readonly RpmRecord[];
  /** Names of all packages, in their order. */
  names(): readonly string[];
  close(): void;
}

/**
 * Opens an index that `IndexWriter` has written.
 *
 * @param where names the repository's file in errors
 * @throws ToolError
 */
export function openRpmIndex(path: string, where: string): RpmIndex {
  const attempt = <T>(work: () => T): T => {
    try {
      return work();
    } catch (error) {
      throw cannot('read', path, reasonOf(error), { cause: error });
    }
  };
  const file = attempt(() => openSync(path, 'r'));
  try {
    const { places, offsets, keys } = attempt(() => readTables(file));
    const record = (number: number): RpmRecord => {
      const line = attempt(() => {
        const start = offsets.readUIntLE(number * offsetBytes, offsetBytes);
        const end = offsets.readUIntLE((number + 1) * offsetBytes, offsetBytes);
        return readRange(file, start, end, longestRecord);
      });
      return readRecord(line.toString('utf8'), where);
    };
    return {
      packages: places.packages,
      find: (kind, key) => {
        const numbers = numbersOf(keys, kind, key);
        if (numbers.length > mostMatches)
          throw cannot('read', where, `more than ${mostMatches} packages have ${JSON.stringify(key)}`);
        return numbers.map((number) => record(number));
      },
      names: () =>
        attempt(() => readRange(file, places.names, places.offsets, Infinity))
          .toString('utf8')
          .split('\n')
          .slice(0, -1),
      close: () => {
        closeSync(file);
      },
    };
  } catch (error) {
    closeSync(file);
    throw error;
  }
}

function readTables(file: number): { places: Places; offsets: Buffer; keys: Buffer } {
  const { size } = fstatSync(file);
  const places = placesOf(readRange(file, Math.max(0, size - lastLine), size, lastLine).toString('utf8'));
  const isWhole =
    places !== undefined &&
    places.end === size - lastLine &&
    places.keys - places.offsets === (places.packages + 1) * offsetBytes;
  if (!isWhole) throw new Error('it is no index of packages');
  return {
    places,
    offsets: readRange(file, places.offsets, places.keys, (mostPackages + 1) * offsetBytes),
    keys: readRange(file, places.keys, places.end, mostKeys * keyBytes),
  };
}

function placesOf(text: string): Places | undefined {
  const match =
    /^\{"format":(\d+),"packages":(\d+),"names":(\d+),"offsets":(\d+),"keys":(\d+),"end":(\d+)\} *\n$/.exec(
      text,
    );
  if (match === null) return undefined;
  const [format = NaN, packages = NaN, names = NaN, offsets = NaN, keys = NaN, end = NaN] = match
    .slice(1)
    .map(Number);
  return format === indexFormat ? { format, packages, names, offsets, keys, end } : undefined;
}

/** Numbers of the records whose key has the hash, ascending. */
function numbersOf(keys: Buffer, kind: KeyKind, key: string): readonly number[] {
  const bytes = Buffer.from(key);
  hash(kind, bytes, 0, bytes.length);
  const [high = 0, low = 0] = hashed;
  const highAt = (index: number): number => keys.readUInt32LE(index * keyBytes + 4);
  const lowAt = (index: number): number => keys.readUInt32LE(index * keyBytes);
  const count = keys.length / keyBytes;
  let from = 0;
  let to = count;
  while (from < to) {
    const middle = (from + to) >>> 1;
    if (highAt(middle) < high || (highAt(middle) === high && lowAt(middle) < low)) from = middle + 1;
    else to = middle;
  }
  const numbers = new Set<number>();
  for (let index = from; index < count && highAt(index) === high; index++) {
    const word = lowAt(index);
    if ((word & ~recordMask) >>> 0 !== low) break;
    numbers.add(word & recordMask);
  }
  return [...numbers];
}

function readRange(file: number, start: number, end: number, most: number): Buffer {
  if (!(start <= end && end - start <= most)) throw new Error('it is damaged');
  const bytes = Buffer.allocUnsafe(end - start);
  for (let done = 0; done < bytes.length;) {
    const read = readSync(file, bytes, done, bytes.length - done, start + done);
    if (read === 0) throw new Error('it is cut off');
    done += read;
  }
  return bytes;
}
