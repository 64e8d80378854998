import { open, stat, truncate } from 'node:fs/promises';

import { cannotWrite, isCode } from '../support/atomic.js';
import { HashMismatch, type PartialBlob } from '../support/cache.js';
import { ToolError } from '../support/errors.js';
import type { Task } from '../support/log.js';
import { type Answer, networkFailure, TransportFailure } from './transport.js';

/** Size and hash of what is to come, and what to do when something else comes. */
interface Expected {
  readonly sha256: string;
  readonly size: number;
  readonly hint?: string;
}

/** One blob on its way into its partial file: what is there, what to ask for, what to accept. */
export class Transfer {
  readonly expected: Expected;
  readonly #partial: PartialBlob;
  readonly #task: Task;
  readonly #timeout: number;
  /** Bytes in the partial file. */
  #offset = 0;
  /** Bytes that have been in it at most: only what goes beyond is progress. */
  #furthest = 0;
  /** Bytes that the progress display counts. */
  #shown = 0;
  /** What named the version that the bytes so far are of (RFC 9110, 8.8), and where. */
  #validator: { readonly url: string; readonly value: string } | undefined;

  constructor(partial: PartialBlob, expected: Expected, task: Task, timeout: number) {
    this.#partial = partial;
    this.expected = expected;
    this.#task = task;
    this.#timeout = timeout;
  }

  /** Whether all bytes are there; they may still be wrong. */
  async isComplete(): Promise<boolean> {
    this.#offset = await this.#sizeNow();
    if (this.#offset > this.expected.size) await this.startAgain();
    this.#show();
    return this.#offset > 0 && this.#offset === this.expected.size;
  }

  /** Asks for the rest. Without a validator of this URL the hash alone tells whether it fits. */
  rangeHeaders(url: string): Record<string, string> {
    if (this.#offset === 0) return {};
    const range = `bytes=${this.#offset}-`;
    return this.#validator?.url === url ? { range, 'if-range': this.#validator.value } : { range };
  }

  /** Decides by the answer's head whether its bytes go behind those that are there or replace them. */
  async accept(url: string, answer: Answer): Promise<void> {
    const { size, hint } = this.expected;
    if (answer.status === 200) {
      if (this.#offset > 0) await this.startAgain(); // it does not know ranges, or has another version
      const announced = answer.header('content-length');
      if (announced !== undefined && Number(announced) !== size) {
        throw new TransportFailure(`expected ${size} bytes, got ${announced}`, { retry: false, hint });
      }
    } else {
      const range = /^bytes ([0-9]+)-([0-9]+)\/([0-9]+|\*)$/i.exec(answer.header('content-range') ?? '');
      const fits =
        answer.status === 206 &&
        range !== null &&
        Number(range[1]) === this.#offset &&
        Number(range[2]) === size - 1 &&
        (range[3] === '*' || Number(range[3]) === size);
      if (!fits) {
        await this.startAgain();
        throw new TransportFailure('the server sent another part than the one asked for', { retry: true });
      }
    }
    const tag = answer.header('etag');
    // If-Range takes no weak validators (RFC 9110, 13.1.5).
    const value = tag?.startsWith('"') === true ? tag : answer.header('last-modified');
    this.#validator = value === undefined ? undefined : { url, value };
  }

  /** Appends the bytes. @throws TransportFailure when they are too many or too few */
  async write(bytes: AsyncIterable<Uint8Array>): Promise<void> {
    const { size } = this.expected;
    let tooLong = false;
    try {
      const file = await open(this.#partial.path, 'a', 0o600).catch((error: unknown) => {
        throw cannotWrite(this.#partial.path, error);
      });
      try {
        for await (const chunk of bytes) {
          tooLong = this.#offset + chunk.length > size;
          if (tooLong) break;
          await file.appendFile(chunk).catch((error: unknown) => {
            throw cannotWrite(this.#partial.path, error);
          });
          this.#offset += chunk.length;
          this.#show();
        }
      } finally {
        await file.close();
      }
    } catch (error) {
      if (error instanceof ToolError) throw error;
      const failure = networkFailure(error, this.#timeout);
      const { retry, hint } = failure;
      const where = `${failure.message} after ${this.#offset} of ${size} bytes`;
      throw new TransportFailure(where, { retry, hint, cause: error, received: this.#progress() });
    }
    if (tooLong) {
      await this.startAgain();
      throw new TransportFailure(`it is longer than the expected ${size} bytes`, {
        retry: false,
        hint: this.expected.hint,
      });
    }
    if (this.#offset < size) {
      throw new TransportFailure(`the transfer ended after ${this.#offset} of ${size} bytes`, {
        retry: true,
        received: this.#progress(),
      });
    }
  }

  /** Verifies and keeps the bytes. @returns path of the blob, or what was wrong with them */
  async keep(): Promise<string | HashMismatch> {
    try {
      return (await this.#partial.keep(this.expected.sha256)).path;
    } catch (error) {
      if (error instanceof ToolError && error.cause instanceof HashMismatch) return error.cause;
      throw error;
    }
  }

  /** Throws away the bytes so far. */
  async startAgain(): Promise<void> {
    try {
      await truncate(this.#partial.path, 0);
    } catch (error) {
      if (!isCode(error, 'ENOENT')) throw cannotWrite(this.#partial.path, error);
    }
    this.#offset = 0;
    this.#validator = undefined;
    this.#show();
  }

  /** Bytes since the last call that no attempt before had brought. */
  #progress(): number {
    const progress = Math.max(0, this.#offset - this.#furthest);
    this.#furthest += progress;
    return progress;
  }

  async #sizeNow(): Promise<number> {
    try {
      return (await stat(this.#partial.path)).size;
    } catch (error) {
      if (isCode(error, 'ENOENT')) return 0;
      throw cannotWrite(this.#partial.path, error);
    }
  }

  #show(): void {
    this.#task.advance(this.#offset - this.#shown);
    this.#shown = this.#offset;
  }
}
