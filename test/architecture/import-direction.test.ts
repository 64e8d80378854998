import { readdir, readFile } from 'node:fs/promises';
import { join, posix } from 'node:path';
import { describe, expect, it } from 'vitest';
import { importsOf } from './imports.js';

/** Who may import whom: only what stands before. Folders of build/, and the files that stand in it. */
const order = [
  'support',
  'dhcpd-conf',
  'definition',
  'repository',
  'package',
  'elf',
  'rootfs',
  'image',
  'units',
  'inventory',
  'smoke',
  'compare',
  'family.ts',
  'request.ts',
  'pipeline-on-base.ts',
  'pipeline.ts',
  'commands',
  'cli.ts',
  // Scripts for maintainers use what they like; nothing uses them.
  'host',
];

/** A stage may name the types of a later one only as this file declares them. */
const declarations = 'package/contents.ts';

/** The one file that starts programs. */
const runner = 'support/exec.ts';
const runners = /^(execa|(node:)?child_process)$/;

/**
 * What breaks the rules, one line each.
 * @param files text by path below build/, such as `elf/parse.ts`
 */
function violations(files: ReadonlyMap<string, string>): readonly string[] {
  const found: string[] = [];
  for (const [file, text] of files) {
    const own = place(file);
    if (own < 0) found.push(`${file}: ${layer(file)} has no place in the order`);
    for (const { from, typeOnly, line } of importsOf(text)) {
      const where = `${file}:${String(line)}`;
      if (from === '(computed)') found.push(`${where}: the imported name is computed`);
      if (runners.test(from) && file !== runner) found.push(`${where}: only ${runner} imports ${from}`);
      if (/^zx(\/|$)/.test(from) && layer(file) !== 'host')
        found.push(`${where}: only host/ imports ${from}`);
      if (!from.startsWith('.')) continue;
      const target = posix.join(posix.dirname(file), from.replace(/\.js$/, '.ts'));
      if (!files.has(target)) {
        found.push(`${where}: ${from} is no file of build/`);
      } else if (place(target) > own && !(typeOnly && target === declarations && layer(file) !== 'support')) {
        found.push(`${where}: ${layer(file)} comes before ${layer(target)}, and imports ${target}`);
      }
    }
  }
  return found;
}

function layer(file: string): string {
  return file.split('/')[0] ?? file;
}

function place(file: string): number {
  return order.indexOf(layer(file));
}

async function sources(): Promise<ReadonlyMap<string, string>> {
  const build = join(import.meta.dirname, '../../build');
  const names = (await readdir(build, { recursive: true })).filter((name) => name.endsWith('.ts')).sort();
  return new Map(
    await Promise.all(
      names.map(async (name): Promise<[string, string]> => [name, await readFile(join(build, name), 'utf8')]),
    ),
  );
}

describe('build/', () => {
  it('imports in one direction, and starts programs in one place', async () => {
    const files = await sources();
    expect(files.size).toBeGreaterThan(20);
    expect(violations(files)).toEqual([]);
  });

  it('has imports between its stages for the rule to judge', async () => {
    const all = [...(await sources())].flatMap(([file, text]) =>
      importsOf(text).map(({ from }) => `${layer(file)} ${from}`),
    );
    expect(all).toContain('definition ../support/errors.js');
    expect(all).toContain('support execa');
    expect(all).toContain('definition yaml');
  });
});

describe('the rule', () => {
  /** A small build/ that keeps it, with one more file. */
  function tree(file: string, text: string): ReadonlyMap<string, string> {
    return new Map([
      ['support/exec.ts', "await import('execa');"],
      ['definition/definition.ts', 'export {};'],
      ['package/contents.ts', 'export {};'],
      ['package/tree.ts', "import type { A } from './contents.js';"],
      ['elf/closure.ts', 'export {};'],
      ['pipeline.ts', "import './elf/closure.js';"],
      ['commands/build.ts', "import '../pipeline.js';"],
      ['cli.ts', "import './commands/build.js';"],
      ['host/tools.ts', "import { $ } from 'zx';"],
      [file, text],
    ]);
  }

  it.each([
    ['elf/parse.ts', "import '../package/tree.js';\nimport { a } from '../definition/definition.js';"],
    ['repository/debian/archive.ts', "import type { PackageContents } from '../../package/contents.js';"],
    ['repository/debian/archive.ts', "export type { PackageContents } from '../../package/contents.js';"],
    ['repository/debian/archive.ts', "type A = import('../../package/contents.js').A;"],
    ['host/all.ts', "import '../cli.js'; import '../elf/closure.js'; import 'zx/globals';"],
    ['support/paths.ts', "// import 'execa';\nconst text = \"import '../elf/closure.js'\";"],
  ])('accepts %s: %s', (file, text) => {
    expect(violations(tree(file, text))).toEqual([]);
  });

  it.each([
    ['elf/a.ts', "import '../pipeline.js';", 'elf comes before pipeline.ts, and imports pipeline.ts'],
    [
      'package/a.ts',
      "import { a } from '../elf/closure.js';",
      'package comes before elf, and imports elf/closure.ts',
    ],
    [
      'package/a.ts',
      "import type { A } from '../elf/closure.js';",
      'package comes before elf, and imports elf/closure.ts',
    ],
    [
      'package/a.ts',
      "export * from '../elf/closure.js';",
      'package comes before elf, and imports elf/closure.ts',
    ],
    [
      'package/a.ts',
      "await import('../elf/closure.js');",
      'package comes before elf, and imports elf/closure.ts',
    ],
    [
      'package/a.ts',
      "const a = require('../elf/closure.js');",
      'package comes before elf, and imports elf/closure.ts',
    ],
    [
      'package/a.ts',
      "type A = import('../elf/closure.js').A;",
      'package comes before elf, and imports elf/closure.ts',
    ],
    [
      'repository/a.ts',
      "import { type A } from '../package/contents.js';",
      'repository comes before package, and imports package/contents.ts',
    ],
    [
      'repository/a.ts',
      "import type { A } from '../package/tree.js';",
      'repository comes before package, and imports package/tree.ts',
    ],
    [
      'support/a.ts',
      "import type { A } from '../package/contents.js';",
      'support comes before package, and imports package/contents.ts',
    ],
    [
      'support/a.ts',
      "import '../definition/definition.js';",
      'support comes before definition, and imports definition/definition.ts',
    ],
    [
      'pipeline.ts',
      "import './commands/build.js';",
      'pipeline.ts comes before commands, and imports commands/build.ts',
    ],
    ['commands/a.ts', "import '../cli.js';", 'commands comes before cli.ts, and imports cli.ts'],
    ['cli.ts', "import './host/tools.js';", 'cli.ts comes before host, and imports host/tools.ts'],
    ['elf/a.ts', "import { execa } from 'execa';", 'only support/exec.ts imports execa'],
    [
      'host/a.ts',
      "import { spawn } from 'node:child_process';",
      'only support/exec.ts imports node:child_process',
    ],
    ['elf/a.ts', "import { spawn } from 'child_process';", 'only support/exec.ts imports child_process'],
    ['elf/a.ts', "import { $ } from 'zx';", 'only host/ imports zx'],
    ['elf/a.ts', "import './missing.js';", './missing.js is no file of build/'],
    ['elf/a.ts', 'await import(name);', 'the imported name is computed'],
  ])('refuses %s: %s', (file, text, problem) => {
    expect(violations(tree(file, text))).toEqual([`${file}:1: ${problem}`]);
  });

  it('refuses a folder that it does not know', () => {
    expect(violations(tree('utils/a.ts', ''))).toEqual(['utils/a.ts: utils has no place in the order']);
  });
});
