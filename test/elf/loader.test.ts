import {
  mkdirSync,
  mkdtempSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { LoaderConfig } from '../../build/elf/closure.js';
import { LoadedProcess } from '../../build/elf/loader.js';
import { elfMachine } from '../../build/elf/machine.js';
import type { Architecture } from '../../build/support/architecture.js';
import { ToolError } from '../../build/support/errors.js';
import { buildElf, type ElfRecipe } from '../support/elf-builder.js';
import { buildLibrary, buildProgram } from '../support/elf-compile.js';
import { hostConfig, hostContext, hostLoader, hostView, parseList, run } from '../support/elf-host.js';
import { hostArchitecture, otherArchitecture } from '../support/host.js';
import { requireThat, requireTools } from '../support/tools.js';

const usable =
  requireTools('gcc', 'readelf') && requireThat(process.platform === 'linux', 'the dynamic loader of Linux');

/** Headers of shared objects of this host, and of another. */
const host = { ...headerOf(hostArchitecture), type: 3 };
const other = { ...headerOf(otherArchitecture), type: 3 };
function headerOf(architecture: Architecture): Pick<ElfRecipe, 'class' | 'data' | 'machine'> {
  const { class: bits, data, machine } = elfMachine(architecture);
  return { class: bits, data, machine };
}

const top = realpathSync(mkdtempSync(join(tmpdir(), 'elf-loader-')));
afterAll(() => {
  rmSync(top, { recursive: true });
});

let loader = '';
let config: LoaderConfig;
beforeAll(async () => {
  if (!usable) return;
  loader = hostLoader();
  config = await hostConfig(loader);
});

let count = 0;
/** A directory for one test's files. */
function place(...names: readonly string[]): string {
  count += 1;
  const directory = join(top, String(count), ...names);
  mkdirSync(directory, { recursive: true });
  return directory;
}

interface Outcome {
  /** `name => path` in load order, without the C library and the loader; undefined when loading failed. */
  readonly list: readonly string[] | undefined;
  readonly problem: string | undefined;
}

const missingVersion = /: version `.*' not found \(required by /;
const usual = /\/(ld-linux[^/]*|libc)\.so\.\d$/;

async function ours(path: string, used: LoaderConfig = config): Promise<Outcome> {
  try {
    const process = await LoadedProcess.start(hostContext(used), path);
    const problem = process.problems[0]?.message;
    if (problem !== undefined) return { list: undefined, problem };
    const list = process.objects
      .slice(1)
      .filter((object) => !usual.test(object.path))
      .map((object) => `${object.neededAs ?? ''} => ${object.path}`);
    return { list, problem };
  } catch (error) {
    if (!(error instanceof ToolError)) throw error;
    return { list: undefined, problem: error.message };
  }
}

async function theirs(path: string): Promise<Outcome> {
  const result = await run(loader, ['--list', path], {}, top);
  // A missing version is told, but is no failure of --list.
  if (result.status !== 0 || missingVersion.test(result.stderr))
    return { list: undefined, problem: result.stderr + result.stdout };
  const list = parseList(result.stdout)
    .filter((entry) => !usual.test(entry.path ?? ''))
    .map((entry) => `${entry.name} => ${entry.path ?? 'not found'}`);
  return { list, problem: undefined };
}

/** Both loaders come to the same list. @returns it, relative to the test's directory */
async function expectSame(path: string): Promise<readonly string[]> {
  const [a, b] = [await ours(path), await theirs(path)];
  expect(b.problem).toBeUndefined();
  expect(a.problem).toBeUndefined();
  expect(a.list).toEqual(b.list);
  return (a.list ?? []).map((line) => line.replaceAll(join(top, String(count)), ''));
}

/** Both loaders refuse. @returns our message and theirs */
async function expectRefused(path: string): Promise<{ ours: string; theirs: string }> {
  const [a, b] = [await ours(path), await theirs(path)];
  expect(b.list).toBeUndefined();
  expect(a.list).toBeUndefined();
  expect(a.problem).toMatch(/^cannot (load|link|read) /);
  return { ours: a.problem ?? '', theirs: b.problem ?? '' };
}

describe.skipIf(!usable)('search paths', () => {
  it('DT_RPATH of the program serves everything, DT_RUNPATH only its own needs', async () => {
    const dir = place('lib');
    const y = buildLibrary(join(dir, 'liby.so'), { soname: 'liby.so' });
    const x = buildLibrary(join(dir, 'libx.so'), { soname: 'libx.so', needs: [y] });
    const rpath = buildProgram(join(dir, '../rpath'), { needs: [x], rpath: dir });
    expect(await expectSame(rpath)).toEqual(['libx.so => /lib/libx.so', 'liby.so => /lib/liby.so']);
    const runpath = buildProgram(join(dir, '../runpath'), { needs: [x], runpath: dir });
    const refused = await expectRefused(runpath);
    expect(refused.theirs).toContain('liby.so: cannot open shared object file');
    expect(refused.ours).toContain(
      `cannot load liby.so: no directory of the search path holds it; needed by ${x} (${runpath} -> ${x}); searched `,
    );
  });

  it('DT_RPATH goes down the chain of loaders until an object has DT_RUNPATH', async () => {
    const dir = place('b');
    const a = join(dir, '../a');
    const z = buildLibrary(join(dir, 'libz9.so'), { soname: 'libz9.so' });
    const y = buildLibrary(join(dir, 'liby.so'), { soname: 'liby.so', needs: [z] });
    const x = buildLibrary(join(a, 'libx.so'), { soname: 'libx.so', needs: [y], rpath: dir });
    await expectSame(buildProgram(join(dir, '../chain'), { needs: [x], runpath: a }));
    // The same with a DT_RUNPATH in the middle that leads nowhere: the chain is cut.
    buildLibrary(join(dir, 'liby.so'), { soname: 'liby.so', needs: [z], runpath: '/nowhere' });
    const refused = await expectRefused(join(dir, '../chain'));
    expect(refused.ours).toContain('cannot load libz9.so');
    // An empty one cuts it, too, though it names no directory.
    buildLibrary(join(dir, 'liby.so'), {
      soname: 'liby.so',
      needs: [z],
      flags: ['-Wl,--enable-new-dtags,-rpath,'],
    });
    expect((await expectRefused(join(dir, '../chain'))).ours).toContain('cannot load libz9.so');
  });

  it.each([
    ['$ORIGIN/lib'],
    ['${ORIGIN}/lib/'],
    ['$ORIGIN/../$ORIGINAL:$ORIGIN/./lib//'],
    ['$ORIGIN/nowhere:$ORIGIN/$LIB/../../lib'],
    ['$PLATFORM/x:${LIB}:$ORIGIN/lib'],
  ])('expands %s', async (runpath) => {
    const dir = place('lib');
    mkdirSync(join(dir, '..', config.lib), { recursive: true });
    const x = buildLibrary(join(dir, 'libx.so'), { soname: 'libx.so' });
    await expectSame(buildProgram(join(dir, '../program'), { needs: [x], runpath }));
  });

  it('takes $LIB for what the host takes it', async () => {
    const dir = place();
    const x = buildLibrary(join(dir, config.lib, 'libx.so'), { soname: 'libx.so' });
    expect(
      await expectSame(buildProgram(join(dir, 'program'), { needs: [x], runpath: '$ORIGIN/$LIB' })),
    ).toHaveLength(1);
  });

  it('takes $ORIGIN of a library for the directory it was opened in, links unresolved', async () => {
    const dir = place('opened');
    const real = join(dir, '../real');
    const y = buildLibrary(join(dir, 'liby.so'), { soname: 'liby.so' });
    buildLibrary(join(real, 'liby.so'), { soname: 'liby.so' });
    const x = buildLibrary(join(real, 'libx.so'), { soname: 'libx.so', needs: [y], runpath: '$ORIGIN' });
    symlinkSync('../real/libx.so', join(dir, 'libx.so'));
    expect(await expectSame(buildProgram(join(dir, '../program'), { needs: [x], runpath: dir }))).toContain(
      'liby.so => /opened/liby.so',
    );
  });

  it('-z nodefaultlib shuts the default directories, the cache included', async () => {
    const dir = place();
    const refused = await expectRefused(
      buildProgram(join(dir, 'program'), { flags: ['-Wl,-z,nodefaultlib'] }),
    );
    expect(refused.ours).toMatch(/^cannot load libc\.so\.6: /);
  });

  const hasHwcaps = elfMachine(hostArchitecture).hwcaps.length > 0;
  it.skipIf(!hasHwcaps)(
    'prefers glibc-hwcaps where the loader does, and the baseline where asked to',
    async () => {
      const dir = place('lib');
      const x = buildLibrary(join(dir, 'libx.so'), { soname: 'libx.so' });
      const least = elfMachine(hostArchitecture).hwcaps.at(-1) ?? '';
      const subdirectory = `glibc-hwcaps/${least}`;
      if (!requireThat(config.hwcaps?.includes(subdirectory) === true, `a processor with ${least}`)) return;
      buildLibrary(join(dir, subdirectory, 'libx.so'), { soname: 'libx.so' });
      const program = buildProgram(join(dir, '../program'), { needs: [x], runpath: dir });
      expect(await expectSame(program)).toEqual([`libx.so => /lib/${subdirectory}/libx.so`]);
      expect(await ours(program, { ...config, hwcaps: [] })).toEqual({
        list: [`libx.so => ${x}`],
        problem: undefined,
      });
      rmSync(x);
      expect((await ours(program, { ...config, hwcaps: [] })).problem).toContain(
        `${dir}/${subdirectory}/libx.so does not run on every processor`,
      );
    },
  );
});

describe.skipIf(!usable)('names', () => {
  it('with a slash are paths; tokens in them are expanded', async () => {
    const dir = place('lib');
    const absolute = buildLibrary(join(dir, 'liba.so'), { soname: join(dir, 'liba.so') });
    const origin = buildLibrary(join(dir, 'libo.so'), { soname: '$ORIGIN/lib/libo.so' });
    const program = buildProgram(join(dir, '../program'), { needs: [absolute, origin] });
    expect(await expectSame(program)).toHaveLength(2);
  });

  it('that are relative paths depend on the working directory and are not there', async () => {
    const dir = place('lib');
    const x = buildLibrary(join(dir, 'libx.so'), { soname: 'lib/libx.so' });
    const refused = await expectRefused(buildProgram(join(dir, '../program'), { needs: [x] }));
    expect(refused.ours).toContain('cannot load lib/libx.so: there is no such file');
  });

  it('that a loaded object has as its soname are not searched again', async () => {
    const dir = place('lib');
    const other = join(dir, '../other');
    const wanted = buildLibrary(join(other, 'libreal.so.1'), { soname: 'libreal.so.1' });
    const first = buildLibrary(join(dir, 'first.so'), { soname: 'first.so' });
    const second = buildLibrary(join(dir, 'second.so'), {
      soname: 'second.so',
      needs: [wanted],
      runpath: other,
    });
    const program = buildProgram(join(dir, '../program'), { needs: [first, second], runpath: dir });
    expect(await expectSame(program)).toHaveLength(3);
    // The file of the first name now calls itself by the name that the second one needs.
    buildLibrary(first, { soname: 'libreal.so.1' });
    expect(await expectSame(program)).toEqual(['first.so => /lib/first.so', 'second.so => /lib/second.so']);
  });

  it('of one file are one object', async () => {
    const dir = place('lib');
    const x = buildLibrary(join(dir, 'libx.so.1'), { soname: 'libx.so.1' });
    const alias = buildLibrary(join(dir, 'alias.so'), { soname: 'alias.so' });
    const program = buildProgram(join(dir, '../program'), { needs: [x, alias], rpath: dir });
    rmSync(alias);
    symlinkSync('libx.so.1', alias);
    expect(await expectSame(program)).toHaveLength(1);
    const process = await LoadedProcess.start(hostContext(config), program);
    expect(process.objects.find(({ path }) => path === x)?.otherPaths).toEqual(new Set([alias]));
  });

  it('may go in a circle', async () => {
    const dir = place('lib');
    const a = buildLibrary(join(dir, 'liba.so'), { soname: 'liba.so' });
    const b = buildLibrary(join(dir, 'libb.so'), { soname: 'libb.so', needs: [a], runpath: dir });
    buildLibrary(a, { soname: 'liba.so', needs: [b], runpath: dir });
    expect(
      await expectSame(buildProgram(join(dir, '../program'), { needs: [a], runpath: dir })),
    ).toHaveLength(2);
    expect(await expectSame(a)).toHaveLength(1);
  });

  it('are loaded breadth first', async () => {
    const dir = place('lib');
    const build = (name: string, needs: readonly string[]): string =>
      buildLibrary(join(dir, `${name}.so`), { soname: `${name}.so`, needs, runpath: '$ORIGIN' });
    const deep = build('deep', []);
    const one = build('one', [build('one-one', [deep]), build('one-two', [])]);
    const two = build('two', [deep, build('two-one', [one])]);
    const program = buildProgram(join(dir, '../program'), { needs: [two, one], runpath: dir });
    expect((await expectSame(program)).map((line) => line.replace(/ =>.*/, ''))).toEqual([
      'two.so',
      'one.so',
      'deep.so',
      'two-one.so',
      'one-one.so',
      'one-two.so',
    ]);
  });
});

describe.skipIf(!usable)('DT_FILTER and DT_AUXILIARY', () => {
  it('stand before the object that names them, their needs first', async () => {
    const dir = place('lib');
    const build = (name: string, flags: readonly string[], needs: readonly string[] = []): string =>
      buildLibrary(join(dir, `${name}.so`), { soname: `${name}.so`, needs, flags, runpath: '$ORIGIN' });
    const plain = build('plain', []);
    const late = build('late', []);
    build('filtee', [], [build('filtee-need', [])]);
    build('auxiliary', [], [plain]);
    const filter = build('filter', ['-Wl,-F,filtee.so', '-Wl,-f,auxiliary.so', '-Wl,-f,late.so'], [plain]);
    const program = buildProgram(join(dir, '../program'), { needs: [plain, filter, late], runpath: dir });
    const order = (await expectSame(program)).map((line) => line.replace(/ =>.*/, ''));
    expect(order).toEqual([
      'plain.so',
      'filtee.so',
      'auxiliary.so',
      'late.so',
      'filter.so',
      'filtee-need.so',
    ]);
  });

  it('a missing filter is an error, a missing auxiliary is not', async () => {
    const dir = place('lib');
    const auxiliary = buildLibrary(join(dir, 'a.so'), { soname: 'a.so', flags: ['-Wl,-f,absent.so'] });
    expect(
      await expectSame(buildProgram(join(dir, '../one'), { needs: [auxiliary], runpath: dir })),
    ).toHaveLength(1);
    const filter = buildLibrary(join(dir, 'f.so'), { soname: 'f.so', flags: ['-Wl,-F,absent.so'] });
    const refused = await expectRefused(buildProgram(join(dir, '../two'), { needs: [filter], runpath: dir }));
    expect(refused.ours).toMatch(/^cannot load absent\.so: /);
  });

  it('two objects that are auxiliary to each other do not go on for ever', async () => {
    const dir = place('lib');
    const a = buildLibrary(join(dir, 'a.so'), { soname: 'a.so', flags: ['-Wl,-f,b.so'], runpath: '$ORIGIN' });
    buildLibrary(join(dir, 'b.so'), { soname: 'b.so', flags: ['-Wl,-f,a.so'], runpath: '$ORIGIN' });
    const result = await ours(buildProgram(join(dir, '../program'), { needs: [a], runpath: dir }));
    expect(result.list).toHaveLength(2);
  });
});

describe.skipIf(!usable)('candidates', () => {
  const source = 'int main(void) { return 0; }';
  /** A program whose first directory holds something else under the library's name. */
  function withCandidate(put: (path: string) => void): { program: string; candidate: string } {
    const dir = place('good');
    const bad = join(dir, '../bad');
    mkdirSync(bad);
    const candidate = join(bad, 'libx.so');
    put(candidate);
    const x = buildLibrary(join(dir, 'libx.so'), { soname: 'libx.so' });
    return {
      program: buildProgram(join(dir, '../program'), { source, needs: [x], runpath: `${bad}:${dir}` }),
      candidate,
    };
  }

  it.each([
    ['class', { ...host, class: host.class === 64 ? 32 : 64 }],
    ['class and byte order', { class: 32, data: 'big', machine: 20, type: 3 }],
    ['machine', other],
    ['byte order', { ...host, data: host.data === 'little' ? 'big' : 'little' }],
    ['machine and system', { ...other, osabi: 9 }],
    ['machine and kind', { ...other, type: 1 }],
  ] satisfies readonly (readonly [string, ElfRecipe])[])(
    'of another %s are passed over',
    async (_, recipe) => {
      const { program } = withCandidate((path) => {
        writeFileSync(path, buildElf(recipe));
      });
      expect(await expectSame(program)).toEqual(['libx.so => /good/libx.so']);
    },
  );

  it('of another machine alone are named when nothing else is there', async () => {
    const { program, candidate } = withCandidate((path) => {
      writeFileSync(path, buildElf(other));
    });
    rmSync(candidate.replace('/bad/', '/good/'));
    expect((await expectRefused(program)).ours).toContain(`${candidate} is for another machine`);
  });

  it.each([
    ['text', Buffer.from('INPUT ( /lib/libx.so.1 )\n')],
    ['nothing', Buffer.alloc(0)],
    ['another operating system', buildElf({ ...host, osabi: 9 })],
    ['an object file', buildElf({ ...host, type: 1 })],
    ['no dynamic section', buildElf({ ...host, dynamic: false })],
  ])('that are %s end the search', async (_, bytes) => {
    const { program } = withCandidate((path) => {
      writeFileSync(path, bytes);
    });
    await expectRefused(program);
  });

  it.each([
    ['position-independent', '-pie'],
    ['fixed', '-no-pie'],
  ])('that are %s programs end the search', async (_, flag) => {
    const { program } = withCandidate((path) => {
      buildProgram(path, { flags: [flag] });
    });
    expect((await expectRefused(program)).ours).toContain('it is a program, and ');
  });

  it('that are directories are passed over', async () => {
    const { program } = withCandidate((path) => {
      mkdirSync(path);
    });
    const result = await ours(program);
    expect(result.list).toHaveLength(1);
  });
});

describe.skipIf(!usable)('symbol versions', () => {
  const versions = (...names: readonly string[]): string =>
    names.map((name) => `${name} { global: ${name.toLowerCase()}; };`).join('\n');
  const source = 'int one(void) { return 1; } int two(void) { return 2; }';

  function programOf(uses: string): { program: string; library: string } {
    const dir = place('lib');
    const library = buildLibrary(join(dir, 'libv.so'), {
      soname: 'libv.so',
      source,
      versions: versions('ONE', 'TWO'),
    });
    return {
      library,
      program: buildProgram(join(dir, '../program'), { source: uses, needs: [library], runpath: dir }),
    };
  }
  const strong = 'extern int two(void); int main(void) { return two(); }';

  it('that are there satisfy', async () => {
    expect(await expectSame(programOf(strong).program)).toHaveLength(1);
  });

  it('that are missing are an error', async () => {
    const { program, library } = programOf(strong);
    buildLibrary(library, { soname: 'libv.so', source, versions: versions('ONE') });
    const refused = await expectRefused(program);
    expect(refused.theirs).toContain(`${library}: version \`TWO' not found (required by ${program})`);
    expect(refused.ours).toBe(
      `cannot link ${program}: version TWO not found in ${library} (needed by ${program})`,
    );
  });

  it('that are missing do no harm when they are weak or the library has no versions', async () => {
    const { program, library } = programOf(strong);
    buildLibrary(library, { soname: 'libv.so', source, versions: versions('ONE') });
    // GNU ld has no way to ask for a weak version: set VER_FLG_WEAK behind the hash of `TWO` (Elf_Vernaux).
    const bytes = readFileSync(program);
    const hash = Buffer.from([0xbf, 0x59, 0, 0]);
    const at = bytes.indexOf(hash);
    expect(bytes.indexOf(hash, at + 1)).toBe(-1);
    bytes.writeUInt16LE(2, at + 4);
    writeFileSync(program, bytes);
    expect(await expectSame(program)).toHaveLength(1);
    const other = programOf(strong);
    buildLibrary(other.library, { soname: 'libv.so', source });
    expect(await expectSame(other.program)).toHaveLength(1);
  });
});

describe.skipIf(!usable)('dlopen', () => {
  /** Loads with the real dlopen and prints what is then in memory. */
  const source = `
    #define _GNU_SOURCE
    #include <dlfcn.h>
    #include <link.h>
    #include <stdio.h>
    static int show(struct dl_phdr_info *info, size_t size, void *data) { puts(info->dlpi_name); return 0; }
    int main(int argc, char **argv) {
      for (int i = 1; i < argc; i++) if (!dlopen(argv[i], RTLD_LAZY)) { puts(dlerror()); return 1; }
      dl_iterate_phdr(show, 0);
      return 0;
    }`;

  it('searches as its caller, and what it loads as if loaded by nobody', async () => {
    const dir = place('caller');
    const plugins = join(dir, '../plugins');
    const need = buildLibrary(join(plugins, 'need.so'), { soname: 'need.so' });
    buildLibrary(join(plugins, 'plugin.so'), { soname: 'plugin.so', needs: [need], rpath: '$ORIGIN' });
    const program = buildProgram(join(dir, 'program'), { source, rpath: plugins });
    const real = await run(program, ['plugin.so']);
    expect(real.status).toBe(0);
    const process = await LoadedProcess.start(hostContext(config), program);
    await process.dlopen('plugin.so', process.program);
    expect(process.problems).toEqual([]);
    const paths = real.stdout.split('\n').filter((line) => line !== '' && !line.startsWith('linux-vdso'));
    expect(
      process.objects
        .slice(1)
        .map(({ file }) => file.path)
        .sort(),
    ).toEqual(paths.map((path) => realpathSync(path)).sort());
    expect(process.objects.map(({ role }) => role)).toEqual([
      'root',
      'library',
      'interpreter',
      'dlopen',
      'library',
    ]);
  });

  it.each([
    ['DT_RUNPATH of the program does not reach the needs of a plugin', 'runpath'],
    ['DT_RPATH of the program does', 'rpath'],
  ] as const)('%s', async (_, kind) => {
    const dir = place('lib');
    const need = buildLibrary(join(dir, 'need.so'), { soname: 'need.so' });
    buildLibrary(join(dir, 'plugin.so'), { soname: 'plugin.so', needs: [need] });
    const program = buildProgram(join(dir, '../program'), { source, [kind]: dir });
    const real = await run(program, ['plugin.so']);
    const process = await LoadedProcess.start(hostContext(config), program);
    await process.dlopen('plugin.so', process.program);
    expect(process.problems.length === 0).toBe(real.status === 0);
    expect(real.status).toBe(kind === 'rpath' ? 0 : 1);
  });
});

describe.skipIf(!usable)('dlopen by a library', () => {
  it.each([
    ['finds a plugin through the DT_RPATH of the library', false],
    ['does not find there what the plugin needs', true],
  ])('%s', async (_, needy) => {
    const dir = place('lib');
    const plugins = join(dir, '../plugins');
    const need = buildLibrary(join(plugins, 'need.so'), { soname: 'need.so' });
    buildLibrary(join(plugins, 'plugin.so'), { soname: 'plugin.so', needs: needy ? [need] : [] });
    const caller = buildLibrary(join(dir, 'caller.so'), {
      source: '#include <dlfcn.h>\nint load(void) { return dlopen("plugin.so", RTLD_NOW) == 0; }',
      soname: 'caller.so',
      rpath: plugins,
      flags: ['-lc'],
    });
    const source = 'extern int load(void); int main(void) { return load(); }';
    const program = buildProgram(join(dir, '../program'), { source, needs: [caller], runpath: dir });
    const process = await LoadedProcess.start(hostContext(config), program);
    const by = process.objects.find(({ path }) => path === caller);
    if (by === undefined) throw new Error('the caller is not loaded');
    await process.dlopen('plugin.so', by);
    expect((await run(program, [])).status).toBe(needy ? 1 : 0);
    expect(process.problems.map(({ message }) => message)).toEqual(
      needy ? [expect.stringMatching(/^cannot load need\.so: /)] : [],
    );
  });
});

describe.skipIf(!usable)('programs', () => {
  it.each(['-static', '-static-pie'])('linked %s are alone', async (flag) => {
    const program = buildProgram(join(place(), 'program'), { flags: [flag] });
    const process = await LoadedProcess.start(hostContext(config), program);
    expect(process.objects).toEqual([process.program]);
    expect(process.problems).toEqual([]);
  });

  it('whose loader is missing say so, and ask for it', async () => {
    const program = buildProgram(join(place(), 'program'), {
      flags: ['-Wl,--dynamic-linker,/nowhere/ld.so'],
    });
    const asked: string[] = [];
    const process = await LoadedProcess.start(
      { ...hostContext(config), provide: (name) => Promise.resolve(asked.push(name) === 0) },
      program,
    );
    expect(process.problems[0]?.message).toBe(
      `cannot load /nowhere/ld.so: it is the loader of ${program}, and there is no such file`,
    );
    expect(asked).toEqual(['/nowhere/ld.so']);
  });

  it('of another machine are refused', async () => {
    const path = join(place(), 'program');
    writeFileSync(path, buildElf({ ...other, type: 2 }));
    const made = otherArchitecture === 'aarch64' ? 'AArch64' : 'x86-64';
    expect((await ours(path)).problem).toBe(
      `cannot load ${path}: it is made for ${made} (64-bit, little-endian), not for ${hostArchitecture}`,
    );
  });

  it('that are scripts say so', async () => {
    const path = join(place(), 'program');
    writeFileSync(path, '#! /usr/bin/python3\n');
    expect((await ours(path)).problem).toContain('it is a script for /usr/bin/python3, not an ELF program');
  });

  it('wait for a provider and search again', async () => {
    const dir = place('lib');
    const x = buildLibrary(join(dir, 'libx.so'), { soname: 'libx.so' });
    const program = buildProgram(join(dir, '../program'), { needs: [x], runpath: dir });
    renameSync(x, `${x}.away`);
    const process = await LoadedProcess.start(
      {
        ...hostContext(config, new Map(), { lookup: (path) => hostView().lookup(path) }),
        provide: (name, by) => {
          expect([name, by.path]).toEqual(['libx.so', program]);
          renameSync(`${x}.away`, x);
          return Promise.resolve(true);
        },
      },
      program,
    );
    expect(process.problems).toEqual([]);
    expect(process.objects.map(({ path }) => path)).toContain(x);
  });
});
