import { writeFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Guest, Machine } from '../../build/host/test-vm/machine.js';
import type { Clients } from './clients.js';
import { leaseFile } from './containers.js';
import { numberFrom, type Dice } from './dice.js';
import { waitForService } from './machine.js';

/** What the power cuts have shown. */
export interface PowerTotals {
  readonly seed: number;
  /** All of them; and those that came while the machine was still starting after the one before. */
  readonly cuts: number;
  readonly cutsWhileStarting: number;
  /** Leases that clients held an ACK for, and the ACKs that they were given, renewals included. */
  readonly leases: number;
  readonly acks: number;
  /** Pieces of 4 KiB that the disk had been given and not written when the power was cut. */
  readonly dropped: number;
  /** One line for each lease that was gone after a boot. */
  readonly lost: readonly string[];
}

/** New clients before every cut, beside those that hold a lease already. */
const clientsPerCut = 150;
/** Exchanges begun in a second: more than a server in an emulated machine answers. */
const rate = 100;
/** The cut comes so many milliseconds after the first ACK, or after the machine was switched on. */
const underLoad = [500, 8000] as const;
const whileStarting = [3000, 40_000] as const;

/**
 * Cuts the power again and again while clients lease, at moments drawn from a seed. After every boot each lease that a
 * client holds an ACK for must be the server's still: by its lease file, and by its answer.
 *
 * POWER_CUTS says how many (3), POWER_SEED repeats the moments of another run.
 *
 * @param onBoot is told of every guest that has booted
 */
export async function cutPowers(
  start: { readonly machine: Machine; readonly clients: Clients; readonly dice: Dice },
  onBoot: (guest: Guest) => void,
): Promise<PowerTotals> {
  const { machine, clients, dice } = start;
  const wanted = numberFrom('POWER_CUTS', 3);
  const between = ([low, high]: readonly [number, number]): number => low + dice.roll() * (high - low);
  const say = (text: string): void => void process.stderr.write(`power cuts: ${text}\n`);
  say(`${wanted}, POWER_SEED=${dice.seed}`);
  let [cuts, cutsWhileStarting, acks, dropped] = [0, 0, 0, 0];
  const lost: string[] = [];
  while (cuts < wanted) {
    const load = await clients.load(cuts * clientsPerCut, clientsPerCut, rate);
    try {
      await firstAck(load.acks);
      await sleep(between(underLoad));
      dropped += (await machine.cutPower()).dropped;
    } finally {
      await load.stop();
    }
    cuts += 1;
    acks += load.acks();
    // A server that is stopped while it writes its lease file anew must not lose it either.
    if (cuts < wanted && dice.roll() < 0.3) {
      const starting = machine.start().catch(() => undefined);
      await sleep(between(whileStarting));
      dropped += (await machine.cutPower()).dropped;
      await starting;
      cuts += 1;
      cutsWhileStarting += 1;
    }
    const guest = await machine.start();
    onBoot(guest);
    await waitForService(guest);
    const missing = await missingLeases(guest, clients);
    lost.push(...missing);
    const held = (await clients.held()).length;
    say(
      `${cuts} done, up after ${guest.bootSeconds.toFixed(0)} s, ${held} leases held, ${missing.length} lost`,
    );
  }
  const leases = (await clients.held()).length;
  return { seed: dice.seed, cuts, cutsWhileStarting, leases, acks, dropped, lost };
}

/** To the console, and to the file that POWER_REPORT names. */
export async function report(totals: PowerTotals & { readonly packages: readonly string[] }): Promise<void> {
  const { cuts, cutsWhileStarting, leases, acks, dropped, lost } = totals;
  process.stderr.write(
    `power cuts: ${cuts} (${cutsWhileStarting} while starting), ${leases} leases, ${acks} ACKs, ` +
      `${dropped} writes dropped, ${lost.length} leases lost\n`,
  );
  const file = process.env['POWER_REPORT'];
  if (file !== undefined) await writeFile(file, `${JSON.stringify(totals, undefined, 2)}\n`);
}

async function missingLeases(guest: Guest, clients: Clients): Promise<readonly string[]> {
  const held = await clients.held();
  const records = await leaseFile(guest);
  const missing = held.flatMap(({ mac, address }) => {
    const record = records.get(address);
    return record?.state === 'active' && record.mac === mac
      ? []
      : [`${mac} holds ${address}, the lease file says ${JSON.stringify(record)}`];
  });
  return [...missing, ...(await clients.lost(60_000))];
}

async function firstAck(acks: () => number): Promise<void> {
  const until = Date.now() + 60_000;
  while (acks() === 0) {
    if (Date.now() > until) throw new Error('no client was given a lease within 60 s');
    await sleep(20);
  }
}
