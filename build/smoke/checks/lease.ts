import { setTimeout as sleep } from 'node:timers/promises';

import { findProgram, type Exec } from '../../support/exec.js';
import type { Bench } from '../bench.js';
import { must, mustEqual, Skip, type Check } from '../check.js';
import { recordedLeases } from '../lease-file.js';
import { serverAddress, type Lab, type LabHost } from '../lab.js';
import { leaseByDhclient, leaseByDhcpcd, leaseByUdhcpc, renewByUdhcpc, type Lease } from '../real-clients.js';
import { declaredBy, mustHold } from './start.js';

/** How one client gets an address, keeps it and gives it back. */
export const leaseChecks: readonly Check[] = [
  leaseCheck('udhcpc', (exec, lab, host) => leaseByUdhcpc(exec, lab, 'phone', host)),
  leaseCheck('dhclient', leaseByDhclient),
  leaseCheck('dhcpcd', leaseByDhcpcd),
  {
    name: 'renew',
    promise: 'a client keeps its address when it asks again, and the new time is recorded',
    run: async (bench) => {
      await mustHaveClient(bench, 'udhcpc');
      const { lab, phone, exec, kind } = bench.site;
      // dhcpd records no new time in the first quarter of a lease unless it is told to.
      const more = kind.name === 'dhcpd' ? 'dhcp-cache-threshold 0;\n' : '';
      const server = await bench.serve({ config: { pool: [50, 59], seconds: 600, more } });
      let before = '';
      const { first, again } = await renewByUdhcpc(exec, lab, phone, async () => {
        before = await server.leases();
        // The record has the time in whole seconds.
        await sleep(1100);
      });
      mustEqual(again, first, 'the address after the renewal');
      const after = await server.leases();
      mustHold(kind, after, first, phone.mac);
      must(after !== before, 'the renewal is not recorded');
    },
  },
  {
    name: 'release',
    promise: 'an address that is given back is free, on disk as well',
    run: async (bench) => {
      const server = await bench.serve({ config: { pool: [50, 50], seconds: 600 } });
      const { kind } = bench.site;
      const [ack] = await bench.many('lease', '--first', '1', '--release');
      must(ack?.event === 'ack' && ack.address !== undefined, 'no lease was given');
      await server.container.waitFor('DHCPRELEASE');
      mustEqual([...kind.held(await server.leases())], [], 'what is held after the release');
      // It was the only one.
      mustEqual(await bench.leaseOf(2), ack.address, 'the next client’s address');
    },
  },
  {
    name: 'fixed-address',
    promise: 'a host with an address of its own gets that, and nobody else does',
    run: async (bench) => {
      const { phone } = bench.site;
      const own = { mac: phone.mac, address: '192.0.2.10' };
      await bench.serve({ config: { pool: [50, 59], seconds: 600, reserved: own } });
      mustEqual((await bench.lease()).address, own.address, 'the host’s address');
      must((await bench.leaseOf(1)) !== own.address, 'another client got it');
    },
  },
  {
    name: 'changing-client-id',
    promise: 'a container whose client identifier is another one each time keeps its address',
    only: 'dhcpd',
    run: async (bench) => {
      const server = await bench.serve({
        config: { pool: [50, 59], seconds: 600, more: 'ignore-client-uids true;\n' },
      });
      const addresses = [];
      for (const id of ['first', 'second', 'third'])
        addresses.push(await bench.leaseOf(1, '--client-id', id));
      mustEqual(new Set(addresses).size, 1, 'the number of its addresses');
      mustEqual([...recordedLeases(await server.leases()).keys()], addresses.slice(0, 1), 'what is recorded');
    },
  },
];

function leaseCheck(client: string, ask: (exec: Exec, lab: Lab, host: LabHost) => Promise<Lease>): Check {
  return {
    name: `lease-${client}`,
    promise: `${client} gets an address with the declared options`,
    run: async (bench) => {
      await mustHaveClient(bench, client);
      const { exec, lab, phone } = bench.site;
      const server = await bench.serve();
      const { address, mask, router, dns, domain, server: from, seconds } = await ask(exec, lab, phone);
      must(/^192\.0\.2\.5[0-9]$/.test(address), `${address} is not in the pool`);
      mustEqual([mask, router, dns, domain, from], declaredBy(serverAddress), 'what it was given');
      must(seconds > 590 && seconds <= 600, `the lease is for ${seconds} s in place of 600`);
      await server.container.waitFor(`DHCPACK[^\\n]*${address.replaceAll('.', '\\.')}`);
    },
  };
}

/** @throws Skip when the client is not installed */
export async function mustHaveClient({ site }: Bench, client: string): Promise<void> {
  if ((await findProgram(client, site.lab.environment['PATH'])) === undefined) {
    throw new Skip(`${client} is not installed`);
  }
}
