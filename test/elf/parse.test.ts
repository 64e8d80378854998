import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { type ElfFile, parseElf } from '../../build/elf/parse.js';
import { buildElf, type ElfRecipe, tag } from '../support/elf-builder.js';
import { buildLibrary, buildProgram } from '../support/elf-compile.js';
import { requireTools } from '../support/tools.js';

const directory = mkdtempSync(join(tmpdir(), 'elf-parse-'));
afterAll(() => {
  rmSync(directory, { recursive: true });
});

/** readelf also fails where it does not know a note's type; what it printed counts. */
function readelf(...argv: readonly string[]): string {
  return spawnSync('readelf', argv, { encoding: 'utf8', maxBuffer: 256 * 1024 ** 2 }).stdout;
}

/** What the parser should find, in readelf's words. */
function factsByReadelf(path: string): object {
  const text = readelf('-hldVW', '--dyn-syms', path);
  const one = (pattern: RegExp): string | undefined => pattern.exec(text)?.[1];
  const kinds = new Map([
    ['Shared', 'needed'],
    ['Filter', 'filter'],
    ['Auxiliary', 'auxiliary'],
  ]);
  const needed: { file: string; versions: { name: string; weak: boolean }[] }[] = [];
  const defined: string[] = [];
  for (const line of text.split('\n')) {
    const file = /Version: 1 {2}File: (\S+) {2}Cnt:/.exec(line)?.[1];
    if (file !== undefined) needed.push({ file, versions: [] });
    const version = /Name: (\S+) {2}Flags: (.*) {2}Version: \d+/.exec(line);
    if (version?.[1] !== undefined) {
      needed.at(-1)?.versions.push({ name: version[1], weak: version[2]?.includes('WEAK') === true });
    }
    const definition = /Rev: 1 {2}Flags: .* {2}Index: \d+ {2}Cnt: \d+ {2}Name: (\S+)/.exec(line)?.[1];
    if (definition !== undefined) defined.push(definition);
  }
  return {
    class: Number(one(/Class: +ELF(\d+)/)),
    data: one(/Data: .*(little|big) endian/),
    type: one(/Type: +(EXEC|DYN)/),
    interpreter: one(/Requesting program interpreter: (.*)\]/),
    dynamic: /^Dynamic section at/m.test(text),
    dependencies: [...text.matchAll(/ (Shared|Filter|Auxiliary) library: \[(.*)\]/g)].map((match) => ({
      kind: kinds.get(match[1] ?? ''),
      name: match[2],
    })),
    soname: one(/Library soname: \[(.*)\]/),
    rpath: one(/Library rpath: \[(.*)\]/),
    runpath: one(/Library runpath: \[(.*)\]/),
    noDefaultDirectories: /\(FLAGS_1\).* NODEFLIB/.test(text),
    pie: /\(FLAGS_1\).* PIE/.test(text),
    noDlopen: /\(FLAGS_1\).* NOOPEN/.test(text),
    needed,
    defined: [...new Set(defined)],
    callsDlopen: / UND dlm?open(@\S+( \(\d+\))?)?$/m.test(text),
  };
}

function factsByParser(path: string): object {
  const elf = parseElf(readFileSync(path), path);
  const { dynamic } = elf;
  return {
    class: elf.header.class,
    data: elf.header.data,
    type: elf.header.type === 'shared' ? 'DYN' : 'EXEC',
    interpreter: elf.interpreter,
    dynamic: dynamic !== undefined,
    dependencies: dynamic?.dependencies ?? [],
    soname: dynamic?.soname,
    rpath: dynamic?.rpath,
    runpath: dynamic?.runpath,
    noDefaultDirectories: dynamic?.noDefaultDirectories ?? false,
    pie: dynamic?.pie ?? false,
    noDlopen: dynamic?.noDlopen ?? false,
    needed: dynamic?.neededVersions ?? [],
    defined: [...(dynamic?.definedVersions ?? [])],
    callsDlopen: dynamic?.callsDlopen ?? false,
  };
}

describe.skipIf(!requireTools('readelf'))('objects of this host', () => {
  it('are read as readelf reads them', { timeout: 120_000 }, () => {
    const paths = ['/usr/bin', '/usr/sbin', '/usr/lib/x86_64-linux-gnu', '/usr/lib/aarch64-linux-gnu']
      .flatMap((top) => {
        try {
          return readdirSync(top, { withFileTypes: true })
            .filter((entry) => entry.isFile())
            .map((entry) => join(top, entry.name));
        } catch {
          return [];
        }
      })
      .sort();
    let compared = 0;
    let dlopen = 0;
    // Every eighth is enough to meet each linker and language; the loader's own test reads them all.
    for (let index = 0; index < paths.length; index += 8) {
      const path = realpathSync(paths[index] ?? '');
      const bytes = readFileSync(path);
      if (!isProgramOrLibrary(bytes)) continue;
      const facts = factsByParser(path);
      expect({ path, ...facts }).toEqual({ path, ...factsByReadelf(path) });
      compared += 1;
      if ('callsDlopen' in facts && facts.callsDlopen === true) dlopen += 1;
    }
    process.stdout.write(`${compared} objects read as by readelf, ${dlopen} of them call dlopen\n`);
    expect(compared).toBeGreaterThan(50);
  });
});

function isProgramOrLibrary(bytes: Buffer): boolean {
  return bytes.toString('latin1', 0, 4) === '\x7fELF' && [2, 3].includes(bytes[16] || bytes[17] || 0);
}

describe.skipIf(!requireTools('readelf', 'gcc', 'strip', 'objcopy'))('compiled objects', () => {
  const source = '#include <dlfcn.h>\nint main(int c, char **v) { return dlopen(v[1], 1) == 0; }';
  const versions = 'ONE { global: one; local: *; }; TWO { global: two; } ONE;';
  const builds: readonly (readonly [string, () => string])[] = [
    ['a program that only imports', () => buildProgram(join(directory, 'imports'), { source })],
    [
      'the same with DT_HASH',
      () => buildProgram(join(directory, 'imports-sysv'), { source, flags: ['-Wl,--hash-style=sysv'] }),
    ],
    [
      'a program at a fixed address',
      () => buildProgram(join(directory, 'fixed'), { source, flags: ['-no-pie'] }),
    ],
    [
      'a library with versions',
      () =>
        buildLibrary(join(directory, 'versions.so'), {
          source: 'int one(void) { return 1; } int two(void) { return 2; }',
          soname: 'versions.so.1',
          versions,
        }),
    ],
    ['a library with DT_RPATH', () => buildLibrary(join(directory, 'rpath.so'), { rpath: '/a:$ORIGIN/b' })],
    ['a library with DT_RUNPATH', () => buildLibrary(join(directory, 'runpath.so'), { runpath: '/a:/b' })],
    [
      'filters and flags',
      () =>
        buildLibrary(join(directory, 'filters.so'), {
          flags: ['-Wl,-F,libf.so,-f,liba.so,-f,libb.so', '-Wl,-z,nodefaultlib,-z,nodlopen'],
        }),
    ],
    ['a static program', () => buildProgram(join(directory, 'static'), { flags: ['-static'] })],
    ['a static PIE', () => buildProgram(join(directory, 'static-pie'), { flags: ['-static-pie'] })],
  ];
  it.each(builds)('%s is read as readelf reads it', (_, build) => {
    const path = build();
    const facts = factsByParser(path);
    expect(facts).toEqual(factsByReadelf(path));
    // Without section headers, as some strippers leave a file, nothing may change.
    const bytes = readFileSync(path);
    bytes.fill(0, 40, 48);
    bytes.fill(0, 58, 64);
    const bare = `${path}.bare`;
    writeFileSync(bare, bytes);
    expect(factsByParser(bare)).toEqual(facts);
  });

  it('reads .note.dlopen that a linker has placed', () => {
    const json =
      '[{"feature":"xz","description":"Decompression","priority":"suggested","soname":["liblzma.so.5"]}]';
    const path = buildLibrary(join(directory, 'note.so'), {
      source: `__asm__(".pushsection .note.dlopen,\\"a\\",%note\\n.balign 4\\n.long 4, 2f-1f, 0x407c0c0a\\n.asciz \\"FDO\\"\\n1: .asciz ${JSON.stringify(JSON.stringify(json)).slice(1, -1)}\\n2: .balign 4\\n.popsection");`,
    });
    // binutils knows the note since 2.44.
    const size = (json.length + 1).toString(16).padStart(8, '0');
    expect(readelf('-nW', path)).toMatch(
      new RegExp(`0x${size}\\t(?:Unknown note type: \\(0x407c0c0a\\)|FDO_DLOPEN_METADATA)`),
    );
    expect(parseElf(readFileSync(path), path).dlopen).toEqual({
      notes: [
        { sonames: ['liblzma.so.5'], feature: 'xz', description: 'Decompression', priority: 'suggested' },
      ],
      problems: [],
    });
  });

  it('refuses a file of debug information', () => {
    const path = buildProgram(join(directory, 'debugged'), { flags: ['-g'] });
    const debug = `${path}.debug`;
    execFileSync('objcopy', ['--only-keep-debug', path, debug]);
    expect(() => parseElf(readFileSync(debug), debug)).toThrow(/^cannot read .*debugged\.debug: /);
  });
});

const kinds = [
  { class: 32, data: 'little', machine: 40 },
  { class: 32, data: 'big', machine: 20 },
  { class: 64, data: 'little', machine: 183 },
  { class: 64, data: 'big', machine: 22 },
] as const;

function recipeOf(kind: (typeof kinds)[number], symbolCount: ElfRecipe['symbolCount']): ElfRecipe {
  return {
    ...kind,
    type: 3,
    interpreter: '/lib/ld.so.1',
    strings: [
      [tag.NEEDED, 'libone.so.1'],
      [tag.NEEDED, 'libtwo.so.2'],
      [tag.SONAME, 'libself.so.3'],
      [tag.RPATH, '/r'],
      [tag.RUNPATH, '$ORIGIN/x'],
      [tag.AUDIT, 'libaudit.so'],
    ],
    numbers: [[tag.FLAGS_1, 0x800]],
    imports: ['first', 'dlmopen', 'last'],
    ...(symbolCount === undefined ? {} : { symbolCount }),
    neededVersions: [
      { file: 'libone.so.1', versions: ['ONE_1.0', 'ONE_1.1'] },
      { file: 'libtwo.so.2', versions: ['TWO'] },
    ],
    definedVersions: ['libself.so.3', 'SELF_1'],
    notes: [
      { owner: 'GNU', type: 3, text: 'something else' },
      { owner: 'FDO', type: 0x407c0c0a, text: '[{"soname":["libopt.so"]}]' },
    ],
  };
}

describe.each(kinds)('ELF$class, $data-endian, machine $machine', (kind) => {
  it.each(['hash', 'relocations'] as const)('reads every structure; symbols counted by %s', (symbolCount) => {
    const elf = parseElf(buildElf(recipeOf(kind, symbolCount)), 'x');
    expect(elf).toEqual({
      header: {
        ...kind,
        osabi: 0,
        type: 'shared',
        flags: 0,
        programHeaders:
          kind.class === 64 ? { offset: 64, size: 56, count: 4 } : { offset: 52, size: 32, count: 4 },
      },
      interpreter: '/lib/ld.so.1',
      dynamic: {
        dependencies: [
          { kind: 'needed', name: 'libone.so.1' },
          { kind: 'needed', name: 'libtwo.so.2' },
        ],
        soname: 'libself.so.3',
        rpath: '/r',
        runpath: '$ORIGIN/x',
        audit: 'libaudit.so',
        depaudit: undefined,
        noDefaultDirectories: true,
        pie: false,
        noDlopen: false,
        neededVersions: [
          {
            file: 'libone.so.1',
            versions: [
              { name: 'ONE_1.0', weak: false },
              { name: 'ONE_1.1', weak: false },
            ],
          },
          { file: 'libtwo.so.2', versions: [{ name: 'TWO', weak: false }] },
        ],
        definedVersions: new Set(['libself.so.3', 'SELF_1']),
        callsDlopen: true,
      },
      dlopen: {
        notes: [
          { sonames: ['libopt.so'], feature: undefined, description: undefined, priority: 'recommended' },
        ],
        problems: [],
      },
    } satisfies ElfFile);
  });

  it.skipIf(!requireTools('readelf'))('is a file readelf understands', () => {
    const path = join(directory, `${kind.class}-${kind.data}`);
    writeFileSync(path, buildElf(recipeOf(kind, 'hash')));
    const text = readelf('-hldnsW', '-D', path);
    for (const fact of [
      `ELF${kind.class}`,
      `${kind.data} endian`,
      'interpreter: /lib/ld.so.1',
      'Shared library: [libtwo.so.2]',
      'Library soname: [libself.so.3]',
      'Library rpath: [/r]',
      'Library runpath: [$ORIGIN/x]',
      'NODEFLIB',
      'Audit library: [libaudit.so]',
      'UND dlmopen',
      'FDO',
    ]) {
      expect(text).toContain(fact);
    }
  });
});

describe('notes and headers that are wrong', () => {
  const plain = { class: 64, data: 'little', machine: 62, type: 3 } as const;
  it.each(['{}', '[{"soname":"libx.so"}]', '[{"soname":[1]}]', '[', 'null'])(
    'reports the note %s',
    (text) => {
      const elf = parseElf(buildElf({ ...plain, notes: [{ owner: 'FDO', type: 0x407c0c0a, text }] }), 'x');
      expect(elf.dlopen.notes).toEqual([]);
      expect(elf.dlopen.problems).toHaveLength(1);
    },
  );

  it.each([
    ['', 'it is empty'],
    ['#!/bin/sh -e\necho', 'it is a script for /bin/sh -e'],
    ['!<arch>\n', 'it is not an ELF file'],
    ['\x7fELF', 'it ends before'],
  ])('refuses %j', (text, reason) => {
    expect(() => parseElf(Buffer.from(text, 'latin1'), '/x')).toThrow(`cannot read /x: ${reason}`);
  });

  it('refuses what is neither program nor library', () => {
    expect(() => parseElf(buildElf({ ...plain, type: 1 }), '/x.o')).toThrow(
      'neither a program nor a shared library',
    );
  });
});
