import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { DebianArchive, Provider } from '../../../build/repository/debian/archive.js';
import type { ProviderRequest } from '../../../build/repository/origin.js';
import { packagesWithFile } from '../../../build/repository/debian/contents-index.js';
import { debianLoader, mergedPath } from '../../../build/repository/debian/layout.js';
import { parseDepends } from '../../../build/repository/debian/packages.js';
import { packageNames } from '../../../build/repository/debian/provider.js';
import { run } from '../../../build/support/exec.js';
import { architectures } from '../../../build/support/architecture.js';
import {
  debianArchiveTools,
  makeArchive,
  makeKeys,
  type ArchiveServer,
  type Keys,
  type PackageSpec,
  type TestArchive,
} from '../../support/debian-archive.js';
import { hostLoader } from '../../support/elf-host.js';
import { hostArchitecture } from '../../support/host.js';
import { requireTools } from '../../support/tools.js';
import { makeOpening, sourceOf, type Opening } from './opening.js';

const lib = 'lib/x86_64-linux-gnu';
const directories = debianLoader('x86_64').builtIn.map((path) => path.slice(1));
/** What is inside does not matter: a provider is found by its entries. */
const library = (...names: string[]): Record<string, string> =>
  Object.fromEntries(names.map((name) => [`usr/${lib}/${name}`, name]));

const packages: PackageSpec[] = [
  {
    name: 'server',
    version: '1',
    section: 'net',
    depends: 'libnamed1, helper | other-helper, virtual-crypt',
  },
  { name: 'helper', version: '1', section: 'net', depends: 'libdeep0t64, libodd-data, data' },
  { name: 'other-helper', version: '1', section: 'net' },
  {
    name: 'libnamed1',
    version: '1',
    files: { [`${lib}/libnamed.so.1`]: { symlink: 'libnamed.so.1.2.3' }, [`${lib}/libnamed.so.1.2.3`]: 'x' },
  },
  { name: 'libdeep0t64', version: '1', files: library('libdeep.so.0') },
  // Not named after its library.
  {
    name: 'libodd-data',
    version: '1',
    files: library('libwhatever.so.5', 'private/libhidden.so.1'),
    provides: 'odd',
  },
  { name: 'crypt-two', version: '1', provides: 'virtual-crypt', files: library('libcrypt.so.2') },
  // Holds a library but is no library package: only the Contents index names it.
  { name: 'data', version: '1', section: 'misc', files: library('libinside.so.3') },
  // Nobody depends on these.
  { name: 'libfar1', version: '1', files: library('libfar.so.1') },
  { name: 'alpha', version: '1', section: 'misc', files: library('libtwice.so.1', 'libthrice.so.1') },
  { name: 'omega', version: '1', section: 'libs', files: library('libtwice.so.1') },
  { name: 'required', version: '1', section: 'misc', priority: 'required', files: library('libthrice.so.1') },
  { name: 'decoy', version: '1', files: { 'opt/libfar.so.1': 'x', [`usr/${lib}/libfar.so.1.0`]: 'x' } },
];

describe.skipIf(!requireTools(...debianArchiveTools))('provider', () => {
  let keys: Keys;
  let archive: TestArchive;
  let server: ArchiveServer;
  let opening: Opening;
  let opened: DebianArchive;

  beforeAll(async () => {
    keys = await makeKeys();
    archive = await makeArchive({ suites: [{ name: 'test', packages }] }, keys);
    server = await archive.serve();
  });
  afterAll(async () => {
    await archive.remove();
    await keys.remove();
  });
  beforeEach(async () => {
    opening = await makeOpening();
    server.requests.length = 0;
    opened = await opening.open([sourceOf(server.url, 'test', archive.keyring)]);
  });
  afterEach(() => opening.close());

  const ask = async (soname: string, changes: Partial<ProviderRequest> = {}): Promise<Provider | undefined> =>
    opened.provider({ soname, neededBy: 'server', root: 'server', directories, ...changes });
  const answer = async (
    soname: string,
    changes: Partial<ProviderRequest> = {},
  ): Promise<readonly (string | undefined)[]> => {
    const provider = await ask(soname, changes);
    return [provider?.record.name, provider?.explanation];
  };
  const askedContents = (): boolean =>
    server.requests.some((path) => path.includes('by-hash') && !path.includes('binary-'));

  it('opens the dependency named after the soname, and no other', async () => {
    expect(await answer('libnamed.so.1')).toEqual(['libnamed1', 'libnamed1 is a dependency of server']);
    expect(opening.opened).toEqual(['libnamed1']);
  });

  it('walks deeper', async () => {
    expect(await answer('libdeep.so.0')).toEqual([
      'libdeep0t64',
      'libdeep0t64 is a dependency of server through helper',
    ]);
    expect(opening.opened).toEqual(['libdeep0t64']);
  });

  it('starts at the package that owns the needing object', async () => {
    const [name, explanation] = await answer('libdeep.so.0', { neededBy: 'helper' });
    expect([name, explanation]).toEqual(['libdeep0t64', 'libdeep0t64 is a dependency of helper']);
  });

  it('looks into library packages of other names, by their entries, nearest first', async () => {
    expect(await answer('libwhatever.so.5')).toEqual([
      'libodd-data',
      'libodd-data is a dependency of server through helper',
    ]);
    expect(opening.opened).not.toContain('helper');
    expect(askedContents()).toBe(false);
  });

  it('follows virtual packages', async () => {
    expect(await answer('libcrypt.so.2')).toEqual(['crypt-two', 'crypt-two is a dependency of server']);
  });

  it('asks the Contents index for the rest', async () => {
    expect(await answer('libfar.so.1')).toEqual([
      'libfar1',
      'libfar1 ships it according to the Contents index',
    ]);
    expect(askedContents()).toBe(true);
  });

  it('prefers the dependencies of the root among what the Contents index names', async () => {
    expect((await answer('libinside.so.3'))[0]).toBe('data');
  });

  it('orders strangers by section, then priority, then name', async () => {
    expect(await answer('libtwice.so.1')).toEqual([
      'omega',
      'omega ships it according to the Contents index, rather than alpha',
    ]);
    expect((await answer('libthrice.so.1'))[0]).toBe('required');
  });

  it('looks first into what the image has anyway', async () => {
    const record = opened.find('alpha');
    if (record === undefined) throw new Error('alpha is missing');
    await opened.open([record]);
    expect(await answer('libtwice.so.1')).toEqual(['alpha', 'alpha is in the image already']);
    expect(await answer('libtwice.so.1', { neededBy: 'alpha' })).toEqual(['alpha', 'alpha itself ships it']);
    expect(opening.opened).toEqual(['alpha']);
  });

  it('finds nothing outside of the directories', async () => {
    expect(await ask('libhidden.so.1')).toBeUndefined();
    expect(await ask('libnone.so.9')).toBeUndefined();
    expect((await ask('libhidden.so.1', { directories: [`usr/${lib}/private`] }))?.record.name).toBe(
      'libodd-data',
    );
  });

  it('gives the same answers in any order of questions at the same time', async () => {
    const sonames = [
      'libtwice.so.1',
      'libthrice.so.1',
      'libinside.so.3',
      'libwhatever.so.5',
      'libcrypt.so.2',
    ];
    const together = await Promise.all(sonames.map(async (soname) => (await ask(soname))?.record.name));
    expect(together).toEqual(['omega', 'required', 'data', 'libodd-data', 'crypt-two']);
  });
});

describe('packageNames', () => {
  it.each([
    ['libc.so.6', 'libc6'],
    ['libssl.so.3', 'libssl3'],
    ['libssl.so.3', 'libssl3t64'],
    ['libfoo-1.2.so.0', 'libfoo-1.2-0'],
    ['libgcc_s.so.1', 'libgcc-s1'],
    ['libstdc++.so.6', 'libstdc++6'],
    ['libX11.so.6', 'libx11-6'],
    ['libkrb5.so.3', 'libkrb5-3'],
    ['libicuuc.so.72', 'libicuuc72'],
    ['libdb-5.3.so', 'libdb5.3'],
    ['libdns-9.18.24-1-Debian.so', 'libdns-9.18.24-1-debian'],
    ['libsystemd.so.0', 'libsystemd0'],
    ['libcap.so.2', 'libcap2'],
  ])('%s may be in %s', (soname, name) => {
    expect([...packageNames(soname)]).toContain(name);
  });

  it('names nothing for what is no soname', () => {
    expect(packageNames('')).toEqual(new Set());
    expect(packageNames('dhcpd')).toEqual(new Set());
  });

  it.skipIf(!requireTools('dpkg-query'))('finds most installed libraries by their name', async () => {
    const { stdout } = await run({
      argv: ['dpkg-query', '--search', `/usr/${debianLoader(hostArchitecture).lib}/lib*.so.*`],
      environment: { PATH: process.env['PATH'] ?? '', LC_ALL: 'C' },
    });
    const owned = stdout
      .trimEnd()
      .split('\n')
      .flatMap((line) => {
        const match = /^(lib[^:,]+)(?::\w+)?: .*\/(lib[^/]+\.so\.[0-9]+)$/.exec(line);
        return match === null ? [] : [{ name: match[1] ?? '', soname: match[2] ?? '' }];
      });
    const named = owned.filter(({ name, soname }) => packageNames(soname).has(name));
    expect(owned.length).toBeGreaterThan(20);
    expect(named.length / owned.length).toBeGreaterThan(0.5);
  });
});

describe('packagesWithFile', () => {
  const index = Buffer.from(
    [
      'bin/x                        utils/x',
      `${lib}/libc.so.6   libs/libc6,libs/libc6-copy`,
      `usr/${lib}/libc.so.6\t\tnon-free/libs/third`,
      `usr/lib/with space/libc.so.6   libs/spaced`,
      `opt/libc.so.6   libs/elsewhere`,
      `usr/${lib}/libc.so.60   libs/longer`,
      `usr/${lib}/glibc.so.6   libs/prefixed`,
      `usr/lib/libc.so.6/file   libs/below`,
      `usr/lib/libc.so.6 last`,
    ].join('\n'),
  );
  async function* cut(bytes: Buffer, size: number): AsyncGenerator<Uint8Array> {
    for (let at = 0; at < bytes.length; at += size) {
      await Promise.resolve();
      // Decompressors hand out the same buffer again: what is kept must be a copy.
      const chunk = Buffer.from(bytes.subarray(at, at + size));
      yield chunk;
      chunk.fill(0);
    }
  }

  it.each([1, 2, 7, 64, 10_000])('reads chunks of %d bytes', async (size) => {
    const directories = new Set([`usr/${lib}`, 'usr/lib']);
    expect(await packagesWithFile(cut(index, size), 'libc.so.6', directories, 'Contents')).toEqual([
      'last',
      'libc6',
      'libc6-copy',
      'third',
    ]);
  });

  it('refuses endless lines', async () => {
    const long = Buffer.alloc(3 * 1024 ** 2, 'a');
    await expect(packagesWithFile(cut(long, 65536), 'x', new Set(), 'Contents')).rejects.toThrow(
      'a line is too long',
    );
  });
});

describe('parseDepends', () => {
  it('reads alternatives, qualifiers, restrictions; leaves out what is malformed', () => {
    expect(parseDepends('a (>= 1:2~3), b | c:any, ${misc:Depends}, D, , e [amd64] <!nocheck>')).toEqual([
      [{ name: 'a', constraint: '>= 1:2~3' }],
      [
        { name: 'b', constraint: undefined },
        { name: 'c', constraint: undefined },
      ],
      [{ name: 'e', constraint: undefined }],
    ]);
  });
});

describe('layout', () => {
  it('knows one spelling of merged paths', () => {
    expect(mergedPath('lib/x/y')).toBe('usr/lib/x/y');
    expect(mergedPath('usr/lib/x')).toBe('usr/lib/x');
    expect(mergedPath('lib')).toBe('usr/lib');
    expect(mergedPath('libexec/x')).toBe('libexec/x');
  });

  it.skipIf(!requireTools('dpkg-architecture'))('names architectures like dpkg-architecture', async () => {
    for (const architecture of architectures) {
      const { debianArchitecture } = await import('../../../build/repository/debian/layout.js');
      const { stdout } = await run({
        argv: ['dpkg-architecture', '-a', debianArchitecture(architecture), '-q', 'DEB_HOST_MULTIARCH'],
        environment: { PATH: process.env['PATH'] ?? '', LC_ALL: 'C' },
      });
      expect(debianLoader(architecture).lib).toBe(`lib/${stdout.trim()}`);
    }
  });

  it('searches where the real loader of this machine searches', async ({ skip }) => {
    const result = await run({ argv: [hostLoader(), '--list-diagnostics'], environment: {} }).catch(
      () => undefined,
    );
    const found = [...(result?.stdout ?? '').matchAll(/^path\.system_dirs\[.*\]="(.*?)\/?"$/gm)].map(
      (match) => match[1],
    );
    if (found.length === 0) skip('the loader of this machine does not list its directories');
    if (!found.some((path) => path?.includes('-linux-gnu') === true)) skip('not a Debian loader');
    expect(debianLoader(hostArchitecture).builtIn).toEqual(found);
  });
});
