import { readFileSync } from 'node:fs';
import {
  appendFile,
  chmod,
  chown,
  link,
  mkdir,
  mkdtemp,
  readFile,
  readlink,
  rename,
  rm,
  stat,
  symlink,
  writeFile,
} from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { loadDefinition } from '../../build/definition/load.js';
import { run } from '../../build/support/exec.js';
import { serviceOf, type Service } from '../../build/units/service.js';
import { leaseByUdhcpc } from '../support/lab-client.js';
import { openCheckLab, systems, type CheckLab, type Outcome } from '../support/check-lab.js';
import { buildImage, checkout } from '../support/lab-image.js';
import { openPodman, type LabContainer, type LabPodman } from '../support/lab-podman.js';
import { openLab, type Lab } from '../support/lab.js';
import { requireThat, requireTools } from '../support/tools.js';

const ready =
  requireThat(process.getuid?.() === 0, 'root, for network namespaces') &&
  requireTools(
    'ip',
    'nsenter',
    'podman',
    'runc',
    'mount',
    'mke2fs',
    'mkfifo',
    'dash',
    'mawk',
    'bash',
    'gawk',
    'busybox',
  );

/** In CI the mount decides: it makes the kernel load what it does not list yet. */
const hasBtrfs =
  ready &&
  requireTools('mkfs.btrfs', 'chattr') &&
  requireThat(
    process.env['CI'] !== undefined || /^\tbtrfs$/m.test(readFileSync('/proc/filesystems', 'utf8')),
    'a kernel with btrfs',
  );

const subnet = 'subnet 192.0.2.0 netmask 255.255.255.0 { range 192.0.2.50 192.0.2.60; }\n';
const account = 177;

/** Statements that the server writes into the records of its leases, in lines that it breaks. */
const statements = `on expiry or release {
  if exists host-name {
    log(info, concat("the address ", binary-to-ascii(10, 8, ".", leased-address), " of ", option host-name, " is free"));
  } elsif known {
    set kind = "{ known }";
  } else {
    log(info, "somebody has gone {");
  }
}
${subnet}`;

let lab: Lab;
let podman: LabPodman;
let image = '';
beforeAll(async () => {
  if (!ready) return;
  lab = await openLab(run);
  podman = await openPodman(run, lab);
  const built = await buildImage(run, lab.directory, join(lab.directory, 'cache'), [
    'images/scratch/dhcpd.yaml',
    ...['--distro', 'debian'],
  ]);
  image = await podman.load(built.archive);
}, 240_000);
afterAll(async () => {
  if (ready) await lab.close();
});

describe('the script', () => {
  it.skipIf(!requireTools('shellcheck'))('has nothing that shellcheck would change', async () => {
    const path = join(checkout, 'quadlet/dhcpd-scratch/check');
    await run({ argv: ['shellcheck', path], environment: { PATH: process.env['PATH'] ?? '' } });
  });
});

describe.skipIf(!ready).each(systems)('before a start, with $name', (system) => {
  let check: CheckLab;
  let place = '';
  let count = 0;
  beforeAll(async () => {
    check = await openCheckLab(lab, podman, system);
  });

  /** A service of its own: a configuration, and an empty directory of the account for the leases. */
  async function serviceWith(config: string, change: Partial<Service> = {}): Promise<Service> {
    place = join(lab.directory, `${system.awk}-${(count += 1)}`);
    const state = join(place, 'leases');
    await mkdir(join(place, 'config'), { recursive: true });
    await mkdir(state);
    await chown(state, account, account);
    await writeFile(join(place, 'config/dhcpd.conf'), config);
    await chmod(join(place, 'config'), 0o755);
    const definition = await loadDefinition(join(checkout, 'images/scratch/dhcpd.yaml'));
    const service = serviceOf(definition, {
      ...{ name: `dhcpd-${count}`, image, family: 'debian', interfaces: [lab.server.interface] },
      ...{ config: join(place, 'config'), state },
    });
    return { ...service, ...change };
  }

  /** One line for the one fault, and nothing about what is not wrong. */
  function expectFault(outcome: Outcome, text: string | RegExp): void {
    const faults = outcome.stderr.split('\n').filter((line) => line.startsWith('cannot '));
    expect(faults, outcome.stderr).toHaveLength(1);
    expect(faults[0]).toMatch(text);
    expect(outcome.code).toBe(1);
    expect(outcome.stdout).toBe('');
  }

  const start = (service: Service): Promise<Outcome> => check.run('start', service, ['--wait', '1']);

  it('finds nothing wrong, makes the lease file and notes the configuration', async () => {
    const service = await serviceWith(subnet);
    const outcome = await start(service);
    expect(outcome).toMatchObject({ code: 0, stdout: '' });
    expect(outcome.stderr).toBe(`${place}/leases/dhcpd.leases was missing: made an empty one\n`);
    const { uid, gid, size } = await stat(join(place, 'leases/dhcpd.leases'));
    expect([uid, gid, size]).toEqual([account, account, 0]);
    expect(await readFile(join(check.notes, `${service.name}.config`), 'utf8')).toMatch(/^[0-9a-f]{64}/);
    expect((await start(service)).stderr).toBe('');
  });

  it('gives an empty directory to the account, and a new volume too', async () => {
    const service = await serviceWith(subnet);
    await chown(join(place, 'leases'), 0, 0);
    expect((await start(service)).code).toBe(0);
    expect((await stat(join(place, 'leases'))).uid).toBe(account);

    const volume = `${service.name}-leases`;
    const state = { from: { volume }, container: '/var/lib/dhcp', files: ['dhcpd.leases'] };
    expect((await start({ ...service, state })).code).toBe(0);
    const { uid } = await stat(join(await podman.volume(volume), 'dhcpd.leases'));
    expect(uid).toBe(account);
  });

  it.each([
    ['an interface that is not there', ['lan0', 'eth9'], /there is no interface eth9; `ip -brief link`/],
    ['an interface that is down', ['down0'], /the interface down0 is down; set it up/],
    ['an interface without an address', ['bare0'], /the interface bare0 has no IPv4 address/],
    ['a second name', ['other0'], /the server knows no interface other0: its own name is far0, serve that$/],
    ['a port of a bridge', ['port0'], /port0 has no IPv4 address, because it belongs to bare0; serve that$/],
    ['an address in no subnet', ['far0'], /no subnet in \S+ has the address of far0, 198\.51\.100\.9; /],
  ] as const)('says that there is %s', async (_, [first, ...rest], text) => {
    await addInterfaces();
    expectFault(await start(await serviceWith(subnet, { interfaces: [first, ...rest] })), text);
  });

  it('waits for an address', async () => {
    await addInterfaces();
    const service = await serviceWith(subnet, { interfaces: ['late0'] });
    const address = ['address', 'replace', '192.0.2.77/24', 'dev', 'late0'];
    const waiting = check.run('start', service, ['--wait', '20']);
    await new Promise((resolve) => setTimeout(resolve, 2500));
    await ip('address', 'flush', 'dev', 'late0');
    await ip(...address);
    const outcome = await waiting;
    expect(outcome.stderr).toContain('waiting for late0\n');
    expect(outcome.code).toBe(0);
    await ip('address', 'flush', 'dev', 'late0');
  });

  it('says where a configuration is wrong', async () => {
    const outcome = await start(
      await serviceWith('subnet 192.0.2.0 netmask 255.255.255.0 {\n  rnge 1;\n}\n'),
    );
    expectFault(outcome, /the configuration in \S+\/config is refused: \/etc\/dhcp\/dhcpd\.conf line 2: /);
    expect(outcome.stderr).toContain('Configuration file errors encountered');
    expect(await stat(join(check.notes, 'x')).catch(() => undefined)).toBeUndefined();
  });

  it('says which file of a configuration the server cannot read, and why that may be', async () => {
    const service = await serviceWith(subnet);
    const file = join(place, 'config/dhcpd.conf');
    const because = `the server sees nothing but ${place}/config, and reads it as the account 177`;
    await chmod(file, 0o600);
    expectFault(
      await start(service),
      `refused: Can't open /etc/dhcp/dhcpd.conf: Permission denied; ${because}`,
    );
    await rm(file);
    expectFault(
      await start(service),
      `refused: Can't open /etc/dhcp/dhcpd.conf: No such file or directory; ${because}`,
    );
    // Good here, and nothing in the container.
    await writeFile(join(place, 'elsewhere.conf'), subnet);
    await symlink(join(place, 'elsewhere.conf'), file);
    expectFault(await start(service), `dhcpd.conf: No such file or directory; ${because}`);
    await rm(file);
    await writeFile(file, `${subnet}include "/usr/share/more.conf";\n`);
    expectFault(
      await start(service),
      `refused: Can't open /usr/share/more.conf: No such file or directory; `,
    );
  });

  it('follows a link to the directory of the configuration', async () => {
    const service = await serviceWith(subnet);
    const [link, next] = [join(place, 'link'), join(place, 'next')];
    await symlink('config', link);
    const linked = { ...service, config: { host: link, container: '/etc/dhcp' } };
    expect((await start(linked)).code).toBe(0);
    expect(await check.run('reload', linked)).toMatchObject({ code: 0, stderr: '' });
    await mkdir(next);
    await chmod(next, 0o755);
    await writeFile(join(next, 'dhcpd.conf'), 'nonsense\n');
    await rm(link);
    await symlink('next', link);
    expectFault(await check.run('reload', linked), /is refused: \S+dhcpd\.conf line 1: /);
  });

  it('says that the configuration declares nothing', async () => {
    const service = await serviceWith('authoritative; # subnet 192.0.2.0 netmask 255.255.255.0 {}\n');
    expectFault(await start(service), /dhcpd\.conf in \S+ declares no subnet/);
  });

  it('refuses a file where a directory is needed', async () => {
    const service = await serviceWith(subnet);
    const host = join(place, 'config/dhcpd.conf');
    expectFault(
      await start({ ...service, config: { host, container: '/etc/dhcp' } }),
      /dhcpd\.conf is a file/,
    );
    const gone = { host: join(place, 'gone'), container: '/etc/dhcp' };
    expectFault(await start({ ...service, config: gone }), /there is no directory \S+\/gone/);
    const state = { from: { directory: host }, container: '/var/lib/dhcp', files: ['dhcpd.leases'] };
    expectFault(await start({ ...service, state }), /dhcpd\.conf is a file; the leases need a directory/);
    const lost = { ...state, from: { directory: join(place, 'lost') } };
    expectFault(await start({ ...service, state: lost }), /there is no directory \S+\/lost for the leases/);
  });

  it('says that the image is not here', async () => {
    const service = await serviceWith(subnet, { image: 'localhost/nowhere:1' });
    expectFault(await start(service), /the image localhost\/nowhere:1 is not here; get it/);
  });

  it('puts a missing lease file back from its backup', async () => {
    const service = await serviceWith(subnet);
    const file = join(place, 'leases/dhcpd.leases');
    await writeFile(`${file}~`, '# the old leases\n');
    await chown(`${file}~`, account, account);
    const outcome = await start(service);
    expect(outcome).toMatchObject({ code: 0, stderr: `${file} was missing: restored from dhcpd.leases~\n` });
    expect(await readFile(file, 'utf8')).toBe('# the old leases\n');
  });

  it('says whose the leases are', async () => {
    const service = await serviceWith(subnet);
    const file = join(place, 'leases/dhcpd.leases');
    await writeFile(file, '');
    expectFault(await start(service), /dhcpd\.leases does not belong to the account 177; `chown 177:177 /);
    await chown(join(place, 'leases'), 5, 5);
    expectFault(await start(service), /leases does not belong to the account 177; `chown -R 177:177 /);
  });

  it('takes a directory into which the leases of another host have been put', async () => {
    const service = await serviceWith(subnet);
    const leases = join(place, 'leases');
    await writeFile(join(leases, 'dhcpd.leases'), '# of the other host\n');
    await chown(join(leases, 'dhcpd.leases'), account, account);
    // As a volume is that was made for `podman volume import`.
    await chown(leases, 0, 0);
    expect(await start(service)).toMatchObject({ code: 0, stderr: '' });
    expect((await stat(leases)).uid).toBe(account);
  });

  it('refuses a lease file that is no plain file, or mounted by itself', async () => {
    const service = await serviceWith(subnet);
    const file = join(place, 'leases/dhcpd.leases');
    await mkdir(file);
    expectFault(await start(service), /dhcpd\.leases is no plain file/);
    await rm(file, { recursive: true });
    await writeFile(file, '');
    await chown(file, account, account);
    await command('mount', '--bind', file, file);
    try {
      expectFault(await start(service), /dhcpd\.leases is mounted by itself/);
    } finally {
      await command('umount', file);
    }
  });

  it('says that the disk is full, or cannot be written to', async () => {
    const service = await serviceWith(subnet);
    const state = join(place, 'leases');
    await command('mount', '-t', 'tmpfs', '-o', `size=128k,uid=${account}`, 'tmpfs', state);
    try {
      await writeFile(join(state, 'fill'), Buffer.alloc(124 * 1024));
      expectFault(await start(service), /the disk of \S+\/leases is full; make room/);
      await rm(join(state, 'fill'));
      // What is left is enough for the trial alone.
      await writeFile(join(state, 'fill'), Buffer.alloc(90 * 1024));
      expectFault(await start(service), /the disk of \S+\/leases is full; make room/);
      await rm(join(state, 'fill'));
      await command('mount', '-o', 'remount,ro', state);
      expectFault(await start(service), /\S+\/leases is on a read-only file system/);
    } finally {
      await command('umount', state);
    }
  });

  it.skipIf(!hasBtrfs)(
    'has room that counts on btrfs too',
    async () => {
      const service = await serviceWith(subnet);
      const state = join(place, 'leases');
      await command('truncate', '-s', '128M', `${state}.disk`);
      await command('mkfs.btrfs', '-q', `${state}.disk`);
      await command('mount', '-o', 'loop', `${state}.disk`, state);
      try {
        expect((await start(service)).stderr).toMatch(/^\S+ was missing: made an empty one\n$/);
        const leases = join(state, 'dhcpd.leases');
        const record = Buffer.alloc(300, '#');
        await appendFile(leases, record, { flush: true });
        expect(await check.run('reserve', service)).toMatchObject({ code: 0, stderr: '' });
        await fill(join(state, 'fill'));
        for (let count = 0; count < 200; count += 1) await appendFile(leases, record, { flush: true });
      } finally {
        await command('umount', state);
      }
    },
    120_000,
  );

  it('checks a configuration alone', async () => {
    const service = await serviceWith(subnet, { interfaces: ['eth9'] });
    await rm(join(place, 'leases'), { recursive: true });
    expect(await check.run('config', service)).toMatchObject({ code: 0, stdout: '', stderr: '' });
    await writeFile(join(place, 'config/dhcpd.conf'), '}\n');
    expectFault(await check.run('config', service), /is refused: \/etc\/dhcp\/dhcpd\.conf line [0-9]/);
  });

  it('restarts the server for a good change alone', async () => {
    const service = await serviceWith(subnet);
    const file = join(place, 'config/dhcpd.conf');
    await start(service);
    const reload = (): Promise<Outcome> => check.run('reload', service);
    const orders = async (): Promise<string> => readFile(check.systemctlLog, 'utf8');
    const before = await orders();

    // Nothing but a touch, and what an editor keeps beside the file.
    await chmod(file, 0o600);
    await chmod(file, 0o644);
    await writeFile(join(place, 'config/.dhcpd.conf.swp'), 'x');
    await writeFile(join(place, 'config/dhcpd.conf~'), 'x');
    expect(await reload()).toMatchObject({ code: 0, stderr: '' });

    await writeFile(file, `${subnet}}\n`);
    const bad = await reload();
    expectFault(bad, /the configuration in \S+ is refused: .* line [0-9]/);
    expect(bad.stderr).toMatch(/goes on with the configuration that it has\n$/);
    expectFault(await reload(), /is still the one that was refused/);

    await writeFile(file, 'subnet 198.51.100.0 netmask 255.255.255.0 { }\n');
    expectFault(await reload(), /no subnet in \S+ has the address of lan0, 192\.0\.2\.1; /);
    expect(await orders()).toBe(before);

    await writeFile(file, `${subnet}authoritative;\n`);
    // The stand-in restarts nothing: what a restart notes is written here.
    const reloading = reload();
    await waitUntil(async () => (await orders()) !== before);
    await start(service);
    const good = await reloading;
    expect(good.stderr).toContain(`is good: restarting ${service.name}\n`);
    expect(good.code).toBe(0);
    expect((await orders()).slice(before.length)).toMatch(
      new RegExp(`^(restart ${service.name}\\.service\n)+$`),
    );

    // A start is under way, and takes the new file by itself.
    await writeFile(check.unitState, 'activating\n');
    await writeFile(file, subnet);
    const orderedBefore = await orders();
    const waiting = reload();
    await new Promise((resolve) => setTimeout(resolve, 1500));
    await start(service);
    await writeFile(check.unitState, 'active\n');
    expect(await waiting).toMatchObject({ code: 0, stderr: '' });
    expect(await orders()).toBe(orderedBefore);

    await writeFile(check.unitState, 'inactive\n');
    await writeFile(file, '}\n');
    expect(await reload()).toMatchObject({ code: 0 });
    await writeFile(check.unitState, 'active\n');
  });

  it('takes no command line that it does not understand', async () => {
    const service = await serviceWith(subnet);
    for (const more of [['--nmae', 'x'], ['--wait']]) {
      const outcome = await check.run('config', { ...service, check: [] }, more);
      expect(outcome.code, outcome.stderr).toBe(2);
    }
  });
});

/** What dhcpd takes for declarations, and what it does not. Each is accepted by dhcpd itself. */
const forms: readonly (readonly [what: string, text: string, subnets: readonly string[]])[] = [
  ['one line', 'subnet 192.0.2.0 netmask 255.255.255.0{}', ['192.0.2.0 255.255.255.0']],
  ['capitals and line breaks', 'SUBNET\n10.0.0.0 # {\n\tNetMask\n255.0.0.0\n{\n}\n', ['10.0.0.0 255.0.0.0']],
  ['spaces in addresses', 'subnet 10 . 1 . 0. 0 netmask 255 .255. 0 . 0 { }\n', ['10.1.0.0 255.255.0.0']],
  [
    'a comment',
    '# subnet 1.0.0.0 netmask 255.0.0.0 {}\nsubnet 2.0.0.0 netmask 255.0.0.0 {}#}\n',
    ['2.0.0.0 255.0.0.0'],
  ],
  [
    'text in quotes',
    'option domain-name "# subnet 1.0.0.0 netmask 255.0.0.0 { \\" }";\nsubnet 2.0.0.0 netmask 255.0.0.0 {}\n',
    ['2.0.0.0 255.0.0.0'],
  ],
  [
    'text in quotes over several lines',
    'option domain-name "a\nsubnet 1.0.0.0 netmask 255.0.0.0 { }\n";\nsubnet 2.0.0.0 netmask 255.0.0.0 {}\n',
    ['2.0.0.0 255.0.0.0'],
  ],
  [
    'a shared network',
    'shared-network "both {" { subnet 10.1.0.0 netmask 255.255.0.0 { range 10.1.0.5; } subnet 10.2.0.0 netmask 255.255.0.0 {} }\n',
    ['10.1.0.0 255.255.0.0', '10.2.0.0 255.255.0.0'],
  ],
  [
    'subnets in groups, pools and options with such names',
    'group { subnet 10.1.0.0 netmask 255.255.255.128 { option subnet-mask 255.255.255.128; pool { range 10.1.0.9; } } }\n',
    ['10.1.0.0 255.255.255.128'],
  ],
  [
    'an included file',
    'include "/etc/dhcp/more.conf";\n',
    ['172.16.0.0 255.240.0.0', '10.9.0.0 255.255.0.0'],
  ],
  [
    'an included file among others',
    'subnet 2.0.0.0 netmask 255.0.0.0 {}include"/etc/dhcp/more.conf";subnet 3.0.0.0 netmask 255.0.0.0 {}',
    ['2.0.0.0 255.0.0.0', '172.16.0.0 255.240.0.0', '10.9.0.0 255.255.0.0', '3.0.0.0 255.0.0.0'],
  ],
  [
    'no include',
    '# include "/etc/dhcp/more.conf";\nsubnet 2.0.0.0 netmask 255.0.0.0 {}\n',
    ['2.0.0.0 255.0.0.0'],
  ],
  ['ends of lines of Windows', 'subnet 2.0.0.0 netmask 255.0.0.0\r\n{\r\n}\r\n', ['2.0.0.0 255.0.0.0']],
  ['a single address', 'subnet 192.0.2.7 netmask 255.255.255.255 { }\n', ['192.0.2.7 255.255.255.255']],
  [
    'a class and a condition',
    'class "subnet" { match if option host-name = "subnet"; }\nif known { default-lease-time 60; }\nsubnet 2.0.0.0 netmask 255.0.0.0 {}\n',
    ['2.0.0.0 255.0.0.0'],
  ],
];
const more = 'subnet 172.16.0.0 netmask 255.240.0.0 { }\ninclude "/etc/dhcp/sub/most.conf";\n';
const most = 'subnet 10.9.0.0 netmask 255.255.0.0 { }\n';

describe.skipIf(!ready)('the declared subnets', () => {
  it.each(forms)('of %s', async (_, text, subnets) => {
    const host = await mkdtemp(join(lab.directory, 'form-'));
    await mkdir(join(host, 'sub'));
    for (const [name, content] of [
      ['dhcpd.conf', text],
      ['more.conf', more],
      ['sub/most.conf', most],
    ] as const)
      await writeFile(join(host, name), content);
    for (const name of ['', 'sub']) await chmod(join(host, name), 0o755);
    const definition = await loadDefinition(join(checkout, 'images/scratch/dhcpd.yaml'));
    const service = serviceOf(definition, {
      ...{ name: undefined, image, family: 'debian', interfaces: ['lan0'], config: host, state: undefined },
    });
    for (const [index, system] of systems.entries()) {
      const check = await openCheckLab(lab, podman, system);
      // dhcpd itself agrees that this is a configuration; once is enough.
      if (index === 0) {
        const accepted = await check.run('config', service);
        expect(accepted.code, accepted.stderr).toBe(0);
      }
      const { stdout, stderr } = await check.run('subnets', service);
      expect(stdout.split('\n').filter(Boolean), system.name).toEqual(subnets.map((one) => `subnet ${one}`));
      expect(stderr).toBe('');
    }
  });

  it('are not all known when a file cannot be seen', async () => {
    const host = await mkdtemp(join(lab.directory, 'form-'));
    await writeFile(join(host, 'dhcpd.conf'), 'include "/usr/share/more.conf";\ninclude "/etc/dhcp/none";\n');
    const definition = await loadDefinition(join(checkout, 'images/scratch/dhcpd.yaml'));
    const service = serviceOf(definition, {
      ...{ name: undefined, image, family: 'debian', interfaces: ['lan0'], config: host, state: undefined },
    });
    for (const system of systems) {
      const { stdout } = await (await openCheckLab(lab, podman, system)).run('subnets', service);
      expect(stdout).toBe('unseen /usr/share/more.conf\nunseen /etc/dhcp/none\n');
    }
  });
});

describe.skipIf(!ready).each(systems)('after a start, with $name', (system) => {
  let check: CheckLab;
  let count = 0;
  beforeAll(async () => {
    check = await openCheckLab(lab, podman, system);
  });

  beforeEach(() => writeFile(check.systemctlLog, ''));

  const containers = new Map<string, LabContainer>();
  async function remove(name: string): Promise<void> {
    await containers.get(name)?.remove();
  }

  async function serve(config: string, change: Partial<Service> = {}): Promise<Service> {
    const name = `ready-${system.awk}-${(count += 1)}`;
    const host = join(lab.directory, name);
    await mkdir(host);
    await chmod(host, 0o755);
    await writeFile(join(host, 'dhcpd.conf'), config);
    if (config.includes('fifo')) {
      await command('mkfifo', join(host, 'fifo'));
      await chmod(join(host, 'fifo'), 0o644);
    }
    const definition = await loadDefinition(join(checkout, 'images/scratch/dhcpd.yaml'));
    const service = serviceOf(definition, {
      ...{ name, image, family: 'debian', interfaces: [lab.server.interface] },
      ...{ config: host, state: undefined },
    });
    containers.set(name, await podman.run(service, name));
    return { ...service, ...change };
  }

  it('sees that the server serves, and keeps room for its leases', async () => {
    const service = await serve(subnet);
    const leases = join(await podman.volume(`${service.name}-leases`), 'dhcpd.leases');
    const before = await stat(leases);
    expect(await check.run('ready', service)).toMatchObject({ code: 0, stdout: '', stderr: '' });
    const after = await stat(leases);
    expect(after.size).toBe(before.size);
    expect(after.blocks * 512 - after.size).toBeGreaterThan(1024 ** 2);
    expect(before.blocks * 512 - before.size).toBeLessThan(1024 ** 2);
    await remove(service.name);
  });

  it('keeps room for the leases of a volume without asking Podman where it is', async () => {
    const service = await serve(subnet);
    const directory = await podman.volume(`${service.name}-leases`);
    // The server's container holds the port, which a start does not mind.
    expect(await check.run('start', service, ['--wait', '1'])).toMatchObject({ code: 0, stderr: '' });
    const noted = join(check.notes, `${service.name}.leases`);
    expect(await readlink(noted)).toBe(directory);
    await remove(service.name);

    const elsewhere = join(lab.directory, `elsewhere-${service.name}`);
    await mkdir(elsewhere);
    await writeFile(join(elsewhere, 'dhcpd.leases'), '');
    await rm(noted);
    await symlink(elsewhere, noted);
    expect(await check.run('reserve', service)).toMatchObject({ code: 0, stderr: '' });
    expect((await stat(join(elsewhere, 'dhcpd.leases'))).blocks * 512).toBeGreaterThanOrEqual(1024 ** 2);

    // What has gone since is asked for.
    await rm(elsewhere, { recursive: true });
    expect(await check.run('reserve', service)).toMatchObject({ code: 0, stderr: '' });
    expect((await stat(join(directory, 'dhcpd.leases'))).blocks * 512).toBeGreaterThanOrEqual(1024 ** 2);
  });

  it.each(['ext4', 'tmpfs'] as const)(
    'moves the room to a new lease file when the disk is full, on %s',
    async (type) => {
      const directory = join(lab.directory, `full-${type}-${system.awk}`);
      const [leases, old] = [join(directory, 'dhcpd.leases'), join(directory, 'dhcpd.leases~')];
      await mkdir(directory);
      if (type === 'tmpfs') await command('mount', '-t', 'tmpfs', '-o', 'size=8m', 'tmpfs', directory);
      else {
        const disk = `${directory}.disk`;
        await command('mke2fs', '-q', '-t', 'ext4', disk, '8M');
        await command('mount', '-o', 'loop', disk, directory);
      }
      const service = await serve(subnet);
      await remove(service.name);
      const reserve = (): Promise<Outcome> =>
        check.run('reserve', {
          ...service,
          state: { from: { directory }, container: '/var/lib/dhcp', files: ['dhcpd.leases'] },
        });
      const room = async (file: string): Promise<number> => {
        const { size, blocks } = await stat(file);
        return blocks * 512 - size;
      };
      const records = '# a record\n'.repeat(2000);
      try {
        await writeFile(leases, records);
        expect(await reserve()).toMatchObject({ code: 0, stderr: '' });
        expect(await room(leases)).toBeGreaterThan(1024 ** 2);

        // The server writes its file anew, and somebody fills the disk before there is room behind the new one.
        await writeFile(join(directory, 'new'), '# a record\n');
        await link(leases, old);
        await rename(join(directory, 'new'), leases);
        await fill(join(directory, 'fill'));
        expect(await room(old)).toBeGreaterThan(1024 ** 2);
        expect(await reserve()).toMatchObject({ code: 0, stderr: '' });
        expect(await readFile(check.systemctlLog, 'utf8')).toBe('');
        expect(await room(leases)).toBeGreaterThanOrEqual(512 * 1024);
        expect(await readFile(old, 'utf8')).toBe(records);
        await appendFile(leases, Buffer.alloc(256 * 1024));

        // There is nothing to move once the room is used up; nor while both are names of one file.
        await appendFile(leases, Buffer.alloc(512 * 1024)).catch(() => undefined);
        expect((await reserve()).stderr).toMatch(/: the disk of \S+ is full; /);
        const left = await room(leases);
        await rm(old);
        await fill(join(directory, 'more'));
        await link(leases, old);
        expect((await reserve()).stderr).toMatch(/: the disk of \S+ is full; /);
        expect(await room(leases)).toBeGreaterThanOrEqual(left);
      } finally {
        await command('umount', directory);
      }
    },
  );

  it('leaves a lease file as it is that the server has written, statements and all', async () => {
    const service = await serve(statements);
    const directory = await podman.volume(`${service.name}-leases`);
    const file = join(directory, 'dhcpd.leases');
    const { address } = await leaseByUdhcpc(run, lab, 'web1');
    await remove(service.name);
    const written = await readFile(file, 'utf8');
    expect(written).toContain(`lease ${address} {`);
    // A line that the server has broken, in the middle of a record.
    expect(written).toMatch(/^ {4,}.*[^;{}\n]$/m);
    const mend = (): Promise<Outcome> => check.run('leases', service, ['--account', String(account)]);
    expect(await mend()).toMatchObject({ code: 0, stderr: '' });
    expect(await readFile(file, 'utf8')).toBe(written);

    // What a power cut can leave of the last record goes, wherever the cut was, and nothing else.
    const start = written.lastIndexOf('\nlease ') + 1;
    const earlier = written.slice(0, start);
    for (let cut = start + 1; cut < written.length - 2; cut += 17) {
      await writeFile(file, written.slice(0, cut));
      expect((await mend()).stderr).toContain('was damaged');
      expect(await readFile(file, 'utf8')).toBe(earlier);
    }
  });

  it('lets a server go on where the file system keeps no room, and stops it where there is none', async () => {
    const place = (type: string): string => join(lab.directory, `${type}-${system.awk}`);
    const [first, second] = [place('ramfs'), place('tmpfs')];
    const service = await serve(subnet);
    for (const [directory, mount] of [
      [first, ['-t', 'ramfs', 'ramfs']],
      [second, ['-t', 'tmpfs', '-o', 'size=256k', 'tmpfs']],
    ] as const) {
      await mkdir(directory);
      await command('mount', ...mount, directory);
      await writeFile(join(directory, 'dhcpd.leases'), '');
    }
    const on = (directory: string): Service => ({
      ...service,
      state: { from: { directory }, container: '/var/lib/dhcp', files: ['dhcpd.leases'] },
    });
    try {
      const without = await check.run('ready', on(first));
      expect(without.code).toBe(0);
      expect(without.stderr).toMatch(
        /^no room is kept for \S+dhcpd\.leases: \S.*(?:unsupported|not supported)\n$/,
      );
      // Once is enough: this runs twice a minute.
      expect(await check.run('reserve', on(first))).toMatchObject({ code: 0, stderr: '' });
      expect(await readFile(check.systemctlLog, 'utf8')).toBe('');

      const full = await check.run('reserve', on(second));
      expect(full.code).toBe(1);
      expect(full.stderr).toMatch(/^cannot keep the leases of \S+: the disk of \S+ is full; /);
      expect(await readFile(check.systemctlLog, 'utf8')).toBe(`restart ${service.name}.service\n`);
      expect((await check.run('ready', on(second))).stderr).toMatch(/: the disk of \S+ is full; /);
    } finally {
      for (const directory of [first, second]) await command('umount', directory);
      await remove(service.name);
    }
  });

  it('says that it has ended', async () => {
    const service = await serve('subnet 198.51.100.0 netmask 255.255.255.0 { }\n');
    const outcome = await check.run('ready', service);
    expect(outcome).toMatchObject({ code: 1, stdout: '' });
    expect(outcome.stderr).toMatch(/^cannot call \S+ ready: it has ended with exit code 1; `journalctl -u /);
    await remove(service.name);
    const gone = await check.run('ready', service);
    expect(gone.stderr).toMatch(/: it has ended; /);
  });

  it('says which sockets are missing', async () => {
    // A server that serves one of two interfaces.
    await addInterfaces();
    const one = await serve(subnet, { interfaces: ['lan0', 'far0'] });
    const half = await check.run('ready', one, ['--timeout', '2']);
    expect(half).toMatchObject({ code: 1, stdout: '' });
    expect(half.stderr).toMatch(/: after 2 s it has not opened a packet socket on far0\n$/);
    await remove(one.name);

    // One that waits for ever for the rest of its configuration.
    const stuck = await serve(`${subnet}include "/etc/dhcp/fifo";\n`);
    const none = await check.run('ready', stuck, ['--timeout', '2']);
    expect(none.stderr).toMatch(
      /: after 2 s it has not opened a socket on UDP port 67, a packet socket on lan0\n$/,
    );
    await remove(stuck.name);
  });
});

/** Takes all that a file system has, to the last block. */
async function fill(file: string): Promise<void> {
  for (const size of [65_536, 4096, 1]) {
    while (
      await appendFile(file, Buffer.alloc(size), { flush: true }).then(
        () => size > 1,
        () => false,
      )
    );
  }
}

async function command(...argv: readonly [string, ...string[]]): Promise<void> {
  await run({ argv: [...argv], environment: lab.environment });
}

async function ip(...args: readonly string[]): Promise<void> {
  await command('ip', '-n', lab.server.namespace, ...args);
}

/** Interfaces that lack something, each in its way; made once. */
async function addInterfaces(): Promise<void> {
  if (added) return;
  added = true;
  for (const name of ['down0', 'bare0', 'far0', 'late0']) {
    await ip('link', 'add', name, 'type', 'bridge');
    if (name !== 'down0') await ip('link', 'set', name, 'up');
  }
  await ip('link', 'property', 'add', 'dev', 'far0', 'altname', 'other0');
  await ip('link', 'add', 'port0', 'type', 'veth', 'peer', 'name', 'port1');
  await ip('link', 'set', 'port0', 'master', 'bare0', 'up');
  await ip('address', 'add', '192.0.2.9/24', 'dev', 'down0');
  await ip('address', 'add', '198.51.100.9/24', 'dev', 'far0');
}
let added = false;

async function waitUntil(met: () => Promise<boolean>): Promise<void> {
  for (let turn = 0; turn < 200; turn += 1) {
    if (await met()) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error('it did not happen within 10 s');
}
