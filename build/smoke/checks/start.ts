import { readFile } from 'node:fs/promises';
import { join } from 'node:path';

import type { Bench, Server } from '../bench.js';
import { must, mustEqual, Skip, type Check } from '../check.js';
import { declared, type ServerKind } from '../server-kind.js';

/** How a server begins and ends. */
export const startChecks: readonly Check[] = [
  {
    name: 'first-start-volume',
    promise: 'it starts on an empty named volume, and the first lease is recorded there',
    run: async (bench) => {
      const server = await bench.serve({ prepared: true });
      await mustRecord(bench, server);
    },
  },
  {
    name: 'first-start-directory',
    promise: 'it starts on an empty directory of the host, and the first lease is recorded there',
    run: async (bench) => {
      const directory = await bench.stateDirectory();
      const server = await bench.serve({ directory, prepared: true });
      await mustRecord(bench, server);
      const found = await readFile(join(directory, bench.site.kind.leases), 'utf8');
      mustEqual(found, await server.leases(), 'the lease file of the directory');
    },
  },
  {
    name: 'example-config',
    promise: 'the example configuration works as it is',
    only: 'dhcpd',
    run: async (bench) => {
      const example = await readFile(join(bench.site.package, 'config/dhcpd.conf.example'), 'utf8');
      await bench.serve({ config: example });
      const lease = await bench.lease();
      must(/^192\.0\.2\.1[0-9][0-9]$/.test(lease.address), `${lease.address} is not in its range`);
      mustEqual(
        [lease.mask, lease.router, lease.dns, lease.domain, lease.seconds],
        ['255.255.255.0', '192.0.2.1', '192.0.2.1', 'home.arpa', 3600],
        'what it declares',
      );
    },
  },
  {
    name: 'stop',
    promise: 'it stops within 2 s of being told to',
    run: async (bench) => {
      if (!bench.site.podman.settings.run.includes('--init'))
        throw new Skip('no init: catatonit is not installed');
      const server = await bench.serve();
      await bench.lease();
      // Podman counts from its signal. How long Podman itself takes is another matter.
      const { exitCode } = await server.container.stop(2);
      must(exitCode !== 137, 'it had to be killed after 2 s');
    },
  },
];

async function mustRecord(bench: Bench, server: Server): Promise<void> {
  const { address } = await bench.lease();
  const { kind, phone } = bench.site;
  mustHold(kind, await server.leases(), address, phone.mac);
}

/** @throws Failure unless the file of leases says that the client has the address */
export function mustHold(kind: ServerKind, text: string, address: string, mac: string): void {
  const found = kind.held(text).get(address);
  must(found === mac, `${kind.leases} says that ${found ?? 'nobody'} has ${address}, and ${mac} has it`);
}

/** Everything but the address and the time. */
export const declaredBy = (server: string): readonly string[] => [
  ...[declared.mask, declared.router, declared.dns, declared.domain, server],
];
