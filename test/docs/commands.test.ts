import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { commandsIn, documentedCommands, inOneLine, project } from './commands.js';
import { isPartOfCi, npmScripts, runBy, runInMachine, runOnFedora, runs, runWhole } from './runs.js';

describe('commands of a document', () => {
  const commands = (markdown: string): readonly (readonly [number, string])[] =>
    commandsIn('x.md', markdown).map(({ line, text }) => [line, text]);

  it('are the lines of its blocks of shell code', () => {
    expect(
      commands('# Title\n\n```sh\nnpm ci\n\n# why\nnpm test   # all of it\n```\n\n```yaml\nrun: [-4]\n```\n'),
    ).toEqual([
      [4, 'npm ci'],
      [7, 'npm test'],
    ]);
    expect(commands('```console\n$ podman ps\n```')).toEqual([[2, 'podman ps']]);
    expect(commands('Text:\n\n    npm test        # here\n    npm run lock\n')).toEqual([
      [3, 'npm test'],
      [4, 'npm run lock'],
    ]);
    expect(commands('- A list\n\n    goes on\n')).toEqual([]);
  });

  it('may go on in the next line', () => {
    const text = 'podman run --read-only \\\n  --init \\\n  IMAGE eth0';
    expect(commands(`\`\`\`sh\nnpm ci\n${text}\nnpm test\n\`\`\``)).toEqual([
      [2, 'npm ci'],
      [3, text],
      [6, 'npm test'],
    ]);
    expect(inOneLine(text)).toBe('podman run --read-only --init IMAGE eth0');
  });

  it('are also in text and in tables', () => {
    expect(commands('| all | `npm test` |\n| one | `npm run\ncheck` |')).toEqual([
      [1, 'npm test'],
      [2, 'npm run check'],
    ]);
    expect(
      commands('`podman load` as `npx dhcpd-scratch`, `podman run IMAGE -t`, `make x y`, `--init`'),
    ).toEqual([]);
  });

  it('end with their output when it follows', () => {
    const [first, second] = commandsIn('x.md', '```sh\nnpm ci\nnpm test\n```\n\n```\nok\nfine\n```\n');
    expect(first).not.toHaveProperty('output');
    expect(second).toMatchObject({ output: 'ok\nfine' });
    expect(commandsIn('x.md', '```sh\nnpm ci\n```\n\nText.\n\n```\nok\n```\n')[0]).not.toHaveProperty(
      'output',
    );
  });

  it('need a block that ends', () => {
    expect(() => commands('a\n```sh\nnpm ci\n')).toThrow('x.md:2: the block of code has no end');
  });
});

describe('the documents', () => {
  const all = documentedCommands();

  it('hold no command that no test runs', () => {
    const untested = all.filter(({ file, text }) => {
      const command = inOneLine(text);
      if (runWhole.has(file) || runOnFedora.includes(command) || runInMachine.includes(command)) return false;
      return !runs.has(command) && !runBy.has(command) && !isPartOfCi(command);
    });
    expect(
      untested.map(({ file, line, text }) => `${file}:${line}: no test runs ${inOneLine(text)}`),
    ).toEqual([]);
    expect(all.length).toBeGreaterThan(20);
  });

  it('hold every command that is tested as one of theirs', () => {
    const documented = new Set(all.map(({ text }) => inOneLine(text)));
    expect(
      [...runs.keys(), ...runBy.keys(), ...runOnFedora, ...runInMachine].filter(
        (command) => !documented.has(command),
      ),
    ).toEqual([]);
  });

  it('name npm scripts that exist', () => {
    const named = all.flatMap(({ text }) => /^npm run ([\w:-]+)/.exec(text)?.[1] ?? []);
    expect(named.length).toBeGreaterThan(5);
    expect(named.filter((name) => npmScripts()[name] === undefined)).toEqual([]);
  });

  it.each([...runBy])('say %s, which %s runs', (command, file) => {
    expect(readFileSync(join(project, file), 'utf8')).toContain(command);
  });

  it('would be found out with a command that nothing runs', () => {
    for (const command of ['npm run format', 'npm run nothing', 'npm start', 'vitest']) {
      expect(isPartOfCi(command), command).toBe(false);
    }
    for (const command of [
      'npm ci',
      'npm test',
      'npm run check',
      'npm run test:system',
      'npm run host:tools',
    ]) {
      expect(isPartOfCi(command), command).toBe(true);
    }
  });
});
