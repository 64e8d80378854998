import { Decompress } from 'fzstd';
import type { ByteReader } from './bytes.js';
import { XxHash64 } from './xxhash64.js';

const frameMagic = 0xfd2fb528;
/** RFC 8878, section 3.1.2: sixteen magic numbers of frames that hold no data. */
const skippableMagic = 0x184d2a50;
const maxBlockBytes = 128 * 1024;
/** What RFC 8878, section 3.1.1.1.2, asks decoders to support; compressors stay within it up to level 19. */
const maxWindowBytes = 8 * 1024 ** 2;
/**
 * The decoder moves its whole window for every block. Tiny blocks in a large window must not cost hours: so many bytes
 * are moved for a start and for every byte of output, and no more in all. What compressors write stays below.
 */
const movedBytes = { start: 8 * 1024 ** 3, perByte: 8192, most: 512 * 1024 ** 3 };

interface FrameHeader {
  /** Bytes. */
  readonly window: number;
  readonly contentSize: number | undefined;
  readonly checksum: boolean;
}

/**
 * Decompresses Zstandard frames (RFC 8878) one after another, to the end of the input. The frame structure
 * and the checksum are checked here; the decoder sees single blocks of bounded size.
 *
 * @throws Error that says what is wrong with the data
 */
export async function* decompressZstd(input: ByteReader): AsyncGenerator<Uint8Array, void, undefined> {
  const work = { moved: 0, produced: 0 };
  for (;;) {
    const magic = await input.take(4);
    if (magic.length === 0) return;
    if (magic.length < 4) throw new Error('there is garbage after the zstd data');
    const number = magic.readUInt32LE();
    if (number === frameMagic) {
      yield* decompressFrame(input, work);
    } else if ((number & 0xfffffff0) === skippableMagic) {
      const size = (await exactly(input, 4)).readUInt32LE();
      if (!(await input.skip(size))) throw new Error('the zstd data is cut off');
    } else {
      throw new Error('there is garbage after the zstd data');
    }
  }
}

async function* decompressFrame(
  input: ByteReader,
  work: { moved: number; produced: number },
): AsyncGenerator<Uint8Array, void, undefined> {
  const header = await readFrameHeader(input);
  const window = descriptorOf(header.window);
  const output: Uint8Array[] = [];
  const decoder = new Decompress((data) => output.push(data));
  const hash = new XxHash64();
  let produced = 0;
  // A plain header of our own: magic, no flags, window. What else the frame states is checked here.
  decoder.push(Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0, window.descriptor]));
  for (let last = false; !last;) {
    const block = await readBlock(input, Math.min(header.window, maxBlockBytes));
    last = block.last;
    work.moved += window.bytes;
    const allowed = movedBytes.start + movedBytes.perByte * work.produced;
    if (work.moved > Math.min(allowed, movedBytes.most))
      throw new Error('its zstd blocks are too small for their window');
    decoder.push(block.bytes, last);
    for (const data of output.splice(0)) {
      produced += data.length;
      work.produced += data.length;
      if (header.checksum) hash.update(data);
      yield data;
    }
  }
  if (header.contentSize !== undefined && produced !== header.contentSize) {
    throw new Error('the size in the zstd frame header is wrong');
  }
  if (header.checksum) {
    const stated = (await exactly(input, 4)).readUInt32LE();
    if (BigInt(stated) !== BigInt.asUintN(32, hash.digest())) throw new Error('the zstd checksum is wrong');
  }
}

/** RFC 8878, section 3.1.1.1. */
async function readFrameHeader(input: ByteReader): Promise<FrameHeader> {
  const flags = (await exactly(input, 1)).readUInt8();
  const singleSegment = (flags & 0x20) !== 0;
  if ((flags & 0x08) !== 0) throw new Error('the zstd frame header uses a reserved bit');
  let window: number | undefined;
  if (!singleSegment) {
    const descriptor = (await exactly(input, 1)).readUInt8();
    const base = 2 ** (10 + (descriptor >> 3));
    window = base + (base / 8) * (descriptor & 7);
  }
  const dictionary = await exactly(input, [0, 1, 2, 4][flags & 3] ?? 0);
  if (dictionary.some((byte) => byte !== 0)) throw new Error('the zstd data needs a dictionary');
  const sizeBytes = [singleSegment ? 1 : 0, 2, 4, 8][flags >> 6] ?? 0;
  const sizeField = await exactly(input, sizeBytes);
  let contentSize: number | undefined;
  if (sizeBytes === 8) contentSize = Number(sizeField.readBigUInt64LE());
  else if (sizeBytes > 0) contentSize = sizeField.readUIntLE(0, sizeBytes) + (sizeBytes === 2 ? 256 : 0);
  window ??= contentSize ?? 0;
  if (window > maxWindowBytes) throw new Error(`its zstd window is larger than ${maxWindowBytes} bytes`);
  return { window, contentSize, checksum: (flags & 0x04) !== 0 };
}

/** One block with its header (RFC 8878, section 3.1.1.2). */
async function readBlock(input: ByteReader, limit: number): Promise<{ last: boolean; bytes: Buffer }> {
  const header = await exactly(input, 3);
  const field = header.readUIntLE(0, 3);
  const type = (field >> 1) & 3;
  const size = field >> 3;
  if (type === 3) throw new Error('it has a zstd block of a reserved type');
  if (size > limit) throw new Error('it has a zstd block that is too large');
  const body = await exactly(input, type === 1 ? 1 : size);
  return { last: (field & 1) !== 0, bytes: Buffer.concat([header, body]) };
}

/** The smallest window that a descriptor byte can state and that holds `bytes`. */
function descriptorOf(bytes: number): { readonly descriptor: number; readonly bytes: number } {
  for (let descriptor = 0; ; descriptor += 1) {
    const base = 2 ** (10 + (descriptor >> 3));
    const window = base + (base / 8) * (descriptor & 7);
    if (window >= bytes) return { descriptor, bytes: window };
  }
}

async function exactly(input: ByteReader, length: number): Promise<Buffer> {
  const bytes = await input.take(length);
  if (bytes.length < length) throw new Error('the zstd data is cut off');
  return bytes;
}
