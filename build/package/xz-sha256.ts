import { createHash } from 'node:crypto';
import type { ByteReader } from './bytes.js';

/** Block sizes as the index of a stream has them: bytes without padding, and unpacked bytes. */
interface BlockSizes {
  readonly unpadded: number;
  readonly unpacked: number;
}

/** A block's end in the unpacked data, and the digest of the block. */
interface BlockCheck {
  readonly end: number;
  readonly digest: Buffer | undefined;
}

const headerBytes = 12;
const sha256Check = 10;
const sha256Bytes = 32;
/** The .xz file format, 2.1.1.2: bytes of the check by its number. */
const checkBytes = [0, 4, 4, 4, 8, 8, 8, 16, 16, 16, 32, 32, 32, 64, 64, 64];
const maxBlocks = 10_000;

/** Whether a file begins with an xz stream that is checked by SHA-256, as rpm has made them. */
export function isCheckedBySha256(start: Buffer): boolean {
  return start.length >= 8 && start[7] === sha256Check;
}

/**
 * Xz streams (the .xz file format, version 1.2.1) whose blocks are checked by SHA-256, for a decoder that knows no such
 * check: the checks are taken out on the way to it, and made here. Blocks are not unpacked for that, because LZMA2
 * says how long its chunks are.
 */
export class XzSha256 {
  readonly #checks: BlockCheck[] = [];
  /** Unpacked bytes of all blocks seen so far, and of those handed to `update`. */
  #unpacked = 0;
  #updated = 0;
  #hash = createHash('sha256');

  constructor(private readonly reader: ByteReader) {}

  /** The same streams without the checks. @throws Error that says what is wrong with the data */
  async *withoutChecks(): AsyncGenerator<Buffer, void, undefined> {
    for (;;) {
      const start = await this.reader.take(4);
      if (start.length === 0) return;
      // Streams may have multiples of four zero bytes after them.
      if (start.length === 4 && start.readUInt32LE() === 0) yield start;
      else yield* this.#stream(Buffer.concat([start, await this.#exactly(headerBytes - start.length)]));
    }
  }

  /** Takes what the decoder made. @throws Error when a check does not fit */
  update(data: Uint8Array): void {
    let at = 0;
    while (at < data.length) {
      this.#closeBlocks();
      const end = this.#checks[0]?.end ?? Infinity;
      const part = data.subarray(at, at + Math.min(data.length - at, end - this.#updated));
      this.#hash.update(part);
      this.#updated += part.length;
      at += part.length;
    }
    this.#closeBlocks();
  }

  /** @throws Error when a check does not fit */
  finish(): void {
    this.#closeBlocks();
    if (this.#checks.length > 0 || this.#updated !== this.#unpacked)
      throw new Error('the xz data is damaged');
  }

  #closeBlocks(): void {
    for (let check = this.#checks[0]; check?.end === this.#updated; check = this.#checks[0]) {
      if (check.digest !== undefined && !this.#hash.digest().equals(check.digest)) {
        throw new Error('the xz checksum is wrong');
      }
      this.#hash = createHash('sha256');
      this.#checks.shift();
    }
  }

  async *#stream(header: Buffer): AsyncGenerator<Buffer, void, undefined> {
    const flags = header.subarray(6, 8);
    const [reserved, check = 0] = flags;
    // Everything else of the header, as of the rest, is for the decoder to judge.
    if (reserved !== 0 || check >= checkBytes.length || header.readUInt32LE(8) !== crc32(flags)) {
      throw new Error('the xz data is damaged');
    }
    const isSha256 = check === sha256Check;
    const newFlags = isSha256 ? Buffer.from([0, 0]) : flags;
    yield Buffer.concat([header.subarray(0, 6), newFlags, littleEndian(crc32(newFlags))]);

    const blocks: BlockSizes[] = [];
    for (;;) {
      const first = await this.#exactly(1);
      const [size = 0] = first;
      if (size === 0) break;
      if (blocks.length === maxBlocks) throw new Error(`it has more than ${maxBlocks} xz blocks`);
      const rest = await this.#exactly(size * 4 + 3);
      yield Buffer.concat([first, rest]);
      const begin = this.reader.position;
      const unpacked = yield* this.#chunks();
      const packed = this.reader.position - begin;
      yield await this.#exactly((4 - (packed % 4)) % 4);
      const digest = await this.#exactly(checkBytes[check] ?? 0);
      if (!isSha256) yield digest;
      blocks.push({ unpadded: size * 4 + 4 + packed + digest.length, unpacked });
      this.#unpacked += unpacked;
      this.#checks.push({ end: this.#unpacked, digest: isSha256 ? digest : undefined });
    }

    const index = indexOf(blocks, 0);
    const found = Buffer.concat([Buffer.alloc(1), await this.#exactly(index.length - 1)]);
    const footer = await this.#exactly(headerBytes);
    if (!found.equals(index) || !footer.equals(footerOf(index, flags)))
      throw new Error('the xz data is damaged');
    const newIndex = isSha256 ? indexOf(blocks, sha256Bytes) : index;
    yield Buffer.concat([newIndex, footerOf(newIndex, newFlags)]);
  }

  /** One block's LZMA2 chunks, up to and with the end mark. @returns unpacked bytes */
  async *#chunks(): AsyncGenerator<Buffer, number, undefined> {
    let unpacked = 0;
    for (;;) {
      const first = await this.#exactly(1);
      const [control = 0] = first;
      if (control === 0) {
        yield first;
        return unpacked;
      }
      if (control > 2 && control < 0x80) throw new Error('the xz data is damaged');
      const sizes = await this.#exactly(control < 0x80 ? 2 : control < 0xc0 ? 4 : 5);
      const low = sizes.readUInt16BE(0) + 1;
      unpacked += control < 0x80 ? low : ((control & 0x1f) << 16) + low;
      const data = await this.#exactly(control < 0x80 ? low : sizes.readUInt16BE(2) + 1);
      yield Buffer.concat([first, sizes, data]);
    }
  }

  async #exactly(length: number): Promise<Buffer> {
    const bytes = await this.reader.take(length);
    if (bytes.length < length) throw new Error('the xz data is cut off or damaged');
    return bytes;
  }
}

/** The index of a stream, with so many bytes less for each block. */
function indexOf(blocks: readonly BlockSizes[], less: number): Buffer {
  const bytes = [0, ...variable(blocks.length)];
  for (const { unpadded, unpacked } of blocks)
    bytes.push(...variable(unpadded - less), ...variable(unpacked));
  while (bytes.length % 4 !== 0) bytes.push(0);
  const index = Buffer.from(bytes);
  return Buffer.concat([index, littleEndian(crc32(index))]);
}

function footerOf(index: Buffer, flags: Buffer): Buffer {
  const fields = Buffer.concat([littleEndian(index.length / 4 - 1), flags]);
  return Buffer.concat([littleEndian(crc32(fields)), fields, Buffer.from('YZ')]);
}

/** Seven bits a byte, the lowest first, with the top bit set on all but the last (section 1.2). */
function variable(value: number): readonly number[] {
  const bytes: number[] = [];
  let left = value;
  for (; left >= 0x80; left = Math.floor(left / 0x80)) bytes.push((left % 0x80) | 0x80);
  return [...bytes, left];
}

function littleEndian(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

/** CRC-32 of IEEE 802.3 (section 6). */
function crc32(data: Buffer): number {
  let crc = 0xffffffff;
  for (const byte of data) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit += 1) crc = (crc >>> 1) ^ ((crc & 1) === 0 ? 0 : 0xedb88320);
  }
  return ~crc >>> 0;
}
