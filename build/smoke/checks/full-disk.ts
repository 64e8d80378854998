import { chown, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { reasonOf } from '../../support/errors.js';
import type { ClientEvent } from '../many-clients.js';
import { Failure, must, mustEqual, type Check } from '../check.js';

/** Bytes of the file system that is filled, and of the room that is kept in it for leases: some seventy of them. */
const size = 256 * 1024;
const room = 16 * 1024;

export const fullDiskCheck: Check = {
  name: 'full-disk',
  promise:
    'on a full disk leases are recorded in the room kept for them, or the server ends; none is acknowledged unrecorded',
  only: 'dhcpd',
  run: async (bench) => {
    const { exec, lab, definition, kind, script } = bench.site;
    const state = await bench.stateDirectory();
    const command = (...argv: readonly [string, ...string[]]): Promise<unknown> =>
      exec({ argv, environment: lab.environment, timeout: 10_000 });
    await command('mount', '-t', 'tmpfs', '-o', `size=${size},mode=0700`, 'tmpfs', state);
    bench.defer(() => command('umount', '--lazy', state));
    await chown(state, definition.user.id, definition.user.id);

    const server = await bench.serve({
      directory: state,
      config: { pool: [50, 149], seconds: 600 },
      prepared: true,
    });
    const { service, container } = server;
    const before = await bench.leaseOf(1);
    await script.reserve(service, state, room);
    const filling = join(state, 'filling');
    await fill(filling);

    const mustRecordAll = async (events: readonly ClientEvent[], number: number): Promise<void> => {
      mustEqual(events.filter(({ event }) => event === 'ack').length, number, 'the number of leases');
      const held = kind.held(await server.leases());
      const lost = events.filter(({ mac, address = '' }) => held.get(address) !== mac);
      must(
        lost.length === 0,
        `${lost.length} leases are acknowledged and not recorded, such as ${lost[0]?.address ?? ''}`,
      );
    };
    await mustRecordAll(
      await bench.many('lease', '--clients', '60', '--first', '2', '--timeout', '15000'),
      60,
    );

    // More than half of the room is used by now, and no more of it to be had.
    const said = await script.reserve(service, state, room).then(
      () => undefined,
      (error: unknown) => reasonOf(error),
    );
    if (said === undefined) throw new Failure('nobody has said that the disk is full');
    must(said.includes('is full'), `it was not said that the disk is full: ${said}`);
    must(!(await container.isRunning()), 'the server goes on without room for its leases');
    const refused = await script.run('start', service).then(
      () => undefined,
      (error: unknown) => reasonOf(error),
    );
    must(refused?.includes('is full') === true, 'it may start on a full disk');

    await rm(filling);
    await script.run('start', service);
    await container.start();
    await server.ready();
    await script.reserve(service, state, room);
    await mustRecordAll(
      await bench.many('lease', '--clients', '30', '--first', '62', '--timeout', '15000'),
      30,
    );
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
