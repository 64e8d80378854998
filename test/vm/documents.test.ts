import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { Guest, Machine } from '../../build/host/test-vm/machine.js';
import { writePayload } from '../../build/host/test-vm/payload.js';
import { run } from '../../build/support/exec.js';
import { documentedCommands, inOneLine, type DocumentedCommand } from '../docs/commands.js';
import { openFreshCopy, type FreshCopy } from '../docs/fresh-copy.js';
import { runInMachine, runUnderSelinux } from '../docs/runs.js';
import { hostArchitecture } from '../support/host.js';
import { leaseByUdhcpc } from '../support/lab-client.js';
import { requireThat, requireTools } from '../support/tools.js';
import { journal, openVmImage, plugIn, vmTools, waitForService } from './machine.js';
import { openVmNetwork, type VmNetwork } from './network.js';

const ready =
  requireThat(process.getuid?.() === 0, 'root, for network namespaces and a machine') &&
  requireTools('ethtool', 'git', 'npm', 'tar', 'udhcpc', ...vmTools(hostArchitecture));

const commands = documentedCommands().filter(({ file, text }) => {
  const line = inOneLine(text);
  return file === 'docs/operations.md'
    ? !runUnderSelinux.has(line)
    : file === 'README.md' && runInMachine.includes(line);
});

const start = 'sudo systemctl daemon-reload && sudo systemctl start dhcpd';
const importLeases = 'sudo podman volume import dhcpd-leases dhcpd-leases.tar';
const onNewHost = 'sudo systemctl start dhcpd-leases-volume';
const leaseFile = '$(podman volume inspect --format {{.Mountpoint}} dhcpd-leases)/dhcpd.leases';

/** What commands say, by how they begin. */
const says: readonly (readonly [RegExp, RegExp])[] = [
  [/^sudo podman load /, /^Loaded image: localhost\/dhcpd:latest$/m],
  [/^systemctl is-active dhcpd$/, /^active$/m],
  [/^journalctl --unit dhcpd --/, /Server starting service\./],
  [/^sudo podman top /, /^177 +NET_BIND_SERVICE,NET_RAW +\S+\/dhcpd .* eth0 *$/m],
  [/^sudo cat "\$leases/, /^lease 192\.0\.2\.1\d\d {[^}]*binding state active;/m],
  [/^sudo podman auto-update --dry-run/, /^dhcpd\.service localhost\/dhcpd:latest (?:false|pending)$/m],
  [/^sudo grep -E/, /^CapEff:\t0000000000002400$/m],
  [/^sudo nsenter /, /^eth0 +UP +192\.0\.2\.1\/24/m],
  [/^sudo ls -ln /, / 177 +177 .* dhcp$/m],
  [/^sudo podman run --rm --pid /, /dhcpd -4 -f -d --no-pid eth0/],
  [/ localhost\/dhcpd -t$/, /^Config file: \/etc\/dhcp\/dhcpd\.conf$/m],
];

let copy: FreshCopy;
let network: VmNetwork;
let machine: Machine;
let guest: Guest;
/** What the reader's client was given at first. */
let address = '';
/** Of the one shell that the documents are typed into: each line has a process of its own here. */
const remembered: string[] = [];

/** The host that the documents speak of: its interface is eth0 with 192.0.2.1, and systemd and Podman run there. */
describe.skipIf(!ready)('a reader of "Run it as a service" and of docs/operations.md', () => {
  beforeAll(async () => {
    const image = await openVmImage(hostArchitecture);
    copy = await openFreshCopy();
    await onHost('npm run build:scratch');
    network = await openVmNetwork();
    const files = join(network.lab.directory, 'files');
    await mkdir(files);
    for (const name of ['out', 'config']) {
      await run({ argv: ['cp', '-r', join(copy.directory, name), files], environment: copy.environment });
    }
    const payload = join(network.lab.directory, 'payload');
    await writePayload(payload, files);
    machine = await plugIn(image, network, payload, Math.random);
    guest = await machine.start();
    await guest.run(
      `sed -i 's|^Address=.*|Address=192.0.2.1/24|' /etc/systemd/network/lan.network
       networkctl reload && networkctl reconfigure eth0
       cp -r /payload /root/dhcpd-scratch
       systemctl --quiet unmask podman-auto-update.timer`,
    );
    // Stands in for the image on a Fedora base: what counts is that it has a shell.
    await guest.run(
      `mkdir -p /tmp/shell/bin && cp /usr/bin/busybox /tmp/shell/bin/sh && ln -s sh /tmp/shell/bin/ps
       tar -c -C /tmp/shell . | podman import --quiet - localhost/dhcpd-fedora`,
      120,
    );
  }, 900_000);
  afterAll(async () => {
    await network.lab.close();
    await copy.remove();
  }, 60_000);
  afterEach(async ({ task }) => {
    if (task.result?.state !== 'fail') return;
    process.stderr.write(`${await journal(guest).catch(String)}\n`);
  }, 90_000);

  for (const command of commands) {
    it(`${command.file}:${command.line}: ${inOneLine(command.text)}`, () => perform(command), 400_000);
  }

  it('finds everything that a test expects', () => {
    const lines = commands.map(({ text }) => inOneLine(text));
    for (const [which] of says) {
      expect(
        lines.some((line) => which.test(line)),
        String(which),
      ).toBe(true);
    }
    for (const line of [start, importLeases, onNewHost]) expect(lines).toContain(line);
  });
});

async function perform({ text }: DocumentedCommand): Promise<void> {
  const line = inOneLine(text);
  await before(line);
  const said = await type(line);
  for (const [, expected] of says.filter(([which]) => which.test(line))) expect(said).toMatch(expected);
  if (/systemctl (?:re)?start dhcpd$/.test(line)) await expectLease();
}

/** What has happened meanwhile on the host, where the document tells of it in words. */
async function before(line: string): Promise<void> {
  if (line === importLeases) await guest.run(`rm -f ${leaseFile}`);
  if (line === onNewHost) {
    await guest.run(
      `systemctl stop dhcpd-leases-volume
       podman volume rm dhcpd-leases
       mv /etc/containers/systemd/dhcpd.container.off /etc/containers/systemd/dhcpd.container
       systemctl daemon-reload`,
    );
  }
}

async function type(line: string): Promise<string> {
  if (/^(?:sudo )?npm /.test(line)) return onHost(line);
  const { code, stdout, stderr } = await guest.try(
    ['sudo() { "$@"; }', 'cd /root/dhcpd-scratch', ...remembered, line].join('\n'),
    300,
  );
  expect(code, `${stdout}${stderr}`).toBe(0);
  if (/^\w+=/.test(line)) remembered.push(line);
  return `${stdout}${stderr}`;
}

/** The machine has no Node: npm runs here, for the machine's Podman, and what it writes goes there. */
async function onHost(line: string): Promise<string> {
  const etc = join(copy.empty, 'etc');
  await rm(etc, { recursive: true, force: true });
  const command = line
    .replace(/^sudo /, '')
    .replace(' --output /etc', ` --output ${etc} --podman-version 5.4`);
  const { stdout } = await run({
    argv: ['sh', '-c', command],
    cwd: copy.directory,
    environment: copy.environment,
    timeout: 170_000,
  });
  if (line.includes(' --output /etc')) {
    const archive = join(copy.empty, 'etc.tar.gz');
    const environment = copy.environment;
    await run({ argv: ['tar', '-czf', archive, '-C', etc, '.'], environment });
    const { stdout: text } = await run({ argv: ['base64', '-w0', archive], environment });
    await guest.run(`printf %s '${text}' | base64 -d | tar -xz --no-same-owner -C /etc`);
  }
  return stdout;
}

async function expectLease(): Promise<void> {
  await waitForService(guest);
  const lease = await leaseByUdhcpc(run, network.lab, 'reader');
  expect(lease).toMatchObject({ router: '192.0.2.1', domain: 'home.arpa' });
  // The second address is the one beside macvlan containers; either may be the quicker one.
  expect(['192.0.2.1', '192.0.2.3']).toContain(lease.server);
  if (address === '') address = lease.address;
  expect(lease.address).toBe(address);
  expect(lease.address).toMatch(/^192\.0\.2\.1\d\d$/);
  const file = await guest.run(`cat ${leaseFile}`);
  expect(file).toContain(`lease ${address} {`);
}
