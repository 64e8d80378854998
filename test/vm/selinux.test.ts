import { existsSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { enforcing } from '../../build/host/test-vm/guest.js';
import type { Guest } from '../../build/host/test-vm/machine.js';
import { run } from '../../build/support/exec.js';
import { documentedCommands, inOneLine } from '../docs/commands.js';
import { runUnderSelinux } from '../docs/runs.js';
import { hostArchitecture } from '../support/host.js';
import { leaseByUdhcpc } from '../support/lab-client.js';
import { requireThat, requireTools } from '../support/tools.js';
import { journal, vmTools, waitForService } from './machine.js';
import type { VmNetwork } from './network.js';
import { dhcpdConfig } from './payload.js';
import { endAtFirstFailure, openServiceHost } from './service-host.js';

const ready =
  requireThat(process.getuid?.() === 0, 'root, for network namespaces and a machine') &&
  requireThat(existsSync('/dev/net/tun'), '/dev/net/tun, for the network of a machine') &&
  requireTools('ethtool', 'udhcpc', ...vmTools(hostArchitecture));

let network: VmNetwork;
let guest: Guest;
/** What the one client was given, to be the same from then on. */
let address = '';

const unit = '/etc/containers/systemd/dhcpd.container';
const script = '/etc/dhcpd-scratch/check';
const volume = '$(podman volume inspect --format {{.Mountpoint}} dhcpd-leases)';
/** As another container's volume is labelled. */
const foreign = `chcon -R -l s0:c1,c2 ${volume}`;

/** Each step goes on where the one before it has left the machine. */
describe.skipIf(!ready)('a host that enforces SELinux', () => {
  beforeAll(async () => {
    ({ network, guest } = await openServiceHost(hostArchitecture, Math.random, enforcing));
  }, 2_400_000);
  afterAll(() => network.lab.close(), 60_000);
  endAtFirstFailure(async () => [await journal(guest), ...(await denials())].join('\n'));

  it('serves, confined to what is labelled for it', async () => {
    await guest.run('cp -r /payload/units/. /etc/ && mkdir -p /etc/dhcp');
    await configure('first.test');
    await guest.run('podman load --quiet --input /payload/first.tar', 120);
    await guest.run('systemctl daemon-reload && systemctl start dhcpd.service', 240);
    expect((await guest.run('getenforce')).trim()).toBe('Enforcing');
    const lease = await leaseByUdhcpc(run, network.lab, 'web1');
    expect(lease.domain).toBe('first.test');
    address = lease.address;
    const labels = await expectLabels();
    expect(labels.process).toMatch(/^system_u:system_r:container_t:s0:c\d+,c\d+$/);
  }, 420_000);

  it('takes back what something else has relabelled, and has categories of its own in every container', async () => {
    const before = await expectLabels();
    await guest.run(`chcon -R -t user_home_t /etc/dhcp && ${foreign}`);
    await guest.run('systemctl restart dhcpd.service', 240);
    expect((await expectLabels()).process).not.toBe(before.process);
    await expectSameLease('first.test');
  }, 420_000);

  it('takes a configuration that was made in a home', async () => {
    const before = await serverProcess();
    await configure('second.test', '/root');
    await guest.run(`while [ -e /proc/${before} ]; do sleep 0.5; done`, 180);
    await waitForService(guest);
    await expectLabels();
    await expectSameLease('second.test');
  }, 480_000);

  it('keeps room for leases, and mends them, without another label', async () => {
    await guest.run(`printf 'lease 198.18.1.77 {\\n  starts 1' >>${volume}/dhcpd.leases`);
    await guest.run('systemctl start dhcpd-room.service', 120);
    await guest.run('systemctl restart dhcpd.service', 240);
    await guest.run(`test -e ${volume}/dhcpd.leases.damaged`);
    await expectLabels();
    await expectSameLease('second.test');
  }, 480_000);

  it('is denied nothing in all of this', async () => {
    expect(await denials()).toEqual([]);
  }, 120_000);

  it('shows what docs/operations.md looks for', async () => {
    const documented = documentedCommands()
      .filter(({ file }) => file === 'docs/operations.md')
      .map(({ text }) => inOneLine(text));
    expect(documented).toEqual(expect.arrayContaining([...runUnderSelinux.keys()]));
    // A program that is denied something on purpose.
    await guest.try('runcon -t container_t -r system_r -u system_u -l s0:c1,c2 cat /etc/shadow');
    for (const [line, says] of runUnderSelinux)
      expect(await guest.run(`sudo() { "$@"; }\n${line}`), line).toMatch(says);
  }, 120_000);

  it('would not serve without the label of the configuration', async () => {
    await guest.run(
      `cp ${unit} ${script} /run
       sed -i 's/:ro,z\\b/:ro/' ${unit} ${script}
       systemctl stop dhcpd.service
       systemctl daemon-reload
       chcon -R -t user_home_t /etc/dhcp`,
      60,
    );
    expect((await guest.try('systemctl start dhcpd.service', 240)).code).toBe(1);
    expect((await denials()).join('\n')).toMatch(/denied {2}{ read }.* name="dhcpd\.conf" .*:user_home_t:/);
    await guest.run(
      `systemctl stop dhcpd.service
       cp /run/dhcpd.container ${unit}
       cp /run/check ${script}`,
      60,
    );
  }, 480_000);

  it('would not serve without the label of the leases, and only because of SELinux', async () => {
    await guest.run(
      `sed -i 's/:Z$//' ${unit}
       systemctl daemon-reload
       ${foreign}`,
      60,
    );
    expect((await guest.try('systemctl start dhcpd.service', 240)).code).toBe(1);
    const said = await guest.run('journalctl --quiet --boot --output cat CONTAINER_NAME=dhcpd');
    expect(said).toMatch(/^Can't open lease database .*dhcpd\.leases: Permission denied/m);
    await guest.run('setenforce 0');
    await waitForService(guest);
    await expectSameLease('second.test');
  }, 480_000);
});

/** The labels of the server's process and of what it has mounted, which must fit each other. */
async function expectLabels(): Promise<{ readonly process: string }> {
  const process = (await guest.run(`ps -o label= -p ${await serverProcess()}`)).trim();
  const categories = process.split(':').slice(3).join(':');
  const label = /^\S+ /gm;
  const leases = await guest.run(`ls -Zd ${volume} ${volume}/dhcpd.leases`);
  expect(leases.match(label)).toEqual(Array(2).fill(`system_u:object_r:container_file_t:${categories} `));
  const configuration = await guest.run('ls -Zd /etc/dhcp /etc/dhcp/dhcpd.conf');
  expect(configuration.match(label)).toEqual(Array(2).fill('system_u:object_r:container_file_t:s0 '));
  return { process };
}

/** What the kernel has denied to the container and to what the units run, as audit(8) has it. */
async function denials(): Promise<readonly string[]> {
  const { stdout } = await guest.try('ausearch --message AVC,SELINUX_ERR --raw', 60);
  return stdout
    .split('\n')
    .filter((line) => /:(?:container|initrc)_t:/.test(line) && line.includes('permissive=0'));
}

/** A file takes the label of the directory that it is made in, and keeps it when it is moved. */
async function configure(domain: string, made = '/etc/dhcp'): Promise<void> {
  await guest.run(
    `cat >${made}/.dhcpd.conf.new <<'END'\n${dhcpdConfig(domain)}END\nmv ${made}/.dhcpd.conf.new /etc/dhcp/dhcpd.conf`,
  );
}

async function expectSameLease(domain: string): Promise<void> {
  expect(await leaseByUdhcpc(run, network.lab, 'web1')).toMatchObject({ address, domain });
}

/** Not by its name, which the program that tests a configuration has as well. */
async function serverProcess(): Promise<string> {
  return (await guest.run('podman inspect --format {{.State.Pid}} dhcpd')).trim();
}
