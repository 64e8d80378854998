import { ByteReader } from '../bytes.js';
import type { Fail } from './header.js';

/** What stands before the data of one file. */
export type CpioRecord =
  | {
      readonly kind: 'named';
      /** As written. */
      readonly name: Buffer;
      /** Type and permission bits. */
      readonly mode: number;
      /** Bytes of the data. */
      readonly size: number;
      /** Sum of the data's bytes, where the archive states it. */
      readonly checksum: number | undefined;
    }
  /** rpm's stripped form for large files: nothing but the file's place in the header. */
  | { readonly kind: 'numbered'; readonly index: number };

const magicBytes = 6;
/** `070701` and `070702` of cpio(5): thirteen numbers of eight hexadecimal digits. */
const fields = 13;
const digits = 8;
const trailer = 'TRAILER!!!';
const maxNameBytes = 4096;
/** cpio(1) fills its last block; rpm does not. */
const maxPadding = 512;

/**
 * Reads the payload of an RPM package as it streams by: cpio archives of the formats "newc" and "crc" (cpio(5)), and
 * rpm's own `07070X` (rpm's docs/manual/format_payload.md).
 */
export class CpioReader {
  readonly #reader: ByteReader;
  readonly #fail: Fail;
  #left = 0;
  #padding = 0;

  constructor(chunks: AsyncIterable<Uint8Array>, fail: Fail) {
    this.#reader = new ByteReader(chunks);
    this.#fail = (reason) => fail(`its payload ${reason}`);
  }

  /** Byte offset of what is read next. */
  get position(): number {
    return this.#reader.position;
  }

  /** @returns undefined after the last, when the archive is known to end there */
  async next(): Promise<CpioRecord | undefined> {
    if (!(await this.#reader.skip(this.#left + this.#padding))) throw this.#fail('is cut off');
    this.#left = 0;
    this.#padding = 0;
    const at = this.position;
    const magic = (await this.#exactly(magicBytes)).toString('latin1');
    if (magic === '07070X') {
      const index = this.#number((await this.#exactly(digits)).toString('latin1'), at);
      await this.#align(at);
      return { kind: 'numbered', index };
    }
    if (magic !== '070701' && magic !== '070702') {
      throw this.#fail(`is damaged: there is no cpio header at byte ${at}`);
    }
    const text = (await this.#exactly(fields * digits)).toString('latin1');
    const field = (index: number) => this.#number(text.slice(index * digits, (index + 1) * digits), at);
    const numbers = Array.from({ length: fields }, (_, index) => field(index));
    const [, mode = 0, , , , , size = 0, , , , , nameBytes = 0, check = 0] = numbers;
    if (nameBytes < 1 || nameBytes > maxNameBytes) throw this.#fail('has a name that is empty or too long');
    const name = await this.#exactly(nameBytes);
    if (name.indexOf(0) !== nameBytes - 1) throw this.#fail('has a name that does not end');
    await this.#align(at);
    if (name.toString('latin1', 0, nameBytes - 1) === trailer) {
      if (size !== 0) throw this.#fail('has data in its trailer');
      await this.#end();
      return undefined;
    }
    this.expect(size);
    const checksum = magic === '070702' ? check : undefined;
    return { kind: 'named', name: name.subarray(0, -1), mode, size, checksum };
  }

  /** Says how much data the record has: known to the caller alone when it is a numbered one. */
  expect(size: number): void {
    this.#left = size;
    this.#padding = paddingOf(size);
  }

  /** The record's data; what is not taken of it is passed over. */
  async *data(): AsyncGenerator<Buffer, void, undefined> {
    while (this.#left > 0) {
      const chunk = await this.#reader.take(Math.min(this.#left, 64 * 1024));
      if (chunk.length === 0) throw this.#fail('is cut off');
      this.#left -= chunk.length;
      yield chunk;
    }
  }

  async close(): Promise<void> {
    await this.#reader.close();
  }

  async #end(): Promise<void> {
    let bytes = 0;
    for await (const chunk of this.#reader.rest()) {
      bytes += chunk.length;
      if (bytes > maxPadding || chunk.some((byte) => byte !== 0)) throw this.#fail('goes on after its end');
    }
  }

  async #align(start: number): Promise<void> {
    await this.#exactly(paddingOf(this.position - start));
  }

  async #exactly(length: number): Promise<Buffer> {
    const bytes = await this.#reader.take(length);
    if (bytes.length < length) throw this.#fail('is cut off');
    return bytes;
  }

  #number(text: string, at: number): number {
    if (!/^[0-9A-Fa-f]{8}$/.test(text))
      throw this.#fail(`is damaged: the cpio header at byte ${at} is wrong`);
    return Number.parseInt(text, 16);
  }
}

function paddingOf(size: number): number {
  return (4 - (size % 4)) % 4;
}
