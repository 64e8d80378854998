import { chmodSync, existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { errorLines, Place, temporaryNames } from '../support/cli.js';
import { requireTools } from '../support/tools.js';

const checkout = fileURLToPath(new URL('../..', import.meta.url));
const all = [
  'containers/systemd/dhcpd.container',
  'containers/systemd/dhcpd.image',
  'containers/systemd/dhcpd-leases.volume',
  'systemd/system/dhcpd-room.path',
  'systemd/system/dhcpd-room.timer',
  'systemd/system/dhcpd-room.service',
  'systemd/system/dhcpd-config.path',
  'systemd/system/dhcpd-config.service',
  'dhcpd-scratch/check',
];
const newest = ['--podman-version', '6.0'];
const chosen = ['quadlet', '--distro', 'fedora', '--interface', 'eth0', ...newest];

let place: Place;
beforeEach(() => {
  place = new Place();
});
afterEach(() => {
  place.remove();
});

const read = (name: string): string => readFileSync(place.path(name), 'utf8');
const container = (): string => read('quadlet/containers/systemd/dhcpd.container');

describe('quadlet', () => {
  it('writes what is committed in quadlet/', async () => {
    const printed = await place.ok(chosen);
    expect(printed).toBe(all.map((path) => `written    quadlet/${path}\n`).join(''));
    for (const path of all) {
      expect(read(`quadlet/${path}`), path).toBe(readFileSync(join(checkout, 'quadlet', path), 'utf8'));
    }
    expect(temporaryNames(place.list('quadlet'))).toEqual([]);
    const checked = await place.ok([...chosen, '--output', join(checkout, 'quadlet'), '--check']);
    expect(checked.match(/^unchanged /gm)).toHaveLength(all.length);
  });

  it('writes only what has changed, and the same again', async () => {
    await place.ok(chosen);
    expect(await place.ok(chosen)).toBe(all.map((path) => `unchanged  quadlet/${path}\n`).join(''));
    const printed = await place.ok([
      'quadlet',
      '--distro',
      'fedora',
      '--interface',
      'eth0,eth1',
      '--interface',
      'eth2',
    ]);
    expect(printed).toContain('unchanged  quadlet/containers/systemd/dhcpd.image\n');
    expect(printed).toContain('written    quadlet/containers/systemd/dhcpd.container\n');
    expect(container()).toContain('\nExec=eth0 eth1 eth2\n');
  });

  it('prints one JSON document', async () => {
    const document: unknown = JSON.parse(await place.ok([...chosen, '--podman-version', '5.4', '--json']));
    expect(document).toEqual({
      output: 'quadlet',
      files: all.filter((path) => !path.endsWith('.image')).map((path) => ({ path, state: 'written' })),
      notes: ['without dhcpd.image, because Policy= came with Podman 5.6: load the image'],
    });
  });

  it('checks, and writes nothing', async () => {
    const missing = await place.run([...chosen, '--check', '--output', 'units']);
    expect(missing.code).toBe(1);
    expect(existsSync(place.path('units'))).toBe(false);
    await place.ok(chosen);
    place.write('quadlet/systemd/system/dhcpd-config.path', 'other\n');
    const other = await place.run([...chosen, '--check']);
    expect(other.code).toBe(1);
    expect(other.stderr).toBe(
      'error: cannot accept quadlet: not what would be generated: quadlet/systemd/system/dhcpd-config.path; run the command without --check\n',
    );
    expect(read('quadlet/systemd/system/dhcpd-config.path')).toBe('other\n');
  });

  it.skipIf(process.getuid?.() !== 0 || !requireTools('unshare', 'mount'))(
    'says why it cannot write',
    async () => {
      mkdirSync(place.path('etc'));
      const mounting = `mount -t tmpfs -o ro tmpfs '${place.path('etc')}' && exec "$@"`;
      const outcome = await place.run([...chosen, '--output', 'etc'], {
        under: ['unshare', '--mount', 'sh', '-c', mounting, 'sh'],
      });
      expect(outcome.code).toBe(1);
      expect(errorLines(outcome)).toEqual([
        expect.stringMatching(
          /^error: cannot make directory \S+\/etc\/containers: (?:the file system is )?read-only/,
        ),
      ]);
    },
  );

  it('replaces no file that it has not written', async () => {
    const path = place.path('quadlet/systemd/system/dhcpd-config.service');
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, '[Service]\nExecStart=/bin/mine\n');
    const outcome = await place.run(chosen);
    expect(outcome.code).toBe(1);
    expect(errorLines(outcome)).toEqual([
      expect.stringMatching(
        /^error: cannot write \S+dhcpd-config\.service: a file of this name is there that was not generated; move it away/,
      ),
    ]);
    expect(readFileSync(path, 'utf8')).toBe('[Service]\nExecStart=/bin/mine\n');
    expect(existsSync(place.path('quadlet/containers'))).toBe(false);
  });

  it.each([
    ['podman version 5.4.2', '5.4', false],
    ['podman version 5.8.6-dev', '5.8', true],
    ['podman version 4.9.4-rhel', '4.9', false],
    ['podman version 5.8.6', '5.8', true],
    ['podman version 4.3.1', '6.0', true],
    ['', '6.0', true],
  ])('takes the host as it is: %j', async (says, version, hasImage) => {
    mkdirSync(place.path('bin'));
    chmodSync(place.write('bin/podman', `#!/bin/sh\necho '${says}'\n`), 0o755);
    const outcome = await place.run(['quadlet', '--distro', 'fedora', '--interface', 'eth0'], {
      environment: { PATH: `${place.path('bin')}:/usr/bin:/bin` },
    });
    expect(outcome.code).toBe(0);
    expect(outcome.stderr).toContain(`for Podman ${version}`);
    expect(existsSync(place.path('quadlet/containers/systemd/dhcpd.image'))).toBe(hasImage);
  });

  it('says what is left of other options', async () => {
    await place.ok(chosen);
    const args = [...chosen, '--leases', '/srv/leases', '--podman-version', '5.4'];
    const outcome = await place.run(args);
    expect(outcome.code).toBe(0);
    expect(outcome.stdout).toMatch(/^left {7}quadlet\/containers\/systemd\/dhcpd-leases\.volume$/m);
    expect(outcome.stderr).toMatch(/dhcpd\.image is of an earlier run with other options: remove it$/m);
    const checked = await place.run([...args, '--check']);
    expect(checked.code).toBe(1);
    expect(checked.stderr).toContain('quadlet/containers/systemd/dhcpd.image, quadlet/');
  });

  it('takes the options of a host', async () => {
    await place.ok([
      ...['quadlet', 'dnsmasq', '--distro', 'debian', '--interface', 'br-lan', '--name', 'lan-dhcp'],
      ...['--image', 'quay.io/dhcp/dnsmasq', '--config', '/srv/dhcp/', '--leases', '/srv/100%/$x'],
      ...['--macvlan', 'eth0', '--shim-address', '192.0.2.3/24', '--output', 'etc', ...newest],
    ]);
    const text = read('etc/containers/systemd/lan-dhcp.container');
    expect(text).toContain('\nVolume=/srv/dhcp:/etc/dnsmasq.d:ro,z\n');
    expect(text).toContain('\nVolume=/srv/100%%/$$x:/var/lib/misc:Z\n');
    expect(text).toContain('\nExec=--interface=br-lan --interface=eth0 --interface=shim-eth0 --port=0\n');
    expect(text).toContain('\nAutoUpdate=registry\n');
    expect(text).toContain('sys-subsystem-net-devices-br\\x2dlan.device');
    expect(read('etc/containers/systemd/lan-dhcp.image')).toContain('\nPolicy=missing\n');
    expect(read('etc/containers/systemd/lan-dhcp-lan.network')).toContain('\nOptions=parent=eth0\n');
    expect(read('etc/systemd/system/lan-dhcp-shim.service')).toContain(
      '\nExecStart=/usr/sbin/ip address add 192.0.2.3/24 dev shim-eth0\n',
    );
    expect(place.list('etc').filter((path) => path.endsWith('.volume'))).toEqual([]);
  });

  it('makes a machine', async () => {
    mkdirSync(place.path('mine'));
    place.write('mine/dhcpd.conf', 'subnet 192.0.2.0 netmask 255.255.255.0 { }\n');
    const args = [...chosen, '--image', 'quay.io/dhcp/server', '--butane'];
    expect(await place.ok([...args, '--config-from', 'mine'])).toBe(
      'written    quadlet/dhcpd.bu\nwritten    quadlet/dhcpd.ign\n',
    );
    expect(read('quadlet/dhcpd.bu')).toContain('path: /etc/dhcp/dhcpd.conf\n');
    expect(read('quadlet/dhcpd.bu')).toContain('subnet 192.0.2.0');
    expect(await place.ok(args)).toContain('written    quadlet/dhcpd.ign');
    expect(read('quadlet/dhcpd.bu')).toContain('# Configuration of the ISC DHCP server (IPv4)');
    expect(await place.ok([...args, '--check'])).toBe(
      'unchanged  quadlet/dhcpd.bu\nunchanged  quadlet/dhcpd.ign\n',
    );
  });
});

describe('the configuration of a machine', () => {
  const args = [...chosen, '--image', 'quay.io/dhcp/server', '--butane', '--config-from', 'mine'];
  const paths = (): readonly string[] =>
    [...read('quadlet/dhcpd.bu').matchAll(/^ +- path: \/etc\/dhcp\/(.*)$/gm)].map(([, path = '']) => path);

  it('has what links lead to, and nothing of editors and git', async () => {
    for (const directory of ['mine/.git', 'mine/nets', 'shared'])
      mkdirSync(place.path(directory), { recursive: true });
    const file = place.write('shared/dhcpd.conf', 'authoritative;\n');
    symlinkSync(file, place.path('mine/dhcpd.conf'));
    for (const name of ['mine/.git/index', 'mine/.dhcpd.conf.swp']) {
      writeFileSync(place.path(name), Buffer.from([0xff, 0xfe]));
    }
    for (const name of ['mine/dhcpd.conf~', 'mine/#dhcpd.conf#', 'mine/nets/a.conf'])
      place.write(name, 'x\n');
    await place.ok(args);
    expect(paths()).toEqual(['dhcpd.conf', 'nets/a.conf']);
    expect(read('quadlet/dhcpd.bu')).toContain('authoritative;');
  });

  it.each([
    ['no dhcpd.conf', [], /^error: cannot use mine: no dhcpd\.conf is in it/],
    ['a link to nothing', ['nowhere'], /^error: cannot read \S+mine\/link: no such file or directory/],
    [
      'a link to a directory',
      ['.'],
      /^error: cannot use \S+mine\/link: it is a link to a directory; put the files/,
    ],
  ])('is refused with %s', async (_, targets, message) => {
    mkdirSync(place.path('mine'));
    place.write('mine/other.conf', 'x\n');
    for (const target of targets) symlinkSync(target, place.path('mine/link'));
    const outcome = await place.run(args);
    expect(outcome.code).toBe(2);
    expect(errorLines(outcome)[0]).toMatch(message);
  });
});

describe('quadlet refuses', () => {
  const digest = `sha256:${'a'.repeat(63)}`;
  it.each([
    [
      ['quadlet'],
      /^error: cannot write units of dhcpd: nothing says which interface it serves; give --interface/,
    ],
    [
      [...chosen, '--rootless'],
      /^error: cannot write units for a rootless Podman: only root may open port 67/,
    ],
    [[...chosen, '--name', '../x'], /^error: cannot use the name "\.\.\/x": /],
    [[...chosen, '--name', 'a\nb'], /^error: cannot use the name "a\\nb": /],
    [
      [...chosen, '--name', 'lan-image'],
      /^error: cannot use the name "lan-image": a server named lan has a unit lan-image\.service; choose/,
    ],
    [[...chosen, '--image', 'a b'], /^error: cannot use the reference "a b": /],
    [[...chosen, '--image', 'x\nExecStart=/bin/sh'], /^error: cannot use the reference "x\\nExecStart/],
    [[...chosen, '--image', `x@${digest}`], /^error: cannot use the reference "x@sha256/],
    [
      [...chosen, '--config', 'etc/dhcp'],
      /^error: cannot use --config "etc\/dhcp": it is no absolute path; /,
    ],
    [
      [...chosen, '--config', '/etc/my dhcp'],
      /^error: cannot use --config .*: Quadlet takes no directory with spaces/,
    ],
    [[...chosen, '--config', '/a:b'], /^error: cannot use --config "\/a:b"/],
    [[...chosen, '--leases', '/a"b'], /^error: cannot use --leases/],
    [
      [...chosen, '--config', '/etc/'],
      /^error: cannot use --config "\/etc\/": others keep their files there/,
    ],
    [
      [...chosen, '--leases', '/var/lib'],
      /^error: cannot use --leases "\/var\/lib": others keep their files/,
    ],
    ...['/etc/dhcp', '/etc/dhcp/leases', '/srv/../etc/dhcp/x'].map(
      (text) =>
        [
          [...chosen, '--leases', text],
          /^error: cannot use --leases \S+: the configuration is in \/etc\/dhcp; give each a directory/,
        ] as const,
    ),
    [[...chosen, '--leases', '/..'], /^error: cannot use --leases .*: the root directory/],
    [['quadlet', '--interface', 'a/b'], /^error: cannot serve the interface "a\/b": /],
    [['quadlet', '--interface', 'sixteen-letters-'], /^error: cannot serve the interface/],
    [['quadlet', '--interface', 'eth0,'], /^error: cannot serve the interface ""/],
    [['quadlet', '--interface', 'eth0:1'], /^error: cannot serve the interface "eth0:1"/],
    [['quadlet', '--interface=-t'], /^error: cannot serve the interface "-t"/],
    [
      [...chosen, '--podman-version', '4.3'],
      /^error: cannot write units for Podman "4\.3": Quadlet came with Podman 4\.4/,
    ],
    [[...chosen, '--podman-version', 'new'], /^error: cannot write units for Podman "new": it is no version/],
    [[...chosen, '--macvlan', 'eth0'], /^error: cannot make a network for containers: .* belong together/],
    [
      [...chosen, '--macvlan', 'eth0', '--shim-address', '192.0.2.256/24'],
      /^error: cannot use --shim-address/,
    ],
    ...['192.0.02.3/24', '192.0.2.3/024', '192.0.2.3', '192.0.2.3/33', '192.0.2.3/0'].map(
      (text) =>
        [
          [...chosen, '--macvlan', 'eth0', '--shim-address', text],
          /^error: cannot use --shim-address .*: it is no IPv4 address with a prefix; /,
        ] as const,
    ),
    ...['192.0.2.0/24', '192.0.2.255/24'].map(
      (text) =>
        [
          [...chosen, '--macvlan', 'eth0', '--shim-address', text],
          /^error: cannot use --shim-address .*: it stands for all of 192\.0\.2\.0\/24; /,
        ] as const,
    ),
    [
      [...chosen, '--podman-version', '4.4', '--macvlan', 'eth0', '--shim-address', '192.0.2.3/24'],
      /came with Podman 4\.5/,
    ],
    [[...chosen, '--config-from', 'x'], /^error: cannot use --config-from: only --butane takes/],
    [[...chosen, '--butane', '--config-from', 'x'], /^error: cannot read \S+\/x: no such file or directory/],
  ] as const)('%j', async (args, message) => {
    const outcome = await place.run([...args]);
    expect(outcome.code, outcome.stderr).toBe(2);
    const [line, ...more] = errorLines(outcome).filter((text) => !text.startsWith('note: '));
    expect(line).toMatch(message);
    expect(more).toEqual([]);
    expect(existsSync(place.path('quadlet'))).toBe(false);
  });
});
