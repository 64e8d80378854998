import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';

/** What a thread runs. */
export interface ThreadProgram {
  /**
   * A JavaScript expression of a function that gets a message and returns the list of byte arrays that answers it, or
   * a promise of it. It sees `require` and `data`. As text, because a script file of its own would differ between
   * dist/ and the sources.
   */
  readonly answer: string;
  /** What structured cloning can copy. */
  readonly data: unknown;
}

/** Answers in the order of the messages, also where an answer takes long. */
const script = `
const { parentPort } = require('node:worker_threads');
let answer;
let before = Promise.resolve();
const settle = async ({ program, message }) => {
  try {
    if (program !== undefined) answer = new Function('require', 'data', 'return ' + program.answer)(require, program.data);
    else parentPort.postMessage({ bytes: await answer(message) });
  } catch (error) {
    if (program === undefined) parentPort.postMessage({ error });
    else answer = () => { throw error; };
  }
};
parentPort.on('message', (message) => {
  before = before.then(() => settle(message));
});
`;

interface Waiting {
  readonly resolve: (bytes: readonly Uint8Array[]) => void;
  readonly reject: (error: Error) => void;
}

/** Beside the main one, which computes as well. */
const processors = availableParallelism() - 1;

/** A thread that computes for one user at a time. It does not keep the process from ending. */
export class Thread {
  static readonly #idle: Thread[] = [];
  static #alive = 0;
  readonly #worker: Worker;
  readonly #waiting: Waiting[] = [];
  #failure: Error | undefined;

  private constructor() {
    Thread.#alive += 1;
    this.#worker = new Worker(script, { eval: true, execArgv: [] });
    this.#worker.on('message', (message: unknown) => {
      this.#settle(message);
    });
    this.#worker.on('error', (error) => {
      this.#fail(error);
    });
    this.#worker.once('exit', () => {
      this.#fail(new Error('the thread ended early'));
    });
  }

  /** Give it back with `release`. */
  static start(program: ThreadProgram): Thread {
    const thread = Thread.#idle.pop() ?? new Thread();
    thread.#worker.ref();
    thread.#worker.postMessage({ program });
    return thread;
  }

  /** As `start`, as long as a processor would have nothing to do without it. */
  static spare(program: ThreadProgram): Thread | undefined {
    return Thread.#idle.length > 0 || Thread.#alive < processors ? Thread.start(program) : undefined;
  }

  /** @throws Error of the program, or when the thread is no more */
  ask(message?: unknown): Promise<readonly Uint8Array[]> {
    const answer = new Promise<readonly Uint8Array[]>((resolve, reject) => {
      if (this.#failure !== undefined) {
        reject(this.#failure);
        return;
      }
      this.#waiting.push({ resolve, reject });
      this.#worker.postMessage({ message });
    });
    // Who asks ahead may lose interest; an answer that is awaited still throws.
    answer.catch(() => undefined);
    return answer;
  }

  /**
   * Gives it back for others.
   *
   * @param finished whether the program has come to its end; else the thread is stopped, whatever it does
   */
  async release(finished: boolean): Promise<void> {
    if (finished && this.#failure === undefined) {
      this.#worker.unref();
      Thread.#idle.push(this);
    } else {
      Thread.#alive -= 1;
      await this.#worker.terminate();
    }
  }

  #settle(message: unknown): void {
    const waiting = this.#waiting.shift();
    if (waiting === undefined || typeof message !== 'object' || message === null) return;
    if ('bytes' in message && isListOfBytes(message.bytes)) waiting.resolve(message.bytes);
    else if ('error' in message && message.error instanceof Error) waiting.reject(message.error);
    else waiting.reject(new Error('the thread answered with something else'));
  }

  #fail(error: Error): void {
    this.#failure ??= error;
    for (const { reject } of this.#waiting.splice(0)) reject(this.#failure);
  }
}

function isListOfBytes(value: unknown): value is readonly Uint8Array[] {
  return Array.isArray(value) && value.every((item) => item instanceof Uint8Array);
}
