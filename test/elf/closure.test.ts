import { mkdtempSync, realpathSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { closeLibraries, type LibraryClosure, type LoaderView } from '../../build/elf/closure.js';
import { checkMachine, elfMachine } from '../../build/elf/machine.js';
import { parseHeader } from '../../build/elf/header.js';
import { architectures } from '../../build/support/architecture.js';
import { ToolError } from '../../build/support/errors.js';
import { buildElf, type ElfRecipe, tag } from '../support/elf-builder.js';
import { buildLibrary, buildProgram } from '../support/elf-compile.js';
import { hostConfig, hostLoader, hostView } from '../support/elf-host.js';
import { requireTools } from '../support/tools.js';

/** Files in memory; a string is the path of another file: a link to it. */
function memoryView(files: ReadonlyMap<string, Buffer | string>): LoaderView<string> {
  return {
    lookup: (path) => {
      const found = files.get(path);
      const real = typeof found === 'string' ? found : path;
      const bytes = files.get(real);
      if (!(bytes instanceof Buffer)) return undefined;
      return { path: real, owner: `owner of ${real}`, read: () => Promise.resolve(bytes) };
    },
  };
}

/** A file of a big-endian 64-bit machine: nothing here can be the host's. */
function s390x(recipe: Partial<ElfRecipe> = {}): Buffer {
  return buildElf({ class: 64, data: 'big', machine: 22, type: 3, ...recipe });
}

const config = { architecture: 's390x', configured: [], builtIn: ['/lib', '/usr/lib'], lib: 'lib' } as const;
const nothing = (): Promise<boolean> => Promise.resolve(false);
const loader = '/lib/ld64.so.1';

function close(
  files: Record<string, Buffer | string>,
  options: Partial<Parameters<typeof closeLibraries<string>>[0]> = {},
): Promise<LibraryClosure<string>> {
  const view = memoryView(
    new Map(Object.entries({ [loader]: s390x({ strings: [[tag.SONAME, 'ld64.so.1']] }), ...files })),
  );
  return closeLibraries({ roots: ['/bin/a'], dlopen: [], view, provide: nothing, config, ...options });
}

async function failure(promise: Promise<unknown>): Promise<ToolError> {
  const error: unknown = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (!(error instanceof ToolError)) throw new Error('no ToolError', { cause: error });
  return error;
}

const needs = (...names: readonly string[]): Partial<ElfRecipe> => ({
  interpreter: loader,
  strings: names.map((name) => [tag.NEEDED, name] as const),
});

describe('closeLibraries', () => {
  it('gives roots first, one object a file, the shortest chain and every path', async () => {
    const closure = await close(
      {
        '/bin/a': s390x({
          ...needs('libone.so'),
          strings: [
            [tag.NEEDED, 'libone.so'],
            [tag.RUNPATH, '/opt'],
          ],
        }),
        '/bin/b': s390x(needs('libtwo.so')),
        '/opt/libone.so': s390x({
          strings: [
            [tag.NEEDED, 'libtwo.so'],
            [tag.SONAME, 'libone.so'],
            [tag.RUNPATH, '/opt'],
          ],
        }),
        '/opt/libtwo.so': '/usr/lib/libtwo.so.2.0',
        '/usr/lib/libtwo.so': '/usr/lib/libtwo.so.2.0',
        '/usr/lib/libtwo.so.2.0': s390x({
          strings: [
            [tag.SONAME, 'libtwo.so'],
            [tag.NEEDED, 'ld64.so.1'],
          ],
        }),
      },
      { roots: ['/bin/a', '/bin/b'] },
    );
    expect(
      closure.objects.map(({ file, path, otherPaths, role, through, chain, neededAs }) => ({
        file: file.path,
        owner: file.owner,
        path,
        otherPaths,
        role,
        through,
        chain: chain.join(' '),
        neededAs,
      })),
    ).toEqual(
      [
        {
          file: '/bin/a',
          path: '/bin/a',
          otherPaths: [],
          role: 'root',
          through: undefined,
          chain: '/bin/a',
          neededAs: undefined,
        },
        {
          file: '/bin/b',
          path: '/bin/b',
          otherPaths: [],
          role: 'root',
          through: undefined,
          chain: '/bin/b',
          neededAs: undefined,
        },
        {
          file: '/opt/libone.so',
          path: '/opt/libone.so',
          otherPaths: [],
          role: 'library',
          through: 'runpath',
          chain: '/bin/a /opt/libone.so',
          neededAs: 'libone.so',
        },
        {
          file: '/usr/lib/libtwo.so.2.0',
          path: '/opt/libtwo.so',
          otherPaths: ['/usr/lib/libtwo.so'],
          role: 'library',
          through: 'runpath',
          chain: '/bin/b /usr/lib/libtwo.so',
          neededAs: 'libtwo.so',
        },
        {
          file: loader,
          path: loader,
          otherPaths: [],
          role: 'interpreter',
          through: 'path',
          chain: `/bin/a ${loader}`,
          neededAs: loader,
        },
      ].map((object) => ({ ...object, owner: `owner of ${object.file}` })),
    );
    expect(closure.warnings).toEqual([]);
  });

  it('names what is missing, for whom, where it looked, and what to do', async () => {
    const error = await failure(
      close({
        '/bin/a': s390x(needs('libx.so')),
        '/lib/libx.so': s390x({ strings: [[tag.NEEDED, 'liby.so']] }),
      }),
    );
    expect(error.message).toBe(
      'cannot load liby.so: no directory of the search path holds it; needed by /lib/libx.so (/bin/a -> /lib/libx.so); searched /lib, /usr/lib',
    );
    expect([error.exitCode, error.hint]).toEqual([1, expect.stringContaining('no package provides it')]);
  });

  it('asks for a missing soname once, then uses what came', async () => {
    const files = new Map<string, Buffer>([
      [
        '/bin/a',
        s390x({
          strings: [
            [tag.NEEDED, 'libx.so'],
            [tag.NEEDED, 'libz.so'],
          ],
        }),
      ],
      ['/bin/b', s390x({ strings: [[tag.NEEDED, 'libx.so']] })],
    ]);
    const asked: string[] = [];
    const request = {
      roots: ['/bin/a', '/bin/b'],
      dlopen: [],
      view: memoryView(files),
      config,
      provide: (soname: string, by: { owner: string }) => {
        asked.push(`${soname} for ${by.owner}`);
        if (soname === 'libx.so') files.set('/lib/libx.so', s390x());
        return Promise.resolve(true);
      },
    };
    const error = await failure(closeLibraries(request));
    expect(error.message).toContain('cannot load libz.so');
    expect(asked).toEqual(['libx.so for owner of /bin/a', 'libz.so for owner of /bin/a']);
    files.set('/usr/lib/libz.so', s390x());
    const closure = await closeLibraries(request);
    expect(closure.objects.map(({ path }) => path)).toEqual([
      '/bin/a',
      '/bin/b',
      '/lib/libx.so',
      '/usr/lib/libz.so',
    ]);
  });

  it('checks symbol versions', async () => {
    const program = s390x({
      ...needs('libx.so'),
      neededVersions: [{ file: 'libx.so', versions: ['X_1', 'X_2'] }],
    });
    const fits = { '/bin/a': program, '/lib/libx.so': s390x({ definedVersions: ['libx.so', 'X_1', 'X_2'] }) };
    expect((await close(fits)).objects).toHaveLength(3);
    const error = await failure(
      close({ ...fits, '/lib/libx.so': s390x({ definedVersions: ['libx.so', 'X_1'] }) }),
    );
    expect(error.message).toBe(
      'cannot link /bin/a: version X_2 not found in /lib/libx.so (needed by /bin/a)',
    );
    const stray = await failure(
      close({ '/bin/a': s390x({ neededVersions: [{ file: 'liby.so', versions: ['Y'] }] }) }),
    );
    expect(stray.message).toBe('cannot link /bin/a: it needs versions of liby.so, which it does not load');
  });

  it('loads what is declared for dlopen, also for what that loads', async () => {
    const files = {
      '/bin/a': s390x({ imports: ['dlopen'], strings: [[tag.RUNPATH, '/plugins']] }),
      '/plugins/one.so': s390x({
        imports: ['dlmopen'],
        strings: [
          [tag.SONAME, 'one.so.1'],
          [tag.NEEDED, 'need.so'],
        ],
      }),
      '/lib/need.so': s390x(),
      '/usr/lib/two.so': s390x(),
    };
    const dlopen = [
      { by: 'one.so.1', loads: ['two.so'] },
      { by: 'a', loads: ['one.so'] },
    ];
    const closure = await close(files, { dlopen });
    expect(closure.objects.map(({ path, role, chain }) => [path, role, chain.length])).toEqual([
      ['/bin/a', 'root', 1],
      ['/plugins/one.so', 'dlopen', 2],
      ['/lib/need.so', 'library', 3],
      ['/usr/lib/two.so', 'dlopen', 3],
    ]);
    expect(closure.objects.map(({ callsDlopen }) => callsDlopen)).toEqual([true, true, false, false]);
    expect(closure.warnings).toEqual([]);
    // What loads nothing need not be there.
    await close(files, { dlopen: [{ by: 'one.so.2', loads: [] }, ...dlopen] });
    const error = await failure(close(files, { dlopen: [{ by: 'one.so.2', loads: ['two.so'] }, ...dlopen] }));
    expect([error.message, error.hint, error.exitCode]).toEqual([
      'cannot load what one.so.2 opens with dlopen: no loaded object has this soname or file name',
      'did you mean one.so.1?',
      2,
    ]);
    expect((await failure(close(files, { dlopen: [{ by: 'a', loads: ['none.so'] }] }))).message).toMatch(
      /^cannot load none\.so: .*needed by \/bin\/a; searched \/plugins, \/lib, \/usr\/lib$/,
    );
  });

  it('warns of dlopen that nothing explains, of unmet notes, relative directories and audit modules', async () => {
    const note = (json: string): Partial<ElfRecipe> => ({
      imports: ['dlopen'],
      notes: [{ owner: 'FDO', type: 0x407c0c0a, text: json }],
    });
    const closure = await close({
      '/bin/a': s390x({
        ...needs('libq.so', 'libr.so', 'libs.so', 'libt.so'),
        imports: ['dlopen'],
        strings: [
          ...['libq.so', 'libr.so', 'libs.so', 'libt.so'].map((name) => [tag.NEEDED, name] as const),
          [tag.RUNPATH, 'plugins::/opt'],
          [tag.AUDIT, 'libaudit.so'],
        ],
      }),
      '/lib/libq.so': s390x(note('[{"soname":["libopt.so"],"feature":"zip","priority":"required"}]')),
      '/lib/libr.so': s390x(
        note('[{"soname":["libopt.so","libq.so"],"priority":"required"},{"soname":["no.so"]}]'),
      ),
      '/lib/libs.so': s390x(note('not JSON')),
      '/lib/libt.so': s390x({ imports: ['dlopen'], strings: [[tag.SONAME, 'libt.so']] }),
    });
    expect(closure.warnings).toEqual([
      '/bin/a also searches plugins, which depends on where it is started: nothing is looked for there',
      '/bin/a also searches the working directory, which depends on where it is started: nothing is looked for there',
      '/bin/a names audit modules, which are left out: libaudit.so',
      '/bin/a calls dlopen, and nothing says what it loads: declare it under dlopen with "by: a"',
      '/lib/libq.so requires libopt.so for zip at run time: declare it under dlopen',
      '/lib/libs.so: its dlopen note is not the JSON the specification asks for',
      '/lib/libs.so calls dlopen, and nothing says what it loads: declare it under dlopen with "by: libs.so"',
      '/lib/libt.so calls dlopen, and nothing says what it loads: declare it under dlopen with "by: libt.so"',
    ]);
    expect(closure.objects.find(({ path }) => path === '/lib/libr.so')?.dlopenNotes).toHaveLength(2);
  });

  it('takes the file every processor can run and reports the others', async () => {
    const closure = await close({
      '/bin/a': s390x({ strings: [[tag.NEEDED, 'libx.so']] }),
      '/usr/lib/libx.so': s390x(),
      '/usr/lib/glibc-hwcaps/z15/libx.so': s390x(),
    });
    expect(closure.objects[1]?.path).toBe('/usr/lib/libx.so');
    expect(closure.objects[1]?.hwcapsVariants.map(({ path }) => path)).toEqual([
      '/usr/lib/glibc-hwcaps/z15/libx.so',
    ]);
  });

  it('refuses a root that is not there or not a program', async () => {
    expect((await failure(close({}))).message).toBe('cannot load /bin/a: no such file');
    expect((await failure(close({ '/bin/a': Buffer.from('#!/bin/sh\n') }))).message).toMatch(
      /^cannot read \/bin\/a: it is a script for \/bin\/sh, not an ELF program/,
    );
  });
});

describe('elfMachine', () => {
  it.each(architectures)('%s accepts its own objects and no other', (architecture) => {
    for (const other of architectures) {
      const machine = elfMachine(other);
      const header = parseHeader(buildElf({ ...machine, type: 3, flags: machine.flags.value[0] ?? 0 }), '/x');
      const check = (): void => {
        checkMachine(header, architecture, '/x');
      };
      if (other === architecture) expect(check).not.toThrow();
      else expect(check).toThrow(/^cannot load \/x: it is made for .*, not for /);
    }
  });
});

describe.skipIf(!requireTools('gcc'))('dlopen of compiled programs', () => {
  const directory = realpathSync(mkdtempSync(join(tmpdir(), 'elf-closure-')));
  afterAll(() => {
    rmSync(directory, { recursive: true });
  });

  it('is noticed, and not in the C library that defines it', async () => {
    const source = '#include <dlfcn.h>\nint main(int c, char **v) { return dlopen(v[1], 1) == 0; }';
    const program = buildProgram(join(directory, 'program'), { source });
    const plugin = buildLibrary(join(directory, 'plugin.so'), { soname: 'plugin.so' });
    writeFileSync(join(directory, 'note'), plugin);
    symlinkSync(program, join(directory, 'link'));
    const request = {
      roots: [join(directory, 'link')],
      view: hostView(),
      provide: nothing,
      config: await hostConfig(hostLoader()),
    };
    const closure = await closeLibraries({ ...request, dlopen: [] });
    expect(closure.warnings).toEqual([expect.stringMatching(/link calls dlopen, .* "by: link"$/)]);
    expect(closure.objects.filter(({ callsDlopen }) => callsDlopen)).toHaveLength(1);
    const declared = await closeLibraries({ ...request, dlopen: [{ by: 'link', loads: [plugin] }] });
    expect(declared.warnings).toEqual([]);
    expect(declared.objects.at(-1)).toMatchObject({ path: plugin, role: 'dlopen', neededAs: plugin });
  });
});
