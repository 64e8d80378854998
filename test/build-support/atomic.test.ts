import {
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rename,
  rm,
  stat,
  symlink,
  utimes,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import {
  type AtomicOptions,
  finishDirectory,
  finishFile,
  giveUp,
  takePlaces,
  writeFileAtomically,
} from '../../build/support/atomic.js';
import { cannot, ToolError } from '../../build/support/errors.js';
import { baseEnvironment, run } from '../../build/support/exec.js';
import { isLeftover, removeLeftovers, temporaryFor, temporaryPath } from '../../build/support/temporary.js';
import { requireThat } from '../support/tools.js';

const environment = baseEnvironment(process.env);
const modules = JSON.stringify(new URL('../../dist/support/', import.meta.url).href);
const canMount = await run({ argv: ['unshare', '--mount', 'true'], environment }).then(
  () => true,
  () => false,
);
let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'atomic-'));
});
afterEach(async () => {
  await rm(directory, { recursive: true, force: true });
});

/** Runs module code that knows `atomic` and `path` in another process. */
async function inChild(path: string, code: string): Promise<string> {
  const script = `
    const atomic = await import(${modules} + 'atomic.js');
    const { writeFileSync } = await import('node:fs');
    const path = ${JSON.stringify(path)};
    ${code}`;
  return (await run({ argv: [process.execPath, '--input-type=module', '-e', script], environment })).stdout;
}

async function failure(work: Promise<unknown>): Promise<ToolError> {
  const error: unknown = await work.then(
    () => new Error('it succeeded'),
    (thrown: unknown) => thrown,
  );
  if (error instanceof ToolError) return error;
  throw error;
}

describe('writeFileAtomically', () => {
  it('writes text, bytes and streams, with the mode asked for whatever the umask', async () => {
    const path = join(directory, 'file');
    const before = process.umask(0o077);
    try {
      await writeFileAtomically(path, 'ü');
      expect((await stat(path)).mode & 0o7777).toBe(0o644);
      await writeFileAtomically(path, Buffer.from([1, 2]), { mode: 0o600 });
      expect((await stat(path)).mode & 0o7777).toBe(0o600);
      expect(await readFile(path)).toEqual(Buffer.from([1, 2]));
      async function* chunks(): AsyncGenerator<Uint8Array> {
        yield Buffer.from('a');
        await Promise.resolve();
        yield Buffer.from('b');
      }
      await writeFileAtomically(path, chunks());
      expect(await readFile(path, 'utf8')).toBe('ab');
    } finally {
      process.umask(before);
    }
    expect(await readdir(directory)).toEqual(['file']);
  });

  it('leaves the old file when the source fails, and nothing else', async () => {
    const path = join(directory, 'file');
    await writeFile(path, 'old');
    const reason = cannot('read', 'x', 'y');
    async function* chunks(): AsyncGenerator<Uint8Array> {
      yield Buffer.from('a');
      await Promise.resolve();
      throw reason;
    }
    expect(await failure(writeFileAtomically(path, chunks()))).toBe(reason);
    expect(await readFile(path, 'utf8')).toBe('old');
    expect(await readdir(directory)).toEqual(['file']);
  });

  it('says what cannot be written', async () => {
    const path = join(directory, 'none', 'file');
    expect((await failure(writeFileAtomically(path, ''))).message).toBe(
      `cannot write ${path}: no such file or directory`,
    );
    await mkdir(join(directory, 'taken'));
    expect((await failure(writeFileAtomically(join(directory, 'taken'), ''))).message).toBe(
      `cannot write ${join(directory, 'taken')}: it is a directory`,
    );
    expect(await readdir(directory)).toEqual(['taken']);
  });

  it.skipIf(!requireThat(canMount, 'mount namespaces'))(
    'says that the device is full, and what to do',
    async () => {
      const script = `
      mount -t tmpfs -o size=64k tmpfs "$0" && exec "$@"`;
      const path = join(directory, 'file');
      const code = `
      const atomic = await import(${modules} + 'atomic.js');
      const { readdirSync } = await import('node:fs');
      const error = await atomic.writeFileAtomically(${JSON.stringify(path)}, Buffer.alloc(200000)).catch((error) => error);
      console.log(JSON.stringify([error.message, error.hint, readdirSync(${JSON.stringify(directory)})]));`;
      const result = await run({
        argv: [
          'unshare',
          '--mount',
          'sh',
          '-c',
          script,
          directory,
          process.execPath,
          '--input-type=module',
          '-e',
          code,
        ],
        environment,
      });
      expect(JSON.parse(result.stdout)).toEqual([
        `cannot write ${path}: no space is left on the device`,
        'free some space, or choose another place with --output and XDG_CACHE_HOME',
        [],
      ]);
    },
  );

  it('never shows a reader half a file, with two writers at once', async () => {
    const path = join(directory, 'file');
    const writer = (letter: string): Promise<string> =>
      inChild(
        path,
        `for (let i = 0; i < 30; i += 1) await atomic.writeFileAtomically(path, '${letter}'.repeat(300000));`,
      );
    const state = { running: true };
    const writers = Promise.all([writer('a'), writer('b')]).finally(() => (state.running = false));
    while (state.running) {
      const text = await readFile(path, 'utf8').catch(() => '');
      expect(['', 'a'.repeat(300_000), 'b'.repeat(300_000)].includes(text)).toBe(true);
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
    await writers;
    expect(await readdir(directory)).toEqual(['file']);
  });
});

describe('finishDirectory', () => {
  const replaceDirectory = async (
    path: string,
    fill: (aside: string) => Promise<void>,
    options?: AtomicOptions,
  ): Promise<void> => {
    await takePlaces([await finishDirectory(path, fill, options)]);
  };
  const fillWith =
    (text: string) =>
    async (aside: string): Promise<void> => {
      await mkdir(join(aside, 'deep'));
      await writeFile(join(aside, 'deep', 'file'), text);
      await symlink('nowhere', join(aside, 'link'));
    };

  it('makes and replaces', async () => {
    const path = join(directory, 'result');
    await replaceDirectory(path, fillWith('one'));
    await writeFile(join(path, 'more'), '');
    await replaceDirectory(path, fillWith('two'), { mode: 0o750 });
    expect(await readdir(path)).toEqual(['deep', 'link']);
    expect(await readFile(join(path, 'deep', 'file'), 'utf8')).toBe('two');
    expect((await stat(path)).mode & 0o7777).toBe(0o750);
    expect(await readdir(directory)).toEqual(['result']);
  });

  it('leaves the old one when filling fails', async () => {
    const path = join(directory, 'result');
    await replaceDirectory(path, fillWith('one'));
    const reason = cannot('do', 'x', 'y');
    expect(await failure(replaceDirectory(path, () => Promise.reject(reason)))).toBe(reason);
    expect(await readFile(join(path, 'deep', 'file'), 'utf8')).toBe('one');
    expect(await readdir(directory)).toEqual(['result']);
  });

  it('takes nobody’s file or link away', async () => {
    const path = join(directory, 'result');
    await writeFile(path, 'mine');
    const error = await failure(replaceDirectory(path, fillWith('one')));
    expect(error.message).toBe(`cannot write ${path}: something that is not a directory has this name`);
    expect(await readFile(path, 'utf8')).toBe('mine');
    expect(await readdir(directory)).toEqual(['result']);
  });

  it('clears up after a process that was killed while it filled', async () => {
    const path = join(directory, 'result');
    await replaceDirectory(path, fillWith('one'));
    await failure(
      inChild(
        path,
        `await atomic.finishDirectory(path, async (aside) => { writeFileSync(aside + '/x', ''); process.kill(process.pid, 'SIGKILL'); });`,
      ),
    );
    expect(await readdir(directory)).toHaveLength(2);
    await replaceDirectory(path, fillWith('two'));
    expect(await readdir(directory)).toEqual(['result']);
  });

  it('restores what a killed process had moved away', async () => {
    const path = join(directory, 'result');
    await replaceDirectory(path, fillWith('one'));
    // What a death between the two renames leaves.
    const dead = temporaryPath(path, 'old').replace(/-[0-9]+-/, '-4194305-');
    await rename(path, dead);
    expect(
      await failure(replaceDirectory(path, () => Promise.reject(cannot('do', 'x', 'y')))),
    ).toBeInstanceOf(ToolError);
    expect(await readFile(join(path, 'deep', 'file'), 'utf8')).toBe('one');
    expect(await readdir(directory)).toEqual(['result']);
  });

  it('survives two processes that replace the same one', async () => {
    const path = join(directory, 'result');
    const writer = (name: string): Promise<string> =>
      inChild(
        path,
        `for (let i = 0; i < 25; i += 1) await atomic.takePlaces([await atomic.finishDirectory(path, async (aside) => { writeFileSync(aside + '/1', '${name}'); writeFileSync(aside + '/2', '${name}'); })]);`,
      );
    await Promise.all([writer('a'), writer('b')]);
    expect(await readFile(join(path, '1'))).toEqual(await readFile(join(path, '2')));
    expect(await readdir(directory)).toEqual(['result']);
  });
});

describe('temporary names', () => {
  it('tell whose they are', async () => {
    const touched = (mtimeMs: number) => ({ mtimeMs, uid: process.geteuid?.() ?? 0 });
    const mine = temporaryPath('/some/dir/na.me');
    const name = mine.slice('/some/dir/'.length);
    expect(temporaryFor(name)).toBe('na.me');
    expect(temporaryFor('na.me')).toBeUndefined();
    expect(temporaryFor('.name.tmp')).toBeUndefined();
    expect(isLeftover(name, touched(0))).toBe(false);
    expect(isLeftover(name.replace(/-[0-9]+-/, '-1-'), touched(0))).toBe(false); // init lives
    expect(isLeftover(name.replace(/-[0-9]+-/, '-4194305-'), touched(Date.now()))).toBe(true);
    const foreign = name.replace(/\.[0-9a-f]{8}-/, '.00000000-');
    expect(isLeftover(foreign, touched(Date.now() - 3_600_000))).toBe(false);
    expect(isLeftover(foreign, touched(Date.now() - 90_000_000))).toBe(true);
    // Another user's are never ours to remove.
    const dead = name.replace(/-[0-9]+-/, '-4194305-');
    expect(isLeftover(dead, { mtimeMs: 0, uid: (process.geteuid?.() ?? 0) + 1 })).toBe(false);
    expect(isLeftover('file', touched(0))).toBe(false);
    await removeLeftovers(join(directory, 'none'));
  });

  it('of dead processes are removed, other files never', async () => {
    const dead = temporaryPath(join(directory, 'x')).replace(/-[0-9]+-/, '-4194305-');
    await mkdir(dead);
    await writeFile(join(dead, 'inside'), '');
    const old = join(directory, 'x.00000000-1-000000000000.tmp'); // not hidden: not one of ours
    await writeFile(old, '');
    await utimes(old, 1, 1);
    const mine = temporaryPath(join(directory, 'x'));
    await writeFile(mine, '');
    await removeLeftovers(directory);
    expect((await readdir(directory)).sort()).toEqual(
      [mine, old].map((path) => path.slice(directory.length + 1)).sort(),
    );
  });
});

describe('takePlaces', () => {
  it('changes nothing before everything is finished, nor when it is given up', async () => {
    const [file, tree] = [join(directory, 'file'), join(directory, 'tree')];
    const put = (text: string): Parameters<typeof finishDirectory> => [
      tree,
      (aside) => writeFile(join(aside, 'x'), text),
    ];
    await takePlaces([await finishFile(file, 'old'), await finishDirectory(...put('old'))]);
    const finished = [await finishDirectory(...put('new')), await finishFile(file, 'new')];
    expect(await readFile(file, 'utf8')).toBe('old');
    expect(await readFile(join(tree, 'x'), 'utf8')).toBe('old');
    await giveUp(finished);
    expect((await readdir(directory)).sort()).toEqual(['file', 'tree']);
    await takePlaces([await finishDirectory(...put('new')), await finishFile(file, 'new')]);
    expect(await readFile(file, 'utf8')).toBe('new');
    expect(await readFile(join(tree, 'x'), 'utf8')).toBe('new');
    expect((await readdir(directory)).sort()).toEqual(['file', 'tree']);
  });

  it('leaves nothing under temporary names when one of them has no place', async () => {
    const [file, tree] = [join(directory, 'file'), join(directory, 'tree')];
    await writeFile(tree, 'mine');
    const finished = [await finishDirectory(tree, () => Promise.resolve()), await finishFile(file, 'new')];
    expect((await failure(takePlaces(finished))).message).toBe(
      `cannot write ${tree}: something that is not a directory has this name`,
    );
    expect(await readdir(directory)).toEqual(['tree']);
  });
});
