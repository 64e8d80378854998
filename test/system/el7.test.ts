import { execFileSync } from 'node:child_process';
import { chmodSync, closeSync, lstatSync, openSync, readFileSync, readSync, realpathSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { BuiltImage } from '../../build/image/engine.js';
import { run } from '../../build/support/exec.js';
import { listNames } from '../support/extract.js';
import { leaseByDhclient, leaseByUdhcpc } from '../support/lab-client.js';
import { buildImage } from '../support/lab-image.js';
import { canRun, openPodman } from '../support/lab-podman.js';
import { openLab, serverAddress, type Lab } from '../support/lab.js';
import { readLayout } from '../support/oci.js';
import { requireThat, requireTools } from '../support/tools.js';

const rpms = process.env['RPM_SAMPLES'];
const repodata = process.env['REPODATA_SAMPLES'];
const samples = rpms !== undefined && repodata !== undefined;
if (!samples) process.stderr.write('skipped: dhcpd of CentOS 7 needs RPM_SAMPLES and REPODATA_SAMPLES\n');

const ready =
  samples &&
  requireThat(process.getuid?.() === 0, 'root, for chroot and network namespaces') &&
  requireThat(canRun('x86_64'), 'a processor or an emulator for x86_64') &&
  requireTools('createrepo_c', 'tar', 'chroot', 'ldconfig', 'ip', 'podman', 'runc', 'udhcpc', 'dhclient');

const definition = `name: el7
title: ISC DHCP server of CentOS 7
from: scratch
packages:
  fedora:
    release: 7
    package: dhcp
    state: /var/lib/dhcpd
    keys: [6341AB2753D78A78A7C27BB124C6A8A7F4A80EB5]
roots: [dhcpd]
user: { name: dhcpd, id: 177 }
config: /etc/dhcp
state: { volume: leases, files: [dhcpd.leases] }
ports: [67/udp]
capabilities: [NET_RAW, NET_BIND_SERVICE]
run: [-4, -f, -d, --no-pid]
`;

const config = `default-lease-time 600;
max-lease-time 600;
authoritative;
subnet 192.0.2.0 netmask 255.255.255.0 {
  range 192.0.2.50 192.0.2.60;
  option routers 192.0.2.254;
  option domain-name-servers 192.0.2.53;
  option domain-name "lan.test";
}
`;

/** Packages of another age: signatures of version 3, no digest of the payload, a C library without merged threads. */
describe.skipIf(!ready)('ISC dhcpd of CentOS 7 from nothing', () => {
  let work = '';
  let root = '';
  let image: BuiltImage;
  let options: readonly [string, ...string[]];
  let names: readonly string[] = [];
  /** Real paths of the ELF files, without the leading slash. */
  let objects: readonly string[] = [];

  beforeAll(async () => {
    work = realpathSync(await mkdtemp(join(tmpdir(), 'el7-')));
    const mirror = join(work, 'mirror');
    await mkdir(mirror);
    const closure = join(rpms ?? '', 'el7-dhcpd-closure');
    for (const name of await readdir(closure))
      if (name.endsWith('.rpm')) await symlink(join(closure, name), join(mirror, name));
    execFileSync('createrepo_c', ['--quiet', mirror]);

    await writeFile(join(work, 'el7.yaml'), definition);
    const keyring = join(repodata ?? '', 'keys/RPM-GPG-KEY-CentOS-7');
    options = [
      join(work, 'el7.yaml'),
      ...['--distro', 'fedora', '--arch', 'x86_64', '--mirror', `file://${mirror}/`, '--keyring', keyring],
    ];
    image = await buildImage(run, work, join(work, 'cache'), options);

    root = join(work, 'root');
    await mkdir(root);
    const layer = readLayout(image.layout).images[0]?.layer ?? '';
    execFileSync('tar', ['-xpf', layer, '-C', root]);
    names = listNames(layer).map((name) => name.replace(/\/$/, ''));
    objects = names.filter((name) => isElf(join(root, name)));
  }, 240_000);
  afterAll(() => rm(work, { recursive: true, force: true }));

  it('loads in the image what the whole system loads, over the same paths', () => {
    const list = execFileSync('chroot', [root, '/lib64/ld-linux-x86-64.so.2', '--list', '/usr/sbin/dhcpd'], {
      encoding: 'utf8',
    });
    const lines = (text: string): readonly string[] =>
      text
        .split('\n')
        .map((line) => line.replace(/ \(0x[0-9a-f]+\)$/, '').trim())
        .filter((line) => line !== '' && !line.startsWith('linux-vdso'));
    expect(lines(list)).toEqual(lines(expectedList()));
    expect(lines(list)).toHaveLength(42);
  });

  it('holds these files and no other object', () => {
    const loaded = [...expectedList().matchAll(/(?<==> |^\t)(\/\S+)/gm)].map(([, path = '']) =>
      realPath(path),
    );
    expect([...objects].sort()).toEqual([...new Set(['usr/sbin/dhcpd', ...loaded])].sort());
    const others = names.filter((name) => lstatSync(join(root, name)).isFile() && !objects.includes(name));
    expect(others.sort()).toEqual([
      'etc/group',
      'etc/ld.so.cache',
      'etc/passwd',
      'var/lib/dhcpd/dhcpd.leases',
      'var/lib/rpmmanifest/container-manifest-1',
      'var/lib/rpmmanifest/container-manifest-2',
    ]);
    // Those that bring a file, and the one that brings the links.
    const manifest = readFileSync(join(root, 'var/lib/rpmmanifest/container-manifest-2'), 'utf8');
    expect(manifest.trimEnd().split('\n')).toHaveLength(26);
  });

  it('has in its cache what only the cache leads to', () => {
    const printed = execFileSync('ldconfig', ['-p', '-C', join(root, 'etc/ld.so.cache')], {
      encoding: 'utf8',
    });
    expect(
      printed
        .split('\n')
        .slice(1, -1)
        .map((line) => line.trim()),
    ).toEqual([
      'libisc-export.so.169 (libc6,x86-64) => /usr/lib64//bind9-export/libisc-export.so.169',
      'libdns-export.so.1102 (libc6,x86-64) => /usr/lib64//bind9-export/libdns-export.so.1102',
    ]);
  });

  it('is the same image from its lock file and the cache alone', async () => {
    const again = await buildImage(run, work, join(work, 'cache'), [...options, '--locked', '--offline']);
    expect(again.digest).toBe(image.digest);
  });

  describe('in a network', () => {
    let lab: Lab;
    beforeEach(async (context) => {
      lab = await openLab(run);
      context.onTestFinished(() => lab.close());
    });

    it('leases, without the NSS modules that its C library looks for', async () => {
      const podman = await openPodman(run, lab);
      const from = join(lab.directory, 'config');
      await mkdir(from);
      await writeFile(join(from, 'dhcpd.conf'), config);
      chmodSync(from, 0o755);
      chmodSync(join(from, 'dhcpd.conf'), 0o644);
      const server = await podman.serve({
        image: await podman.load(image.archive),
        name: 'el7',
        capabilities: ['NET_RAW', 'NET_BIND_SERVICE'],
        command: [lab.server.interface],
        config: { from, to: '/etc/dhcp' },
        state: { volume: 'leases', to: '/var/lib/dhcpd' },
      });
      await server.waitFor(/Sending on +LPF\/lan0/);
      expect(await server.log()).toContain('Internet Systems Consortium DHCP Server 4.2.5');

      const lease = await leaseByUdhcpc(run, lab, 'web1');
      expect(lease).toEqual({
        address: expect.stringMatching(/^192\.0\.2\.(5[0-9]|60)$/) as string,
        mask: '255.255.255.0',
        router: '192.0.2.254',
        dns: '192.0.2.53',
        domain: 'lan.test',
        seconds: 600,
        server: serverAddress,
      });
      await server.waitFor(`DHCPACK on ${lease.address} to ${lab.client.mac} \\(web1\\) via lan0`);
      const leases = readFileSync(join(await podman.volume('leases'), 'dhcpd.leases'), 'utf8');
      expect(leases).toContain(`lease ${lease.address} {`);

      const other = await leaseByDhclient(run, lab);
      await server.waitFor(`DHCPRELEASE of ${other.address} from ${lab.client.mac} via lan0 \\(found\\)`);
      for (const { status } of await server.processes())
        expect(status.get('Uid')?.split('\t')).toEqual(Array(4).fill('177'));
    });
  });

  /** What the loader of a whole CentOS 7 prints of dhcpd. */
  function expectedList(): string {
    return readFileSync(join(rpms ?? '', 'el7-dhcpd-closure/EXPECTED-ldd.txt'), 'utf8');
  }

  /** Inside the root, without the leading slash. */
  function realPath(path: string): string {
    return realpathSync(join(root, path)).slice(root.length + 1);
  }
});

function isElf(path: string): boolean {
  if (!lstatSync(path).isFile()) return false;
  const head = Buffer.alloc(4);
  const file = openSync(path, 'r');
  readSync(file, head);
  closeSync(file);
  return head.toString('latin1') === '\x7fELF';
}
