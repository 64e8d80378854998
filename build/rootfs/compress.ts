import { createRequire } from 'node:module';
import { Worker } from 'node:worker_threads';

import { Gzip } from 'fflate';

import { cannot } from '../support/errors.js';
import type { Compression } from './layer.js';

const require = createRequire(import.meta.url);

/** What a compressor is fed at once, so that its output cannot depend on how the source cuts its bytes. */
const feedSize = 1024 ** 2;

/** zlib's own default. 9 takes twice the time to save one byte in a thousand. */
const gzipLevel = 6;

/** Measured on dhcpd's layer: 19 saves a tenth over 9 for a second of work; above it nothing more is gained. */
const zstdLevel = 19;

/** What else than its input decides a compressor's output; a test compares the versions with the installed ones. */
export const compressors: Readonly<Record<Compression, string>> = {
  none: 'none',
  gzip: `fflate 0.8.3 level ${gzipLevel}`,
  zstd: `@bokuweb/zstd-wasm 0.0.27 level ${zstdLevel}`,
};

/** The one-shot compressor holds input, output and its tables in the 4 GiB of WebAssembly: 1 GiB of input is too much. */
const zstdLimit = 512 * 1024 ** 2;

/**
 * Compresses a stream of bytes. Equal input gives equal output on any machine and Node version: both compressors come
 * as JavaScript and WebAssembly, because the zlib inside Node differs by processor and version.
 *
 * @throws ToolError when zstd is asked to take more than 512 MiB
 */
export function compress(
  source: AsyncIterable<Uint8Array>,
  compression: Compression,
): AsyncIterable<Uint8Array> {
  switch (compression) {
    case 'none':
      return equalChunks(source);
    case 'gzip':
      return gzip(equalChunks(source));
    case 'zstd':
      return zstd(source);
  }
}

async function* gzip(source: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  let ready: Uint8Array[] = [];
  const stream = new Gzip({ level: gzipLevel, mtime: 0 }, (chunk) => ready.push(chunk));
  let held: Uint8Array = new Uint8Array(0);
  for await (const chunk of source) {
    if (held.length > 0) stream.push(held);
    yield* ready;
    ready = [];
    held = chunk;
  }
  stream.push(held, true);
  yield* ready;
}

async function* zstd(source: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of source) {
    chunks.push(chunk);
    size += chunk.length;
    if (size > zstdLimit) {
      throw cannot('compress', 'the layer', 'it is larger than the 512 MiB that zstd takes here', {
        hint: 'choose --compression gzip',
      });
    }
  }
  const bytes = new Uint8Array(size);
  let offset = 0;
  for (const chunk of chunks) {
    bytes.set(chunk, offset);
    offset += chunk.length;
  }
  yield await zstdInWorker(bytes);
}

/**
 * On its own thread: it is the one long computation of a build, so two architectures use two processors, and
 * signals and progress go on. As text, because a script file of its own would differ between dist/ and the sources.
 */
const workerScript = `
const { parentPort, workerData } = require('node:worker_threads');
const zstd = require(workerData.library);
zstd.init().then(() => {
  const compressed = zstd.compress(workerData.bytes, workerData.level);
  parentPort.postMessage(compressed, [compressed.buffer]);
});
`;

async function zstdInWorker(bytes: Uint8Array<ArrayBuffer>): Promise<Uint8Array> {
  const worker = new Worker(workerScript, {
    eval: true,
    execArgv: [],
    workerData: { library: require.resolve('@bokuweb/zstd-wasm'), bytes, level: zstdLevel },
    transferList: [bytes.buffer],
  });
  try {
    return await new Promise<Uint8Array>((resolve, reject) => {
      worker.once('message', (compressed: unknown) => {
        if (compressed instanceof Uint8Array) resolve(compressed);
        else reject(new Error('the compressor answered with something else'));
      });
      worker.once('error', reject);
      worker.once('exit', () => {
        reject(new Error('the compressor ended early'));
      });
    });
  } catch (error) {
    throw cannot('compress', 'the layer', 'zstd failed', { cause: error, hint: 'choose --compression gzip' });
  } finally {
    await worker.terminate();
  }
}

/** The same bytes in chunks of `feedSize`, the last one shorter. */
async function* equalChunks(source: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  let chunk = Buffer.allocUnsafe(feedSize);
  let filled = 0;
  for await (const bytes of source) {
    for (let offset = 0; offset < bytes.length;) {
      const taken = bytes.subarray(offset, offset + feedSize - filled);
      chunk.set(taken, filled);
      filled += taken.length;
      offset += taken.length;
      if (filled < feedSize) continue;
      yield chunk;
      chunk = Buffer.allocUnsafe(feedSize);
      filled = 0;
    }
  }
  if (filled > 0) yield chunk.subarray(0, filled);
}
