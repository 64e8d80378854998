import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gunzipSync, gzipSync } from 'node:zlib';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { evrText } from '../../../build/repository/fedora/evr.js';
import { mergeRepositories } from '../../../build/repository/fedora/packages.js';
import type { RpmRecord } from '../../../build/repository/fedora/record.js';
import type { RpmRepository } from '../../../build/repository/fedora/repository.js';
import type { Keyring } from '../../../build/repository/signature.js';
import { ToolError } from '../../../build/support/errors.js';
import { buildRpm, makeSigningKey, type SigningKey } from '../../support/rpm.js';
import {
  createRepository,
  dnfQuery,
  metalinkXml,
  primaryXml,
  repomdOf,
  repomdXml,
  serveRepository,
  type PrimaryPackage,
  type RepositoryServer,
} from '../../support/rpm-repository.js';
import { requireTools } from '../../support/tools.js';
import { makeOpening, sourceOf, type Opening } from './repository-opening.js';

const samples = process.env['REPODATA_SAMPLES'];
if (samples === undefined) process.stderr.write('skipped: real repositories need REPODATA_SAMPLES\n');

const directory = mkdtempSync(join(tmpdir(), 'rpm-repository-'));
afterAll(() => {
  rmSync(directory, { recursive: true, force: true });
});

let opening: Opening;
const servers: RepositoryServer[] = [];
beforeEach(async () => {
  opening = await makeOpening();
});
afterEach(async () => {
  await opening.close();
  await Promise.all(servers.splice(0).map((server) => server.close()));
});

async function serve(path: string): Promise<RepositoryServer> {
  const server = await serveRepository(path);
  servers.push(server);
  return server;
}

const nevra = (record: RpmRecord): string =>
  `${record.name}-${record.epoch}:${record.version}-${record.release}.${record.architecture}`;
const spelt = (records: readonly RpmRecord[]): readonly string[] => records.map(nevra);

async function refusal(work: Promise<unknown>): Promise<ToolError> {
  const error: unknown = await work.then(
    () => new Error('it succeeded'),
    (thrown: unknown) => thrown,
  );
  if (error instanceof ToolError) return error;
  throw error;
}

/** A repository that a program writes. @returns its directory */
function writeRepository(
  packages: readonly PrimaryPackage[] | Buffer,
  extra: Readonly<Record<string, Buffer>> = {},
  timestamp?: number,
  algorithm: 'sha256' | 'sha512' = 'sha256',
): string {
  const path = mkdtempSync(join(directory, 'written-'));
  mkdirSync(join(path, 'repodata'));
  const primary = Buffer.isBuffer(packages) ? packages : gzipSync(primaryXml(packages));
  const all = Object.entries({ primary, ...extra });
  for (const [type, bytes] of all) writeFileSync(join(path, 'repodata', type), bytes);
  const files = Object.fromEntries(
    all.map(([type, bytes]) => [type, { path: `repodata/${type}`, bytes, algorithm }]),
  );
  writeFileSync(join(path, 'repodata/repomd.xml'), repomdXml(files, timestamp));
  return path;
}

const fileUrl = (path: string): string => `file://${path}/`;

/** dnf takes its time on a busy machine. */
const patience = { timeout: 120_000 };

describe.skipIf(!requireTools('rpmbuild', 'createrepo_c', 'dnf', 'zstd'))(
  'a repository of createrepo_c',
  patience,
  () => {
    let plain: string;
    let updates: string;

    beforeAll(() => {
      const work = mkdtempSync(join(directory, 'build-'));
      const build = (
        target: string,
        ...specs: readonly Omit<Parameters<typeof buildRpm>[0], 'directory'>[]
      ): string => {
        const path = join(directory, target);
        mkdirSync(join(path, 'Packages'), { recursive: true });
        for (const spec of specs)
          cpSync(
            buildRpm({ directory: work, ...spec }),
            join(
              path,
              'Packages',
              `${spec.name}-${spec.version ?? '1.0'}-${spec.release ?? '1'}.${spec.arch ?? 'noarch'}.rpm`,
            ),
          );
        createRepository(path);
        return path;
      };
      const library = (version: string): Omit<Parameters<typeof buildRpm>[0], 'directory'> => ({
        name: 'libfoo',
        version,
        arch: 'x86_64',
        provides: ['libfoo.so.1()(64bit)', 'libfoo.so.1(FOO_1.0)(64bit)', `foo-abi = ${version}`],
        files: { 'usr/lib64/libfoo.so.1': 'library', 'etc/foo.conf': 'x' },
      });
      plain = build(
        'plain',
        library('1.0'),
        library('1.10'),
        library('1.9~rc1'),
        {
          name: 'tool',
          epoch: 2,
          version: '1.0^git',
          arch: 'x86_64',
          requires: [
            'libfoo.so.1()(64bit)',
            'foo-abi >= 1.0',
            '(libfoo if tool-extra)',
            'libfoo < 3:4-5',
            '/bin/sh',
          ],
          files: { 'usr/bin/tool': 'x', 'usr/share/tool/a & <b> "c" é': 'x' },
        },
        { name: 'tool', version: '9', requires: ['everything'] },
        { name: 'odd+name', version: '1_2', release: '3~4', provides: ['config(odd) = 5:1-2'] },
        { name: 'old32', arch: 'i686', provides: ['libfoo.so.1'] },
      );
      updates = build('updates', library('1.11'), { name: 'newer', provides: ['libfoo.so.1()(64bit)'] });
    }, 120_000);

    const listing = '%{name}|%{epoch}|%{version}|%{release}|%{arch}|%{location}|%{size}';

    /** The same repository with its lists packed anew: not every createrepo_c knows zstd. */
    function packedWithZstd(): string {
      createRepository(plain, '--general-compress-type=gz');
      const path = mkdtempSync(join(directory, 'zstd-'));
      cpSync(plain, path, { recursive: true });
      const repodata = join(path, 'repodata');
      const repack = (type: 'primary' | 'filelists'): { path: string; bytes: Buffer } => {
        const name = readdirSync(repodata).find((one) => one.endsWith(`-${type}.xml.gz`)) ?? '';
        const input = gunzipSync(readFileSync(join(repodata, name)));
        const bytes = execFileSync('zstd', ['-10', '--stdout'], { input, stdio: 'pipe' });
        writeFileSync(join(repodata, `${type}.xml.zst`), bytes);
        return { path: `repodata/${type}.xml.zst`, bytes };
      };
      const files = { primary: repack('primary'), filelists: repack('filelists') };
      writeFileSync(join(repodata, 'repomd.xml'), repomdXml(files));
      return path;
    }

    it.each(['xz', 'zst', 'gz'])('packed with %s: has the packages that dnf has', async (compression) => {
      if (compression !== 'zst') {
        createRepository(
          plain,
          `--general-compress-type=${compression}`,
          ...(compression === 'gz' ? ['--zck'] : []),
        );
      }
      const path = compression === 'zst' ? packedWithZstd() : plain;
      const repository = await opening.open(sourceOf(fileUrl(path)));
      expect(opening.unpacked).toEqual([compression]);
      const theirs = dnfQuery({ test: fileUrl(plain) }, 'x86_64', '--qf', listing)
        .filter((line) => !line.includes('|i686|'))
        .map((line) => line.replace(/\|[^|]*Packages/, '|Packages'));
      const ours = repository.names().flatMap((name) => repository.find(name));
      const lines = ours.map((one) =>
        [one.name, one.epoch, one.version, one.release, one.architecture, one.path, one.size].join('|'),
      );
      expect([...new Set(lines)].sort()).toEqual([...theirs].sort());
      expect(spelt(repository.find('libfoo'))).toEqual([
        'libfoo-0:1.10-1.x86_64',
        'libfoo-0:1.9~rc1-1.x86_64',
        'libfoo-0:1.0-1.x86_64',
      ]);
      expect(spelt(repository.find('tool'))).toEqual(['tool-2:1.0^git-1.x86_64', 'tool-0:9-1.noarch']);
      for (const record of ours) {
        const url = new URL(repository.urls(record)[0] ?? '');
        expect(readFileSync(url).length).toBe(record.size);
      }
    });

    it('knows what packages require and provide as dnf does', async () => {
      const repository = await opening.open(sourceOf(fileUrl(plain)));
      for (const field of ['requires', 'provides'] as const) {
        const format = `= %{name}-%{epoch}:%{version}-%{release}.%{arch}\n%{${field}}`;
        const theirs = new Map<string, string[]>();
        let lines: string[] = [];
        for (const line of dnfQuery({ test: fileUrl(plain) }, 'x86_64', '--qf', format)) {
          if (line.startsWith('= ')) theirs.set(line.slice(2), (lines = []));
          else if (!line.startsWith('rpmlib(')) lines.push(line);
        }
        const ours = [...new Set(repository.names())].flatMap((name) => repository.find(name));
        expect(ours.length).toBeGreaterThan(5);
        for (const record of ours) {
          const own = record[field]
            .map(({ name, constraint }) => (constraint === undefined ? name : `${name} ${constraint}`))
            .filter((line) => !line.startsWith('rpmlib('));
          expect([...new Set(own)].sort(), nevra(record)).toEqual(theirs.get(nevra(record))?.sort());
        }
      }
    });

    it('finds providers as dnf does: sonames, packages and files', async () => {
      const repository = await opening.open(sourceOf(fileUrl(plain)));
      for (const key of [
        'libfoo.so.1()(64bit)',
        'libfoo.so.1(FOO_1.0)(64bit)',
        'foo-abi',
        'tool',
        'config(odd)',
        '/usr/bin/tool',
        '/etc/foo.conf',
        'libfoo.so.1',
        'nothing',
      ]) {
        const theirs = dnfQuery({ test: fileUrl(plain) }, 'x86_64', '--whatprovides', key);
        expect([...spelt(repository.providers(key))].sort(), key).toEqual(
          theirs.filter((one) => !one.endsWith('.i686')).sort(),
        );
      }
    });

    it('searches filelists for what primary does not have', async () => {
      const repository = await opening.open(sourceOf(fileUrl(plain)));
      opening.unpacked.splice(0);
      expect(spelt(await repository.owners(['/usr/bin/tool', '/usr/sbin/tool']))).toEqual([
        'tool-2:1.0^git-1.x86_64',
      ]);
      expect(opening.unpacked).toEqual([]);
      expect(repository.providers('/usr/lib64/libfoo.so.1')).toEqual([]);
      expect(spelt(await repository.owners(['/lib64/libfoo.so.1', '/usr/lib64/libfoo.so.1']))).toEqual(
        spelt(repository.find('libfoo')),
      );
      expect(spelt(await repository.owners(['/usr/share/tool/a & <b> "c" é']))).toEqual([
        'tool-2:1.0^git-1.x86_64',
      ]);
      expect(await repository.owners(['/nowhere'])).toEqual([]);
    });

    it('makes the index once, and reads no packed list again', async () => {
      await opening.open(sourceOf(fileUrl(plain)));
      expect(opening.unpacked).toHaveLength(1);
      const again = await opening.open(sourceOf(fileUrl(plain)));
      expect(opening.unpacked).toHaveLength(1);
      expect(again.find('tool')).toHaveLength(2);
      // Another architecture has another index.
      const i686 = await opening.open(sourceOf(fileUrl(plain)), { architecture: 'i686' });
      expect(spelt(i686.find('old32'))).toEqual(['old32-0:1.0-1.i686']);
      expect(i686.find('libfoo')).toEqual([]);
    });

    it('merges a release and its updates as dnf does, in any order', async () => {
      const both = [
        await opening.open(sourceOf(fileUrl(plain), { id: 'plain' })),
        await opening.open(sourceOf(fileUrl(updates), { id: 'updates' })),
      ];
      for (const repositories of [both, [...both].reverse()]) {
        const merged = mergeRepositories(repositories, 'x86_64');
        const found = merged.find('libfoo');
        expect([found && nevra(found.record), found?.repository.source.id]).toEqual([
          'libfoo-0:1.11-1.x86_64',
          'updates',
        ]);
        const urls = { plain: fileUrl(plain), updates: fileUrl(updates) };
        const theirs = dnfQuery(urls, 'x86_64', '--latest-limit=1', '--whatprovides', 'libfoo.so.1()(64bit)');
        const key = merged.providers('libfoo.so.1()(64bit)').map(({ record }) => nevra(record));
        expect(key).toEqual([...theirs].sort());
        expect((await merged.owners(['/usr/lib64/libfoo.so.1'])).map(({ record }) => nevra(record))).toEqual([
          'libfoo-0:1.11-1.x86_64',
        ]);
        expect(merged.find('nothing')).toBeUndefined();
        expect(merged.similar('libfo')).toEqual(['libfoo']);
      }
    });
  },
);

describe('choosing among repositories', () => {
  async function repository(
    id: string,
    versions: readonly string[],
    changes: Parameters<typeof sourceOf>[1] = {},
  ): Promise<RpmRepository> {
    const path = writeRepository(
      versions.map((version) => ({ name: 'x', version, provides: `<rpm:entry name="p-${version}"/>` })),
    );
    return opening.open(sourceOf(fileUrl(path), { id, ...changes }));
  }
  const best = (repositories: readonly RpmRepository[]): readonly (string | undefined)[] =>
    [repositories, [...repositories].reverse()].map((ones) => {
      const found = mergeRepositories(ones, 'x86_64').find('x');
      return found && `${found.repository.source.id} ${evrText(found.record)}`;
    });

  it('a better priority hides newer packages, and what they provide', async () => {
    const repositories = [await repository('a', ['2']), await repository('b', ['1'], { priority: 10 })];
    expect(best(repositories)).toEqual(['b 1-1', 'b 1-1']);
    const merged = mergeRepositories(repositories, 'x86_64');
    expect(merged.providers('p-2')).toEqual([]);
    expect(merged.providers('p-1')).toHaveLength(1);
  });

  it('equal packages: the lower cost, then the first id', async () => {
    expect(best([await repository('a', ['1']), await repository('b', ['1'], { cost: 10 })])).toEqual([
      'b 1-1',
      'b 1-1',
    ]);
    expect(best([await repository('a', ['1']), await repository('b', ['1'])])).toEqual(['a 1-1', 'a 1-1']);
  });
});

describe('what is not seen', () => {
  it('other architectures, sources, excluded packages', async () => {
    const path = writeRepository([
      { name: 'a' },
      { name: 'a', arch: 'i686', version: '2' },
      { name: 'a', arch: 'src', version: '3' },
      { name: 'a', arch: 'noarch', version: '0.5' },
      { name: 'a', type: 'patch', version: '9' },
      { name: 'kernel', provides: '<rpm:entry name="k"/>' },
    ]);
    const repository = await opening.open(sourceOf(fileUrl(path), { excludes: ['kern*', 'a-0.5'] }));
    expect(spelt(repository.find('a'))).toEqual(['a-0:1-1.x86_64']);
    expect([repository.find('kernel'), repository.providers('k')]).toEqual([[], []]);
  });

  it('packages of modules, unless module_hotfixes is set', async () => {
    const packages = [
      { name: 'perl', version: '5', release: '1.module+el8' },
      { name: 'perl', version: '4', release: '1.el8' },
      { name: 'perl', version: '3', release: '1.module_f32' },
      { name: 'perl', version: '2' },
    ];
    const modules = Buffer.from('data:\n  artifacts:\n    rpms:\n    - perl-0:4-1.el8.x86_64\n');
    const path = writeRepository(packages, { modules });
    const versions = async (moduleHotfixes: boolean): Promise<readonly string[]> =>
      (await opening.open(sourceOf(fileUrl(path), { moduleHotfixes })))
        .find('perl')
        .map(({ version }) => version);
    expect(await versions(false)).toEqual(['2']);
    expect(await versions(true)).toEqual(['5', '4', '3', '2']);
  });
});

describe('records', () => {
  it('keep everything that XML can spell', async () => {
    const path = writeRepository([
      {
        name: 'x',
        provides: `<rpm:entry name='a "quoted" &amp; \\name'/><rpm:entry name="v" flags="GE" epoch="3" ver="1&#46;2" rel="4"/>`,
        requires:
          '<rpm:entry name="(a if b)"/><rpm:entry name="w" flags="LT" epoch="0" ver="2"/><rpm:entry name="/bin/sh" pre="1"/><rpm:entry/>',
        files: '<file>/a&lt;b</file><file type="dir">/usr/share/x</file><file><![CDATA[/c&d]]></file>',
      },
    ]);
    const repository = await opening.open(sourceOf(fileUrl(path)));
    const [record] = repository.find('x');
    expect(record?.provides).toEqual([
      { name: 'a "quoted" & \\name', constraint: undefined },
      { name: 'v', constraint: '>= 3:1.2-4' },
    ]);
    expect(record?.requires).toEqual([
      { name: '(a if b)', constraint: undefined },
      { name: 'w', constraint: '< 2' },
      { name: '/bin/sh', constraint: undefined },
    ]);
    expect(record?.files).toEqual(['/a<b', '/usr/share/x', '/c&d']);
    for (const key of ['a "quoted" & \\name', 'v', '/a<b', '/c&d'])
      expect(repository.providers(key), key).toHaveLength(1);
  });

  it.each<[PrimaryPackage, string]>([
    [{ name: 'x', checksum: ['sha', 'a'.repeat(40)] }, 'it has no SHA-256 or SHA-512 checksum, only "sha"'],
    [{ name: 'x', checksum: ['md5', 'a'.repeat(32)] }, 'only "md5"'],
    [{ name: 'x', checksum: ['sha256', 'a'.repeat(40)] }, 'it has no SHA-256'],
    [{ name: 'x', location: '../../etc/passwd' }, 'leaves the repository'],
    [{ name: 'x', location: 'http://evil.example/x.rpm' }, 'leaves the repository'],
    [{ name: 'x', size: '-1' }, 'the size "-1" is no number'],
    [{ name: 'x', epoch: 'e' }, 'the epoch "e" is no number'],
    [{ name: 'x', version: '1/2' }, '"1/2" is malformed'],
    [{ name: 'x', release: '' }, '"" is malformed'],
  ])('are refused when they are chosen: %j', async (one, message) => {
    const repository = await opening.open(sourceOf(fileUrl(writeRepository([{ name: 'good' }, one]))));
    expect(repository.find('good')).toHaveLength(1);
    expect(() => repository.find('x')).toThrow(message);
  });

  it('know SHA-512, for packages and for metadata', async () => {
    const value = 'ab'.repeat(64);
    const path = writeRepository([{ name: 'x', checksum: ['sha512', value] }], {}, undefined, 'sha512');
    const { url } = await serve(path);
    const source = sourceOf([`${url}missing/`, url]);
    const repository = await opening.open(source);
    expect(repository.find('x')[0]?.checksum).toEqual({ algorithm: 'sha512', value });
    expect((await opening.open(source, { offline: true })).names()).toEqual(['x']);
  });
});

describe('mirrors', () => {
  const path = writeRepository([{ name: 'x' }]);
  const repomd = repomdOf(path);
  const none = 'http://127.0.0.1:1/';

  it('are tried until one has the right bytes', async () => {
    const [lying, short, missing, good] = [
      await serve(path),
      await serve(path),
      await serve(path),
      await serve(path),
    ];
    lying.intercept = (asked) => (asked === 'repodata/primary' ? Buffer.from('evil') : undefined);
    short.intercept = (asked) =>
      asked === 'repodata/primary' ? readFileSync(join(path, asked)).fill(0, 30) : undefined;
    missing.intercept = (asked) => (asked === 'repodata/primary' ? 404 : undefined);
    const mirrors = [none, lying.url, short.url, missing.url, good.url];
    const repository = await opening.open(sourceOf(mirrors));
    expect(repository.find('x')).toHaveLength(1);
    expect(good.requests).toEqual(['repodata/primary']);
    expect(repository.urls({ path: 'x.rpm' })).toEqual(
      [lying.url, none, short.url, missing.url, good.url].map((url) => `${url}x.rpm`),
    );
    expect(opening.said.join('\n')).toMatch(/expected \d+ bytes, got 4; trying/);
    expect(opening.said.join('\n')).toMatch(/expected sha256 .*, got .*; trying/);
  });

  it('of a metalink must have one of its versions', async () => {
    const [evil, good, list] = [await serve(path), await serve(path), await serve(path)];
    evil.intercept = () => Buffer.from(repomd.toString().replace('<repomd', '<!-- evil --><repomd'));
    list.intercept = () => Buffer.from(metalinkXml([repomd], [evil.url, none, good.url]));
    const source = sourceOf([], { metalink: `${list.url}metalink?repo=x` });
    const repository = await opening.open(source);
    expect(repository.top.url).toBe(`${good.url}repodata/repomd.xml`);
    expect(opening.said.join('\n')).toContain('its hash is none of those that the metalink lists; trying');

    good.intercept = evil.intercept;
    expect((await refusal(opening.open(source))).message).toContain('its hash is none of those');
    list.intercept = () => 404;
    expect((await refusal(opening.open(source))).message).toContain('the server does not have it');
    list.intercept = () => Buffer.from(metalinkXml([repomd], ['rsync://x/']));
    expect((await refusal(opening.open(source))).message).toContain(
      'it names no mirror with an http, https or file URL',
    );
  });

  it('of a metalink: the newest version wins, an alternate is good when there is nothing else', async () => {
    const newer = writeRepository([{ name: 'x', version: '2' }], {}, 1_800_000_000);
    const versions = [repomdOf(newer), repomd];
    const [behind, current, list] = [await serve(path), await serve(newer), await serve(path)];
    list.intercept = () => Buffer.from(metalinkXml(versions, [behind.url, current.url]));
    const source = sourceOf([], { metalink: list.url });
    expect((await opening.open(source)).find('x')[0]?.version).toBe('2');
    // The older one is not refused, though a newer one has been seen: the metalink lists it.
    list.intercept = () => Buffer.from(metalinkXml(versions, [behind.url, none]));
    expect((await opening.open(source)).find('x')[0]?.version).toBe('1');
  });

  it('of a mirrorlist, and of a mirrorlist that is a metalink', async () => {
    const [good, list] = [await serve(path), await serve(path)];
    list.intercept = () => Buffer.from(`# mirrors\n${none}\n${good.url}\n`);
    expect((await opening.open(sourceOf([], { mirrorlist: list.url }))).find('x')).toHaveLength(1);
    list.intercept = () => Buffer.from(metalinkXml([repomd], [good.url]));
    const { top } = await opening.open(sourceOf([], { mirrorlist: list.url }));
    expect(top.url).toBe(`${good.url}repodata/repomd.xml`);
  });

  it('that are all dead give the reason of the last, and a hint', async () => {
    const error = await refusal(opening.open(sourceOf([none, 'http://127.0.0.1:2/'])));
    expect(error.message).toBe(
      'cannot fetch http://127.0.0.1:2/repodata/repomd.xml: the connection was refused',
    );
    expect(error.hint).toBeDefined();
  });
});

describe('trust', () => {
  const path = writeRepository([{ name: 'x' }]);

  it('warns of plain http alone', async () => {
    const { url } = await serve(path);
    await opening.open(sourceOf(url));
    expect(opening.said.filter((line) => line.startsWith('warn'))).toEqual([
      `warn: test.repo [test]: ${new URL(url).host} is asked over plain http, so nothing proves that its list of packages is the right one; the signatures of the packages are still checked`,
    ]);
    opening.said.splice(0);
    const { top } = await opening.open(sourceOf(fileUrl(path)));
    expect([opening.said.filter((line) => line.startsWith('warn')), top.trust]).toEqual([
      [],
      'https or this machine',
    ]);
  });

  it('does not go back in time', async () => {
    const server = await serve(path);
    const newer = readFileSync(
      join(writeRepository([{ name: 'x' }], {}, 1_700_000_500), 'repodata/repomd.xml'),
    );
    server.intercept = (asked) => (asked.endsWith('repomd.xml') ? newer : undefined);
    await opening.open(sourceOf(server.url));
    server.intercept = undefined;
    const error = await refusal(opening.open(sourceOf(server.url)));
    expect(error.message).toContain(
      'it is dated 2023-11-14T22:13:20Z, but one of 2023-11-14T22:21:40Z has been seen',
    );
    expect(error.hint).toContain('empty the cache');
    // One from the future is taken, and not remembered.
    const future = readFileSync(
      join(writeRepository([{ name: 'x' }], {}, 4_000_000_000), 'repodata/repomd.xml'),
    );
    server.intercept = (asked) => (asked.endsWith('repomd.xml') ? future : undefined);
    await opening.open(sourceOf(server.url));
    server.intercept = (asked) => (asked.endsWith('repomd.xml') ? newer : undefined);
    await opening.open(sourceOf(server.url));
  });

  it('offline, everything comes from the cache', async () => {
    const server = await serve(path);
    await opening.open(sourceOf(server.url));
    await server.close();
    servers.splice(0);
    const repository = await opening.open(sourceOf(server.url), { offline: true });
    expect(repository.find('x')).toHaveLength(1);
    const other = await refusal(opening.open(sourceOf('http://127.0.0.1:1/'), { offline: true }));
    expect(other.message).toContain('--offline is given');
  });

  describe.skipIf(!requireTools('gpg', 'gpgconf'))('in signatures of repomd.xml', () => {
    let key: SigningKey;
    let stranger: SigningKey;
    let signed: string;
    const ring = ({ publicKey }: SigningKey): Keyring => ({
      files: [],
      blocks: [publicKey.trim()],
      fingerprints: [],
    });
    const sign = (by: SigningKey): void => {
      const repomd = join(signed, 'repodata/repomd.xml');
      execFileSync(
        'gpg',
        [
          '--homedir',
          by.home,
          '--batch',
          '--yes',
          '--armor',
          '--detach-sign',
          '--output',
          `${repomd}.asc`,
          repomd,
        ],
        { stdio: 'pipe' },
      );
      execFileSync('gpgconf', ['--homedir', by.home, '--kill', 'all']);
    };

    beforeAll(() => {
      [key, stranger] = [makeSigningKey(directory), makeSigningKey(directory)];
      signed = writeRepository([{ name: 'x' }]);
    });

    it('takes the right one, and none else', async () => {
      const { url } = await serve(signed);
      const open = (keyring: Keyring): Promise<RpmRepository> => opening.open(sourceOf(url), { keyring });
      expect((await refusal(open(ring(key)))).message).toContain('there is no repomd.xml.asc');
      sign(key);
      expect((await open(ring(key))).find('x')).toHaveLength(1);
      expect(opening.said.filter((line) => line.startsWith('warn'))).toEqual([]);
      expect(
        (await opening.open(sourceOf(url), { keyring: ring(key), offline: true })).find('x'),
      ).toHaveLength(1);
      expect((await refusal(open(ring(stranger)))).message).toMatch(/key [0-9A-F]{16} is not in the keyring/);
      sign(stranger);
      expect((await refusal(open(ring(key)))).message).toContain('is not in the keyring');
      sign(key);
      const repomd = join(signed, 'repodata/repomd.xml');
      writeFileSync(repomd, readFileSync(repomd, 'utf8').replace('1700000000', '1700000001'));
      expect((await refusal(open(ring(key)))).message).toContain('does not fit the text');
    });
  });
});

describe('broken metadata', () => {
  it.each<[string, Buffer, string]>([
    ['html', Buffer.from('<html/>'), 'it is no list of packages'],
    ['nothing', Buffer.from(''), 'it is cut off'],
    ['bzip2', Buffer.from('BZh91AY&SY'), 'it is packed with bzip2, which is not supported'],
    ['zchunk', Buffer.from('\0ZCK1...'), 'it is packed with zchunk, which is not supported'],
    ['a bomb', gzipSync(Buffer.alloc(2 ** 20)), 'NUL'],
    ['cut gzip', gzipSync(primaryXml([{ name: 'x' }])).subarray(0, 200), 'cannot decompress'],
    ['cut xml', gzipSync(primaryXml([{ name: 'x' }]).slice(0, 400)), 'it is cut off'],
    ['entities', Buffer.from('<!DOCTYPE a [<!ENTITY b "c">]><metadata/>'), 'document type declaration'],
  ])('%s gives a clear error', async (_name, primary, message) => {
    const error = await refusal(opening.open(sourceOf(fileUrl(writeRepository(primary)))));
    expect(error.message).toContain(message);
  });

  it('a repository without packages is an error, one with none for us is not', async () => {
    const path = writeRepository([{ name: 'x', arch: 's390x' }]);
    expect((await opening.open(sourceOf(fileUrl(path)))).names()).toEqual([]);
    writeFileSync(
      join(path, 'repodata/repomd.xml'),
      repomdXml({ filelists: { path: 'x', bytes: Buffer.from('') } }),
    );
    expect((await refusal(opening.open(sourceOf(fileUrl(path))))).message).toContain('it names no primary');
  });
});

describe.skipIf(samples === undefined || !requireTools('dnf'))('real repositories', patience, () => {
  const sample = (name: string): string => fileUrl(join(samples ?? '', name));

  it('CentOS Stream 9: the packages, versions and providers that dnf finds', async () => {
    const repository = await opening.open(sourceOf(sample('cs9-baseos')));
    const theirs = dnfQuery(
      { cs9: sample('cs9-baseos') },
      'x86_64',
      '--qf',
      '%{name}-%{epoch}:%{version}-%{release}.%{arch}',
    );
    const ours = [...new Set(repository.names())].flatMap((name) => spelt(repository.find(name)));
    expect([...ours].sort()).toEqual([...new Set(theirs.filter((one) => !one.endsWith('.i686')))].sort());
    const merged = mergeRepositories([repository], 'x86_64');
    const newest = dnfQuery(
      { cs9: sample('cs9-baseos') },
      'x86_64',
      '--latest-limit=1',
      '--arch=x86_64,noarch',
      '--qf',
      '%{name}-%{epoch}:%{version}-%{release}.%{arch}',
    );
    const chosen = [...new Set(repository.names())].flatMap((name) => merged.find(name)?.record ?? []);
    expect([...spelt(chosen)].sort()).toEqual([...newest].sort());
    for (const key of [
      'libkrb5.so.3()(64bit)',
      'libc.so.6(GLIBC_2.34)(64bit)',
      'libcrypto.so.3()(64bit)',
      '/usr/bin/sh',
      '/etc/passwd',
      '/usr/lib64/libkrb5.so.3',
    ]) {
      const expected = dnfQuery(
        { cs9: sample('cs9-baseos') },
        'x86_64',
        '--latest-limit=1',
        '--arch=x86_64,noarch',
        '--whatprovides',
        key,
      );
      const found = key.startsWith('/') ? await merged.owners([key]) : merged.providers(key);
      expect([...spelt(found.map(({ record }) => record))].sort(), key).toEqual([...expected].sort());
    }
  });

  it('one whose repomd.xml is wrong about a size is refused', async () => {
    const error = await refusal(opening.open(sourceOf(sample('zstd-repo'))));
    expect(error.message).toMatch(/primary\.xml\.zst: expected 605 bytes, got 602$/);
  });

  it('one with zchunk files beside', async () => {
    const repository = await opening.open(sourceOf(sample('zck-repo'), { moduleHotfixes: true }));
    expect(repository.names()).toEqual(['fontconfig']);
  });

  it('one with a signed repomd.xml', async () => {
    const keyring = {
      files: [join(samples ?? '', 'dnf5-repomd-gpg/repo-gpg-key.pub')],
      blocks: [],
      fingerprints: [],
    };
    const repository = await opening
      .open(sourceOf(sample('dnf5-repomd-gpg')), { keyring })
      .catch((error: unknown) => error);
    expect(repository instanceof Error ? repository.message : 'opened').toBe('opened');
  });
});
