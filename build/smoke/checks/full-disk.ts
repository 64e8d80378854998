import { chown, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { must, mustEqual, type Check } from '../check.js';

/** Bytes of the file system that is filled. */
const size = 256 * 1024;

export const fullDiskCheck: Check = {
  name: 'full-disk',
  promise:
    'a full disk is reported, no lease is acknowledged that is not recorded, and it goes on when there is space',
  only: 'dhcpd',
  run: async (bench) => {
    const { exec, lab, definition, kind } = bench.site;
    const state = await bench.stateDirectory();
    const command = (...argv: readonly [string, ...string[]]): Promise<unknown> =>
      exec({ argv, environment: lab.environment, timeout: 10_000 });
    await command('mount', '-t', 'tmpfs', '-o', `size=${size},mode=0700`, 'tmpfs', state);
    bench.defer(() => command('umount', '--lazy', state));
    const leases = join(state, kind.leases);
    await writeFile(leases, '');
    for (const path of [state, leases]) await chown(path, definition.user.id, definition.user.id);

    const server = await bench.serve({ directory: state, config: { pool: [50, 149], seconds: 600 } });
    const before = await bench.leaseOf(1);
    const filling = join(state, 'filling');
    await fill(filling);

    // More records than the last page of the file has room for, and each client asks more than once.
    const clients = ['--clients', '40', '--first', '2'];
    const events = await bench.many('lease', ...clients, '--timeout', '4000');
    const held = kind.held(await server.leases());
    const unrecorded = events.filter(
      ({ event, mac, address = '' }) => event === 'ack' && held.get(address) !== mac,
    );
    must(
      unrecorded.length === 0,
      `${unrecorded.length} leases are acknowledged and not recorded, such as ${unrecorded[0]?.address ?? ''}`,
    );
    must(
      events.some(({ event }) => event === 'none'),
      'the disk did not become full',
    );
    must(/[Nn]o space left on device/.test(await server.container.log()), 'the log says nothing of it');

    await rm(filling);
    const after = await bench.many('lease', ...clients, '--timeout', '10000');
    mustEqual(after.filter(({ event }) => event === 'ack').length, 40, 'the number of leases afterwards');
    const then = kind.held(await server.leases());
    for (const { mac, address = '' } of after) mustEqual(then.get(address), mac, `who has ${address}`);
    mustEqual(await bench.leaseOf(1), before, 'the address of the client that had one');
  },
};

/** Takes all the space that is left. */
async function fill(path: string): Promise<void> {
  for (let left = size; left > 0; left -= 4096) {
    try {
      await writeFile(path, Buffer.alloc(4096), { flag: 'a' });
    } catch {
      break;
    }
  }
  must((await stat(path)).size > 0, 'the disk was full before');
}
