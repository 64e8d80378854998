import { execFileSync } from 'node:child_process';
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { closeLibraries, type LibraryClosure, type LoaderConfig } from '../../build/elf/closure.js';
import { readLdSoConf } from '../../build/elf/ld-so-conf.js';
import type { PackageContents } from '../../build/package/contents.js';
import { locateProgram } from '../../build/package/program.js';
import { openRpm } from '../../build/package/rpm.js';
import { createPackageTree, type PackageTree } from '../../build/package/tree.js';
import { directoryLinks, fedoraLoader } from '../../build/repository/fedora/layout.js';
import { ldSoCache } from '../../build/rootfs/ld-so-cache.js';
import { type Cache, openCache } from '../../build/support/cache.js';
import { ToolError } from '../../build/support/errors.js';
import { sha256Of } from '../support/deb.js';
import { buildLibrary, buildProgram } from '../support/elf-compile.js';
import { hostConfig, hostLoader, parseList, run } from '../support/elf-host.js';
import { hostArchitecture } from '../support/host.js';
import { buildRpm, type RpmFile } from '../support/rpm.js';
import { findTool, requireThat, requireTools } from '../support/tools.js';

const usable =
  requireThat(process.platform === 'linux', 'the dynamic loader of Linux') &&
  requireThat(process.getuid?.() === 0, 'root, for chroot') &&
  requireTools('gcc', 'rpm', 'rpmbuild', 'ldconfig', 'chroot');

const top = realpathSync(mkdtempSync(join(tmpdir(), 'rpm-closure-')));
const opened: PackageContents[] = [];
afterAll(async () => {
  for (const contents of opened) await contents.close();
  rmSync(top, { recursive: true });
});

type Files = Readonly<Record<string, RpmFile>>;

/** Packages that are in the image from the start; of each other one, the sonames it is asked for. */
interface System {
  readonly filesystem?: Files;
  readonly packages: Readonly<Record<string, Files>>;
  readonly providers?: Readonly<Record<string, string>>;
}

interface Closed {
  readonly closure: LibraryClosure<PackageContents>;
  /** Package files, that of the filesystem package first. */
  readonly files: readonly string[];
  /** `path (how it is found)` in load order, without the C library and the loader. */
  readonly list: readonly string[];
}

const directory: RpmFile = { directory: true };
const directories = (...paths: readonly string[]): Files =>
  Object.fromEntries(paths.map((path) => [path, directory]));
/** Of the filesystem package: all but the links that the tests vary. */
const common: Files = {
  ...directories('usr', 'usr/bin', 'usr/lib', 'usr/lib64', 'etc'),
  bin: { link: 'usr/bin' },
  sbin: { link: 'usr/sbin' },
  lib64: { link: 'usr/lib64' },
};
const usrMerge: Files = { ...common, ...directories('usr/sbin'), lib: { link: 'usr/lib' } };
const sbinMerge: Files = { ...common, lib: { link: 'usr/lib' }, 'usr/sbin': { link: 'bin' } };

let loader = '';
/** Of the host's loader: what the libraries of the tests lie in is among them. */
let builtIn: readonly string[] = [];
let glibc: Files = {};
beforeAll(async () => {
  if (!usable) return;
  loader = hostLoader();
  ({ builtIn } = await hostConfig(loader));
  const { stdout } = await run(loader, ['--list', process.execPath]);
  const libc = parseList(stdout).find(({ name }) => name === 'libc.so.6')?.path ?? '';
  glibc = {
    // Packaged below /usr, and opened over the link that PT_INTERP names.
    [`usr${loader}`]: { content: readFileSync(loader), mode: 0o755 },
    'usr/lib/libc.so.6': { content: readFileSync(libc), mode: 0o755 },
    'etc/ld.so.conf': 'include ld.so.conf.d/*.conf\n',
  };
});

let count = 0;
/** A directory for one test's files. */
function place(): string {
  count += 1;
  const made = join(top, String(count));
  mkdirSync(made);
  return made;
}

interface Growth {
  readonly layout: PackageContents;
  /** Packages that are there from the start. */
  readonly packages: readonly PackageContents[];
  readonly provide: (soname: string) => Promise<PackageContents | undefined>;
  readonly program: (tree: PackageTree) => string;
  readonly loader: Pick<LoaderConfig, 'architecture' | 'builtIn' | 'lib'>;
}

/** The closure of a program over packages that come as they are asked for, with their directories. */
async function closeOver(growth: Growth): Promise<LibraryClosure<PackageContents>> {
  const tree = createPackageTree(directoryLinks([growth.layout]));
  let configured: readonly string[] = [];
  const add = async (contents: PackageContents): Promise<void> => {
    await tree.add(contents);
    configured = await readLdSoConf({
      read: async (path) => {
        const found = tree.lookup(path);
        return found && found.owner.read(found.entry);
      },
      list: (path) => tree.list(path),
    });
  };
  for (const contents of [growth.layout, ...growth.packages]) await add(contents);
  return closeLibraries<PackageContents>({
    roots: [growth.program(tree)],
    dlopen: [],
    view: {
      lookup: (path) => {
        const found = tree.lookup(path);
        return (
          found && { path: `/${found.path}`, owner: found.owner, read: () => found.owner.read(found.entry) }
        );
      },
    },
    config: {
      ...growth.loader,
      get configured() {
        return configured;
      },
    },
    provide: async (soname) => {
      const contents = await growth.provide(soname);
      if (contents !== undefined) await add(contents);
      return contents !== undefined;
    },
  });
}

async function open(file: string): Promise<PackageContents> {
  cache ??= openCache(join(top, 'cache'));
  const contents = await openRpm(file, sha256Of(readFileSync(file)), await cache, 'unsigned');
  opened.push(contents);
  return contents;
}
let cache: Promise<Cache> | undefined;

/** Builds the packages, opens them, and closes `prog` over them. */
async function close(work: string, system: System): Promise<Closed> {
  const files = buildAll(work, system);
  const openNamed = (name: string): Promise<PackageContents> => open(files.get(name) ?? '');
  const later = new Set(Object.values(system.providers ?? {}));
  const first = [...files.keys()].filter((name) => name !== 'filesystem' && !later.has(name));
  const closure = await closeOver({
    layout: await openNamed('filesystem'),
    packages: await Promise.all(first.map(openNamed)),
    provide: async (soname) => {
      const name = system.providers?.[soname];
      return name === undefined ? undefined : openNamed(name);
    },
    program: (tree) => locateProgram(tree, 'prog', 'prog'),
    loader: { architecture: hostArchitecture, builtIn, lib: 'lib' },
  });
  const list = closure.objects
    .slice(1)
    .filter(({ path }) => path !== loader && basename(path) !== 'libc.so.6')
    .map(({ path, through }) => `${path} (${through ?? 'root'})`);
  return { closure, files: [...files.values()], list };
}

/** Packages that are the same in many tests are built once. */
const built = new Map<Files, string>();

function buildAll(work: string, system: System): ReadonlyMap<string, string> {
  const packages = { filesystem: system.filesystem ?? usrMerge, glibc, ...system.packages };
  return new Map(
    Object.entries(packages).map(([name, files]) => {
      const shared = files === usrMerge || files === glibc;
      const path =
        built.get(files) ??
        buildRpm({
          directory: shared ? top : work,
          name,
          files,
          payload: 'w1.gzdio',
          arch: hostArchitecture,
        });
      if (shared) built.set(files, path);
      return [name, path];
    }),
  );
}

/**
 * Installs all packages with the real rpm, runs the real ldconfig, and asks the real loader in there: it lists the
 * same names, over the same paths, in the same order. So it does with the cache that the closure asks for.
 */
async function expectSame(work: string, { closure, files }: Closed): Promise<void> {
  const root = join(work, 'root');
  mkdirSync(root);
  const rpm = ['--root', root, '--nodeps', '--noscripts', '--nosignature', '-i'];
  const [first = '', ...others] = files;
  for (const some of [[first], others]) execFileSync('rpm', [...rpm, ...some], { stdio: 'pipe' });
  execFileSync('ldconfig', ['-X', '-r', root], { stdio: 'pipe' });

  const program = closure.objects[0]?.path ?? '';
  // A loader that nothing names as a library stands at the end of ours and in the middle of theirs.
  const withoutLoader = (lines: readonly string[]): readonly string[] =>
    lines.filter((line) => !line.endsWith(` => ${loader}`));
  const theirs = async (): Promise<readonly string[]> => {
    const { stdout, stderr } = await run(findTool('chroot') ?? 'chroot', [root, loader, '--list', program]);
    expect(stderr).toBe('');
    return withoutLoader(parseList(stdout).map(({ name, path }) => `${name} => ${path ?? 'nothing'}`));
  };
  const ours = withoutLoader(
    closure.objects.slice(1).map(({ neededAs, path }) => `${neededAs ?? ''} => ${path}`),
  );
  expect(ours).toEqual(await theirs());
  // The same with what an image has instead of ldconfig's cache.
  rmSync(join(root, 'etc/ld.so.cache'));
  if (closure.cached.length > 0)
    writeFileSync(join(root, 'etc/ld.so.cache'), ldSoCache(hostArchitecture, closure.cached));
  expect(ours).toEqual(await theirs());
}

async function failure(promise: Promise<unknown>): Promise<string> {
  const error: unknown = await promise.catch((reason: unknown) => reason);
  if (!(error instanceof ToolError)) throw new Error('no ToolError', { cause: error });
  return error.message;
}

/** An object in a package. */
function object(path: string): RpmFile {
  return { content: readFileSync(path), mode: 0o755 };
}

describe.skipIf(!usable)('the closure over RPM packages', () => {
  it('follows the merged /usr of the filesystem package, for the loader too', async () => {
    const work = place();
    const one = buildLibrary(join(work, 'libone.so.1'), { soname: 'libone.so.1' });
    const prog = buildProgram(join(work, 'prog'), { needs: [one] });
    const closed = await close(work, {
      packages: { prog: { 'usr/sbin/prog': object(prog) }, libone: { 'lib/libone.so.1': object(one) } },
    });
    expect(closed.list).toEqual(['/lib/libone.so.1 (built-in)']);
    const files = closed.closure.objects.map(({ file }) => file.path);
    expect(files).toEqual(
      expect.arrayContaining([
        '/usr/sbin/prog',
        '/usr/lib/libone.so.1',
        '/usr/lib/libc.so.6',
        `/usr${loader}`,
      ]),
    );
    await expectSame(work, closed);
  });

  it.each([
    ['relative', sbinMerge],
    ['absolute', { ...sbinMerge, lib: { link: '/usr/lib' }, 'usr/sbin': { link: '/usr/bin' } }],
    ['over several links', { ...sbinMerge, sbin: { link: 'bin' }, 'usr/sbin': { link: '../sbin' } }],
  ] as const)(
    'finds a program of /usr/sbin in the /usr/bin it is merged into: %s',
    async (_name, filesystem) => {
      const work = place();
      const one = buildLibrary(join(work, 'libone.so.1'), { soname: 'libone.so.1' });
      // The origin of a program is its real path: /usr/bin.
      const prog = buildProgram(join(work, 'prog'), { needs: [one], runpath: '$ORIGIN/private' });
      const closed = await close(work, {
        filesystem,
        packages: {
          prog: { 'usr/sbin/prog': object(prog), 'usr/bin/private/libone.so.1': object(one) },
        },
      });
      expect(closed.list).toEqual(['/usr/bin/private/libone.so.1 (runpath)']);
      expect(closed.closure.objects[0]?.file.path).toBe('/usr/bin/prog');
      expect(closed.closure.objects[0]?.path).toBe('/usr/bin/prog');
      await expectSame(work, closed);
    },
  );

  it('takes a link that the filesystem package only owns', async () => {
    const work = place();
    const one = buildLibrary(join(work, 'libone.so.1'), { soname: 'libone.so.1' });
    const prog = buildProgram(join(work, 'prog'), { needs: [one] });
    const closed = await close(work, {
      filesystem: { ...common, ...directories('usr/sbin'), lib: { link: 'usr/lib', ghost: true } },
      packages: { prog: { 'usr/bin/prog': object(prog) }, libone: { 'lib/libone.so.1': object(one) } },
    });
    expect(closed.list).toEqual(['/lib/libone.so.1 (built-in)']);
    expect(closed.closure.objects[1]?.file.path).toBe('/usr/lib/libone.so.1');
  });

  it('takes directories of ld.so.conf.d as their packages come', async () => {
    const work = place();
    const three = buildLibrary(join(work, 'libthree.so.3'), { soname: 'libthree.so.3' });
    const two = buildLibrary(join(work, 'libtwo.so.2'), { soname: 'libtwo.so.2', needs: [three] });
    const one = buildLibrary(join(work, 'libone.so.1'), { soname: 'libone.so.1', needs: [two] });
    const prog = buildProgram(join(work, 'prog'), { needs: [one] });
    const closed = await close(work, {
      packages: {
        prog: { 'usr/bin/prog': object(prog) },
        libone: {
          'usr/lib/one/libone.so.1': object(one),
          'etc/ld.so.conf.d/one.conf': '# of libone\n/usr/lib//one/\n',
        },
        // A library of another package's directory, over a link between directories.
        libtwo: { 'usr/lib/one/libtwo.so.2': object(two) },
        libthree: {
          'opt/three/lib/libthree.so.3.0.0': object(three),
          'opt/three/lib/libthree.so.3': { link: '/opt/three/lib/libthree.so.3.0.0' },
          'etc/three': { link: '../opt/three' },
          'etc/ld.so.conf.d/three.conf': '/etc/three/lib\n/nowhere\n',
        },
      },
      providers: { 'libone.so.1': 'libone', 'libtwo.so.2': 'libtwo', 'libthree.so.3': 'libthree' },
    });
    expect(closed.list).toEqual([
      '/usr/lib//one/libone.so.1 (configured)',
      '/usr/lib//one/libtwo.so.2 (configured)',
      '/etc/three/lib/libthree.so.3 (configured)',
    ]);
    expect(closed.closure.objects.map(({ file }) => file.path)).toContain('/opt/three/lib/libthree.so.3.0.0');
    await expectSame(work, closed);
  });

  it('sees in the end what a later package has put before the built-in directories', async () => {
    const work = place();
    const late = buildLibrary(join(work, 'liblate.so.1'), { soname: 'liblate.so.1' });
    const one = buildLibrary(join(work, 'libone.so.1'), { soname: 'libone.so.1' });
    const prog = buildProgram(join(work, 'prog'), { needs: [one, late] });
    const closed = await close(work, {
      packages: {
        prog: { 'usr/bin/prog': object(prog) },
        libone: { 'usr/lib/libone.so.1': object(one) },
        liblate: {
          'opt/late/liblate.so.1': object(late),
          'opt/late/libone.so.1': object(one),
          'etc/ld.so.conf.d/late.conf': '/opt/late\n',
        },
      },
      providers: { 'libone.so.1': 'libone', 'liblate.so.1': 'liblate' },
    });
    expect(closed.list).toEqual([
      '/opt/late/libone.so.1 (configured)',
      '/opt/late/liblate.so.1 (configured)',
    ]);
    await expectSame(work, closed);
  });

  it('closes sonames that need each other', async () => {
    const work = place();
    const names = ['a', 'b', 'c'].map((name) => `lib${name}.so`);
    const [a, b, c] = names.map((soname) => buildLibrary(join(work, 'first', soname), { soname }));
    const around = [
      buildLibrary(join(work, 'liba.so'), { soname: 'liba.so', needs: [b ?? ''] }),
      buildLibrary(join(work, 'libb.so'), { soname: 'libb.so', needs: [c ?? '', a ?? ''] }),
      buildLibrary(join(work, 'libc.so'), { soname: 'libc.so', needs: [a ?? ''] }),
    ];
    const prog = buildProgram(join(work, 'prog'), { needs: [around[0] ?? ''] });
    const closed = await close(work, {
      packages: {
        prog: { 'usr/bin/prog': object(prog) },
        ...Object.fromEntries(
          around.map((path) => [basename(path), { [`usr/lib/${basename(path)}`]: object(path) }]),
        ),
      },
      providers: Object.fromEntries(names.map((name) => [name, name])),
    });
    expect(closed.list).toEqual(['liba.so', 'libb.so', 'libc.so'].map((name) => `/lib/${name} (built-in)`));
    await expectSame(work, closed);
  });

  it('accepts a file that two packages have alike, and no other', async () => {
    const work = place();
    const one = buildLibrary(join(work, 'libone.so.1'), { soname: 'libone.so.1' });
    const other = buildLibrary(join(work, 'other/libone.so.1'), {
      soname: 'libone.so.1',
      source: 'int other;',
    });
    const prog = buildProgram(join(work, 'prog'), { needs: [one] });
    const packages = {
      prog: { 'usr/bin/prog': object(prog) },
      first: { 'usr/lib/libone.so.1': object(one) },
    };
    const closed = await close(work, {
      packages: { ...packages, second: { 'lib/libone.so.1': object(one) } },
    });
    expect(closed.list).toEqual(['/lib/libone.so.1 (built-in)']);
    expect(closed.closure.objects[1]?.file.owner.name).toBe('first');
    await expectSame(work, closed);
    const clash = close(place(), { packages: { ...packages, second: { 'lib/libone.so.1': object(other) } } });
    expect(await failure(clash)).toBe(
      'cannot add second 1.0-1: its usr/lib/libone.so.1 differs from that of first 1.0-1',
    );
  });

  it('follows the links of packages like the kernel, and leaves no root', async () => {
    const work = place();
    const one = buildLibrary(join(work, 'libone.so.1'), { soname: 'libone.so.1' });
    const prog = buildProgram(join(work, 'prog'), { needs: [one] });
    const closed = await close(work, {
      packages: {
        prog: { 'usr/bin/prog': object(prog) },
        // More levels up than there are: the root is its own parent.
        libone: {
          'usr/lib/libone.so.1': { link: '../../../../../../opt/./x/../y/libone' },
          'opt/x': directory,
          'opt/y': { link: '/srv/y' },
          'srv/y/libone': object(one),
        },
      },
    });
    expect(closed.closure.objects.map(({ file }) => file.path)).toContain('/srv/y/libone');
    await expectSame(work, closed);
  });

  it.each([
    [
      'links in a circle',
      { 'usr/lib/libone.so.1': { link: '/usr/lib/two' }, 'usr/lib/two': { link: '/usr/lib/libone.so.1' } },
    ],
    ['a link to nothing', { 'usr/lib/libone.so.1': { link: '/proc/self/exe' } }],
    ['a directory', { 'usr/lib/libone.so.1': directory }],
    ['a ghost', { 'usr/lib/libone.so.1': { content: '', ghost: true } }],
  ] as const)('does not take %s for a library', async (_name, libone) => {
    const work = place();
    const one = buildLibrary(join(work, 'libone.so.1'), { soname: 'libone.so.1' });
    const prog = buildProgram(join(work, 'prog'), { needs: [one] });
    const system = {
      packages: { prog: { 'usr/bin/prog': object(prog) }, libone },
      providers: { 'libone.so.1': 'libone' },
    };
    expect(await failure(close(work, system))).toMatch(
      /^cannot load libone\.so\.1: no directory of the search path holds it; needed by \/usr\/bin\/prog; searched \//,
    );
  });

  it.each([
    [
      'includes itself',
      { 'etc/ld.so.conf.d/loop.conf': 'include /etc/ld.so.conf\n' },
      'it includes more than 256 files',
    ],
    [
      'is absurdly large',
      { 'etc/ld.so.conf.d/big.conf': '#'.repeat(2 ** 20 + 1) },
      'it is too large to be a configuration',
    ],
  ] as const)('refuses a configuration that %s', async (_name, evil, reason) => {
    const work = place();
    const prog = buildProgram(join(work, 'prog'));
    const closing = close(work, { packages: { prog: { 'usr/bin/prog': object(prog) }, evil } });
    expect(await failure(closing)).toContain(reason);
  });

  it('takes no directory from a configuration that is not below the root', async () => {
    const work = place();
    const one = buildLibrary(join(work, 'libone.so.1'), { soname: 'libone.so.1' });
    const prog = buildProgram(join(work, 'prog'), { needs: [one] });
    const system = {
      packages: {
        prog: { 'usr/bin/prog': object(prog) },
        // The test's own directory, which holds the library on this host.
        evil: { 'etc/ld.so.conf.d/evil.conf': `${work}\nlib\n/../..${work}\n`, 'opt/link': { link: work } },
      },
    };
    expect(await failure(close(work, system))).toContain(`searched ${work}, /../..${work}, `);
  });
});

const samples = process.env['RPM_SAMPLES'];
if (samples === undefined) process.stderr.write('skipped: the closure over CentOS 7 needs RPM_SAMPLES\n');

describe.skipIf(samples === undefined)('the closure over CentOS 7', () => {
  const directory = join(samples ?? '', 'el7-dhcpd-closure');
  const dhcpd = {
    program: () => '/usr/sbin/dhcpd',
    loader: { architecture: 'x86_64', ...fedoraLoader('x86_64') },
  } as const;

  it('is what the real loader lists, and needs 25 packages', { timeout: 120_000 }, async () => {
    const packages: PackageContents[] = [];
    for (const name of readdirSync(directory).sort())
      if (name.endsWith('.rpm')) packages.push(await open(join(directory, name)));
    const named = (name: string): PackageContents => {
      const found = packages.find((contents) => contents.name === name);
      if (found === undefined) throw new Error(`there is no package ${name}`);
      return found;
    };
    // The loader traces itself where a library first names it, without the word between name and path.
    const expected = readFileSync(join(directory, 'EXPECTED-ldd.txt'), 'utf8')
      .split('\n')
      .filter((line) => line !== '' && !line.includes('linux-vdso'))
      .map((line) => line.trim())
      .map((line) => (line.includes(' => ') ? line : `${basename(line)} => ${line}`));
    const listed = (closure: LibraryClosure<PackageContents>): readonly string[] =>
      closure.objects.slice(1).map(({ neededAs, path }) => `${basename(neededAs ?? '')} => ${path}`);

    const layout = named('filesystem');
    const whole = await closeOver({
      ...dhcpd,
      layout,
      packages: packages.filter((contents) => contents !== layout),
      provide: () => Promise.resolve(undefined),
    });
    expect(listed(whole)).toEqual(expected);

    const asked: string[] = [];
    const grown = await closeOver({
      ...dhcpd,
      layout,
      packages: [named('dhcp')],
      provide: (soname) => {
        asked.push(soname);
        const path = new RegExp(`^(usr/)?lib64/(.*/)?${basename(soname).replaceAll(/[.+]/g, '\\$&')}$`);
        return Promise.resolve(
          packages.find(({ entries }) => entries.some((entry) => path.test(entry.path))),
        );
      },
    });
    expect(listed(grown)).toEqual(expected);
    expect(asked[0]).toBe('/lib64/ld-linux-x86-64.so.2');
    expect(new Set(grown.objects.map(({ file }) => file.owner.name)).size).toBe(25);
    expect(grown.cached.map(({ path }) => path)).toEqual([
      '/usr/lib64//bind9-export/libdns-export.so.1102',
      '/usr/lib64//bind9-export/libisc-export.so.169',
    ]);
  });
});
