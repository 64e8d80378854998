import type { FileHandle } from 'node:fs/promises';
import { cannot, hintOf, reasonOf } from '../support/errors.js';

const chunkBytes = 256 * 1024;

/**
 * Reads exactly `length` bytes at a byte offset of an open file.
 *
 * @param name what the file is called in error messages
 * @throws ToolError when the file ends earlier
 */
export async function readAt(
  handle: FileHandle,
  name: string,
  offset: number,
  length: number,
): Promise<Buffer> {
  const buffer = Buffer.allocUnsafe(length);
  let done = 0;
  while (done < length) {
    let bytesRead: number;
    try {
      ({ bytesRead } = await handle.read(buffer, done, length - done, offset + done));
    } catch (error) {
      throw cannot('read', name, reasonOf(error), { cause: error, ...hint(error) });
    }
    if (bytesRead === 0) throw cannot('read', name, `it ends before byte ${offset + length}`);
    done += bytesRead;
  }
  return buffer;
}

/** A range of an open file as chunks of at most 256 KiB, each in memory of its own. @throws ToolError */
export async function* readRange(
  handle: FileHandle,
  name: string,
  offset: number,
  size: number,
): AsyncGenerator<Buffer, void, undefined> {
  for (let done = 0; done < size; done += chunkBytes) {
    yield await readAt(handle, name, offset + done, Math.min(chunkBytes, size - done));
  }
}

function hint(error: unknown): { hint?: string } {
  const found = hintOf(error);
  return found === undefined ? {} : { hint: found };
}

/** Takes counted bytes from a stream of chunks. Holds one chunk, and what one `take` asks for. */
export class ByteReader {
  /** Bytes taken and skipped so far. */
  position = 0;
  readonly #chunks: AsyncIterator<Uint8Array>;
  #current: Buffer = Buffer.alloc(0);

  constructor(chunks: AsyncIterable<Uint8Array>) {
    this.#chunks = chunks[Symbol.asyncIterator]();
  }

  /** The next `length` bytes; fewer at the end of the stream only. The result may share memory with a chunk. */
  async take(length: number): Promise<Buffer> {
    if (this.#current.length >= length) return this.#cut(length);
    const parts: Buffer[] = [];
    let missing = length;
    while (missing > 0 && (await this.#fill())) {
      const part = this.#cut(Math.min(missing, this.#current.length));
      parts.push(part);
      missing -= part.length;
    }
    return Buffer.concat(parts);
  }

  /** Passes over `length` bytes. @returns false when the stream ends before */
  async skip(length: number): Promise<boolean> {
    let missing = length;
    while (missing > 0 && (await this.#fill()))
      missing -= this.#cut(Math.min(missing, this.#current.length)).length;
    return missing === 0;
  }

  /** Everything that is left, chunk by chunk. */
  async *rest(): AsyncGenerator<Buffer, void, undefined> {
    while (await this.#fill()) yield this.#cut(this.#current.length);
  }

  /** Tells the producer that no more is wanted. */
  async close(): Promise<void> {
    this.#current = Buffer.alloc(0);
    await this.#chunks.return?.();
  }

  /** @returns false at the end of the stream */
  async #fill(): Promise<boolean> {
    while (this.#current.length === 0) {
      const next = await this.#chunks.next();
      if (next.done === true) return false;
      this.#current = Buffer.from(next.value.buffer, next.value.byteOffset, next.value.byteLength);
    }
    return true;
  }

  #cut(length: number): Buffer {
    const part = this.#current.subarray(0, length);
    this.#current = this.#current.subarray(length);
    this.position += length;
    return part;
  }
}
