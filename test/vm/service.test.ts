import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { guestAddress } from '../../build/host/test-vm/description.js';
import type { Guest, Machine } from '../../build/host/test-vm/machine.js';
import { parseArchitecture } from '../../build/support/architecture.js';
import { run } from '../../build/support/exec.js';
import { hostArchitecture } from '../support/host.js';
import { leaseByUdhcpc } from '../support/lab-client.js';
import { canRun } from '../support/lab-podman.js';
import { requireThat, requireTools } from '../support/tools.js';
import { Clients } from './clients.js';
import { countMessages, leaseFile, startContainers } from './containers.js';
import { takeDice } from './dice.js';
import { journal, vmTools, waitForService } from './machine.js';
import type { VmNetwork } from './network.js';
import { dhcpdConfig } from './payload.js';
import { cutPowers, report } from './power.js';
import { endAtFirstFailure, openServiceHost } from './service-host.js';

/** The machine's: this host's own, unless VM_ARCH names another, whose processor is emulated. */
const architecture = process.env['VM_ARCH'] ?? hostArchitecture;

const ready =
  requireThat(process.getuid?.() === 0, 'root, for network namespaces and a machine') &&
  requireThat(existsSync('/dev/net/tun'), '/dev/net/tun, for the network of a machine') &&
  requireTools('ethtool', 'udhcpc', ...vmTools(architecture)) &&
  requireThat(canRun(parseArchitecture(architecture)), `an emulator for ${architecture} in binfmt_misc`);

const dice = takeDice();
let network: VmNetwork;
let machine: Machine;
let guest: Guest;
/** What the one client of the first steps was given, to be the same from then on. */
let address = '';

/** CAP_NET_BIND_SERVICE and CAP_NET_RAW of capabilities(7), as bits of CapEff. */
const twoCapabilities = (1n << 10n) | (1n << 13n);

/** Each step goes on where the one before it has left the machine. */
describe.skipIf(!ready)('a host that runs the service for years', () => {
  beforeAll(async () => {
    ({ network, machine, guest } = await openServiceHost(architecture, dice.roll));
  }, 2_400_000);
  afterAll(() => network.lab.close(), 60_000);
  endAtFirstFailure(async () => `${await journal(guest)}\n${await machine.consoleEnd()}`);

  it('serves from the generated units and an empty volume', async () => {
    await guest.run('cp -r /payload/units/. /etc/ && mkdir -p /etc/dhcp');
    await configure(dhcpdConfig('first.test'));
    await guest.run('podman load --quiet --input /payload/first.tar', 120);
    await guest.run('systemctl daemon-reload && systemctl start dhcpd.service', 180);
    const lease = await leaseByUdhcpc(run, network.lab, 'web1');
    expect(lease).toMatchObject({ server: guestAddress, domain: 'first.test', seconds: 86_400 });
    address = lease.address;
  }, 420_000);

  it('runs as its account, with two capabilities', async () => {
    const status = await guest.run('cat /proc/$(pgrep -x dhcpd)/status');
    const field = (name: string): string | undefined => new RegExp(`^${name}:\t(.*)$`, 'm').exec(status)?.[1];
    expect(field('Uid')).toBe('177\t177\t177\t177');
    expect(field('Gid')).toBe('177\t177\t177\t177');
    for (const set of ['CapEff', 'CapPrm', 'CapBnd'])
      expect(BigInt(`0x${field(set) ?? ''}`), set).toBe(twoCapabilities);
    expect(field('NoNewPrivs')).toBe('1');
    expect(field('Seccomp')).toBe('2');
  }, 120_000);

  it('has room for leases as soon as their file is another one', async () => {
    const file = '$(podman volume inspect --format {{.Mountpoint}} dhcpd-leases)/dhcpd.leases';
    // As the server replaces it once an hour; the timer would take the room later.
    await guest.run(
      `systemctl stop dhcpd-room.timer
       cp -p ${file} /var/tmp/leases
       mv /var/tmp/leases ${file}.new && mv ${file}.new ${file}
       until set -- $(stat -c '%s %b %B' ${file}) && [ $(($2 * $3 - $1)) -ge 524288 ]; do sleep 0.2; done`,
      30,
    );
    await guest.run('systemctl start dhcpd-room.timer');
  }, 120_000);

  it('has not failed when it is stopped, and gives the same address afterwards', async () => {
    await guest.run('systemctl stop dhcpd.service', 60);
    const state =
      'systemctl show --property ActiveState --value dhcpd.service dhcpd-room.path dhcpd-room.timer';
    expect((await guest.run(state)).match(/\w+/g)).toEqual(['inactive', 'inactive', 'inactive']);
    await guest.run('systemctl start dhcpd.service', 180);
    await expectSameLease();
  }, 300_000);

  it('gives the same address after a restart', async () => {
    await guest.run('systemctl restart dhcpd.service', 180);
    await expectSameLease();
  }, 240_000);

  it('comes up by itself when the machine boots', async () => {
    const before = guest.bootId;
    await machine.shutDown();
    guest = await machine.start();
    expect(guest.bootId).not.toBe(before);
    await waitForService(guest);
    await expectSameLease();
  }, 600_000);

  it('goes on with the old configuration when a new one is bad, and takes a good one', async () => {
    const before = await serverProcess();
    await configure(`${dhcpdConfig('bad.test')}subnet nonsense\n`);
    await guest.run(
      'until journalctl --quiet --boot --output cat --unit dhcpd-config.service | grep -q "^cannot reload dhcpd: .*dhcpd.conf line"; do sleep 0.5; done',
      90,
    );
    await guest.run('until systemctl --quiet is-failed dhcpd-config.service; do sleep 0.5; done', 60);
    expect(await serverProcess()).toBe(before);
    expect((await expectSameLease()).domain).toBe('first.test');

    await configure(dhcpdConfig('second.test'));
    // Another process of this name may be the test of the configuration.
    await guest.run(`while [ -e /proc/${before} ]; do sleep 0.5; done`, 120);
    await waitForService(guest);
    expect((await expectSameLease()).domain).toBe('second.test');
    // Starting has touched the configuration's directory. That is no change, and the service stays.
    const after = await serverProcess();
    await sleep(5000);
    expect(await serverProcess()).toBe(after);
  }, 480_000);

  it('goes back to the old image when a new one does not become ready, and takes a good one', async () => {
    const image = (): Promise<string> => guest.run('podman inspect --format {{.Image}} dhcpd');
    const first = await image();
    expect(await update('deaf')).toBe('rolled back');
    await waitForService(guest);
    expect(await image()).toBe(first);
    await expectSameLease();

    expect(await update('second')).toBe('true');
    await waitForService(guest);
    expect(await image()).not.toBe(first);
    await expectSameLease();
  }, 900_000);

  it('loses no lease that a client was promised when the power fails', async () => {
    const clients = new Clients(network.lab, join(network.lab.directory, 'clients'));
    const totals = await cutPowers({ machine, clients, dice }, (next) => (guest = next));
    await report({ ...totals, packages: machine.image.packages });
    expect(totals.lost).toEqual([]);
    expect(totals.cuts).toBeGreaterThanOrEqual(3);
    expect(totals.leases).toBeGreaterThan(0);
    await expectSameLease();
  }, 7_200_000);

  it('lends to containers of its own host, which renew and give back', async () => {
    await guest.run('cp -r /payload/macvlan/. /etc/');
    await configure(dhcpdConfig('containers.test', 60));
    await guest.run('systemctl daemon-reload && systemctl restart dhcpd.service', 180);
    await waitForService(guest);
    const containers = await startContainers(guest, 'dhcpd-lan.network', ['one', 'two']);
    const records = await leaseFile(guest);
    for (const { name, address, mac } of containers)
      expect(records.get(address), name).toMatchObject({ state: 'active', mac });
    // Somebody outside is served beside them.
    await expectSameLease();

    const acks = (mac: string): Promise<number> => countMessages(guest, 'DHCPACK', mac);
    const before = new Map<string, number>();
    for (const { mac } of containers) before.set(mac, await acks(mac));
    for (const { name, mac } of containers) {
      await waitUntil(`${name} renews`, 90, async () => (await acks(mac)) > (before.get(mac) ?? 0));
      expect((await leaseFile(guest)).get(addressOf(name))).toMatchObject({ state: 'active', mac });
    }
    // Netavark 1.17 gives the lease back with a RELEASE. The one of Debian 13 only renews it no more.
    await guest.run('systemctl stop one.service two.service', 90);
    for (const { name } of containers) {
      await waitUntil(
        `the address of ${name} is free again`,
        150,
        async () => (await leaseFile(guest)).get(addressOf(name))?.state === 'free',
      );
    }

    function addressOf(name: string): string {
      return containers.find((container) => container.name === name)?.address ?? '';
    }
  }, 900_000);
});

async function waitUntil(what: string, seconds: number, met: () => Promise<boolean>): Promise<void> {
  const until = Date.now() + seconds * 1000;
  while (!(await met())) {
    if (Date.now() > until) throw new Error(`waited ${seconds} s in vain: ${what}`);
    await sleep(1000);
  }
}

async function configure(text: string): Promise<void> {
  // As an editor saves a file: the new one takes the place of the old one at once.
  await guest.run(
    `cat >/etc/dhcp/.dhcpd.conf.new <<'END'\n${text}END\nmv /etc/dhcp/.dhcpd.conf.new /etc/dhcp/dhcpd.conf`,
  );
}

async function expectSameLease(): ReturnType<typeof leaseByUdhcpc> {
  const lease = await leaseByUdhcpc(run, network.lab, 'web1');
  expect(lease.address).toBe(address);
  return lease;
}

async function serverProcess(): Promise<string> {
  return (await guest.run('pgrep -x dhcpd')).trim();
}

/** Loads an image under the name that the service uses, and lets Podman update. @returns its verdict */
async function update(name: string): Promise<string> {
  await guest.run(`podman load --quiet --input /payload/${name}.tar`, 120);
  // A rollback is told as a failure, with the verdict on stdout.
  const { stdout, stderr } = await guest.try("podman auto-update --format '{{.Unit}} {{.Updated}}'", 400);
  const verdict = /^dhcpd\.service (.*)$/m.exec(stdout)?.[1];
  if (verdict === undefined)
    throw new Error(`podman auto-update says nothing of dhcpd.service: ${stdout}${stderr}`);
  return verdict;
}
