import { execFileSync } from 'node:child_process';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  realpathSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import { elfMachine } from '../../build/elf/machine.js';
import { type CachedLibrary, ldSoCache } from '../../build/rootfs/ld-so-cache.js';
import { architectures, type Architecture } from '../../build/support/architecture.js';
import { ToolError } from '../../build/support/errors.js';
import { buildLibrary, buildProgram } from '../support/elf-compile.js';
import { hostLoader, parseList, run, type Run } from '../support/elf-host.js';
import { hostArchitecture } from '../support/host.js';
import { findTool, requireThat, requireTools } from '../support/tools.js';

const top = realpathSync(mkdtempSync(join(tmpdir(), 'ld-so-cache-')));
afterAll(() => {
  rmSync(top, { recursive: true });
});

const linux = requireThat(process.platform === 'linux', 'the dynamic loader of Linux');
const canChroot = linux && requireThat(process.getuid?.() === 0, 'root, for chroot');

interface Entry extends CachedLibrary {
  readonly flags: number;
}

interface ParsedCache {
  readonly entries: readonly Entry[];
  readonly byteOrder: number;
}

/** The new format read back, field by field, whether ldconfig wrote it or the code under test. */
function parseCache(cache: Buffer, little: boolean): ParsedCache {
  expect(cache.toString('latin1', 0, 20)).toBe('glibc-ld.so.cache1.1');
  const u32 = (at: number): number => (little ? cache.readUInt32LE(at) : cache.readUInt32BE(at));
  const count = u32(20);
  const table = 48 + count * 24;
  const text = (at: number): string => {
    expect(at).toBeGreaterThanOrEqual(table);
    expect(at).toBeLessThan(table + u32(24));
    return cache.toString('utf8', at, cache.indexOf(0, at));
  };
  const entries = Array.from({ length: count }, (_, index) => {
    const at = 48 + index * 24;
    expect(cache.subarray(at + 12, at + 24).equals(Buffer.alloc(12))).toBe(true);
    return { flags: u32(at), soname: text(u32(at + 4)), path: text(u32(at + 8)) };
  });
  return { entries, byteOrder: cache[28] ?? -1 };
}

/** `ldconfig -p` on a cache: its lines, without the tabs. */
function print(cache: Buffer): readonly string[] {
  const file = join(top, 'printed.cache');
  writeFileSync(file, cache);
  const [head = '', ...lines] = execFileSync('ldconfig', ['-p', '-C', file], { encoding: 'utf8' })
    .split('\n')
    .slice(0, -1);
  expect(head).toBe(`${lines.length} libs found in cache \`${file}'`);
  return lines.map((line) => line.slice(1));
}

let count = 0;
/** A root directory for one test. */
function place(): string {
  count += 1;
  const root = join(top, String(count));
  mkdirSync(join(root, 'etc'), { recursive: true });
  return root;
}

/** The names of real libraries, as far as their order is not plain: numbers, and what stands beside them. */
const names = [
  ...['libc.so.6', 'libdns-export.so.1102', 'libdns-export.so.169', 'libisc-export.so.169', 'lib.so', 'libz'],
  ...[
    'liba.so.1',
    'liba.so.2',
    'liba.so.10',
    'liba.so.1.2',
    'liba1.so',
    'liba-1.so',
    'liba10.so',
    'liba_1.so',
  ],
  ...[
    'liba.so',
    'libA.so.1',
    'libstdc++.so.6',
    'libssl3.so',
    'libevent-2.1.so.7',
    'libcrypto.so.1.1',
    'l',
    '1',
  ],
  ...[
    'libcrypto.so.10',
    'libcrypto.so.3',
    'libcrypto.so.1.0.2k',
    'libldap-2.4.so.2',
    'libldap.so.2',
    '2147483647',
  ],
];
const listed: readonly CachedLibrary[] = names.map((soname) => ({ soname, path: `/opt/lib/${soname}` }));

describe('ldSoCache', () => {
  it.each(architectures)('is in the byte order of %s and says so', (architecture) => {
    const { data } = elfMachine(architecture);
    const { entries, byteOrder } = parseCache(ldSoCache(architecture, listed), data === 'little');
    expect(byteOrder).toBe({ little: 2, big: 3 }[data]);
    const flags: Record<Architecture, number> = {
      x86_64: 0x303,
      aarch64: 0xa03,
      i686: 3,
      armv7l: 0x903,
      ppc64le: 0x503,
      riscv64: 0x1003,
      s390x: 0x403,
    };
    expect(new Set(entries.map((entry) => entry.flags))).toEqual(new Set([flags[architecture]]));
    expect(new Map(entries.map(({ soname, path }) => [soname, path]))).toEqual(
      new Map(listed.map(({ soname, path }) => [soname, path])),
    );
  });

  it('is the same whatever the order of the libraries', () => {
    const cache = ldSoCache('x86_64', listed);
    fc.assert(
      fc.property(fc.shuffledSubarray([...listed], { minLength: listed.length }), (shuffled) => {
        expect(ldSoCache('x86_64', shuffled).equals(cache)).toBe(true);
      }),
    );
  });

  it('takes the first of two libraries of one name', () => {
    const cache = ldSoCache('x86_64', [
      { soname: 'liba.so', path: '/first/liba.so' },
      { soname: 'liba.so', path: '/second/liba.so' },
    ]);
    expect(parseCache(cache, true).entries.map(({ path }) => path)).toEqual(['/first/liba.so']);
  });

  it.each([
    ['', '/a', 'its name holds more than printable ASCII characters'],
    ['libä.so', '/a', 'its name holds more than printable ASCII characters'],
    ['lib\0.so', '/a', 'its name holds more than printable ASCII characters'],
    ['a/lib.so', '/a', 'a name with a slash is never looked for in it'],
    ['lib2147483648.so', '/a', 'the loader cannot compare the number 2147483648'],
    ['liba.so', 'a', 'the path is not absolute'],
    ['liba.so', '/a\0b', 'the path is not absolute'],
    ['lib.so.0002', '/a', 'the loader takes the name for that of lib.so.2'],
  ])('refuses %j at %j', (soname, path, reason) => {
    const two = [
      { soname: 'lib.so.2', path: '/lib.so.2' },
      { soname, path },
    ];
    expect(() => ldSoCache('x86_64', two)).toThrow(ToolError);
    expect(() => ldSoCache('x86_64', two)).toThrow(new RegExp(`in /etc/ld\\.so\\.cache: ${reason}$`));
  });

  it('refuses absurdly many libraries', () => {
    const many = Array.from({ length: 100_001 }, (_, index) => ({ soname: `l${index}`, path: '/a' }));
    expect(() => ldSoCache('x86_64', many)).toThrow('they are too many');
  });
});

describe.skipIf(!linux || !requireTools('ldconfig'))('ldconfig', () => {
  const labels: Partial<Record<Architecture, string>> = {
    x86_64: 'libc6,x86-64',
    aarch64: 'libc6,AArch64',
    i686: 'libc6',
    armv7l: 'libc6,hard-float',
    ppc64le: 'libc6,64bit',
    riscv64: 'libc6,double-float',
  };
  it.each(Object.entries(labels))('prints every entry of %s', (architecture, label) => {
    const known = architectures.find((each) => each === architecture) ?? hostArchitecture;
    const cache = ldSoCache(known, listed);
    const expected = parseCache(cache, true).entries.map(
      ({ soname, path }) => `${soname} (${label}) => ${path}`,
    );
    expect(expected).toHaveLength(listed.length);
    expect(print(cache)).toEqual(expected);
  });

  it('prints an empty cache', () => {
    const file = join(top, 'empty.cache');
    writeFileSync(file, ldSoCache(hostArchitecture, []));
    expect(execFileSync('ldconfig', ['-p', '-C', file], { encoding: 'utf8' })).toMatch(/^0 libs found/);
  });

  it.skipIf(!canChroot || !requireTools('gcc'))('writes the same entries in the same order', () => {
    const root = place();
    const directories = ['/opt/one', '/opt/two', '/usr/share/three'];
    writeFileSync(join(root, 'etc/ld.so.conf'), directories.join('\n'));
    const libraries: CachedLibrary[] = [];
    // Without a soname the file name stands for it, which only `lib*.so*` files have.
    const library = buildLibrary(join(root, 'library'));
    for (const [index, soname] of names.filter((name) => /^lib.*\.so/.test(name)).entries()) {
      const path = `${directories[index % directories.length] ?? ''}/${soname}`;
      mkdirSync(dirname(join(root, path)), { recursive: true });
      copyFileSync(library, join(root, path));
      libraries.push({ soname, path });
    }
    execFileSync('ldconfig', ['-X', '-r', root, '-C', '/etc/ld.so.cache']);
    const theirs = parseCache(
      readFileSync(join(root, 'etc/ld.so.cache')),
      elfMachine(hostArchitecture).data === 'little',
    );
    const ours = parseCache(
      ldSoCache(hostArchitecture, libraries),
      elfMachine(hostArchitecture).data === 'little',
    );
    expect(ours).toEqual(theirs);
    expect(ours.entries.length).toBeGreaterThan(20);
  });
});

describe.skipIf(!canChroot || !requireTools('gcc', 'chroot'))('the real loader', () => {
  it('finds libraries that only the cache leads to', async () => {
    const root = place();
    mkdirSync(join(root, 'other'));
    const only = buildLibrary(join(root, 'other/libonly.so.1'), { soname: 'libonly.so.1' });
    buildProgram(join(root, 'program'), { needs: [only] });
    await copyLoader(root, 'libc.so.6');
    expect(await start(root)).toContain('libonly.so.1: cannot open shared object file');
    const cache = ldSoCache(hostArchitecture, [
      { soname: 'libonly.so.1', path: '/other/libonly.so.1' },
      { soname: 'libnothing.so', path: '/nowhere/libnothing.so' },
    ]);
    writeFileSync(join(root, 'etc/ld.so.cache'), cache);
    expect(await start(root)).toBe('');
  });

  it('finds each of many names by its binary search', async () => {
    const root = place();
    buildProgram(join(root, 'program'), {
      source: `
        #define _GNU_SOURCE
        #include <dlfcn.h>
        #include <link.h>
        #include <stdio.h>
        int main(int argc, char **argv) {
          for (int i = 1; i < argc; i++) {
            void *handle = dlopen(argv[i], RTLD_NOW);
            struct link_map *map;
            if (handle == NULL || dlinfo(handle, RTLD_DI_LINKMAP, &map) != 0) puts(dlerror());
            else { puts(map->l_name); dlclose(handle); }
          }
          return 0;
        }`,
      flags: ['-ldl'],
    });
    await copyLoader(root, 'libc.so.6', 'libdl.so.2');
    const library = buildLibrary(join(root, 'library'));
    const random = fc.sample(fc.stringMatching(/^lib[a-c.0-2_+-]{1,6}\.so(\.(0|[1-9][0-9]{0,2})){0,2}$/), {
      numRuns: 400,
      seed: 1,
    });
    // Leading zeros make names that the loader takes for equal.
    const plain = random.filter((name) => !/(?<!\d)0\d/.test(name));
    const sonames = new Set([...names, ...plain]);
    // The program itself needs the true one.
    sonames.delete('libc.so.6');
    const libraries = [...sonames].map((soname, index) => ({ soname, path: `/many/${index}.so` }));
    mkdirSync(join(root, 'many'));
    for (const { path } of libraries) copyFileSync(library, join(root, path));
    writeFileSync(join(root, 'etc/ld.so.cache'), ldSoCache(hostArchitecture, libraries));
    const found = await inRoot(root, '/program', ...sonames);
    expect(found.stdout.split('\n').slice(0, -1)).toEqual(libraries.map(({ path }) => path));
    expect(libraries.length).toBeGreaterThan(250);
  });

  it('agrees on whole caches, with the same answers as to ldconfig’s', async () => {
    const root = place();
    const needs = ['libn9.so.9', 'libn10.so.1', 'libn1.so.10', 'libn1.so.9', 'libm-n.so'].map((soname) =>
      buildLibrary(join(root, 'opt/needed', soname), { soname }),
    );
    buildProgram(join(root, 'program'), { needs });
    const loader = await copyLoader(root, 'libc.so.6');
    const list = async (): Promise<readonly string[]> => {
      const { stdout } = await inRoot(root, loader, '--list', '/program');
      return parseList(stdout).map(({ name, path }) => `${name} => ${path ?? 'nothing'}`);
    };
    writeFileSync(join(root, 'etc/ld.so.conf'), '/opt/needed\n');
    execFileSync('ldconfig', ['-X', '-r', root, '-C', '/etc/ld.so.cache']);
    const theirs = await list();
    const libraries = needs.map((path) => ({
      soname: basename(path),
      path: `/opt/needed/${basename(path)}`,
    }));
    writeFileSync(join(root, 'etc/ld.so.cache'), ldSoCache(hostArchitecture, libraries));
    expect(await list()).toEqual(theirs);
    expect(theirs.filter((line) => line.includes('/opt/needed/'))).toHaveLength(needs.length);
  });
});

/** The host's loader, and libraries in the loader's own directories. @returns the loader's path */
async function copyLoader(root: string, ...libraries: readonly string[]): Promise<string> {
  const loader = hostLoader();
  const { stdout } = await run(loader, ['--list', process.execPath]);
  const paths = parseList(stdout).flatMap(({ name, path }) => (libraries.includes(name) ? (path ?? []) : []));
  for (const path of [loader, ...paths]) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    copyFileSync(path, join(root, path));
  }
  return loader;
}

function inRoot(root: string, ...argv: readonly string[]): Promise<Run> {
  return run(findTool('chroot') ?? 'chroot', [root, ...argv]);
}

/** @returns what went wrong */
async function start(root: string): Promise<string> {
  const { status, stderr } = await inRoot(root, '/program');
  expect(status === 0).toBe(stderr === '');
  return stderr;
}

const qemu = findTool('qemu-aarch64-static');
const foreign =
  canChroot &&
  requireTools('chroot') &&
  requireThat(qemu !== undefined, 'qemu-aarch64-static (npm run host:tools installs it)');

describe.skipIf(!foreign)('loaders of other systems', () => {
  const samples = process.env['RPM_SAMPLES'];
  const withSamples = samples !== undefined && requireTools('rpm2cpio', 'cpio');
  if (!withSamples) process.stderr.write('skipped: loaders of RPM systems need RPM_SAMPLES\n');

  it.skipIf(!requireTools('apt-get', 'dpkg-deb'))(
    'finds the C library of Debian, aarch64',
    { timeout: 240_000 },
    async (context) => {
      const root = place();
      const deb = downloadForeign('libc6', 'arm64');
      if (!requireThat(deb !== undefined, 'packages for arm64 from the host’s Debian mirror')) context.skip();
      execFileSync('dpkg-deb', ['-x', deb ?? '', root]);
      await expectFound(
        root,
        'aarch64',
        ['lib', 'usr/lib'].map((name) => `${name}/aarch64-linux-gnu`),
      );
    },
  );

  it.skipIf(!withSamples).each([
    ['glibc-2.34-100.el9_4.4.aarch64.rpm', 'aarch64'],
    ['glibc-2.32-3.fc33.aarch64.rpm', 'aarch64'],
    ['glibc-2.34-100.el9_4.4.x86_64.rpm', 'x86_64'],
    ['el7-dhcpd-closure/glibc-2.17-324.el7_9.x86_64.rpm', 'x86_64'],
  ] as const)('finds the C library of %s', async (name, architecture) => {
    const root = place();
    for (const [link, target] of [
      ['lib', 'usr/lib'],
      ['lib64', 'usr/lib64'],
    ] as const) {
      mkdirSync(join(root, target), { recursive: true });
      symlinkSync(target, join(root, link));
    }
    const script = 'rpm2cpio "$0" | cpio -idmu --quiet';
    execFileSync('sh', ['-c', script, join(samples ?? '', name)], { cwd: root });
    await expectFound(root, architecture, ['usr/lib64']);
  });
});

/**
 * Takes the C library away from the loader's own directories: the cache alone leads to it. Another library of the
 * package needs it.
 */
async function expectFound(
  root: string,
  architecture: 'x86_64' | 'aarch64',
  directories: readonly string[],
): Promise<void> {
  const directory = directories.find((each) => existsSync(join(root, each, 'libc.so.6'))) ?? '';
  mkdirSync(join(root, 'opt'));
  renameSync(realpathSync(join(root, directory, 'libc.so.6')), join(root, 'opt/libc.so.6'));
  const interpreter = { x86_64: '/lib64/ld-linux-x86-64.so.2', aarch64: '/lib/ld-linux-aarch64.so.1' }[
    architecture
  ];
  let emulator: readonly string[] = [];
  if (architecture !== hostArchitecture) {
    copyFileSync(qemu ?? '', join(root, 'emulator'));
    execFileSync('chmod', ['755', join(root, 'emulator')]);
    emulator = ['/emulator'];
  }
  const list = async (): Promise<string> => {
    const { stdout, stderr } = await inRoot(
      root,
      ...emulator,
      interpreter,
      '--list',
      `/${directory}/libresolv.so.2`,
    );
    return stdout + stderr;
  };
  rmSync(join(root, directory, 'libc.so.6'), { force: true });
  rmSync(join(root, 'etc/ld.so.cache'), { force: true });
  expect(await list()).toContain('libc.so.6: cannot open shared object file');
  const libraries = [
    ...listed.filter(({ soname }) => soname !== 'libc.so.6'),
    { soname: 'libc.so.6', path: '/opt/libc.so.6' },
  ];
  mkdirSync(join(root, 'etc'), { recursive: true });
  writeFileSync(join(root, 'etc/ld.so.cache'), ldSoCache(architecture, libraries));
  expect(await list()).toContain('libc.so.6 => /opt/libc.so.6');
}

/** A package for another architecture, by an apt whose lists and cache are its own. @returns undefined without network */
function downloadForeign(name: string, architecture: string): string | undefined {
  const directory = mkdtempSync(join(top, 'apt-'));
  for (const each of ['state/lists/partial', 'cache/archives/partial'])
    mkdirSync(join(directory, each), { recursive: true });
  writeFileSync(join(directory, 'state/status'), '');
  const settings = {
    'Dir::State': join(directory, 'state'),
    'Dir::State::status': join(directory, 'state/status'),
    'Dir::Cache': join(directory, 'cache'),
    'APT::Architecture': architecture,
    'APT::Architectures': architecture,
    'APT::Sandbox::User': 'root',
    'Acquire::Languages': 'none',
    'APT::Update::Post-Invoke-Success::': '',
  };
  const options = ['-qq', ...Object.entries(settings).flatMap(([key, value]) => ['-o', `${key}=${value}`])];
  try {
    for (const command of [['update'], ['download', name]])
      execFileSync('apt-get', [...options, ...command], { cwd: directory, stdio: 'pipe', timeout: 100_000 });
  } catch {
    return undefined;
  }
  const file = readdirSync(directory).find((each) => each.endsWith('.deb'));
  return file && join(directory, file);
}
