import type { ByteSink, ByteSource } from 'js-lzma';
import type { ByteReader } from './bytes.js';

/** Properties and dictionary size, then the unpacked size: "The .lzma File Format" in xz's documentation. */
const propertyBytes = 5;
const headerBytes = 13;
/** What compressors stay within up to level 9. */
const maxDictionaryBytes = 64 * 1024 ** 2;
const minWindowBytes = 4096;
const maxStatedBytes = 256 * 1024 ** 3;
const unknownSize = 2n ** 64n - 1n;
const chunkBytes = 64 * 1024;

/**
 * Packed or unpacked. All of it is in memory at once, and decoded in one sitting at 10 MB a second or so: the packages
 * of the years when rpm packed with lzma stay well below.
 */
export const maxLzmaBytes = 128 * 1024 ** 2;

/**
 * Decompresses a .lzma file, as `xz --format=lzma` does. The format has no checksum: damage may go unnoticed.
 *
 * @param limit most bytes wanted; when there are more, a little more than that comes
 * @throws Error that says what is wrong with the data
 */
export async function* decompressLzma(
  input: ByteReader,
  limit: number,
): AsyncGenerator<Uint8Array, void, undefined> {
  const header = readHeader(await input.take(headerBytes));
  const packed = await input.take(maxLzmaBytes);
  if ((await input.take(1)).length > 0)
    throw new Error(`it has more than ${maxLzmaBytes} bytes of lzma data`);
  // What the range coder begins with.
  if (packed.length > 0 && packed[0] !== 0) throw new Error('it is not lzma data');

  const { size } = header;
  const most = Math.min(limit, maxLzmaBytes);
  let { sink, fault } = await decode(header, packed, Math.min(size ?? Infinity, most + 1));
  // An end mark may stand even where the size is known.
  if (size !== undefined && size <= most && fault !== undefined) {
    ({ sink, fault } = await decode(header, packed, size + 1));
  }
  if (sink.bytes <= most) {
    if (fault !== undefined) throw new Error(fault);
    if (size !== undefined && sink.bytes !== size) throw new Error('the size in the lzma header is wrong');
  } else if (limit > maxLzmaBytes) {
    throw new Error(`it unpacks to more than ${maxLzmaBytes} bytes, too many for lzma data`);
  }
  yield* sink.chunks();
}

/**
 * Decodes until an end mark, or until so many bytes are there.
 *
 * @returns also what is wrong when that is not the end of the data
 */
async function decode(
  header: Header,
  packed: Buffer,
  bytes: number,
): Promise<{ readonly sink: Sink; readonly fault: string | undefined }> {
  // Loaded on demand: next to no package needs it.
  const { default: library } = await import('js-lzma');
  const decoder = new library.Decoder();
  if (!decoder.setDecoderProperties(new Source(header.properties))) throw new Error('it is not lzma data');
  // As JavaScript numbers, one by one, the dictionary would take eight times the memory.
  decoder._outWindow._buffer = new Uint8Array(Math.max(header.dictionary, minWindowBytes));
  const source = new Source(packed);
  const sink = new Sink();
  if (!decoder.decode(source, sink, bytes)) throw new Error('the lzma data is damaged');
  if (source.left > 0) return { sink, fault: 'there is garbage after the lzma data' };
  // An encoder leaves nothing in the range coder: the one check that the format has.
  return { sink, fault: (decoder._rangeDecoder._code | 0) === 0 ? undefined : 'the lzma data is damaged' };
}

interface Header {
  readonly properties: Buffer;
  /** Bytes. */
  readonly dictionary: number;
  /** Unpacked bytes; undefined where an end mark alone says it. */
  readonly size: number | undefined;
}

/** The format has no magic number: as xz does, this takes only what compressors write. */
function readHeader(bytes: Buffer): Header {
  if (bytes.length < headerBytes) throw new Error('the lzma data is cut off');
  const first = bytes.readUInt8();
  const literalBits = (first % 9) + (Math.floor(first / 9) % 5);
  const dictionary = bytes.readUInt32LE(1);
  const digits = dictionary / 2 ** Math.floor(Math.log2(dictionary));
  const size = bytes.readBigUInt64LE(propertyBytes);
  const isKnown = size !== unknownSize;
  const isPlausible =
    first < 9 * 5 * 5 &&
    literalBits <= 4 &&
    (digits === 1 || digits === 1.5) &&
    (!isKnown || size < maxStatedBytes);
  if (!isPlausible) throw new Error('it is not lzma data');
  if (dictionary > maxDictionaryBytes) throw new Error('its lzma dictionary is too large');
  return {
    properties: bytes.subarray(0, propertyBytes),
    dictionary,
    size: isKnown ? Number(size) : undefined,
  };
}

class Source implements ByteSource {
  #position = 0;

  constructor(private readonly bytes: Buffer) {}

  get left(): number {
    return this.bytes.length - this.#position;
  }

  readByte(): number {
    const byte = this.bytes[this.#position++];
    if (byte === undefined) throw new Error('the lzma data is cut off');
    return byte;
  }
}

class Sink implements ByteSink {
  bytes = 0;
  readonly #full: Buffer[] = [];
  #current = Buffer.allocUnsafe(chunkBytes);

  writeByte(byte: number): void {
    const at = this.bytes++ % chunkBytes;
    if (at === 0 && this.bytes > 1) {
      this.#full.push(this.#current);
      this.#current = Buffer.allocUnsafe(chunkBytes);
    }
    this.#current[at] = byte;
  }

  *chunks(): Generator<Buffer, void, undefined> {
    yield* this.#full;
    yield this.#current.subarray(0, this.bytes - this.#full.length * chunkBytes);
  }
}
