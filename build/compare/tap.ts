/** Bytes of a file that `decide` sees. */
export const startBytes = 64;

/** What of a file is to be kept, by its first bytes. */
export type Keep = (start: Buffer) => 'all' | 'start' | 'nothing';

interface Catch {
  readonly offset: number;
  readonly end: number;
  readonly keep: Keep;
  readonly parts: Buffer[];
  bytes: number;
  kept: ReturnType<Keep> | undefined;
}

/**
 * Copies files out of a stream while somebody else reads it, such as a tar reader that hands out no data. A file may be
 * asked for as long as the reader has taken nothing behind its first byte's chunk.
 */
export class Tap {
  #last: Buffer = Buffer.alloc(0);
  /** Offset of the first byte behind `#last`. */
  #end = 0;
  #catch: Catch | undefined;

  async *through(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, void, undefined> {
    for await (const chunk of chunks) {
      this.#last = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
      this.#end += chunk.length;
      this.#copy();
      yield chunk;
    }
  }

  /** Begins with a file at this offset, which is in the last chunk or directly behind it. Drops what was kept before. */
  begin(offset: number, size: number, keep: Keep): void {
    this.#catch = { offset, end: offset + size, keep, parts: [], bytes: 0, kept: undefined };
    this.#copy();
  }

  /** What was kept; undefined for nothing. To be asked when the reader has passed the file. */
  finish(): Buffer | undefined {
    const found = this.#catch;
    this.#catch = undefined;
    return found === undefined || found.kept === 'nothing' ? undefined : Buffer.concat(found.parts);
  }

  #copy(): void {
    const wanted = this.#catch;
    if (wanted === undefined || wanted.kept === 'nothing' || wanted.kept === 'start') return;
    const begin = this.#end - this.#last.length;
    const from = Math.max(wanted.offset + wanted.bytes, begin) - begin;
    const to = Math.min(wanted.end, this.#end) - begin;
    if (to <= from) return;
    wanted.parts.push(this.#last.subarray(from, to));
    wanted.bytes += to - from;
    if (wanted.kept !== undefined) return;
    if (wanted.bytes < Math.min(startBytes, wanted.end - wanted.offset)) return;
    const all = Buffer.concat(wanted.parts);
    wanted.kept = wanted.keep(all.subarray(0, startBytes));
    if (wanted.kept === 'all') wanted.parts.splice(0, wanted.parts.length, all);
    else wanted.parts.splice(0, wanted.parts.length, Buffer.from(all.subarray(0, startBytes)));
  }
}
