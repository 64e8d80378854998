import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { appendFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { heldLeases, type HeldLease } from '../../build/smoke/held-leases.js';
import { run } from '../../build/support/exec.js';
import { checkout } from '../support/lab-image.js';
import { labEnvironment, type Lab } from '../support/lab.js';

/** Many clients that lease and renew until they are told to stop. */
export interface Load {
  /** ACKs so far. */
  readonly acks: () => number;
  stop(): Promise<void>;
}

const program = join(checkout, 'dist/smoke/clients.js');

/** All the clients of one network, and what they hold: every ACK of theirs is on record here before they use it. */
export class Clients {
  readonly #lab: Lab;
  readonly #lines: string;

  /** @param lines file that their answers are written to */
  constructor(lab: Lab, lines: string) {
    this.#lab = lab;
    this.#lines = lines;
  }

  /** @param first number of the first client: other numbers are other clients */
  load(first: number, clients: number, rate: number): Load {
    const child = spawn(
      'ip',
      [
        ...this.#inClient('load'),
        ...['--first', String(first), '--clients', String(clients), '--rate', String(rate)],
        ...['--timeout', '4000'],
      ],
      { env: labEnvironment, stdio: ['ignore', 'pipe', 'inherit'] },
    );
    let acks = 0;
    let rest = '';
    child.stdout.setEncoding('utf8');
    child.stdout.on('data', (text: string) => {
      const lines = (rest + text).split('\n');
      rest = lines.pop() ?? '';
      acks += lines.filter((line) => line.includes('"event":"ack"')).length;
      appendFileSync(this.#lines, lines.map((line) => `${line}\n`).join(''));
    });
    const closed = once(child, 'close');
    return {
      acks: () => acks,
      stop: async () => {
        child.kill('SIGTERM');
        await closed;
      },
    };
  }

  async held(): Promise<readonly HeldLease[]> {
    return heldLeases(await readFile(this.#lines, 'utf8'));
  }

  /**
   * Every client asks for its lease as after its own restart (INIT-REBOOT, RFC 2131).
   * @returns what the program says of those that were not answered with an ACK
   */
  async lost(milliseconds: number): Promise<readonly string[]> {
    const argv: [string, ...string[]] = [
      'ip',
      ...this.#inClient('verify'),
      ...['--by', 'reboot', '--lines', this.#lines, '--timeout', String(milliseconds)],
    ];
    const { stdout } = await run({
      // Its exit code only repeats its lines.
      argv: ['sh', '-c', '"$@" || [ $? = 1 ]', 'sh', ...argv],
      environment: labEnvironment,
      timeout: milliseconds + 30_000,
    });
    const held = (await this.held()).length;
    const verdicts = stdout.split('\n').filter((line) => /"event":"(held|lost)"/.test(line));
    if (verdicts.length !== held) throw new Error(`${verdicts.length} verdicts on ${held} leases`);
    return verdicts.filter((line) => line.includes('"event":"lost"'));
  }

  #inClient(verb: string): string[] {
    return ['netns', 'exec', this.#lab.client.namespace, process.execPath, program, verb];
  }
}
