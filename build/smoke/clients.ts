/**
 * Many DHCP clients in one program, to be run in a network namespace whose interface has an address and a route to
 * 255.255.255.255. The clients have the MAC addresses 02:00:01:00:00:00 and up, and want every answer broadcast.
 *
 *     node clients.js lease    get a lease each, all at the same time
 *     node clients.js load     lease one after the other, then renew in turns, until SIGTERM
 *     node clients.js verify   ask for every lease that the clients hold according to LINES
 *
 *     --clients N      how many (1)
 *     --first K        the first one's number (0)
 *     --rate R         of load: exchanges begun in a second (100)
 *     --seconds S      of load: end by itself after that time
 *     --timeout MS     how long an exchange waits for an answer (10000)
 *     --client-id ID   option 61: type 0 and ID-NUMBER, as container engines send the container's ID
 *     --renew          of lease: renew at once
 *     --release        of lease: give the address back at the end
 *     --lines FILE     of verify: what this program has printed, or only lines with mac and address (- is stdin)
 *     --by HOW         of verify: discover (what is offered without being asked for?) or reboot (may it be kept?)
 *
 * Prints one JSON document a line, written before anything else is done with the answer:
 *
 *     {"event":"ack","at":"NANOSECONDS","how":"lease","mac":"…","address":"…","server":"…","seconds":600}
 *     {"event":"nak", …}       refused
 *     {"event":"none", …}      nobody has answered in time
 *     {"event":"release", …}   about to be given back
 *     {"event":"held", …,"offered":"…"}  or "lost": of verify; offered is null when nobody has answered
 *     {"event":"end","ack":N,"nak":N,"none":N,"held":N,"lost":N}
 *
 * `at` is the time of CLOCK_MONOTONIC; `how` is lease, renew, reboot or discover. The exit code is 1 when a client went without
 * an answer or was refused (of load: never), or a lease is lost; 2 when the arguments are wrong.
 */
import { readFileSync, writeSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';

import { reasonOf } from '../support/errors.js';
import { openConversation, type Conversation } from './conversation.js';
import type { ServerMessage } from './dhcp-message.js';
import { heldLeases, type HeldLease } from './held-leases.js';

type How = 'lease' | 'renew' | 'reboot' | 'discover';
interface Settings {
  readonly verb: string;
  readonly clients: number;
  readonly first: number;
  readonly rate: number;
  /** Milliseconds. */
  readonly duration: number;
  /** Milliseconds. */
  readonly timeout: number;
  readonly clientId: string | undefined;
  readonly renew: boolean;
  readonly release: boolean;
  readonly lines: string;
  readonly by: 'discover' | 'reboot';
}

const counts = { ack: 0, nak: 0, none: 0, held: 0, lost: 0 };

function print(event: string, fields: Readonly<Record<string, unknown>>): void {
  if (event in counts) counts[event as keyof typeof counts] += 1;
  // At once, whatever becomes of this process or of the server.
  writeSync(1, `${JSON.stringify({ event, at: String(process.hrtime.bigint()), ...fields })}\n`);
}

const settings = settingsOf(process.argv.slice(2));
const stop = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(signal, () => {
    stop.abort();
  });
}
const conversation = await openConversation((answer, question) => {
  if (answer.type === 'offer') return;
  const { mac, address, server, seconds } = answer;
  const how: How =
    question.current !== undefined ? 'renew' : question.server === undefined ? 'reboot' : 'lease';
  if (answer.type === 'ack') print('ack', { how, mac, address, server, seconds });
  else print('nak', { how, mac, server });
});
try {
  if (settings.verb === 'lease') await leaseAll(settings, conversation);
  else if (settings.verb === 'load') await load(settings, conversation);
  else await verify(settings, conversation);
} finally {
  conversation.close();
}
writeSync(1, `${JSON.stringify({ event: 'end', ...counts })}\n`);
const failed = counts.lost > 0 || (settings.verb === 'lease' && counts.nak + counts.none > 0);
// Without waiting for answers that a stopped load no longer needs.
process.exit(failed ? 1 : 0);

async function leaseAll(own: Settings, talk: Conversation): Promise<void> {
  await Promise.all(
    numbersOf(own).map(async (number) => {
      const client = clientOf(own, number);
      const lease = await getLease(client, own, talk);
      if (lease === undefined) return;
      if (own.renew) await renewLease(client, lease, own, talk);
      if (own.release) await releaseLease(client, lease, talk);
    }),
  );
}

/** A client that has no lease yet gets one, every other one renews its own. */
async function load(own: Settings, talk: Conversation): Promise<void> {
  const { signal } = stop;
  const end = Date.now() + own.duration;
  const held = new Map<number, ServerMessage>();
  const busy = new Map<number, Promise<void>>();
  const numbers = numbersOf(own);
  for (let turn = 0; !signal.aborted && Date.now() < end; turn += 1) {
    const number = numbers[turn % numbers.length] ?? 0;
    if (!busy.has(number)) busy.set(number, exchange(number));
    await sleep(1000 / own.rate, undefined, { signal }).catch(() => undefined);
  }
  // When told to stop, who still waits for an answer is not waited for: the server may be gone for good.
  if (!signal.aborted) await Promise.all(busy.values());

  async function exchange(number: number): Promise<void> {
    const client = clientOf(own, number);
    const lease = held.get(number);
    try {
      const answer =
        lease === undefined ? await getLease(client, own, talk) : await renewLease(client, lease, own, talk);
      if (answer?.type === 'ack') held.set(number, answer);
      else if (answer?.type === 'nak') held.delete(number);
    } catch (error) {
      // The network may come back.
      print('none', { how: 'lease', mac: client.mac, reason: reasonOf(error) });
    } finally {
      busy.delete(number);
    }
  }
}

async function verify(own: Settings, talk: Conversation): Promise<void> {
  const text = readFileSync(own.lines === '-' ? 0 : own.lines, 'utf8');
  await Promise.all(
    heldLeases(text).map(async ({ mac, address }: HeldLease) => {
      const answer = await talk.ask(
        own.by === 'discover' ? { type: 'discover', mac } : { type: 'request', mac, requested: address },
        own.timeout,
      );
      const offered = answer === undefined || answer.type === 'nak' ? null : answer.address;
      print(offered === address ? 'held' : 'lost', { how: own.by, mac, address, offered });
    }),
  );
}

interface Client {
  readonly mac: string;
  readonly clientId?: Buffer;
}

/** From DISCOVER to ACK; undefined when that has failed. */
async function getLease(
  client: Client,
  { timeout }: Settings,
  talk: Conversation,
): Promise<ServerMessage | undefined> {
  const offer = await talk.ask({ type: 'discover', ...client }, timeout);
  const answer =
    offer === undefined
      ? undefined
      : await talk.ask(
          { type: 'request', ...client, requested: offer.address, server: offer.server },
          timeout,
        );
  if (answer === undefined) print('none', { how: 'lease', mac: client.mac });
  return answer?.type === 'ack' ? answer : undefined;
}

/** The answer; undefined when there was none. */
async function renewLease(
  client: Client,
  { address }: ServerMessage,
  { timeout }: Settings,
  talk: Conversation,
): Promise<ServerMessage | undefined> {
  const answer = await talk.ask({ type: 'request', ...client, current: address }, timeout);
  if (answer === undefined) print('none', { how: 'renew', mac: client.mac, address });
  return answer;
}

/** Says so first: from now on the client does not use the address. */
async function releaseLease(client: Client, lease: ServerMessage, talk: Conversation): Promise<void> {
  const { address, server } = lease;
  print('release', { mac: client.mac, address, server });
  await talk.say({ type: 'release', ...client, current: address, server });
}

function numbersOf({ clients, first }: Settings): readonly number[] {
  return Array.from({ length: clients }, (_, index) => first + index);
}

function clientOf({ clientId }: Settings, number: number): Client {
  const last = number.toString(16).padStart(6, '0');
  const mac = `02:00:01:${last.slice(0, 2)}:${last.slice(2, 4)}:${last.slice(4)}`;
  return clientId === undefined ? { mac } : { mac, clientId: Buffer.from(`\0${clientId}-${number}`) };
}

function settingsOf(argv: readonly string[]): Settings {
  try {
    const { values, positionals } = parseArgs({
      args: [...argv],
      allowPositionals: true,
      options: {
        clients: { type: 'string', default: '1' },
        first: { type: 'string', default: '0' },
        rate: { type: 'string', default: '100' },
        seconds: { type: 'string' },
        timeout: { type: 'string', default: '10000' },
        'client-id': { type: 'string' },
        renew: { type: 'boolean', default: false },
        release: { type: 'boolean', default: false },
        lines: { type: 'string', default: '-' },
        by: { type: 'string', default: 'discover' },
      },
    });
    const [verb = '', ...more] = positionals;
    const { lines, by } = values;
    if (!['lease', 'load', 'verify'].includes(verb)) throw new Error('say lease, load or verify');
    if (more.length > 0) throw new Error(`what is ${more.join(' ')}?`);
    if (by !== 'discover' && by !== 'reboot') throw new Error('--by is discover or reboot');
    return {
      verb,
      clients: numberOf('clients', values.clients, 1, 65_536),
      first: numberOf('first', values.first, 0, 0xff_ffff - 65_536),
      rate: numberOf('rate', values.rate, 1, 10_000),
      duration:
        values.seconds === undefined ? Infinity : 1000 * numberOf('seconds', values.seconds, 1, 86_400),
      timeout: numberOf('timeout', values.timeout, 1, 600_000),
      clientId: values['client-id'],
      renew: values.renew,
      release: values.release,
      lines,
      by,
    };
  } catch (error) {
    process.stderr.write(`clients: ${reasonOf(error)}\n`);
    process.exit(2);
  }
}

function numberOf(name: string, text: string, least: number, most: number): number {
  const value = Number(text);
  if (/^[0-9]+$/.test(text) && value >= least && value <= most) return value;
  throw new Error(`--${name} is a whole number from ${least} to ${most}`);
}
