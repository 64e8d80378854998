import { must, mustEqual, type Check } from '../check.js';
import { serverAddress, secondServerAddress } from '../lab.js';
import { leaseByUdhcpc } from '../real-clients.js';

const manyClients = 200;

/** More than one network, and more than a few clients. */
export const networkChecks: readonly Check[] = [
  {
    name: 'two-networks',
    promise: 'each of two interfaces gets addresses of its own subnet',
    run: async (bench) => {
      const { exec, lab, second } = bench.site;
      await bench.serve({
        config: { pool: [50, 59], seconds: 600, second: true },
        interfaces: [lab.server.interface, second.interface],
      });
      const one = await bench.lease();
      const other = await leaseByUdhcpc(exec, lab, 'second', second.client);
      must(/^192\.0\.2\.5[0-9]$/.test(one.address), `the first network got ${one.address}`);
      must(/^198\.51\.100\.5[0-9]$/.test(other.address), `the second network got ${other.address}`);
      mustEqual([one.server, other.server], [serverAddress, secondServerAddress], 'who the servers are');
    },
  },
  {
    name: 'exhausted-pool',
    promise: 'when no address is left nobody gets one, and the next one that is given back is lent',
    run: async (bench) => {
      const server = await bench.serve({ config: { pool: [50, 51], seconds: 600 } });
      const first = await bench.leaseOf(1);
      const second = await bench.leaseOf(2);
      must(first !== second, 'two clients have one address');
      const [refused] = await bench.many('lease', '--first', '3', '--timeout', '1500');
      mustEqual(refused?.event, 'none', 'what the third client heard');
      mustEqual(await bench.leaseOf(1), first, 'what the first client may keep');
      await bench.many('lease', '--first', '2', '--release');
      await server.container.waitFor('DHCPRELEASE');
      mustEqual(await bench.leaseOf(3), second, 'the third client’s address');
    },
  },
  {
    name: 'many-clients',
    promise: `${manyClients} clients at once get addresses that differ, and all are recorded`,
    run: async (bench) => {
      const { kind } = bench.site;
      const server = await bench.serve({ config: { pool: [10, 250], seconds: 600 } });
      const events = await bench.many('lease', '--clients', String(manyClients), '--timeout', '30000');
      const acks = events.filter(({ event }) => event === 'ack');
      mustEqual(acks.length, manyClients, 'the number of leases');
      mustEqual(new Set(acks.map(({ address }) => address)).size, manyClients, 'the number of addresses');
      const held = kind.held(await server.leases());
      const lost = acks.filter(({ mac, address = '' }) => held.get(address) !== mac);
      must(lost.length === 0, `${lost.length} leases are not recorded, such as ${lost[0]?.address ?? ''}`);
    },
  },
];
