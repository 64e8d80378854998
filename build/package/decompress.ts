import { open } from 'node:fs/promises';
import { Readable, pipeline } from 'node:stream';
import { createGunzip } from 'node:zlib';
import { ToolError, cannot, reasonOf } from '../support/errors.js';
import { ByteReader, readRange } from './bytes.js';
import { decompressLzma } from './lzma.js';
import { isCheckedBySha256, XzSha256 } from './xz-sha256.js';
import { decompressZstd } from './zstd.js';

/** Named by the usual endings of file names. */
export type CompressionFormat = 'none' | 'gz' | 'xz' | 'lzma' | 'zst';

export interface DecompressOptions {
  /** What the data is called in error messages. */
  readonly name: string;
  /** Most unpacked bytes; more is an error. */
  readonly limit: number;
}

const magics: Readonly<Record<CompressionFormat, readonly string[]>> = {
  none: [''],
  gz: ['1f8b'],
  xz: ['fd377a585a00'],
  // Nothing but plausible numbers, which its reader judges.
  lzma: [''],
  // A frame, or one of the skippable frames that some compressors put first.
  zst: ['28b52ffd', ...Array.from({ length: 16 }, (_, low) => `5${low.toString(16)}2a4d18`)],
};
const magicBytes = 6;
const xzHeaderBytes = 12;

/**
 * Decompresses a stream chunk by chunk in flat memory, all members, frames or streams that follow each other.
 * Trailing garbage, damage, truncation and a format other than the stated one are errors. One xz stream is
 * unpacked at a time in the whole process: iterate to the end or leave the loop, do not hold it. Data of the old
 * format lzma are unpacked whole, and bounded further.
 *
 * @throws ToolError `cannot decompress NAME: reason`
 */
export async function* decompress(
  input: AsyncIterable<Uint8Array>,
  format: CompressionFormat,
  { name, limit }: DecompressOptions,
): AsyncGenerator<Uint8Array, void, undefined> {
  const reader = new ByteReader(input);
  let unpacked = 0;
  try {
    const start = await reader.take(magicBytes);
    if (!magics[format].some((magic) => start.toString('hex').startsWith(magic))) {
      throw cannot('decompress', name, `it is not ${format} data`);
    }
    for await (const chunk of decoders[format](replay(start, reader), limit)) {
      unpacked += chunk.length;
      if (unpacked > limit) throw cannot('decompress', name, `it unpacks to more than ${limit} bytes`);
      if (chunk.length > 0) yield chunk;
    }
  } catch (error) {
    if (error instanceof ToolError) throw error;
    throw cannot('decompress', name, reasonOf(error), { cause: error });
  } finally {
    await reader.close();
  }
}

/** `decompress` for a whole file, such as a package index. @throws ToolError */
export async function* decompressFile(
  path: string,
  format: CompressionFormat,
  limit: number,
): AsyncGenerator<Uint8Array, void, undefined> {
  const handle = await open(path).catch((error: unknown) => {
    throw cannot('read', path, reasonOf(error), { cause: error });
  });
  try {
    const { size } = await handle.stat();
    yield* decompress(readRange(handle, path, 0, size), format, { name: path, limit });
  } finally {
    await handle.close();
  }
}

const decoders: Readonly<
  Record<CompressionFormat, (input: AsyncGenerator<Buffer>, limit: number) => AsyncIterable<Uint8Array>>
> = {
  none: (input) => input,
  gz: gunzip,
  xz: unxzAny,
  lzma: (input, limit) => decompressLzma(new ByteReader(input), limit),
  zst: (input) => decompressZstd(new ByteReader(input)),
};

async function* replay(start: Buffer, reader: ByteReader): AsyncGenerator<Buffer, void, undefined> {
  if (start.length > 0) yield start;
  yield* reader.rest();
}

async function* gunzip(input: AsyncGenerator<Buffer>): AsyncGenerator<Uint8Array, void, undefined> {
  const engine = createGunzip({ chunkSize: 64 * 1024 });
  const fed = { bytes: 0, whole: false };
  async function* counted(): AsyncGenerator<Buffer, void, undefined> {
    for await (const chunk of input) {
      fed.bytes += chunk.length;
      yield chunk;
    }
    fed.whole = true;
  }
  // Errors reach the loop below through the engine, which the pipeline destroys with them.
  const chunks: AsyncIterable<Buffer> = pipeline(
    Readable.from(counted(), { objectMode: false }),
    engine,
    () => undefined,
  );
  for await (const chunk of chunks) yield chunk;
  // zlib ends quietly at zero bytes after a member.
  if (!fed.whole || engine.bytesWritten !== fed.bytes)
    throw new Error('there is garbage after the gzip data');
}

/** The results of the decoder's `xz_dec_run` that are errors (xz.h of XZ Embedded). */
const xzReasons = new Map([
  ['2', 'its xz check type is not supported'],
  ['3', 'no memory is left for its xz dictionary'],
  ['4', 'its xz dictionary is too large'],
  ['5', 'there is garbage in place of an xz stream'],
  ['6', 'it uses xz options that are not supported'],
  ['7', 'the xz data is damaged'],
  ['8', 'the xz data is cut off or damaged'],
]);

/** The decoder knows no SHA-256, which rpm has put into its xz data. */
async function* unxzAny(input: AsyncGenerator<Buffer>): AsyncGenerator<Uint8Array, void, undefined> {
  const reader = new ByteReader(input);
  const start = await reader.take(xzHeaderBytes);
  const whole = replay(start, reader);
  if (!isCheckedBySha256(start)) {
    yield* unxz(whole);
    return;
  }
  const checked = new XzSha256(new ByteReader(whole));
  for await (const chunk of unxz(checked.withoutChecks())) {
    checked.update(chunk);
    yield chunk;
  }
  checked.finish();
}

async function* unxz(input: AsyncGenerator<Buffer>): AsyncGenerator<Uint8Array, void, undefined> {
  let inputError: Error | undefined;
  const source = new ReadableStream<Uint8Array>({
    async pull(controller) {
      try {
        const next = await input.next();
        if (next.done === true) controller.close();
        else controller.enqueue(next.value);
      } catch (error) {
        inputError = error instanceof Error ? error : new Error(reasonOf(error));
        throw inputError;
      }
    },
  });
  // Loaded on demand: a warm build decompresses nothing. A CommonJS module: its names are found on the default export alone.
  const { default: xz } = await import('xz-decompress');
  const reader = new xz.XzReadableStream(source).getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      yield value;
    }
  } catch (error) {
    if (inputError !== undefined) throw inputError;
    const code = /error code (\d+)$/.exec(reasonOf(error))?.[1];
    throw new Error(xzReasons.get(code ?? '') ?? 'the xz data is damaged', { cause: error });
  } finally {
    // Gives the decoder free for the next stream; a failed stream has done so and rejects.
    await reader.cancel().catch(() => undefined);
  }
}
