/** Below this many bytes a loop is faster than a call. */
const short = 128;

/** UTF-8 text that grows at its end, and makes no strings of what is copied into it. */
export class ByteText {
  #bytes: Buffer;
  #length = 0;

  /** @param capacity bytes for a start @param limit bytes; more is an error */
  constructor(
    capacity: number,
    private readonly limit: number,
  ) {
    this.#bytes = Buffer.allocUnsafe(capacity);
  }

  get length(): number {
    return this.#length;
  }

  /** The bytes so far; good until the next change. */
  view(): Buffer {
    return this.#bytes.subarray(0, this.#length);
  }

  clear(): void {
    this.#length = 0;
  }

  /** @param text of ASCII characters */
  ascii(text: string): void {
    this.#reserve(text.length);
    for (let i = 0; i < text.length; i++) this.#bytes[this.#length++] = text.charCodeAt(i);
  }

  utf8(text: string): void {
    this.#reserve(3 * text.length);
    this.#length += this.#bytes.write(text, this.#length);
  }

  copy(source: Uint8Array, start: number, end: number): void {
    this.#reserve(end - start);
    const bytes = this.#bytes;
    let length = this.#length;
    if (end - start < short) for (let at = start; at < end; at++) bytes[length++] = source[at] ?? 0;
    else bytes.set(source.subarray(start, end), length);
    this.#length += end - start;
  }

  #reserve(count: number): void {
    const needed = this.#length + count;
    if (needed <= this.#bytes.length) return;
    if (needed > this.limit) throw new Error(`it holds a list of more than ${this.limit} bytes`);
    const larger = Buffer.allocUnsafe(Math.max(needed, 2 * this.#bytes.length));
    larger.set(this.view());
    this.#bytes = larger;
  }
}
