import { cpSync, existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { BuiltImage } from '../../build/image/engine.js';
import { formatLock, readLock, type LockedPackage, type LockFile } from '../../build/repository/lock.js';
import { errorLines, Place, temporaryNames, type RunOptions } from '../support/cli.js';
import {
  fedoraDefinition,
  fedoraTools,
  made,
  placeOf,
  refusal,
  serverPackage,
  serveMirror,
  urlOf,
  Workshop,
  type MirrorServer,
} from '../support/fedora-place.js';
import { readLayout } from '../support/oci.js';
import { requireTools } from '../support/tools.js';

const both = ['--arch', 'x86_64,aarch64'];

describe.skipIf(!requireTools(...fedoraTools))('an image of Fedora packages', { timeout: 120_000 }, () => {
  let workshop: Workshop;
  let definition: string;
  let top: string;
  let server: MirrorServer;
  let place: Place;
  beforeAll(async () => {
    workshop = new Workshop();
    definition = fedoraDefinition(workshop.key.fingerprint);
    const [x86_64, aarch64] = [workshop.tiny('x86_64'), workshop.tiny('aarch64')];
    top = workshop.tree({ x86_64, aarch64 });
    server = await serveMirror(top);
  }, 180_000);
  afterAll(async () => {
    await server.close();
    workshop.remove();
  });
  beforeEach(() => {
    place = new Place({ 'tiny.yaml': definition });
    server.requests.length = 0;
  });
  afterEach(() => {
    server.lie = undefined;
    place.remove();
  });

  const from = (mirror = server.url): readonly string[] => [
    ...['--mirror', mirror],
    ...['--keyring', workshop.keyring],
  ];
  const args = (...options: readonly string[]): readonly string[] => [
    ...['build', 'tiny.yaml', '--compression', 'none', '--distro', 'fedora'],
    ...(options.includes('--mirror') ? [] : from()),
    ...options,
  ];
  const build = async (options: readonly string[] = [], how?: RunOptions): Promise<BuiltImage> =>
    // The program's own promise of what it prints.
    JSON.parse(await place.ok(args(...options, '--json'), how)) as BuiltImage;
  const refused = (code: 1 | 2, ...options: readonly string[]): Promise<string> =>
    refusal(place, code, args(...options));
  const parsed = async (): Promise<LockFile> => {
    const lock = await readLock(place.path('tiny.lock.yaml'));
    if (lock === undefined) throw new Error('there is no lock file');
    return lock;
  };
  /** Changes one locked package. */
  const relock = async (name: string, change: (one: LockedPackage, all: LockFile) => LockedPackage) => {
    const lock = await parsed();
    const targets = lock.targets.map((target) => ({
      ...target,
      packages: target.packages.map((one) => (one.name === name ? change(one, lock) : one)),
    }));
    place.write('tiny.lock.yaml', formatLock({ ...lock, targets }));
  };
  const packageOf = ({ targets }: LockFile, name: string): LockedPackage => {
    const found = targets[0]?.packages.find((one) => one.name === name);
    if (found === undefined) throw new Error(`${name} is not locked`);
    return found;
  };

  describe('on the command line', () => {
    it('is not made for another family than the definition has', async () => {
      expect(await refusal(place, 2, ['build', 'tiny.yaml', '--distro', 'debian', ...from()])).toBe(
        'cannot build tiny: the definition names no Debian package; add debian under packages, or choose another family with --distro',
      );
      place.write(
        'tiny.yaml',
        definition.replace(
          / {2}fedora:[^]*?\nroots/,
          '  debian: { package: tiny-server, state: /var/lib/tiny }\nroots',
        ),
      );
      expect(await refused(2)).toBe(
        'cannot build tiny: the definition names no Fedora package; add fedora under packages, or choose another family with --distro',
      );
      expect(await refusal(place, 2, ['doctor', '--distro', 'gentoo'])).toMatch(
        /Allowed choices are auto, fedora, debian/,
      );
    });

    it.each([
      '../../etc',
      'host',
      'trixie',
      '',
      '45/../44',
      '45?x=y',
      '45 46',
      '045',
      '-1',
      '$releasever',
      '４５',
    ])('has no release %j', async (suite) => {
      expect(await refused(2, `--suite=${suite}`)).toMatch(
        /^cannot choose the Fedora release ".*" of --suite: it is neither a number nor rawhide; ./,
      );
      expect(server.requests).toEqual([]);
    });

    it('has no release that the mirror does not', async () => {
      expect(await refused(1, '--suite', '8')).toMatch(
        /^cannot fetch \S+releases\/8\/\S+repomd\.xml: the server does not have it; ./,
      );
    });

    it('has no keys where the keyring is missing, empty, or of another kind', async () => {
      place.write('empty.asc', '');
      place.write('text.asc', 'hello\n');
      place.write('cut.asc', readFileSync(workshop.keyring, 'utf8').slice(0, 300));
      place.write('large.asc', Buffer.alloc(2 * 1024 ** 2, 0x99));
      place.write('binary.asc', Buffer.from([0x99, 0xff, 0xff, 0]));
      mkdirSync(place.path('directory.asc'));
      for (const name of ['missing', 'empty', 'text', 'cut', 'large', 'binary', 'directory']) {
        const line = await refused(2, '--mirror', server.url, '--keyring', `${name}.asc`);
        expect(line).toMatch(new RegExp(`^cannot read keyring \\S+/${name}\\.asc: .*; .*--keyring FILE$`));
      }
      expect(await refused(2, '--mirror', server.url, '--keyring', '/dev/zero')).toMatch(
        /^cannot read keyring \/dev\/zero: it is no regular file; ./,
      );
      await build();
      const again = await refused(2, '--mirror', server.url, '--locked', '--keyring', 'empty.asc');
      expect(again).toMatch(/^cannot read keyring \S+empty\.asc: /);
      expect(await refused(2, '--mirror', server.url, '--offline', '--keyring', 'empty.asc')).toMatch(
        /^cannot read keyring \S+empty\.asc: /,
      );
    });
  });

  describe('by its lock file', () => {
    it('is the same, and a warm build asks nobody', async () => {
      const first = await build();
      expect(server.requests.length).toBeGreaterThan(5);
      server.requests.length = 0;
      for (const options of [[], ['--locked'], ['--offline'], ['--offline', '--locked']]) {
        expect((await build(options)).digest).toBe(first.digest);
      }
      expect(server.requests).toEqual([]);
    });

    it('is fetched elsewhere without any index', async () => {
      const first = await build();
      rmSync(place.cache, { recursive: true });
      server.requests.length = 0;
      expect((await build(['--locked'])).digest).toBe(first.digest);
      expect(server.requests.filter((path) => /primary|filelists/.test(path))).toEqual([]);
    });

    it('is refused where it has no entry for Fedora, or for the architecture', async () => {
      expect(await refused(2, '--locked')).toMatch(
        /: there is no such lock file; run npx dhcpd-scratch lock /,
      );
      await build();
      const lock = await parsed();
      expect(await refused(2, '--locked', '--arch', 's390x')).toMatch(
        /: it names no packages of Fedora 9 for s390x; run npx dhcpd-scratch lock tiny\.yaml --distro fedora .* --arch s390x$/,
      );
      expect(await refused(2, '--locked', '--suite', '8')).toMatch(/: it names no packages of Fedora 8 for /);
      const targets = lock.targets.map((target) => ({ ...target, family: 'debian' as const }));
      place.write('tiny.lock.yaml', formatLock({ ...lock, targets }));
      expect(await refused(2, '--locked')).toMatch(/: it names no packages of Fedora 9 for \w+; run npx /);
    });

    it('says what to run when a package is gone, and chooses anew when it may', async () => {
      const tree = workshop.tree({ [made]: workshop.tiny() });
      const mirror = ['--mirror', urlOf(tree), '--keyring', workshop.keyring];
      await build(mirror);
      const gone = packageOf(await parsed(), 'tiny-server');
      rmSync(join(tree, placeOf(), gone.path));
      workshop.fill(join(tree, placeOf()), [serverPackage({ version: '1.1' })], 1_700_000_001);
      rmSync(place.cache, { recursive: true });
      const line = await refused(1, ...mirror, '--locked');
      expect(line).toMatch(
        /^cannot fetch \S+tiny-server-1\.0-1\.\w+\.rpm: .*; if the package is gone from the archive, run npx dhcpd-scratch lock tiny\.yaml /,
      );
      const { code, stderr } = await place.run(args(...mirror));
      expect(code, stderr).toBe(0);
      expect(stderr).toMatch(/^choosing packages anew: cannot fetch \S+tiny-server-1\.0-1/m);
      expect(packageOf(await parsed(), 'tiny-server').version).toBe('1.1-1');
    });

    it('is refused offline where the cache is cold, and says what is missing', async () => {
      const cold = /--offline is given and the cache does not have it; run it once without --offline/;
      expect(await refused(1, '--offline')).toMatch(cold);
      await build();
      const { sha256 } = packageOf(await parsed(), 'libinner');
      rmSync(join(place.cache, 'blobs/sha256', sha256.slice(0, 2), sha256.slice(2)));
      expect(await refused(1, '--offline')).toMatch(/^cannot fetch libinner 1\.0-1: .*--offline/);
      rmSync(place.cache, { recursive: true });
      expect(await refused(1, '--offline', '--locked')).toMatch(cold);
      rmSync(place.path('tiny.lock.yaml'));
      expect(await refused(1, '--offline')).toMatch(cold);
    });

    it('is chosen anew offline from what the cache has', async () => {
      const first = await build();
      rmSync(place.path('tiny.lock.yaml'));
      server.requests.length = 0;
      expect((await build(['--offline'])).digest).toBe(first.digest);
      expect(server.requests).toEqual([]);
    });

    it('is refused where an entry is of another package', async () => {
      await build();
      const good = readFileSync(place.path('tiny.lock.yaml'), 'utf8');
      // The hash alone: the mirror does not have it at that place, and the cache has another package for it.
      await relock('libinner', (one, lock) => ({ ...one, sha256: packageOf(lock, 'libouter').sha256 }));
      const wrong = /^cannot use package libinner 1\.0-1 \(\w+\): the file of that hash is libouter 1\.0-1 /;
      expect(await refused(1, '--locked')).toMatch(wrong);
      expect(await refused(1, '--locked', '--offline')).toMatch(wrong);
      rmSync(place.cache, { recursive: true });
      expect(await refused(1, '--locked')).toMatch(/^cannot fetch \S+libinner\S+: .*; ./);
      // All of it: another package by another name.
      place.write('tiny.lock.yaml', good);
      await relock('libinner', (one, lock) => ({ ...packageOf(lock, 'libouter'), name: one.name }));
      expect(await refused(1, '--locked')).toMatch(wrong);
      for (const [field, value] of [
        ['version', '9.9-9'],
        ['architecture', 'noarch'],
      ] as const) {
        place.write('tiny.lock.yaml', good);
        await relock('libinner', (one) => ({ ...one, [field]: value }));
        expect(await refused(1, '--locked')).toMatch(
          /^cannot use package libinner .*: the file of that hash is /,
        );
      }
    });

    it('is refused where an entry is of a package that nobody trusted has signed', async () => {
      const stranger = workshop.makeKey();
      const tree = workshop.tree({ [made]: workshop.tiny() });
      workshop.fill(join(tree, placeOf()), [serverPackage({ version: '1.1', signer: stranger })]);
      const mirror = ['--mirror', urlOf(tree)];
      await build([...mirror, '--keyring', workshop.keyFile(workshop.key, stranger)]);
      const line = await refused(1, ...mirror, '--keyring', workshop.keyring, '--locked');
      expect(line).toMatch(/^cannot trust package tiny-server 1\.1-1: it is signed by key \w+, .*--keyring/);
    });

    it('keeps the targets of the other family when one is renewed', async () => {
      place.write(
        'tiny.yaml',
        definition.replace(
          'packages:\n',
          `packages:\n  debian: { release: bookworm, package: tiny-server, state: /var/lib/tiny }\n`,
        ),
      );
      await build();
      const lock = await parsed();
      const [mine] = lock.targets;
      if (mine === undefined) throw new Error('there is no target');
      const debian = { ...mine, family: 'debian' as const, release: 'bookworm' };
      const stale = { ...mine, packages: mine.packages.slice(1) };
      place.write('tiny.lock.yaml', formatLock({ ...lock, targets: [debian, stale] }));
      await place.ok(['lock', 'tiny.yaml', '--distro', 'fedora', ...from()]);
      expect((await parsed()).targets).toEqual([debian, mine]);
      // A build for another architecture adds to it.
      await build(both);
      expect((await parsed()).targets.map(({ family, architecture }) => `${family} ${architecture}`)).toEqual(
        [`debian ${made}`, 'fedora aarch64', 'fedora x86_64'],
      );
    });
  });

  describe('everywhere the same', () => {
    let first: BuiltImage;
    let home: Place;
    beforeAll(async () => {
      home = new Place({ 'tiny.yaml': definition });
      const plain = ['build', 'tiny.yaml', '--compression', 'none', '--distro', 'fedora', '--json'];
      first = JSON.parse(await home.ok([...plain, ...both, ...from()])) as BuiltImage;
    }, 120_000);
    afterAll(() => {
      home.remove();
    });

    it('for two architectures, each with its own programs', () => {
      expect(first.manifests.map(({ architecture }) => architecture).sort()).toEqual(['aarch64', 'x86_64']);
      expect(new Set(first.manifests.map(({ layerDigest }) => layerDigest)).size).toBe(2);
    });

    it.each([
      ['over http', () => server.url],
      ['from files', () => urlOf(top)],
    ])('%s', async (_, mirror) => {
      const again = await build([...both, ...from(mirror())]);
      expect(again.digest).toBe(first.digest);
      expect(readFileSync(again.archive).equals(readFileSync(first.archive))).toBe(true);
      expect(readFileSync(place.path('tiny.lock.yaml'))).toEqual(readFileSync(home.path('tiny.lock.yaml')));
    });

    it.each<[string, RunOptions]>([
      ['umask 077', { under: ['sh', '-c', 'umask 077; exec "$@"', 'sh'] }],
      ['umask 000', { under: ['sh', '-c', 'umask 000; exec "$@"', 'sh'] }],
      [
        'language and time zone',
        { environment: { LC_ALL: 'tr_TR.UTF-8', LANG: 'tr_TR.UTF-8', TZ: 'Pacific/Chatham' } },
      ],
      ['working directory', { cwd: 'deep/er' }],
    ])('from the lock file with another %s', async (_, how) => {
      for (const options of [['--locked'], []]) {
        mkdirSync(place.path('deep/er'), { recursive: true });
        for (const name of ['tiny.yaml', 'tiny.lock.yaml']) {
          for (const to of ['.', 'deep/er']) cpSync(home.path(name), join(place.directory, to, name));
        }
        if (options.length === 0)
          for (const to of ['.', 'deep/er']) rmSync(join(place.directory, to, 'tiny.lock.yaml'));
        rmSync(place.cache, { recursive: true, force: true });
        const again = await build([...both, ...options], { ...how, cwd: place.path(how.cwd ?? '.') });
        expect(again.digest).toBe(first.digest);
        expect(readFileSync(again.archive).equals(readFileSync(first.archive))).toBe(true);
      }
    });

    it('by several builds at once, which share a cold cache', async () => {
      const outcomes = await Promise.all([1, 2, 3].map(() => place.run(args(...both))));
      for (const { code, stdout, stderr } of outcomes) {
        expect(code, stderr).toBe(0);
        expect(stdout).toContain(first.digest);
      }
      expect(readLayout(join(place.out, 'tiny.oci')).top.digest).toBe(first.digest);
      expect(temporaryNames(place.list())).toEqual([]);
      expect(place.list('cache/dhcpd-scratch/partial')).toEqual([]);
    });

    it('with a cache whose files are damaged', async () => {
      await build(both);
      for (const bytes of [Buffer.alloc(0), Buffer.alloc(5000, '{"')]) {
        for (const name of place.list('cache/dhcpd-scratch')) {
          if (!name.endsWith('/') && name !== 'CACHEDIR.TAG')
            place.write(join('cache/dhcpd-scratch', name), bytes);
        }
        rmSync(place.path('tiny.lock.yaml'));
        expect((await build(both)).digest).toBe(first.digest);
      }
    });
  });

  describe('is left alone by a build that is ended', () => {
    it.each([
      ['SIGINT', 130],
      ['SIGTERM', 143],
    ] as const)('by %s during a slow download', async (signal, code) => {
      for (const part of ['repomd.xml', 'primary.xml', 'tiny-server']) {
        const begun = new Promise<void>((resolve) => {
          server.lie = (path, response) => {
            if (!path.includes(part) || !existsSync(join(top, path))) return false;
            const bytes = readFileSync(join(top, path));
            response.writeHead(200, { 'content-length': bytes.length }).write(bytes.subarray(0, -10));
            resolve();
            return true;
          };
        });
        const outcome = await place.run(args('-q'), {
          interrupt: { signals: [signal], when: begun.then(() => sleep(200)) },
        });
        expect(outcome.code, outcome.stderr).toBe(code);
        const lines = errorLines(outcome).filter((line) => !line.startsWith('warning: '));
        expect(lines).toEqual([`error: stopped by ${signal}`]);
        expect(place.list().filter((name) => !/^(?:cache|apt)/.test(name))).toEqual(['tiny.yaml']);
        expect(temporaryNames(place.list())).toEqual([]);
      }
      server.lie = undefined;
      await build();
      expect(temporaryNames(place.list())).toEqual([]);
      expect(existsSync(place.path('tiny.lock.yaml'))).toBe(true);
    });
  });
});
