import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join, posix } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { withFedoraDirectories, withFedoraLeases } from '../../build/host/fedora-stand-in/binaries.js';
import {
  repositoryNames,
  repositoryPath,
  type StandInArchitecture,
} from '../../build/host/fedora-stand-in/description.js';
import type { StandInServer } from '../../build/host/fedora-stand-in/server.js';
import { run } from '../../build/support/exec.js';
import { fedoraStandIn, type StandIn } from '../support/fedora-stand-in.js';
import { parseList } from '../support/elf-host.js';
import { buildEnvironment, checkout } from '../support/lab-image.js';
import { requireThat, requireTools } from '../support/tools.js';

const host: StandInArchitecture = process.arch === 'arm64' ? 'aarch64' : 'x86_64';
const other: StandInArchitecture = host === 'x86_64' ? 'aarch64' : 'x86_64';
const loaders = { x86_64: '/lib64/ld-linux-x86-64.so.2', aarch64: '/lib/ld-linux-aarch64.so.1' } as const;

const standIn = await fedoraStandIn();
const isReady = standIn !== undefined && requireTools('rpm2cpio', 'rpmkeys', 'zstd');
const isRoot = isReady && requireThat(process.getuid?.() === 0, 'root, to change the root directory');
/** What is there to mislead. */
const decoy = /^(aaa-vendor|only-i686|rich-)|extras|-langpack|module|i686/;

describe.skipIf(!isReady)('the stand-in of Fedora', () => {
  // Where it cannot be made, this is read all the same, and nothing of it runs.
  const given: Partial<StandIn> = standIn ?? {};
  const { root = '', release = 0, packages = [], keyFile = '', secondKeyFile = '' } = given;
  const { fingerprint = '', secondFingerprint = '' } = given;
  let work = '';
  let server: StandInServer;

  beforeAll(async () => {
    work = await mkdtemp(join(tmpdir(), 'dhcpd-stand-in-'));
    server = await (standIn ?? never()).serve();
  });
  afterAll(async () => {
    await server.close();
    await rm(work, { recursive: true, force: true });
  });

  const sh = async (argv: readonly [string, ...string[]], cwd = work): Promise<string> => {
    const { stdout } = await run({ argv, cwd, environment: buildEnvironment(), timeout: 100_000 });
    return stdout;
  };
  /** Newest packages of an architecture, those of updates last. */
  const filesOf = (architecture: StandInArchitecture): readonly string[] =>
    packages.filter((each) => each.architecture === architecture).map(({ file }) => join(root, file));
  const query = (paths: readonly string[], format: string): Promise<string> =>
    sh(['rpm', '-qp', '--nosignature', '--qf', format, ...paths]);

  describe('packages', () => {
    it('are signed in their headers, by the key that is said', async () => {
      const paths = packages.map(({ file }) => join(root, file));
      const format = '%|RSAHEADER?{%{RSAHEADER:pgpsig}}:{%{DSAHEADER:pgpsig}}| %{SIGPGP}%{SIGGPG}\\n';
      const lines = (await query(paths, format)).trimEnd().split('\n');
      expect(lines).toHaveLength(paths.length);
      lines.forEach((line, index) => {
        const isSecond = packages[index]?.signedBy === 'second';
        const key = (isSecond ? secondFingerprint : fingerprint).slice(-16).toLowerCase();
        expect(line).toMatch(
          new RegExp(`^${isSecond ? 'EdDSA' : 'RSA'}/SHA256, .* Key ID ${key} \\(none\\)\\(none\\)$`),
        );
      });
    });

    it('pass rpm with their keys, and only with these', async () => {
      const verdicts = async (...keys: readonly string[]): Promise<ReadonlyMap<string, boolean>> => {
        const database = await mkdtemp(join(work, 'keys-'));
        if (keys.length > 0) await sh(['rpmkeys', '--dbpath', database, '--import', ...keys]);
        const paths = packages.map(({ file }) => join(root, file));
        const command = 'dbpath=$1; shift; rpmkeys --dbpath "$dbpath" --checksig "$@" 2>/dev/null; :';
        const lines = (await sh(['sh', '-c', command, 'sh', database, ...paths])).trimEnd().split('\n');
        expect(lines).toHaveLength(paths.length);
        return new Map(
          lines.map((line) => [
            line.slice(0, line.lastIndexOf(': ')),
            / OK$/.test(line) && !/NOT OK$/.test(line),
          ]),
        );
      };
      const good = (of: ReadonlyMap<string, boolean>): number => [...of.values()].filter(Boolean).length;
      const second = packages.filter(({ signedBy }) => signedBy === 'second');
      expect(second.map(({ nevra }) => nevra.replace(/-.*/, ''))).toEqual(second.map(() => 'dhcp'));
      expect(second).toHaveLength(2);
      const all = await verdicts(keyFile, secondKeyFile);
      expect(good(all)).toBe(all.size);
      expect(good(await verdicts())).toBe(0);
      expect(good(await verdicts(secondKeyFile))).toBe(2);
    });

    it('are compressed with zstd', async () => {
      const lines = new Set(
        (await query(filesOf(host), '%{PAYLOADFORMAT} %{PAYLOADCOMPRESSOR} %{PAYLOADFLAGS}\\n'))
          .trimEnd()
          .split('\n'),
      );
      expect([...lines].sort()).toEqual(['cpio zstd 1', 'cpio zstd 19']);
    });

    it.each(['x86_64', 'aarch64'] as const)(
      'provide and require sonames with versions on %s',
      async (architecture) => {
        const paths = filesOf(architecture);
        const of = async (name: string, what: string): Promise<readonly string[]> => {
          const path = paths.findLast((each) => basename(each).startsWith(name)) ?? name;
          return (await sh(['rpm', '-qp', '--nosignature', what, path])).trimEnd().split('\n');
        };
        const provided = await of('glibc-2', '--provides');
        expect(provided).toEqual(
          expect.arrayContaining([
            'libc.so.6()(64bit)',
            'libc.so.6(GLIBC_2.34)(64bit)',
            'rtld(GNU_HASH)',
            'libresolv.so.2()(64bit)',
          ]),
        );
        expect(provided).toContain(`${posix.basename(loaders[architecture])}()(64bit)`);
        const required = await of('dhcp-server-4', '--requires');
        expect(required).toEqual(
          expect.arrayContaining([
            'libc.so.6(GLIBC_2.34)(64bit)',
            'libkrb5.so.3()(64bit)',
            'libsystemd.so.0()(64bit)',
            '/bin/sh',
          ]),
        );
        expect(required.filter((name) => /^libldap[-.\d]*so\.\d+\(.+\)\(64bit\)$/.test(name))).toHaveLength(
          1,
        );
        expect(await of('dhcp-server-4', '--provides')).toEqual(
          expect.arrayContaining(['user(dhcpd)', 'group(dhcpd)']),
        );
        expect(await of('dhcp-server-4', '--recommends')).toEqual(['dhcp-server-extras']);
      },
    );

    it('have the paths, modes and owners of Fedora', async () => {
      const [server = ''] = filesOf(host)
        .filter((path) => basename(path).startsWith('dhcp-server-4'))
        .slice(-1);
      const format =
        '[%{FILENAMES} %{FILEMODES:perms} %{FILEUSERNAME}:%{FILEGROUPNAME} %{FILEFLAGS:fflags}\\n]';
      const lines = (await query([server], format)).split('\n').map((line) => line.trim());
      expect(lines).toEqual(
        expect.arrayContaining([
          '/usr/bin/dhcpd -rwxr-xr-x root:root',
          '/etc/dhcp drwxr-x--- root:root',
          '/etc/dhcp/dhcpd.conf -rw-r--r-- root:root cn',
          '/var/lib/dhcpd drwxr-xr-x dhcpd:dhcpd',
          '/var/lib/dhcpd/dhcpd.leases -rw-r--r-- dhcpd:dhcpd cn',
          '/var/lib/dhcpd/dhcpd.leases~ -rw-r--r-- dhcpd:dhcpd g',
          '/usr/lib/sysusers.d/dhcp.conf -rw-r--r-- root:root',
          '/usr/lib/tmpfiles.d/dhcp.conf -rw-r--r-- root:root',
          '/usr/share/man/man8/dhcpd.8.gz -rw-r--r-- root:root d',
        ]),
      );
      expect(await query([server], '%{EVR}')).toMatch(new RegExp(`^12:4\\.4\\.3-27\\.fc${release}$`));
    });
  });

  describe.skipIf(!isRoot || !requireTools('chroot', 'cpio', 'sh'))('programs', () => {
    it.each([host, other])(
      'find all libraries in the default directories of Fedora on %s',
      async (architecture) => {
        const emulator = `qemu-${architecture}-static`;
        if (architecture === other && !requireTools(emulator)) return;
        const tree = join(work, `root-${architecture}`);
        await mkdir(tree);
        const wanted = filesOf(architecture).filter((path) => !decoy.test(basename(path)));
        for (const path of wanted) {
          const command = 'rpm2cpio "$1" | cpio --quiet -idmu 2>/dev/null';
          await sh(['sh', '-c', command, 'sh', path], tree);
        }
        // The emulator is outside, and looks below the tree first.
        const start = architecture === host ? ['chroot', tree] : [emulator, '-L', tree];
        const [command = '', ...before] = start;
        const inside = architecture === host ? '' : tree;
        const loader =
          architecture === host ? loaders[architecture] : join(tree, 'usr', loaders[architecture]);
        const listed = parseList(await sh([command, ...before, loader, '--list', `${inside}/usr/bin/dhcpd`]));
        const libraries = listed.filter(({ name }) => !name.startsWith('/'));
        expect(libraries.length).toBeGreaterThan(15);
        for (const { name, path } of libraries) expect(path?.replace(/\/+/g, '/')).toBe(`/lib64/${name}`);
        expect(libraries.map(({ name }) => name)).toEqual(
          expect.arrayContaining(['libkrb5.so.3', 'libsystemd.so.0', 'libcom_err.so.2']),
        );
        // Elsewhere it looks nowhere: not in Debian's directories, not in /usr/lib.
        await rm(join(tree, 'usr/lib64/libcom_err.so.2'));
        await sh(
          [
            'sh',
            '-c',
            'mkdir -p usr/lib/$1-linux-gnu && cp usr/lib64/libcom_err.so.2.* usr/lib/libcom_err.so.2 && cp usr/lib/libcom_err.so.2 usr/lib/$1-linux-gnu',
            'sh',
            architecture,
          ],
          tree,
        );
        if (architecture === host) {
          await expect(sh(['chroot', tree, loader, '--list', '/usr/bin/dhcpd'])).rejects.toThrow(
            /libcom_err\.so\.2/,
          );
        }
      },
    );

    it('keep their leases where Fedora does', async () => {
      const tree = join(work, `root-${host}`);
      const library =
        readdirSync(join(tree, 'usr/lib64')).find((name) => name.startsWith('libcom_err.so.2.')) ?? '';
      await sh(['sh', '-c', 'ln -sf "$1" usr/lib64/libcom_err.so.2', 'sh', library], tree);
      await writeFile(join(tree, 'etc/dhcp/dhcpd.conf'), 'subnet 192.0.2.0 netmask 255.255.255.0 {}\n');
      const text = await sh(['sh', '-c', 'chroot . /usr/bin/dhcpd -T 2>&1', 'sh'], tree);
      expect(text).toContain('Database file: /var/lib/dhcpd/dhcpd.leases');
      expect(text).toContain('Lease file test successful');
    });
  });

  describe.skipIf(!requireTools('dnf'))('dnf', () => {
    let configuration = '';
    beforeAll(async () => {
      const directory = await mkdtemp(join(work, 'dnf-'));
      const repositories = repositoryNames.map((name) =>
        [
          `[${name}]`,
          `name=${name}`,
          `metalink=${server.metalinkUrl(name, host).replace(host, '$basearch')}`,
          `gpgkey=file://${keyFile}`,
          '',
        ].join('\n'),
      );
      configuration = join(directory, 'dnf.conf');
      await writeFile(
        configuration,
        [
          '[main]',
          ...['reposdir', 'varsdir'].map((name) => `${name}=${join(directory, 'none')}`),
          ...['cachedir', 'logdir', 'persistdir'].map((name) => `${name}=${join(directory, name)}`),
          ...['plugins=0', 'gpgcheck=1', 'install_weak_deps=0', 'assumeyes=1', ''],
          ...repositories,
        ].join('\n'),
      );
    });
    const dnf = (installRoot: string, ...argv: readonly string[]): Promise<string> =>
      sh([
        'dnf',
        '-q',
        '-c',
        configuration,
        '--releasever',
        String(release),
        '--installroot',
        installRoot,
        ...argv,
      ]);

    it('chooses the newest, from updates where they have one, and nothing of a module', async () => {
      const format = '%{name} %{epoch}:%{version}-%{release} %{arch} %{repoid}';
      const lines = await dnf(
        ...[join(work, 'nowhere'), 'repoquery', '--latest-limit', '1', '--qf', format],
        ...['dhcp-server', 'dhcp-relay', 'openldap', 'keyutils-libs', 'only-i686'],
      );
      const found = lines
        .trimEnd()
        .split('\n')
        .sort()
        .map((line) => line.replace(/^(openldap|keyutils-libs) \d+:[\d.]+-/, '$1 '));
      expect(found).toEqual(
        [
          `dhcp-relay 12:4.4.3-27.fc${release} ${host} updates-released`,
          `dhcp-server 12:4.4.3-27.fc${release} ${host} updates-released`,
          `keyutils-libs 1.fc${release} ${host} fedora`,
          `openldap 2.fc${release} ${host} updates-released`,
          ...(host === 'x86_64'
            ? [`keyutils-libs 1.fc${release} i686 fedora`, `only-i686 0:9.0-1.fc${release} i686 fedora`]
            : []),
        ].sort(),
      );
    });

    it.skipIf(!isRoot)(
      'installs the server from it, after a dead and a stale mirror',
      async () => {
        const tree = join(work, 'installed');
        await dnf(tree, 'install', 'dhcp-server');
        const names = (await sh(['rpm', '--root', tree, '-qa', '--qf', '%{NAME} %{ARCH}\\n']))
          .trimEnd()
          .split('\n');
        expect(names).toEqual(
          expect.arrayContaining([`dhcp-server ${host}`, 'dhcp-common noarch', `krb5-libs ${host}`]),
        );
        expect(
          names.filter(
            (name) => /extras|langpack \S*$|vendor|i686|rich/.test(name) && !name.startsWith('glibc-'),
          ),
        ).toEqual([]);
        const { uid, gid } = statSync(join(tree, 'var/lib/dhcpd/dhcpd.leases'));
        expect([uid, gid]).toEqual([177, 177]);
        expect(await sh(['chroot', tree, '/usr/sbin/dhcpd', '--version'])).toBeDefined();
        expect(readFileSync(join(tree, 'etc/os-release'), 'utf8')).toContain(
          `\nID=fedora\nVERSION_ID=${release}\n`,
        );
        expect(server.deadConnections).toBeGreaterThan(0);
        const asked = new Set(server.requests.map(({ url }) => url.split('/')[1] ?? ''));
        expect([...asked]).toEqual(expect.arrayContaining(['ancient', 'current']));
      },
      120_000,
    );

    it('resolves the server for the other architecture', async () => {
      const tree = join(work, 'downloaded');
      await dnf(
        tree,
        '--forcearch',
        other,
        'install',
        '--downloadonly',
        '--downloaddir',
        join(work, 'downloads'),
        'dhcp-server',
      );
      const files = readdirSync(join(work, 'downloads'));
      expect(files.length).toBeGreaterThan(20);
      expect(files).toContain(`dhcp-server-4.4.3-27.fc${release}.${other}.rpm`);
      expect(
        files.filter((name) => !name.endsWith(`.${other}.rpm`) && !name.endsWith('.noarch.rpm')),
      ).toEqual([]);
    }, 120_000);

    it.skipIf(!isRoot)(
      'refuses the package of the second key when it has only the first',
      async () => {
        await expect(dnf(join(work, 'refused'), 'install', 'dhcp-relay')).rejects.toThrow(
          /not correct|GPG|public key/i,
        );
      },
      120_000,
    );
  });

  describe('its server', () => {
    const repomd = `${repositoryPath('updates-released', release, host)}/repodata/repomd.xml`;
    const hashesOf = async (): Promise<readonly string[]> => {
      const text = await (await fetch(server.metalinkUrl('updates-released', host))).text();
      return [...text.matchAll(/type="sha256">([0-9a-f]{64})</g)].map(([, hash = '']) => hash);
    };
    const hashOf = async (mirror: string): Promise<string> => {
      const bytes = await (await fetch(`${server.url}/${mirror}/${repomd}`)).arrayBuffer();
      return createHash('sha256').update(Buffer.from(bytes)).digest('hex');
    };

    it('lists the current metadata and one older state', async () => {
      expect(await hashesOf()).toEqual([await hashOf('current'), await hashOf('previous')]);
      expect(await hashesOf()).not.toContain(await hashOf('ancient'));
      expect(await hashOf('corrupt')).toBe(await hashOf('current'));
    });

    it('names the mirrors it is told to', async () => {
      const second = await (standIn ?? never()).serve(['previous', 'dead']);
      const listed = async (): Promise<readonly string[]> => {
        const text = await (await fetch(second.mirrorlistUrl('fedora', host))).text();
        return text.split('\n').filter((line) => line.startsWith('http'));
      };
      const [first = '', dead = ''] = await listed();
      expect(first).toBe(second.baseUrl('fedora', host, 'previous'));
      await expect(fetch(`${dead}repodata/repomd.xml`)).rejects.toThrow();
      expect(second.deadConnections).toBeGreaterThan(0);
      second.mirrors = ['current'];
      expect(await listed()).toEqual([second.baseUrl('fedora', host)]);
      const metalink = await (await fetch(second.metalinkUrl('fedora', host))).text();
      expect(metalink).toContain(
        `preference="100">${second.baseUrl('fedora', host)}repodata/repomd.xml</url>`,
      );
      await second.close();
    });

    it('serves ranges, and spoils one byte where it should', async () => {
      const { file } = packages.find(({ nevra }) => nevra.startsWith('glibc-2')) ?? never();
      const bytes = readFileSync(join(root, file));
      const get = async (mirror: string, range?: string): Promise<readonly [number, Buffer]> => {
        const address = `${server.url}/${mirror}/${file.replace('pub/', '')}`;
        const response = await fetch(address, range === undefined ? {} : { headers: { range } });
        return [response.status, Buffer.from(await response.arrayBuffer())];
      };
      const [whole, content] = await get('current');
      expect([whole, content.equals(bytes)]).toEqual([200, true]);
      expect(await get('current', 'bytes=100-199')).toEqual([206, bytes.subarray(100, 200)]);
      expect(await get('current', 'bytes=-5')).toEqual([206, bytes.subarray(-5)]);
      expect(await get('current', `bytes=${bytes.length - 3}-`)).toEqual([206, bytes.subarray(-3)]);
      expect((await get('current', `bytes=${bytes.length}-`))[0]).toBe(416);
      const [status, spoiled] = await get('corrupt');
      expect(status).toBe(200);
      expect(spoiled.length).toBe(bytes.length);
      expect(spoiled.filter((byte, index) => byte !== bytes[index])).toHaveLength(1);
      expect(server.requests.some(({ range, status }) => range === 'bytes=-5' && status === 206)).toBe(true);
    });

    it.each([
      '/nothing',
      '/current/../stand-in.json',
      '/current/..%2f..%2f..%2f..%2f..%2f..%2f..%2fetc/passwd',
      '/dead/fedora',
      '/metalink?repo=fedora-1&arch=x86_64',
    ])('does not serve %s', async (path) => {
      const { status } = await fetch(`${server.url}${path}`);
      expect([path, status]).toEqual([path, path.includes('stand-in.json') ? 200 : 404]);
    });
  });

  it('says nowhere which mirror of Debian it came from', async () => {
    const hosts = (await sh(['apt-get', 'indextargets', '--format', '$(SITE)']))
      .split('\n')
      .flatMap((site) => /^\w+:\/\/(?:[^@/]*@)?([^/:]+)/.exec(site)?.[1] ?? []);
    const metadata = readdirSync(root, { recursive: true, encoding: 'utf8' }).filter((path) =>
      /\.(xml|json|zst)$/.test(path),
    );
    expect(metadata.length).toBeGreaterThan(20);
    const texts = await Promise.all(
      metadata.map((path) =>
        path.endsWith('.zst')
          ? sh(['zstd', '-dcq', join(root, path)])
          : Promise.resolve(readFileSync(join(root, path), 'utf8')),
      ),
    );
    const headers = await sh(['rpm', '-qp', '--nosignature', '--xml', ...filesOf(host)]);
    const named = [...new Set(hosts)].filter((name) =>
      [headers, ...texts].some((text) => text.includes(name)),
    );
    expect(named).toEqual([]);
  });

  it('is made once, however many ask', async () => {
    const before = statSync(join(root, 'stand-in.json'));
    const again = await Promise.all([fedoraStandIn(), fedoraStandIn(), fedoraStandIn()]);
    expect(again.map((each) => each?.root)).toEqual([root, root, root]);
    expect(statSync(join(root, 'stand-in.json')).ino).toBe(before.ino);
    expect(existsSync(join(root, 'work'))).toBe(false);
  }, 120_000);

  it('does not take the place of anything else', async () => {
    const directory = await mkdtemp(join(work, 'mine-'));
    await writeFile(join(directory, 'precious'), '');
    const argv = [
      process.execPath,
      join(checkout, 'dist/host/fedora-stand-in.js'),
      '--output',
      directory,
    ] as const;
    await expect(run({ argv, environment: buildEnvironment() })).rejects.toThrow(/there is something in it/);
    expect(readdirSync(directory)).toEqual(['precious']);
  }, 60_000);
});

describe('binaries that are not as expected', () => {
  it('are refused', () => {
    expect(() => withFedoraDirectories(Buffer.from('\0/lib/\0'))).toThrow(/default directories/);
    expect(() => withFedoraLeases(Buffer.from('\0/var/run/dhcpd.pid\0'))).toThrow(/0 places match/);
    const strings = Buffer.from('\0/var/run/dhcpd.pid\0/var/lib/dhcp/dhcpd.leases\0');
    expect(() => withFedoraLeases(strings)).toThrow(/nothing in dhcpd points/);
  });
});

function never(): never {
  throw new Error('there is no stand-in, and its tests are skipped');
}
