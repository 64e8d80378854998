import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { architectures } from '../../build/support/architecture.js';
import { program } from '../support/cli.js';
import { documents, project, readDocument } from './commands.js';
import { npmScripts } from './runs.js';

const readme = readDocument('README.md');

describe('links', () => {
  it('lead to files and headings that exist', () => {
    const links = documents.flatMap((file) => linksOf(file));
    expect(links.length).toBeGreaterThan(8);
    const broken = links.filter(({ file, target }) => !leadsSomewhere(file, target));
    expect(broken.map(({ file, line, target }) => `${file}:${line}: ${target}`)).toEqual([]);
  });

  it('would be found out when they lead nowhere', () => {
    expect(leadsSomewhere('docs/ci.md', '../README.md#run-it')).toBe(true);
    expect(leadsSomewhere('docs/ci.md', '#what-the-system-tests-need')).toBe(true);
    expect(leadsSomewhere('docs/ci.md', '../README.md#run-away')).toBe(false);
    expect(leadsSomewhere('docs/ci.md', 'README.md')).toBe(false);
  });

  it('aside, paths in code exist as well', () => {
    const paths = documents.flatMap((file) =>
      codeIn(file).flatMap(({ line, code }) =>
        /^(?:build|bench|config|docs|images|quadlet|schema|test|\.ci|\.github)\/[\w./-]*$/.test(code)
          ? [{ file, line, code }]
          : [],
      ),
    );
    expect(paths.length).toBeGreaterThan(8);
    const missing = paths.filter(({ code }) => !existsSync(join(project, code)));
    expect(missing.map(({ file, line, code }) => `${file}:${line}: ${code}`)).toEqual([]);
  });
});

describe('the commands of the README', () => {
  const commands = commandsOf([]);

  it('are those of the program, with their arguments', () => {
    const documented = rowsOf(readme, 'command').map(([command = '']) => code(command));
    expect(documented).toEqual(commands.map(({ words, usage }) => [...words, ...usage].join(' ')));
  });

  it('have thin names in npm', () => {
    const sentence = /^((?:`[^`]+`[, and]*)+) are thin names/m.exec(readme)?.[1] ?? '';
    const names = [...sentence.matchAll(/`(?:npm run )?([^`]+)`/g)].map(([, name = '']) => name);
    expect(names.length).toBe(9);
    for (const name of names) {
      expect(npmScripts()[name]).toMatch(new RegExp(`^node dist/cli\\.js ${name.replace(/:.*/, '')}( |$)`));
    }
  });

  it('take the options that the README says, and no others', () => {
    const accepted = commands.map(({ words, options }): [string, readonly string[]] => [
      words.join(' '),
      [...options.keys()].sort(),
    ]);
    const rows = optionRows();
    const documented = accepted.map(([name]): [string, readonly string[]] => [
      name,
      rows.flatMap(({ options, commands: of }) => (of.has(name) || of.has('all') ? options : [])).sort(),
    ]);
    expect(documented).toEqual(accepted);
    const names = new Set(['all', ...accepted.map(([name]) => name)]);
    expect(rows.flatMap(({ commands: of }) => [...of]).filter((name) => !names.has(name))).toEqual([]);
  });

  it('have the choices and defaults that the README says', () => {
    const build = commands.find(({ words }) => words[0] === 'build');
    let compared = 0;
    for (const { options, row } of optionRows()) {
      const help = build?.options.get(options[0] ?? '') ?? '';
      const choices = /\(choices: ("\w+"(?:, "\w+")*)/.exec(help)?.[1];
      if (choices !== undefined) {
        expect(row).toContain(choices.replaceAll('"', '').replaceAll(', ', '|'));
        compared += 1;
      }
      const standard = /default: "(\w+)"/.exec(help)?.[1];
      if (standard !== undefined) expect(row).toContain(`\`${standard}\``);
    }
    expect(compared).toBe(3);
  });
});

describe('names in the documents', () => {
  it('of environment variables are read by the program or by the tests', () => {
    const named = documents
      .flatMap((file) => codeIn(file).map(({ code }) => code))
      .flatMap((code) => /^\$?((?:[a-z]+_proxy|CI|[A-Z]+(?:_[A-Z]+)+)(?=\/|$))/.exec(code)?.[1] ?? [])
      .filter((name) => !/^(?:CAP|NET|DT|PT)_/.test(name));
    expect(named).toEqual(expect.arrayContaining(['XDG_CACHE_HOME', 'SOURCE_DATE_EPOCH', 'no_proxy', 'CI']));
    const sources = ['build', 'test'].flatMap((folder) =>
      readdirSync(join(project, folder), { recursive: true, encoding: 'utf8' })
        .filter((path) => path.endsWith('.ts'))
        .map((path) => readFileSync(join(project, folder, path), 'utf8')),
    );
    // Comments do not read anything.
    const code = sources.join('\n').replaceAll(/\/\*[^]*?\*\/|^\s*\/\/.*$/gm, '');
    expect(named.filter((name) => !new RegExp(`\\b${name}\\b`).test(code))).toEqual([]);
  });

  it('of architectures are those that can be built', () => {
    const sentence = /Known are ([^.]*?), also/.exec(readme)?.[1] ?? '';
    expect([...sentence.matchAll(/`(\w+)`/g)].map(([, name]) => name).sort()).toEqual(
      [...architectures].sort(),
    );
  });

  it('of functions in the architecture are exported by their stages', () => {
    const rows = [
      ...readDocument('docs/architecture.md').matchAll(/^ {2}[│▼]? *(\w+)\/ .* {2,}(\S.*)$/gm),
    ].flatMap(([, stage = '', list = '']) =>
      (list.match(/\b[a-zA-Z]+[a-z][A-Z]\w*(?:\.\w+)?/g) ?? []).map((name): [string, string] => [
        stage,
        name,
      ]),
    );
    expect(rows.length).toBeGreaterThan(8);
    const missing = rows.filter(([stage, name]) => {
      const sources = readdirSync(join(project, 'build', stage), { recursive: true, encoding: 'utf8' })
        .filter((path) => path.endsWith('.ts'))
        .map((path) => readFileSync(join(project, 'build', stage, path), 'utf8'));
      const [outer = ''] = name.split('.');
      const declared = new RegExp(`^export (?:async )?(?:function|interface|class|const) ${outer}\\b`, 'm');
      return !sources.some((source) => declared.test(source));
    });
    expect(missing).toEqual([]);
  });
});

describe('docs/dependencies.md', () => {
  const text = readDocument('docs/dependencies.md');
  const manifest = readJson('package.json') as Record<
    'dependencies' | 'devDependencies',
    Readonly<Record<string, string>>
  >;

  it('argues for every dependency, and names its licence and major version', () => {
    const rows = rowsOf(text, 'package').map(([name = '', , licence = '']) => {
      const [, package_ = '', major = ''] = /^`([^`]+)` ?(\d*)$/.exec(name) ?? [];
      return { name: package_, major, licence };
    });
    expect(rows.map(({ name }) => name).sort()).toEqual(Object.keys(manifest.dependencies).sort());
    for (const { name, major, licence } of rows) {
      const installed = readJson(`node_modules/${name}/package.json`) as Record<
        'license' | 'version',
        string
      >;
      expect([name, licence]).toEqual([name, installed.license]);
      if (major !== '') expect([name, major]).toEqual([name, installed.version.split('.')[0]]);
      expect(manifest.dependencies[name]).toBe(installed.version);
    }
  });

  it('names what development needs', () => {
    const paragraph = /^For development: [^]*?\n\n/m.exec(text)?.[0] ?? '';
    const named = [...paragraph.matchAll(/`([^`]+)`/g)].map(([, name = '']) => name);
    const needed = Object.keys(manifest.devDependencies).filter((name) => !name.startsWith('@'));
    expect(named.sort()).toEqual(needed.sort());
  });

  it('is right that none has an install script', () => {
    const { packages } = readJson('package-lock.json') as {
      packages: Record<string, { dev?: boolean; optional?: boolean; hasInstallScript?: boolean }>;
    };
    const scripts = Object.entries(packages).filter(
      ([path, { dev, hasInstallScript }]) => path !== '' && dev !== true && hasInstallScript === true,
    );
    expect(scripts).toEqual([]);
  });
});

interface ProgramCommand {
  readonly words: readonly string[];
  /** Its arguments as the README writes them: `PATH`, `[DEFINITION]`. */
  readonly usage: readonly string[];
  /** The help of each long option but --help. */
  readonly options: ReadonlyMap<string, string>;
}

/** Every command without subcommands, by what the program says of itself. */
function commandsOf(words: readonly string[]): readonly ProgramCommand[] {
  const help = execFileSync(process.execPath, [program, ...words, '--help'], {
    encoding: 'utf8',
  });
  const list = /\nCommands:\n([^]*)$/.exec(help)?.[1];
  if (list !== undefined) {
    const names = [...list.matchAll(/^ {2}([a-z]+)/gm)].map(([, name = '']) => name);
    // Commander's own for a command with subcommands; it says what --help says.
    return names.filter((name) => name !== 'help').flatMap((name) => commandsOf([...words, name]));
  }
  const usage = /^Usage: dhcpd-scratch (.*)$/m.exec(help)?.[1] ?? '';
  const section = /\nOptions:\n([^]*?)(?:\n\n|$)/.exec(help)?.[1] ?? '';
  const options = section
    .split(/\n(?= {2}-)/)
    .map((option): [string, string] => [
      /--[a-z-]+/.exec(option)?.[0] ?? option,
      option.replaceAll(/\s+/g, ' '),
    ]);
  return [
    {
      words,
      usage: usage
        .split(' ')
        .slice(words.length)
        .filter((word) => word !== '[options]')
        .map((word) => word.replaceAll(/[<>]/g, '').toUpperCase()),
      options: new Map(options.filter(([name]) => name !== '--help')),
    },
  ];
}

function optionRows(): readonly { options: readonly string[]; commands: ReadonlySet<string>; row: string }[] {
  return rowsOf(readme, 'option').map((cells) => ({
    options: (cells[0] ?? '').match(/--[a-z-]+/g) ?? [],
    commands: new Set((cells[1] ?? '').split(' ')),
    row: cells.join(' '),
  }));
}

/** The cells of the table whose first column has this title, without its head. */
function rowsOf(markdown: string, title: string): readonly (readonly string[])[] {
  const lines = markdown.split('\n');
  const head = lines.findIndex((line) => new RegExp(`^\\| ${title} +\\|`).test(line));
  const end = lines.findIndex((line, at) => at > head && !line.startsWith('|'));
  if (head < 0) throw new Error(`there is no table of ${title}`);
  return lines.slice(head + 2, end < 0 ? undefined : end).map((line) =>
    line
      .split(/(?<!\\)\|/)
      .slice(1, -1)
      .map((cell) => cell.trim().replaceAll('\\|', '|')),
  );
}

function code(cell: string): string {
  return cell.replaceAll('`', '');
}

function codeIn(file: string): readonly { readonly line: number; readonly code: string }[] {
  const text = withoutBlocks(readDocument(file));
  return [...text.matchAll(/(?<!`)`([^`]+)`(?!`)/g)].map((match) => ({
    line: lineAt(text, match.index),
    code: match[1] ?? '',
  }));
}

function linksOf(
  file: string,
): readonly { readonly file: string; readonly line: number; readonly target: string }[] {
  const text = withoutBlocks(readDocument(file));
  return [...text.matchAll(/\[[^\]]*\]\(([^)\s]+)\)|^\[[^\]]+\]: +(\S+)/gm)].flatMap((match) => {
    const target = match[1] ?? match[2] ?? '';
    return /^[a-z]+:/.test(target) ? [] : [{ file, line: lineAt(text, match.index), target }];
  });
}

function leadsSomewhere(file: string, target: string): boolean {
  const [path = '', anchor] = target.split('#');
  const to = path === '' ? file : join(dirname(file), path);
  if (!existsSync(join(project, to))) return false;
  return anchor === undefined || anchorsOf(to).includes(anchor);
}

/** Of headings, as GitHub and GitLab make them. */
function anchorsOf(file: string): readonly string[] {
  return [...withoutBlocks(readDocument(file)).matchAll(/^#+ (.*)$/gm)].map(([, heading = '']) =>
    heading
      .toLowerCase()
      .replaceAll(/[^\p{L}\p{N} _-]/gu, '')
      .replaceAll(' ', '-'),
  );
}

/** Fenced code emptied, so that lines keep their numbers. */
function withoutBlocks(markdown: string): string {
  return markdown.replaceAll(/^ *(```+)[^]*?^ *\1$/gm, (block) => block.replaceAll(/[^\n]/g, ''));
}

function lineAt(text: string, index: number): number {
  return text.slice(0, index).split('\n').length;
}

function readJson(path: string): unknown {
  return JSON.parse(readFileSync(join(project, path), 'utf8'));
}
