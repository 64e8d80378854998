import { readdirSync, readFileSync, readlinkSync, statSync } from 'node:fs';
import { join } from 'node:path';

import { reasonOf } from '../../support/errors.js';
import { writeConfig, type Server } from '../bench.js';
import { Failure, must, mustEqual, type Check } from '../check.js';
import type { ServerProcess } from '../podman.js';

/** Bits of capabilities(7). */
const capabilityNumbers = new Map(
  [
    ...['CHOWN', 'DAC_OVERRIDE', 'DAC_READ_SEARCH', 'FOWNER', 'FSETID', 'KILL', 'SETGID', 'SETUID'],
    ...['SETPCAP', 'LINUX_IMMUTABLE', 'NET_BIND_SERVICE', 'NET_BROADCAST', 'NET_ADMIN', 'NET_RAW'],
  ].map((name, bit) => [name, 1n << BigInt(bit)]),
);

/** What the server may do, and what it does not do. */
export const rightsChecks: readonly Check[] = [
  {
    name: 'account-and-capabilities',
    promise: 'it runs as the service’s account with the declared capabilities and no other right',
    run: async (bench) => {
      const server = await bench.serve();
      const { definition } = bench.site;
      const rights = definition.capabilities
        .map((name) => capabilityNumbers.get(name) ?? 0n)
        .reduce((all, one) => all | one, 0n);
      for (const { status } of await processesOf(server)) {
        const { id } = definition.user;
        mustEqual(status.get('Uid')?.split('\t'), Array(4).fill(String(id)), 'its user');
        mustEqual(status.get('Gid')?.split('\t'), Array(4).fill(String(id)), 'its group');
        for (const set of ['CapPrm', 'CapEff', 'CapBnd', 'CapInh', 'CapAmb']) {
          mustEqual(status.get(set), rights.toString(16).padStart(16, '0'), set);
        }
        mustEqual(status.get('NoNewPrivs'), '1', 'NoNewPrivs');
        mustEqual(status.get('Seccomp'), '2', 'Seccomp');
      }
    },
  },
  {
    name: 'nothing-outside-the-volume',
    promise: 'it writes nowhere but into the directory of its state',
    run: async (bench) => {
      const server = await bench.serve();
      const state = server.service.state?.container ?? '';
      const before = await server.container.changes();
      await bench.lease();
      await bench.many('lease', '--clients', '5', '--release');
      const [first] = await processesOf(server);
      must(first !== undefined, 'it has no process');
      const writable = readFileSync(`/proc/${first.pid}/mountinfo`, 'utf8')
        .split('\n')
        .map((line) => line.split(' '))
        .filter(([, , , , , options]) => options?.split(',').includes('rw'))
        .map(([, , , , path = '']) => path);
      // The kernel's own, and the devices and shared memory that the container engine makes.
      const engine = /^\/(?:proc|dev|sys\/fs\/cgroup)(?:\/|$)/;
      mustEqual(
        writable.filter((path) => !engine.test(path)),
        [state],
        'what is mounted to be written',
      );
      const root = `/proc/${first.pid}/root`;
      mustEqual(filesBelow(join(root, 'dev/shm')), [], 'what is in its shared memory');
      const open = openForWriting(first.pid);
      must(open.length > 0, 'it has no file of leases open');
      mustEqual(
        open.filter((path) => !path.startsWith(`${state}/`)),
        [],
        'what it writes outside',
      );
      mustEqual(await server.container.changes(), before, 'what podman diff says');
    },
  },
  {
    name: 'bad-config',
    promise: 'a broken configuration leaves the old server serving, a good one restarts it',
    run: async (bench) => {
      const { kind, script } = bench.site;
      const server = await bench.serve({ prepared: true });
      const { address } = await bench.lease();
      const path = join(server.config, kind.file);
      const good = readFileSync(path, 'utf8');
      const [before] = await processesOf(server);

      await writeConfig(server.config, kind.file, `${good}\nthis is no statement {\n`);
      const refused = await script.run('reload', server.service).then(
        () => undefined,
        (error: unknown) => reasonOf(error),
      );
      if (refused === undefined) throw new Failure('the broken configuration is accepted');
      must(
        refused.includes(`${kind.file} line `) || / line \d+/.test(refused),
        `it was not the check that failed: ${refused}`,
      );
      mustEqual((await processesOf(server))[0]?.pid, before?.pid, 'its process');
      mustEqual((await bench.lease()).address, address, 'the client’s address');

      await writeConfig(server.config, kind.file, `${good}\n# And this is a remark.\n`);
      await script.run('reload', server.service);
      await server.ready();
      must((await processesOf(server))[0]?.pid !== before?.pid, 'a good configuration does not restart it');
      mustEqual((await bench.lease()).address, address, 'the client’s address after the restart');
    },
  },
];

/** @throws Failure when there is none: what holds of every process would hold of nothing */
async function processesOf({ container }: Server): Promise<readonly ServerProcess[]> {
  const processes = await container.processes();
  must(processes.length > 0, 'it has no process');
  return processes;
}

function filesBelow(directory: string): readonly string[] {
  return readdirSync(directory, { recursive: true, encoding: 'utf8' }).sort();
}

/** Regular files that the process has open to be written, by their paths in its container. */
function openForWriting(pid: number): readonly string[] {
  return readdirSync(`/proc/${pid}/fd`).flatMap((fd) => {
    const flags = /^flags:\s*([0-7]+)$/m.exec(readFileSync(`/proc/${pid}/fdinfo/${fd}`, 'utf8'))?.[1] ?? '0';
    const link = `/proc/${pid}/fd/${fd}`;
    const writes = (parseInt(flags, 8) & 3) !== 0;
    return writes && statSync(link).isFile() ? [readlinkSync(link)] : [];
  });
}
