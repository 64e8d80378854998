import { createHash, randomBytes } from 'node:crypto';
import {
  chmod,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rm,
  stat,
  symlink,
  utimes,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import { defaultCacheDirectory, HashMismatch, openCache } from '../../build/support/cache.js';
import { ToolError } from '../../build/support/errors.js';
import { baseEnvironment, run } from '../../build/support/exec.js';
import { temporaryPath } from '../../build/support/temporary.js';
import { requireThat } from '../support/tools.js';

const environment = baseEnvironment(process.env);
const canMount = await run({ argv: ['unshare', '--mount', 'true'], environment }).then(
  () => true,
  () => false,
);
let directory: string;
let path: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'cache-'));
  path = join(directory, 'deep', 'cache');
});
afterEach(async () => {
  await rm(directory, { recursive: true, force: true });
});

const sha256Of = (bytes: Buffer | string): string => createHash('sha256').update(bytes).digest('hex');

async function put(bytes: Buffer | string): Promise<string> {
  const blob = await (await openCache(path)).temporary();
  await writeFile(blob.path, bytes);
  return (await blob.keep()).path;
}

async function filesIn(top: string): Promise<string[]> {
  const entries = await readdir(top, { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => !entry.isDirectory())
    .map((entry) => entry.name)
    .sort();
}

async function failure(work: Promise<unknown>): Promise<ToolError> {
  const error: unknown = await work.then(
    () => new Error('it succeeded'),
    (thrown: unknown) => thrown,
  );
  if (error instanceof ToolError) return error;
  throw error;
}

/** Runs module code that knows `cache` and `directory` in another process. */
async function inChild(code: string, options: { uid?: number } = {}): Promise<string> {
  const script = `
    const { openCache } = await import(${JSON.stringify(new URL('../../dist/support/cache.js', import.meta.url).href)});
    const { writeFile, readFile } = await import('node:fs/promises');
    ${options.uid === undefined ? '' : `process.setgid(${options.uid}); process.setuid(${options.uid});`}
    const directory = ${JSON.stringify(path)};
    const cache = await openCache(directory).catch((error) => { console.log(error.message); process.exit(0); });
    ${code}`;
  const argv: [string, ...string[]] = [process.execPath, '--input-type=module', '-e', script];
  return (await run({ argv, environment })).stdout;
}

describe('blobs', () => {
  it('are kept under their hash and found again', async () => {
    const kept = await put('content');
    const sha256 = sha256Of('content');
    expect(kept).toBe(join(path, 'blobs', 'sha256', sha256.slice(0, 2), sha256.slice(2)));
    const cache = await openCache(path);
    expect(await cache.find(sha256)).toBe(kept);
    expect((await cache.read(sha256))?.toString()).toBe('content');
    expect(await cache.find(sha256Of('other'))).toBeUndefined();
    expect(await cache.read(sha256Of('other'))).toBeUndefined();
    expect(await readdir(join(path, 'tmp'))).toEqual([]);
  });

  it.each(['find', 'read'] as const)('that are broken are removed and missing: %s', async (way) => {
    const kept = await put('content');
    await writeFile(kept, 'c0ntent');
    expect(await (await openCache(path))[way](sha256Of('content'))).toBeUndefined();
    await expect(stat(kept)).rejects.toThrow('ENOENT');
    expect(await put('content')).toBe(kept);
  });

  it('with another hash than expected are not kept', async () => {
    const blob = await (await openCache(path)).temporary();
    await writeFile(blob.path, 'content');
    const expected = sha256Of('expected');
    const error = await failure(blob.keep(expected));
    expect(error.cause).toBeInstanceOf(HashMismatch);
    expect(error.cause).toMatchObject({ expected, actual: sha256Of('content') });
    expect(await readdir(join(path, 'tmp'))).toEqual([]);
    expect(await readdir(path)).not.toContain('blobs');
  });

  it('have hashes for names and nothing else', async () => {
    const cache = await openCache(path);
    for (const name of ['', '../../x', 'A'.repeat(64), `${'a'.repeat(64)}/..`, 'a'.repeat(65)]) {
      expect((await failure(cache.find(name))).message).toMatch(
        /^cannot find the blob ".*": its name is not/,
      );
    }
  });

  it('that are discarded leave nothing', async () => {
    const blob = await (await openCache(path)).temporary();
    await blob.discard();
    await blob.discard();
    expect(await readdir(join(path, 'tmp'))).toEqual([]);
  });

  it('that a process forgot go away with it, and those of a killed one the next time', async () => {
    await inChild(`await cache.temporary(); process.exit(0);`);
    expect(await readdir(join(path, 'tmp'))).toEqual([]);
    await failure(
      run({
        argv: [
          'sh',
          '-c',
          'exec "$@"',
          'sh',
          process.execPath,
          '--input-type=module',
          '-e',
          `const { openCache } = await import(${JSON.stringify(new URL('../../dist/support/cache.js', import.meta.url).href)});
           await (await openCache(${JSON.stringify(path)})).temporary(); process.kill(process.pid, 'SIGKILL');`,
        ],
        environment,
      }),
    );
    expect(await readdir(join(path, 'tmp'))).toHaveLength(1);
    const mine = await (await openCache(path)).temporary();
    expect(await readdir(join(path, 'tmp'))).toEqual([mine.path.split('/').at(-1)]);
    await openCache(path);
    expect(await readdir(join(path, 'tmp'))).toHaveLength(1);
    await mine.discard();
  });
});

describe('partial files', () => {
  const sha256 = sha256Of('content');

  it('pass from one transfer to the next', async () => {
    const cache = await openCache(path);
    const first = await cache.partial(sha256);
    await writeFile(first.path, 'cont');
    await first.release();
    const second = await cache.partial(sha256);
    expect(await readFile(second.path, 'utf8')).toBe('cont');
    const third = await cache.partial(sha256); // the second has it
    expect(await readFile(third.path, 'utf8')).toBe('');
    await writeFile(second.path, 'content');
    expect((await second.keep(sha256)).size).toBe(7);
    await second.release();
    await third.discard();
    await third.release();
    expect(await readdir(join(path, 'partial'))).toEqual([]);
  });

  it('of a killed process are taken over by exactly one', async () => {
    await failure(
      run({
        argv: [
          process.execPath,
          '--input-type=module',
          '-e',
          `const { openCache } = await import(${JSON.stringify(new URL('../../dist/support/cache.js', import.meta.url).href)});
           const { writeFileSync } = await import('node:fs');
           const partial = await (await openCache(${JSON.stringify(path)})).partial('${sha256}');
           writeFileSync(partial.path, 'cont'); process.kill(process.pid, 'SIGKILL');`,
        ],
        environment,
      }),
    );
    const cache = await openCache(path);
    const partials = await Promise.all([1, 2, 3, 4].map(() => cache.partial(sha256)));
    const texts = await Promise.all(partials.map((partial) => readFile(partial.path, 'utf8')));
    expect(texts.sort()).toEqual(['', '', '', 'cont']);
    for (const partial of partials) await partial.discard();
  });
});

describe('records', () => {
  it('come back as written, by kind and key', async () => {
    const cache = await openCache(path);
    expect(await cache.readRecord('release', 'a')).toBeUndefined();
    await cache.writeRecord('release', 'a', '{"x": "ü\\n"}');
    await cache.writeRecord('release', '../b\0', 'other');
    await cache.writeRecord('release', 'a', 'newer');
    expect(await cache.readRecord('release', 'a')).toBe('newer');
    expect(await cache.readRecord('release', '../b\0')).toBe('other');
    expect(await cache.readRecord('package', 'a')).toBeUndefined();
    expect((await failure(cache.writeRecord('../x', 'a', ''))).message).toContain('plain lower-case word');
  });

  it('that are damaged or of another key count as missing', async () => {
    const cache = await openCache(path);
    await cache.writeRecord('release', 'a', 'seen 17');
    await cache.writeRecord('release', 'b', 'seen 18');
    const [a, b] = ['a', 'b'].map((key) => join(path, 'records', 'release', `${sha256Of(key)}.json`));
    const good = await readFile(a ?? '', 'utf8');
    for (const bad of [
      '',
      '{',
      'null',
      '[]',
      '{}',
      good.slice(0, -5),
      good.replace('17', '99'),
      await readFile(b ?? '', 'utf8'),
    ]) {
      await writeFile(a ?? '', bad);
      expect(await cache.readRecord('release', 'a'), bad).toBeUndefined();
    }
    await writeFile(a ?? '', good);
    expect(await cache.readRecord('release', 'a')).toBe('seen 17');
  });
});

describe('the directory', () => {
  it('is private and tagged, whatever the umask', async () => {
    for (const umask of [0, 0o777]) {
      const before = process.umask(umask);
      try {
        await rm(path, { recursive: true, force: true });
        await mkdir(join(directory, 'deep'), { recursive: true });
        await chmod(join(directory, 'deep'), 0o755);
        const kept = await put('x');
        await (await openCache(path)).writeRecord('a', 'b', 'c');
        const modes = await Promise.all(
          [path, join(path, 'blobs', 'sha256'), join(path, 'records', 'a'), kept].map(
            async (it) => (await stat(it)).mode & 0o7777,
          ),
        );
        expect(modes).toEqual([0o700, 0o700, 0o700, 0o600]);
      } finally {
        process.umask(before);
      }
    }
    expect((await readFile(join(path, 'CACHEDIR.TAG'), 'utf8')).slice(0, 43)).toBe(
      'Signature: 8a477f597d28d172789f06886806bc55',
    );
  });

  it('is where the XDG specification says', () => {
    expect(defaultCacheDirectory({ XDG_CACHE_HOME: '/x', HOME: '/h' })).toBe('/x/dhcpd-scratch');
    expect(defaultCacheDirectory({ XDG_CACHE_HOME: 'x', HOME: '/h' })).toBe('/h/.cache/dhcpd-scratch');
    expect(defaultCacheDirectory({ XDG_CACHE_HOME: '', HOME: '/h' })).toBe('/h/.cache/dhcpd-scratch');
    expect(() => defaultCacheDirectory({ HOME: '' })).toThrow(/^cannot find the cache directory: /);
  });

  it('is refused when it holds something else', async () => {
    await mkdir(path, { recursive: true });
    await writeFile(join(path, 'letter.txt'), 'dear');
    expect((await failure(openCache(path))).message).toBe(
      `cannot use the cache ${path}: it is not empty, and no CACHEDIR.TAG says that it is one`,
    );
    await writeFile(
      join(path, 'CACHEDIR.TAG'),
      'Signature: 8a477f597d28d172789f06886806bc55\n# of another program\n',
    );
    await failure(openCache(path));
    expect(await readdir(path)).toEqual(['CACHEDIR.TAG', 'letter.txt']);
  });

  it('is refused when others can write to it', async () => {
    await put('x');
    await chmod(path, 0o777);
    expect((await failure(openCache(path))).message).toBe(
      `cannot use the cache ${path}: other users can write to it`,
    );
  });

  it('is refused when it cannot be made', async () => {
    await writeFile(join(directory, 'deep'), '');
    const error = await failure(openCache(path));
    expect(error.message).toMatch(/^cannot write .*\/deep\/cache: a part of the path is not a directory$/);
  });

  describe.skipIf(!requireThat(process.getuid?.() === 0, 'root, to be another user'))(
    'of another user',
    () => {
      it('is refused', async () => {
        await put('x');
        for (const it of [directory, join(directory, 'deep'), path]) await chmod(it, 0o755);
        expect(await inChild('', { uid: 65534 })).toMatch(
          /^cannot use the cache .*: other users can write to it\n$/,
        );
      });

      it('that cannot be written to says so and what to do', async () => {
        await chmod(directory, 0o755);
        const text = await inChild('', { uid: 65534 });
        expect(text).toBe(`cannot write ${path}: permission denied\n`);
        expect((await failure(openCache('/proc/x/y'))).message).toMatch(/^cannot write \/proc\/x\/y: /);
      });
    },
  );

  it.skipIf(!requireThat(canMount, 'mount namespaces'))('answers when it is read-only', async () => {
    const blob = await put('content');
    // A read-only bind mount in a mount namespace of its own: permissions do not stop root.
    const script = `mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@"`;
    const child = `
      const { openCache } = await import(${JSON.stringify(new URL('../../dist/support/cache.js', import.meta.url).href)});
      const cache = await openCache(${JSON.stringify(path)});
      console.log(await cache.find('${sha256Of('content')}'));
      console.log(await cache.temporary().catch((error) => error.message + '; ' + error.hint));
      console.log(await cache.writeRecord('a', 'b', 'c').catch((error) => error.message));`;
    const argv = ['sh', '-c', script, path, process.execPath, '--input-type=module', '-e', child];
    const result = await run({ argv: ['unshare', '--mount', ...argv], environment });
    const lines = result.stdout.split('\n');
    expect(lines[0]).toBe(blob);
    expect(lines[1]).toBe(
      `cannot write to the cache ${path}: the file system is read-only; choose a writable place with --output and XDG_CACHE_HOME`,
    );
    expect(lines[2]).toContain('the file system is read-only');
  });
});

describe('clean', () => {
  it('removes what there is and counts it', async () => {
    await put('12345');
    await put('123');
    const cache = await openCache(path);
    const left = await cache.partial(sha256Of('z'));
    await writeFile(left.path, '1');
    await left.release();
    expect(await cache.clean()).toEqual({ files: 3, bytes: 9 });
    expect(await filesIn(path)).toEqual(['CACHEDIR.TAG']);
    expect(await put('12345')).toContain(path);
  });

  it('leaves what is being written, and lets it be kept', async () => {
    const cache = await openCache(path);
    const mine = await cache.temporary();
    const partial = await cache.partial(sha256Of('abc'));
    await writeFile(mine.path, 'abc');
    const dead = temporaryPath(join(path, 'tmp', 'blob')).replace(/-[0-9]+-/, '-4194305-'); // above pid_max
    const foreign = dead.replace(/\.[0-9a-f]{8}-/, '.00000000-');
    await writeFile(dead, 'd');
    await writeFile(foreign, 'f');
    expect((await cache.clean()).files).toBe(1);
    expect(await readdir(join(path, 'tmp'))).toHaveLength(2);
    await utimes(foreign, 1e9, 1e9);
    expect((await cache.clean()).files).toBe(1);
    expect(await readFile((await mine.keep(sha256Of('abc'))).path, 'utf8')).toBe('abc');
    await partial.discard();
  });

  it('follows no symbolic link', async () => {
    await put('x');
    const outside = join(directory, 'outside');
    await mkdir(outside);
    await writeFile(join(outside, 'precious'), '');
    await rm(join(path, 'tmp'), { recursive: true });
    await symlink(outside, join(path, 'tmp'));
    await symlink(outside, join(path, 'blobs', 'link'));
    await symlink(join(outside, 'precious'), join(path, 'blobs', 'file'));
    await (await openCache(path)).clean();
    expect(await readdir(outside)).toEqual(['precious']);
    expect(await filesIn(path)).toEqual(['CACHEDIR.TAG']);
  });

  it('touches no directory without the tag', async () => {
    const kept = await put('x');
    const cache = await openCache(path);
    await rm(join(path, 'CACHEDIR.TAG'));
    expect((await failure(cache.clean())).message).toMatch(/^cannot use the cache /);
    expect(await readFile(kept, 'utf8')).toBe('x');
  });

  it('removes nothing that is not part of a cache', async () => {
    await put('x');
    await writeFile(join(path, 'note'), '');
    await (await openCache(path)).clean();
    expect(await filesIn(path)).toEqual(['CACHEDIR.TAG', 'note']);
  });
});

describe('two processes at once', () => {
  it('open, fill, read and clean one cache without breaking each other', async () => {
    const seed = randomBytes(8).toString('hex');
    const worker = `
      const { createHash } = await import('node:crypto');
      const contents = Array.from({ length: 12 }, (_, index) => ('${seed}' + index).repeat(2000));
      let problems = 0;
      for (let round = 0; round < 6; round += 1) {
        await Promise.all(contents.map(async (content, index) => {
          const sha256 = createHash('sha256').update(content).digest('hex');
          const blob = round % 2 === 0 ? await cache.temporary() : await cache.partial(sha256);
          await writeFile(blob.path, content);
          await blob.keep(sha256);
          const read = await cache.read(sha256);
          if (read !== undefined && read.toString() !== content) problems += 1;
          await cache.writeRecord('test', String(index), content);
          const record = await cache.readRecord('test', String(index));
          if (record !== undefined && record !== content) problems += 1;
        }));
      }
      console.log(problems);`;
    const cleaner = `for (let i = 0; i < 40; i += 1) { await cache.clean(); await new Promise((next) => setTimeout(next, 5)); } console.log(0);`;
    const results = await Promise.all([inChild(worker), inChild(worker), inChild(cleaner)]);
    expect(results).toEqual(['0\n', '0\n', '0\n']);
    expect(await readdir(join(path, 'tmp')).catch(() => [])).toEqual([]);
  });
});
