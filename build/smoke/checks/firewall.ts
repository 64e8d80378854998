import { reasonOf } from '../../support/errors.js';
import { findProgram } from '../../support/exec.js';
import { must, mustEqual, Skip, type Check } from '../check.js';
import { serverAddress } from '../lab.js';
import { renewByUdhcpc } from '../real-clients.js';
import { mustHaveClient } from './lease.js';

const table = 'lab';

/** Lets in what belongs to a conversation that the host itself has begun, as firewalld does in a zone without services. */
const ruleset = `table inet ${table} {
  counter to-all { }
  counter to-the-server { }
  chain input {
    type filter hook input priority filter; policy drop;
    ct state established,related accept
    ip daddr ${serverAddress} udp dport 67 counter name to-the-server reject with icmpx type admin-prohibited
    udp dport 67 counter name to-all reject with icmpx type admin-prohibited
  }
}
`;

export const firewallCheck: Check = {
  name: 'behind-a-firewall',
  promise: 'a firewall that lets no request in keeps no client from its lease, nor from renewing it',
  // Others read ordinary sockets, which the firewall comes before.
  only: 'dhcpd',
  run: async (bench) => {
    await mustHaveClient(bench, 'udhcpc');
    const { lab, phone, exec } = bench.site;
    const nft = await findProgram('nft', lab.environment['PATH']);
    if (nft === undefined) throw new Skip('nft is not installed: install nftables');
    const run = async (input: string, ...args: readonly string[]): Promise<string> => {
      const { stdout } = await exec({
        argv: ['ip', 'netns', 'exec', lab.server.namespace, nft, ...args],
        environment: lab.environment,
        input,
        timeout: 10_000,
      });
      return stdout;
    };
    await run(ruleset, '-f', '-').catch((error: unknown) => {
      throw new Skip(`this kernel takes no rules of nftables: ${reasonOf(error)}`);
    });
    bench.defer(() => run('', 'delete', 'table', 'inet', table));
    const refused = async (counter: string): Promise<number> => {
      const text = await run('', 'list', 'counter', 'inet', table, counter);
      return Number(/packets (\d+)/.exec(text)?.[1] ?? 0);
    };
    await bench.serve();
    const { first, again } = await renewByUdhcpc(exec, lab, phone, async () => {
      must((await refused('to-all')) >= 2, 'the firewall has let the first requests in');
    });
    mustEqual(again, first, 'the address after the renewal');
    must((await refused('to-the-server')) >= 1, 'the firewall has let the renewal in');
  },
};
