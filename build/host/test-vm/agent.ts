import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';

/** What a script in the guest gave. */
export interface GuestResult {
  /** 124 when it ran out of time. */
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/**
 * The host's end of the virtio-serial port. The guest's end takes one script after the other; so does this one. It must
 * be there before the guest opens the port, because nothing keeps what is said before.
 */
export class Agent {
  /** Boot ID of the guest, as soon as it listens. */
  readonly ready: Promise<string>;
  readonly #socket: Socket;
  readonly #waiting = new Map<string, (result: GuestResult) => void>();
  #last: Promise<unknown> = Promise.resolve();
  #count = 0;
  #end: (reason: Error) => void = () => undefined;
  readonly #ended: Promise<never>;

  private constructor(socket: Socket) {
    this.#socket = socket;
    this.#ended = new Promise((_, reject) => (this.#end = reject));
    this.#ended.catch(() => undefined);
    let ready: (boot: string) => void = () => undefined;
    this.ready = Promise.race([new Promise<string>((resolve) => (ready = resolve)), this.#ended]);
    this.ready.catch(() => undefined);
    socket.on('error', () => undefined);
    socket.once('close', () => {
      this.#end(new Error('the guest has gone'));
    });
    createInterface({ input: socket }).on('line', (line) => {
      const [id = '', code, stdout = '.', stderr = '.'] = line.split(' ');
      if (id === 'ready') ready(code ?? '');
      else this.#waiting.get(id)?.({ code: Number(code), stdout: decode(stdout), stderr: decode(stderr) });
    });
  }

  /** @param path socket of the emulator, which may still be about to make it */
  static async open(path: string, milliseconds: number): Promise<Agent> {
    const until = Date.now() + milliseconds;
    for (;;) {
      const socket = connect(path);
      try {
        await once(socket, 'connect');
        return new Agent(socket);
      } catch (error) {
        socket.destroy();
        if (Date.now() > until) throw error;
        await sleep(50);
      }
    }
  }

  /** @throws Error when the guest goes away, or does not answer for ten seconds more than the script may take */
  async run(script: string, seconds: number): Promise<GuestResult> {
    const turn = this.#last.then(() => this.#send(script, seconds));
    this.#last = turn.catch(() => undefined);
    return turn;
  }

  async #send(script: string, seconds: number): Promise<GuestResult> {
    const id = String((this.#count += 1));
    const stop = new AbortController();
    const late = sleep((seconds + 10) * 1000, undefined, { signal: stop.signal }).then(() => {
      throw new Error(`the guest did not answer within ${seconds + 10} s: ${script}`);
    });
    late.catch(() => undefined);
    try {
      const answer = new Promise<GuestResult>((resolve) => this.#waiting.set(id, resolve));
      this.#socket.write(`${id} ${seconds} .${Buffer.from(script).toString('base64')}\n`);
      return await Promise.race([answer, this.#ended, late]);
    } finally {
      this.#waiting.delete(id);
      stop.abort();
    }
  }

  close(): void {
    this.#socket.destroy();
  }
}

function decode(word: string): string {
  return Buffer.from(word.slice(1), 'base64').toString('utf8');
}
