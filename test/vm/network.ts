import { run } from '../../build/support/exec.js';
import { prefixLength } from '../../build/host/test-vm/description.js';
import { labEnvironment, openLab, type Lab } from '../support/lab.js';

/** A lab whose server is a virtual machine: its clients live outside, and outlive it. */
export interface VmNetwork {
  /** `lab.client` is where clients run; `lab.server` holds the machine's end of the wire. */
  readonly lab: Lab;
  /** Where the machine plugs in. */
  readonly tap: { readonly name: string; readonly namespace: string };
}

/** Of the clients' namespace, beside whatever a client leases. */
const clientAddress = '198.18.0.2';

/** Puts a bridge between the wire of a lab and a TAP interface. It all goes away with the lab. */
export async function openVmNetwork(): Promise<VmNetwork> {
  const lab = await openLab(run);
  const { namespace, interface: wire } = lab.server;
  const inside = ['-n', namespace];
  try {
    await ip(...inside, 'address', 'flush', 'dev', wire);
    await ip(...inside, 'link', 'add', 'bridge0', 'type', 'bridge', 'forward_delay', '0');
    await ip(...inside, 'tuntap', 'add', 'dev', 'tap0', 'mode', 'tap');
    for (const port of [wire, 'tap0']) await ip(...inside, 'link', 'set', port, 'master', 'bridge0', 'up');
    await ip(...inside, 'link', 'set', 'bridge0', 'up');
    await lab.completeChecksums();
  } catch (error) {
    await lab.close();
    throw error;
  }
  return { lab, tap: { name: 'tap0', namespace } };
}

/** Gives the clients' interface an address of its own and a way to everybody; a client that leases one takes it off. */
export async function addressClients({ client }: Lab): Promise<void> {
  const [own, dev] = [
    ['-n', client.namespace],
    ['dev', client.interface],
  ];
  await ip(...own, 'address', 'replace', `${clientAddress}/${prefixLength}`, ...dev);
  await ip(...own, 'route', 'replace', '255.255.255.255/32', ...dev);
}

function ip(...args: readonly string[]): Promise<unknown> {
  return run({ argv: ['ip', ...args], environment: labEnvironment, timeout: 10_000 });
}
