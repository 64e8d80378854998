import type { Bench } from '../bench.js';
import { openBareServer } from '../bare-server.js';
import { Failure, must, type Check } from '../check.js';
import { reasonOf } from '../../support/errors.js';

/** As many starts at the same time. */
const lanes = 2;
// A renewal is recorded only when a quarter of the time is over, unless this says otherwise.
const lan = { pool: [50, 69], seconds: 6000, more: 'dhcp-cache-threshold 0;\n' } as const;

/** What becomes of the leases when the end of their file is not as the server has written it. */
export const damagedLeaseChecks: readonly Check[] = [
  {
    name: 'cut-lease-file',
    promise: 'a lease file that was cut anywhere in its last record loses no earlier lease',
    only: 'dhcpd',
    run: async (bench) => {
      for (const last of ['new', 'renewed'] as const) {
        const { text, start } = await written(bench, last);
        const cuts = Array.from({ length: text.length - start }, (_, index) => start + index);
        await mustKeep(
          bench,
          text.subarray(0, start),
          cuts.map((cut) => ({
            leases: text.subarray(0, cut),
            what: `cut after byte ${cut - start} of the ${last} record of ${text.length - start}`,
          })),
        );
      }
    },
  },
  {
    name: 'garbage-in-lease-file',
    promise: 'garbage at the end of the lease file loses no earlier lease',
    only: 'dhcpd',
    run: async (bench) => {
      const { text } = await written(bench, 'renewed');
      await mustKeep(
        bench,
        text,
        garbage.map(([what, bytes]) => ({
          leases: Buffer.concat([text, bytes]),
          what,
        })),
      );
    },
  },
];

const garbage: readonly (readonly [string, Buffer])[] = [
  ['a block of zeros', Buffer.alloc(4096)],
  ['a block of ones', Buffer.alloc(4096, 0xff)],
  ['every byte', Buffer.from(Array.from({ length: 256 }, (_, byte) => byte))],
  ['a word', Buffer.from('garbage')],
  ['a closing brace', Buffer.from('}\n')],
  ['an opening brace', Buffer.from('{{{\n')],
  ['a text without an end', Buffer.from('"')],
  [
    'half a record and zeros',
    Buffer.concat([Buffer.from('lease 192.0.2.50 {\n  starts 0 2'), Buffer.alloc(512)]),
  ],
];

/** A lease file that a server has written: five leases, and last the one that is new or renewed. */
async function written(
  bench: Bench,
  last: 'new' | 'renewed',
): Promise<{ readonly text: Buffer; readonly start: number }> {
  const server = await bench.serve({ config: lan });
  for (const number of [1, 2, 3, 4, 5]) await bench.leaseOf(number);
  if (last === 'new') await bench.leaseOf(6);
  else await bench.leaseOf(1, '--renew');
  const text = Buffer.from(await server.leases());
  await server.container.remove();
  const start = text.lastIndexOf('\nlease ') + 1;
  must(text.toString('latin1', start).endsWith('}\n'), 'the last record of the lease file is not complete');
  return { text, start };
}

interface Damaged {
  readonly leases: Buffer;
  readonly what: string;
}

/** @throws Failure unless the server still has every lease of the sound part after a start on each damaged file */
async function mustKeep(bench: Bench, sound: Buffer, files: readonly Damaged[]): Promise<void> {
  const { kind } = bench.site;
  const wanted = kind.held(sound.toString());
  must(wanted.size >= 5, `only ${wanted.size} leases are recorded`);
  const failures: string[] = [];
  const seen = new Map<string, string>();
  let next = 0;
  await Promise.all(
    Array.from({ length: lanes }, async () => {
      const server = await openBareServer(bench, lan, seen);
      for (let file = files[next++]; file !== undefined; file = files[next++]) {
        try {
          const after = kind.held(await server.rewrite(file.leases));
          const lost = [...wanted].filter(([address, mac]) => after.get(address) !== mac);
          if (lost.length > 0)
            failures.push(`${file.what}: ${lost.map(([address]) => address).join(', ')} is lost`);
        } catch (error) {
          bench.site.signal.throwIfAborted();
          failures.push(`${file.what}: ${reasonOf(error)}`);
        }
      }
    }),
  );
  if (failures.length > 0) {
    throw new Failure(
      `${failures.length} of ${files.length} files: ${failures[0] ?? ''}`,
      failures.join('\n'),
    );
  }
}
