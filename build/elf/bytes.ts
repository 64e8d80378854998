import { cannot, type ToolError } from '../support/errors.js';

/** Byte order of an ELF file (EI_DATA). */
export type Endianness = 'little' | 'big';

/** A run of bytes inside the file: `start` inclusive, `end` exclusive, both within the file. */
export interface Window {
  readonly start: number;
  readonly end: number;
}

/** Longest path the kernel opens, its terminating zero included (PATH_MAX). */
export const maximumPath = 4096;

/** Bytes of all strings taken from one file together: many entries may point at one long string. */
const stringBudget = 16 * 1024 ** 2;

/**
 * Bounds-checked access to one hostile ELF file. Every read outside the file is a ToolError, never a
 * RangeError. 64-bit values above 2^53 lose low bits, which does no harm: as offset, size or address they lie
 * outside of any file.
 */
export class ElfBytes {
  readonly #buffer: Buffer;
  readonly #little: boolean;
  readonly #name: string;
  #stringBytes = 0;

  /** @param name what messages call the file */
  constructor(buffer: Buffer, data: Endianness, name: string) {
    this.#buffer = buffer;
    this.#little = data === 'little';
    this.#name = name;
  }

  get size(): number {
    return this.#buffer.length;
  }

  broken(reason: string): ToolError {
    return cannot('read', this.#name, reason);
  }

  u8(at: number): number {
    this.#check(at, 1);
    return this.#buffer.readUInt8(at);
  }

  u16(at: number): number {
    this.#check(at, 2);
    return this.#little ? this.#buffer.readUInt16LE(at) : this.#buffer.readUInt16BE(at);
  }

  u32(at: number): number {
    this.#check(at, 4);
    return this.#little ? this.#buffer.readUInt32LE(at) : this.#buffer.readUInt32BE(at);
  }

  u64(at: number): number {
    const first = this.u32(at);
    const second = this.u32(at + 4);
    return this.#little ? second * 2 ** 32 + first : first * 2 ** 32 + second;
  }

  /** The part of a range that lies in the file; empty when it begins outside. */
  window(start: number, size: number): Window {
    const from = Math.min(start, this.size);
    return { start: from, end: Math.min(from + size, this.size) };
  }

  view(window: Window): Buffer {
    return this.#buffer.subarray(window.start, window.end);
  }

  /**
   * The zero-terminated string at an offset inside a window.
   *
   * @param limit longest accepted length in bytes, without the zero
   * @throws ToolError when it is longer, runs out of the window, or the file's strings are too many
   */
  string(window: Window, offset: number, limit: number, what: string): string {
    const start = window.start + offset;
    if (start >= window.end) throw this.broken(`${what} points outside of the string table`);
    const bytes = this.#buffer.subarray(start, Math.min(window.end, start + limit + 1));
    const length = bytes.indexOf(0);
    if (length < 0) throw this.broken(`${what} has no end within ${limit} bytes`);
    this.#stringBytes += length;
    if (this.#stringBytes > stringBudget) throw this.broken('its names and versions are too many');
    return bytes.toString('utf8', 0, length);
  }

  /** Whether a zero-terminated string in a window equals `text`, without copying it. */
  stringEquals(window: Window, offset: number, text: Buffer): boolean {
    const start = window.start + offset;
    const end = start + text.length;
    return end < window.end && this.#buffer[end] === 0 && text.compare(this.#buffer, start, end) === 0;
  }

  #check(at: number, length: number): void {
    if (!(at >= 0 && at + length <= this.#buffer.length)) {
      throw this.broken('it ends before a structure its headers announce');
    }
  }
}
