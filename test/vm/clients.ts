import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { appendFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { heldLeases, type HeldLease } from '../../build/smoke/held-leases.js';
import { run } from '../../build/support/exec.js';
import { checkout } from '../support/lab-image.js';
import { labEnvironment, type Lab } from '../support/lab.js';
import { addressClients } from './network.js';

/** Many clients that lease and renew until they are told to stop. */
export interface Load {
  /** ACKs so far. */
  readonly acks: () => number;
  stop(): Promise<void>;
}

/** Clients that ask at the same time: an emulated server has a queue of about as many packets. */
const atOnce = 100;
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
  async load(first: number, clients: number, rate: number): Promise<Load> {
    await addressClients(this.#lab);
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
   * @param milliseconds that each may wait for its answer
   * @returns what the program says of those that were not answered with an ACK
   */
  async lost(milliseconds: number): Promise<readonly string[]> {
    await addressClients(this.#lab);
    const held = await this.held();
    const lost: string[] = [];
    for (let at = 0; at < held.length; at += atOnce)
      lost.push(...(await this.#refused(held.slice(at, at + atOnce), milliseconds)));
    return lost;
  }

  async #refused(leases: readonly HeldLease[], milliseconds: number): Promise<readonly string[]> {
    const { stdout } = await run({
      // Its exit code only repeats its lines.
      argv: [
        ...(['sh', '-c', '"$@" || [ $? = 1 ]', 'sh', 'ip', ...this.#inClient('verify')] as const),
        ...['--by', 'reboot', '--timeout', String(milliseconds)],
      ],
      input: leases.map((lease) => `${JSON.stringify(lease)}\n`).join(''),
      environment: labEnvironment,
      timeout: milliseconds + 30_000,
    });
    const verdicts = stdout.split('\n').filter((line) => /"event":"(held|lost)"/.test(line));
    if (verdicts.length !== leases.length)
      throw new Error(`${verdicts.length} verdicts on ${leases.length} leases`);
    return verdicts.filter((line) => line.includes('"event":"lost"'));
  }

  #inClient(verb: string): string[] {
    return ['netns', 'exec', this.#lab.client.namespace, process.execPath, program, verb];
  }
}
