import { mkdtemp, readFile, rm, writeFile, chmod, mkdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

import { ToolError } from '../../build/support/errors.js';
import { baseEnvironment, failedCommand, findProgram, quoteCommand, run } from '../../build/support/exec.js';

const environment = baseEnvironment(process.env);
let directory: string;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'exec-'));
});
afterAll(async () => {
  await rm(directory, { recursive: true, force: true });
});

async function failure(work: Promise<unknown>): Promise<ToolError> {
  try {
    await work;
  } catch (error) {
    if (error instanceof ToolError) return error;
    throw error;
  }
  throw new Error('it succeeded');
}

describe('what a failed command has left', () => {
  const left = async (...argv: [string, ...string[]]): Promise<ReturnType<typeof failedCommand>> =>
    failedCommand(await failure(run({ argv, environment })));

  it('is its exit code and all that it wrote', async () => {
    const found = await left('sh', '-c', 'printf "a\n"; printf b >&2; exit 3');
    expect(found).toEqual({ stdout: 'a\n', stderr: 'b', exitCode: 3 });
  });

  it('has no exit code when a signal has ended it', async () => {
    expect(await left('sh', '-c', 'printf a; kill -9 $$')).toEqual({
      stdout: 'a',
      stderr: '',
      exitCode: undefined,
    });
  });

  it('is nothing when it was not started, or something else went wrong', async () => {
    expect(await left('no-such-program-here')).toBeUndefined();
    expect(await left('printf', 'x'.repeat(3_000_000))).toBeUndefined();
    expect(failedCommand(new Error('x', { cause: { exitCode: 1 } }))).toBeUndefined();
    expect(failedCommand(new ToolError('x'))).toBeUndefined();
    const told = await failure(run({ argv: ['false'], environment }));
    expect(failedCommand(new ToolError('told in other words', { cause: told }))).toBeUndefined();
  });
});

describe('run', () => {
  it('gives stdout and stderr exactly as written', async () => {
    const result = await run({ argv: ['sh', '-c', 'printf "a\\n\\n"; printf b >&2'], environment });
    expect(result).toEqual({ stdout: 'a\n\n', stderr: 'b' });
  });

  it('hands over the input, and an empty stdin without one', async () => {
    expect((await run({ argv: ['cat'], environment, input: Buffer.from('ünï') })).stdout).toBe('ünï');
    expect((await run({ argv: ['cat'], environment })).stdout).toBe('');
  });

  it('takes arguments literally', async () => {
    const odd = ['$HOME', '`id`', 'a b', "it's", '*', '', '-n', 'ü\n'];
    const result = await run({ argv: ['printf', '%s\\0', ...odd], environment });
    expect(result.stdout.split('\0').slice(0, -1)).toEqual(odd);
  });

  it('inherits nothing of the environment', async () => {
    process.env['EXEC_TEST_LEAK'] = 'leaked';
    try {
      const { stdout } = await run({
        argv: ['env'],
        environment: { PATH: environment['PATH'] ?? '', A: '1' },
      });
      expect(stdout).toContain('A=1\n');
      expect(stdout).not.toContain('EXEC_TEST_LEAK');
      expect(stdout).not.toContain('HOME=');
    } finally {
      delete process.env['EXEC_TEST_LEAK'];
    }
  });

  it('says which command failed, how, and its last words', async () => {
    const script = 'for i in 1 2 3 4 5 6 7; do echo "line $i" >&2; done; exit 7';
    const error = await failure(run({ argv: ['sh', '-c', script], environment }));
    expect(error.message).toBe(
      `cannot run sh -c '${script}': exit code 7: line 3 | line 4 | line 5 | line 6 | line 7`,
    );
  });

  it('names the signal that ended it', async () => {
    const error = await failure(run({ argv: ['sh', '-c', 'kill -KILL $$'], environment }));
    expect(error.message).toContain(': ended by SIGKILL');
  });

  it('says what is not installed', async () => {
    const error = await failure(run({ argv: ['no-such-program-here', 'x'], environment }));
    expect(error.message).toBe('cannot run no-such-program-here: it is not installed');
    expect(error.hint).toContain('PATH');
  });

  it('tells a missing directory from a missing program', async () => {
    const error = await failure(run({ argv: ['true'], environment, cwd: join(directory, 'none') }));
    expect(error.message).toBe(`cannot run true: there is no directory ${join(directory, 'none')}`);
  });

  it('refuses what is not executable, and a NUL in an argument', async () => {
    const file = join(directory, 'plain');
    await writeFile(file, '');
    expect((await failure(run({ argv: [file], environment }))).message).toMatch(/permission denied$/);
    expect((await failure(run({ argv: ['true', 'a\0b'], environment }))).message).toMatch(
      /: no argument can hold a null byte$/,
    );
  });

  it('says when the arguments are too long', async () => {
    const error = await failure(run({ argv: ['true', 'x'.repeat(300_000)], environment }));
    expect(error.message).toMatch(/^cannot run true x+: the arguments are too long$/);
  });

  it('stops a command that writes without end', async () => {
    const error = await failure(run({ argv: ['yes'], environment }));
    expect(error.message).toMatch(/^cannot run yes: it wrote more than 16 MiB/);
  });

  it('ends a command that takes too long', async () => {
    const error = await failure(run({ argv: ['sleep', '60'], environment, timeout: 100 }));
    expect(error.message).toBe('cannot run sleep 60: it did not end within 0.1 s');
  });

  it('ends the whole process group when aborted, and throws the reason', async () => {
    const pids = join(directory, 'pids');
    const controller = new AbortController();
    const script = `sleep 61 & echo $! > ${pids}; sleep 62 & echo $! >> ${pids}; wait`;
    const running = failure(run({ argv: ['sh', '-c', script], environment, signal: controller.signal }));
    for (;;) {
      const text = await readFile(pids, 'utf8').catch(() => '');
      if (text.split('\n').length === 3) break;
      await sleep(10);
    }
    const reason = new ToolError('stopped by SIGINT');
    controller.abort(reason);
    expect(await running).toBe(reason);
    for (const pid of (await readFile(pids, 'utf8')).trim().split('\n')) {
      await expect.poll(async () => await isRunning(pid)).toBe(false);
    }
  });

  it('kills what ignores SIGTERM', { timeout: 15_000 }, async () => {
    const controller = new AbortController();
    const script = `trap '' TERM; echo; for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 1; done`;
    const running = failure(run({ argv: ['sh', '-c', script], environment, signal: controller.signal }));
    await sleep(200);
    const begin = performance.now();
    controller.abort();
    expect((await running).message).toMatch(/: it was interrupted$/);
    expect(performance.now() - begin).toBeLessThan(8000);
  });

  it('starts nothing once aborted', async () => {
    const file = join(directory, 'never');
    const error = await failure(run({ argv: ['touch', file], environment, signal: AbortSignal.abort() }));
    expect(error.message).toBe(`cannot run touch ${file}: it was interrupted`);
    await expect(readFile(file)).rejects.toThrow();
  });
});

async function isRunning(pid: string): Promise<boolean> {
  const status = await readFile(`/proc/${pid}/stat`, 'latin1').catch(() => ') Z');
  return !/\) [ZX]/.test(status);
}

describe('quoteCommand', () => {
  it('leaves plain words alone', () => {
    expect(quoteCommand(['tar', '--numeric-owner', '-xf', '/a/b.tar', 'x=y'])).toBe(
      'tar --numeric-owner -xf /a/b.tar x=y',
    );
    expect(quoteCommand(['a b', "it's", '', '~', 'a\nb'])).toBe(`'a b' 'it'\\''s' '' '~' $'a\\012b'`);
  });

  it('gives what bash reads back as the same words, on one line', async () => {
    const word = fc.string({ unit: 'grapheme', maxLength: 12 }).filter((text) => !text.includes('\0'));
    const control = fc.string({
      unit: fc.constantFrom('\n', '\t', "'", '\\', '1', '\x7f', '\u2028', '$', ' '),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(fc.oneof(word, control), { minLength: 1, maxLength: 8 }), async (words) => {
        const line = quoteCommand(['printf', '%s\\0', ...words]);
        // eslint-disable-next-line no-control-regex -- none may be left
        expect(line).not.toMatch(/[\u0000-\u001f\u007f-\u009f\u2028\u2029]/);
        const { stdout } = await run({ argv: ['bash', '-c', line], environment });
        expect(stdout.split('\0').slice(0, -1)).toEqual(words);
      }),
      { numRuns: 40 },
    );
  });
});

describe('baseEnvironment', () => {
  it('keeps directories and fixes language and time zone', () => {
    expect(
      baseEnvironment({
        PATH: '/p',
        HOME: '/h',
        TMPDIR: '/t',
        XDG_RUNTIME_DIR: '/x',
        LANG: 'de_DE.UTF-8',
        LC_ALL: 'tr_TR',
        TZ: 'Asia/Tokyo',
        SECRET: 's',
        XDG_DATA_HOME: undefined,
      }),
    ).toEqual({ PATH: '/p', HOME: '/h', TMPDIR: '/t', XDG_RUNTIME_DIR: '/x', LC_ALL: 'C.UTF-8', TZ: 'UTC' });
    expect(baseEnvironment({})['PATH']).toContain('/usr/bin');
  });
});

describe('findProgram', () => {
  it('finds the first executable file, in absolute directories alone', async () => {
    for (const name of ['a', 'b', 'c']) await mkdir(join(directory, name));
    await writeFile(join(directory, 'a', 'tool'), ''); // not executable
    await mkdir(join(directory, 'b', 'tool'));
    await writeFile(join(directory, 'c', 'tool'), '');
    await chmod(join(directory, 'c', 'tool'), 0o755);
    const path = ['a', 'b', 'c', 'none'].map((name) => join(directory, name)).join(':');
    expect(await findProgram('tool', `:.:${path}`)).toBe(join(directory, 'c', 'tool'));
    expect(await findProgram('tool', undefined)).toBeUndefined();
    expect(await findProgram('other', path)).toBeUndefined();
    expect(await findProgram(join(directory, 'c', 'tool'), '')).toBe(join(directory, 'c', 'tool'));
  });
});
