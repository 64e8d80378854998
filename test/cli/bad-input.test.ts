import { execFileSync } from 'node:child_process';
import { chmodSync, cpSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { readLock } from '../../build/repository/lock.js';
import { readLayout } from '../support/oci.js';
import { errorLines, Place, temporaryNames, type Outcome, type RunOptions } from '../support/cli.js';
import { requireThat, requireTools } from '../support/tools.js';
import { makeKeys, type ArchiveServer, type Keys, type TestArchive } from '../support/debian-archive.js';
import {
  architecture,
  definition,
  from,
  makeTinyArchive,
  release,
  tinyPackages,
  tinySuite,
  tinyTools,
} from './tiny.js';

const isRoot = process.getuid?.() === 0;
const fast = ['--compression', 'none'];

/** Everything that a user can get wrong, or that goes wrong around the program: one line, what to do, nothing left. */
describe.skipIf(!requireTools(...tinyTools))('what is wrong', () => {
  let keys: Keys;
  let archive: TestArchive;
  let server: ArchiveServer;
  let place: Place;
  beforeAll(async () => {
    keys = await makeKeys();
    archive = await makeTinyArchive(keys);
    server = await archive.serve();
  });
  afterAll(async () => {
    await archive.remove();
    await keys.remove();
  });
  beforeEach(() => {
    place = new Place({ 'tiny.yaml': definition });
  });
  afterEach(() => {
    server.intercept = undefined;
    place.remove();
  });

  /** Runs a command that must fail in the way users are promised. Gives its one line, without `error: `. */
  async function failing(code: 1 | 2, args: readonly string[], how?: RunOptions): Promise<string> {
    const before = kept(place);
    const outcome = await place.run([...args, '-q'], how);
    return failed(outcome, code, before);
  }
  function failed(outcome: Outcome, code: 1 | 2, before: readonly string[]): string {
    // A mirror that fails is a warning as long as there is another.
    const lines = errorLines(outcome).filter((line) => !/; trying \S+$/.test(line));
    expect(lines).toHaveLength(1);
    const [line = ''] = lines;
    expect(line).toMatch(/^error: cannot /);
    // What to do next stands behind a semicolon.
    expect(line).toMatch(/; \S.*$/);
    expect(outcome.code, line).toBe(code);
    expect(kept(place)).toEqual(before);
    return line.replace('error: ', '');
  }
  const build = (code: 1 | 2, ...options: readonly string[]): Promise<string> =>
    failing(code, [
      ...['build', 'tiny.yaml', ...fast],
      ...from(archive, server.url).slice(options.includes('--mirror') ? 2 : 0),
      ...options,
    ]);
  const changed = (code: 1 | 2, from_: string, to: string): Promise<string> => {
    place.write('tiny.yaml', definition.replace(from_, to));
    return build(code);
  };

  describe('on the command line', () => {
    it.each([
      [['frob'], "unknown command 'frob'", 'npx dhcpd-scratch --help'],
      [['biuld'], "unknown command 'biuld' (Did you mean build?)", 'npx dhcpd-scratch --help'],
      [['--frob'], "unknown option '--frob'", 'npx dhcpd-scratch --help'],
      [
        ['build', '--offlin'],
        "unknown option '--offlin' (Did you mean --offline?)",
        'npx dhcpd-scratch build --help',
      ],
      [['why'], "missing required argument 'path'", 'npx dhcpd-scratch why --help'],
      [['build', 'a', 'b'], 'too many arguments', 'npx dhcpd-scratch build --help'],
      [['build', '--mirror'], "option '--mirror <url>' argument missing", 'npx dhcpd-scratch build --help'],
      [
        ['build', '--engine', 'docker'],
        'Allowed choices are auto, oci, buildah',
        'npx dhcpd-scratch build --help',
      ],
      [
        ['build', '--compression', 'xz'],
        'Allowed choices are gzip, zstd, none',
        'npx dhcpd-scratch build --help',
      ],
      [['cache', 'frob'], "unknown command 'frob'", 'npx dhcpd-scratch cache --help'],
    ])('%j', async (args, reason, help) => {
      const outcome = await place.run(args);
      const line = failed(outcome, 2, kept(place));
      expect(line).toMatch(/^cannot read the command line: /);
      expect(line).toContain(reason);
      expect(line.endsWith(`; see ${help}`), line).toBe(true);
      expect(place.list('cache')).toEqual([]);
    });

    it('unknown architecture', async () => {
      expect(await build(2, '--arch', 'vax')).toMatch(/^cannot build for architecture "vax": .*aarch64/);
      expect(await build(2, '--arch', '')).toMatch(/^cannot build for architecture ""/);
      expect(await build(2, '--arch', 'x86_64,,arm64')).toMatch(/^cannot build for architecture ""/);
    });

    it('a mirror that is no URL, or of another kind', async () => {
      for (const mirror of ['archive', 'ftp://example.org/', '/srv/archive', '']) {
        expect(await build(2, '--mirror', mirror)).toMatch(
          /^cannot use mirror ".*": it is no http, https or file URL; /,
        );
      }
    });

    it('a suite that is no name', async () => {
      expect(await build(2, '--suite', '../../etc')).toMatch(/^cannot choose a Debian release: .*--suite/);
    });

    it('a definition that does not come with the program', async () => {
      expect(await failing(2, ['build', 'dhcp'])).toMatch(
        /^cannot find definition dhcp: .*dhcpd.*\.\/dhcp\.yaml$/,
      );
    });
  });

  describe('in the definition', () => {
    /** Problems of a definition stand one a line, each with its place. */
    async function problems(text: string | Buffer): Promise<readonly string[]> {
      place.write('tiny.yaml', text);
      const before = kept(place);
      const outcome = await place.run(['build', 'tiny.yaml', ...from(archive)]);
      expect(outcome.code).toBe(2);
      expect(kept(place)).toEqual(before);
      expect(place.list('cache/dhcpd-scratch/blobs')).toEqual([]);
      return errorLines(outcome).map((line) => line.replace('error: ', ''));
    }

    it('wrong YAML', async () => {
      const lines = await problems(definition.replace('roots: [tinyd]', 'roots: [tinyd'));
      for (const line of lines) expect(line).toMatch(/^tiny\.yaml:\d+:\d+: syntax: /);
    });

    it('several problems: one line each', async () => {
      const lines = await problems(definition.replace('roots:', 'rots:').replace('id: 177', 'id: many'));
      expect(lines).toHaveLength(3);
      expect(lines.join('\n')).toMatch(/^tiny\.yaml:\d+:\d+: rots: .*did you mean roots\?$/m);
      expect(lines.join('\n')).toMatch(/^tiny\.yaml:\d+:\d+: user\.id: expected .*found "many"/m);
    });

    it('a file that is empty', async () => {
      expect((await problems('')).join('\n')).toMatch(/^tiny\.yaml:1:1: /);
    });

    it('a file that is missing, a directory, binary, huge, a pipe or unreadable', async () => {
      const read = (name: string): Promise<string> => failing(2, ['build', `./${name}`, ...from(archive)]);
      expect(await read('missing.yaml')).toMatch(
        /^cannot read definition missing\.yaml: no such file or directory; /,
      );
      mkdirSync(place.path('directory.yaml'));
      expect(await read('directory.yaml')).toMatch(/: it is a directory; /);
      place.write('binary.yaml', Buffer.from([0xff, 0xfe, 0x00, 0x80]));
      expect(await read('binary.yaml')).toMatch(/: it is not UTF-8 text; /);
      place.write('huge.yaml', Buffer.alloc(1024 ** 2, '#'));
      expect(await read('huge.yaml')).toMatch(/: it is larger than 64 KiB; /);
      execFileSync('mkfifo', [place.path('pipe.yaml')]);
      expect(await read('pipe.yaml')).toMatch(/: it is no regular file; /);
      expect(await read('tiny.yaml/below')).toMatch(/: a part of the path is not a directory; /);
    });

    it('a package that is not there', async () => {
      expect(await changed(1, 'package: tiny-server', 'package: tiny-sever')).toBe(
        `cannot find package tiny-sever: ${release} has none of that name for ${architecture}; choose another release with --suite, or correct packages in the definition (did you mean tiny-server?)`,
      );
      expect(await changed(1, 'package: tiny-server', 'package: zzz')).toMatch(
        /; choose another release with --suite, or correct packages in the definition$/,
      );
    });

    it('a program that the package does not have', async () => {
      expect(await changed(1, '[tinyd]', '[tinid]')).toBe(
        'cannot find program tinid: package tiny-server has no program of that name; did you mean tinyd?',
      );
      expect(await changed(1, '[tinyd]', '[zzz]')).toMatch(/^cannot find program zzz: .*; correct roots /);
    });

    it('a soname that nobody provides', async () => {
      place.write(
        'tiny.yaml',
        definition.replace('tiny-server', 'lonely-server').replace('tinyd', 'lonelyd'),
      );
      expect(await build(1)).toMatch(/libnobody\.so\.9.*; ./);
    });

    it('a dlopen of an object that is not loaded', async () => {
      expect(await changed(2, 'run:', 'dlopen: [{ by: libiner.so.2, loads: [libc.so.6] }]\nrun:')).toMatch(
        /libiner\.so\.2.*; did you mean libinner\.so\.2\?$/,
      );
    });

    it('a file that is setuid, or that no package holds', async () => {
      expect(await changed(1, 'run:', 'files: [/usr/sbin/tiny-setuid]\nrun:')).toMatch(
        /^cannot put \/usr\/sbin\/tiny-setuid of package tiny-server in the image: it is setuid or setgid/,
      );
      expect(await changed(1, 'run:', 'files: [/usr/share/none]\nrun:')).toMatch(
        /^cannot put \/usr\/share\/none in the image: no package of this image holds it; /,
      );
    });
  });

  describe('in the lock file', () => {
    it.each([
      ['empty', ''],
      ['of another kind', 'hello: world\n'],
      ['cut off', 'schemaVersion: 1\ndefinition: "abc'],
      ['binary', Buffer.from([0, 1, 2, 0xff])],
      ['of the future', 'schemaVersion: 2\n'],
    ])('%s', async (_, text) => {
      place.write('tiny.lock.yaml', text);
      const line = await build(2);
      expect(line).toMatch(/^cannot read lock file \S+tiny\.lock\.yaml:\d+:\d+: /);
      expect(line).toMatch(/dhcpd-scratch lock/);
      // And what it says to run helps.
      await place.ok(['lock', 'tiny.yaml', ...from(archive)]);
      expect(await readLock(place.path('tiny.lock.yaml'))).toBeDefined();
    });

    it('a directory in its place', async () => {
      mkdirSync(place.path('tiny.lock.yaml'));
      expect(await build(2)).toMatch(/^cannot read lock file \S+: it is a directory; /);
    });

    it('no directory to write it to', async () => {
      expect(await build(1, '--lock-file', 'none/lock.yaml')).toMatch(
        /^cannot write lock file \S+none\/lock\.yaml: no such file or directory; .*--lock-file/,
      );
    });
  });

  describe('with the archive', () => {
    it('a closed port', async () => {
      const port = await closedPort();
      const line = await build(1, '--mirror', `http://127.0.0.1:${port}/`);
      expect(line).toContain(`cannot fetch http://127.0.0.1:${port}/dists/${release}/InRelease: `);
    });

    it('a host that does not exist', async () => {
      expect(await build(1, '--mirror', 'http://archive.invalid/')).toMatch(
        /^cannot fetch http:\/\/archive\.invalid\//,
      );
    });

    it('no such suite, or no such directory', async () => {
      expect(await build(1, '--suite', 'nosuch')).toMatch(/^cannot find .*nosuch.*; ./);
      expect(await build(1, '--mirror', `${archive.url}none/`)).toMatch(/^cannot find .*; ./);
    });

    it('a portal that answers everything with HTML', async () => {
      server.intercept = () => Buffer.from('<!DOCTYPE html><html><body>Please log in</body></html>\n');
      expect(await build(1)).toMatch(/InRelease.*; ./);
    });

    it('a server in trouble', async () => {
      server.intercept = () => 403;
      expect(await build(1)).toMatch(/^cannot fetch .*InRelease: the server answers 403; ./);
    });

    it('a keyring that is missing, or no keyring, or does not have the key', async () => {
      const other = await keys.make('other');
      const keyring = (file: string): Promise<string> => build(1, '--keyring', file);
      expect(await keyring('missing.gpg')).toMatch(/missing\.gpg.*; ./);
      place.write('text.gpg', 'hello');
      expect(await keyring('text.gpg')).toMatch(/text\.gpg.*; ./);
      place.write('other.gpg', other.publicKey);
      const line = await keyring('other.gpg');
      expect(line).toMatch(/^cannot (?:trust|verify) .*InRelease: /);
      expect(line).toContain(archive.key.fingerprint.slice(-16));
    });

    it('flipped bytes in InRelease, Packages or a package', async () => {
      const flip = (part: string): void => {
        server.intercept = (path) => {
          if (!path.includes(part)) return undefined;
          const bytes = readFileSync(join(archive.directory, path));
          const at = Math.floor(bytes.length / 2);
          bytes[at] = (bytes[at] ?? 0) ^ 1;
          return bytes;
        };
      };
      flip(`dists/${release}/InRelease`);
      expect(await build(1)).toMatch(/^cannot \w+ \S+InRelease: .*; ./);
      flip(`dists/${release}/main/binary-`);
      expect(await build(1)).toMatch(/^cannot fetch \S+(?:Packages\.gz|by-hash\S+): .*expected sha256 .*; ./);
      flip('/libinner2_');
      expect(await build(1)).toMatch(/^cannot fetch \S+libinner2_\S+: .*expected sha256 .*; ./);
      server.intercept = undefined;
      await place.ok(['build', 'tiny.yaml', ...fast, ...from(archive, server.url)]);
    });

    it('a file that is cut off', async () => {
      server.intercept = (path) =>
        path.includes('/libouter1_')
          ? readFileSync(join(archive.directory, path)).subarray(0, 100)
          : undefined;
      expect(await build(1)).toMatch(/^cannot fetch \S+libouter1_\S+: .*; ./);
    });

    it('a Release that has expired, or is older than one seen before', async () => {
      const day = 24 * 60 * 60 * 1000;
      const now = Date.now();
      await place.ok(['plan', 'tiny.yaml', ...from(archive, server.url)]);
      const packages = tinyPackages();
      try {
        await archive.publish(tinySuite(packages, { date: new Date(now - 5 * day) }));
        expect(await build(1)).toMatch(
          /^cannot use \S+InRelease: it is dated .*, but one of .* has been seen; ./,
        );
        rmSync(place.cache, { recursive: true });
        await archive.publish(
          tinySuite(packages, { date: new Date(now - 9 * day), validUntil: new Date(now - 2 * day) }),
        );
        expect(await build(1)).toMatch(/^cannot use \S+InRelease: it was valid until .*; ./);
      } finally {
        await archive.publish(tinySuite(packages));
      }
    });
  });

  describe('with the output directory', () => {
    it('a file in its place, or in the place of the result', async () => {
      place.write('out', 'mine\n');
      expect(await build(1)).toMatch(/^cannot write \S+\/out: .*; ./);
      expect(await build(1, '-o', 'out/deeper')).toMatch(/^cannot write \S+\/out\/deeper: .*; ./);
      expect(readFileSync(place.path('out'), 'utf8')).toBe('mine\n');
      mkdirSync(place.path('other'));
      place.write('other/tiny.oci', 'mine\n');
      expect(await build(1, '-o', 'other')).toMatch(/^cannot write \S+\/other\/tiny\.oci: .*; ./);
      mkdirSync(place.path('third'));
      mkdirSync(place.path('third/tiny.oci.tar'));
      expect(await build(1, '-o', 'third')).toMatch(
        /^cannot write \S+third\/tiny\.oci\.tar: it is a directory; ./,
      );
    });

    it.skipIf(!requireTools('setpriv') || !requireThat(isRoot, 'root, to become somebody else'))(
      'no permission',
      async () => {
        mkdirSync(place.path('nobody'));
        chmodSync(place.directory, 0o755);
        const home = place.path('nobody');
        execFileSync('chown', ['65534:65534', home]);
        const how: RunOptions = {
          under: ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups', '--'],
          environment: { HOME: home, XDG_CACHE_HOME: join(home, 'cache') },
        };
        const args = ['build', 'tiny.yaml', ...fast, ...from(archive, server.url)];
        cpSync(archive.keyring, place.path('keyring.gpg'));
        const own = [...args, '--keyring', place.path('keyring.gpg')];
        const ownLock = ['--lock-file', join(home, 'lock.yaml')];
        expect(await failing(1, own, how)).toMatch(
          /^cannot write lock file \S+tiny\.lock\.yaml: permission denied; .*--lock-file/,
        );
        expect(await failing(1, [...own, ...ownLock], how)).toMatch(
          /^cannot write \S+\/out: permission denied; choose a writable place/,
        );
        await place.ok([...own, ...ownLock, '-o', join(home, 'out')], how);
        execFileSync('chmod', ['0600', place.path('tiny.yaml')]);
        expect(await failing(2, own, how)).toMatch(/^cannot read definition \S+: permission denied; /);
        chmodSync(place.path('tiny.yaml'), 0o644);
        expect(
          await failing(1, own, { ...how, environment: { HOME: home, XDG_CACHE_HOME: '/root/cache' } }),
        ).toMatch(/^cannot write \/root\/cache\S*: permission denied; /);
      },
    );

    const mounts = requireTools('unshare', 'mount') && requireThat(isRoot, 'root, to mount a small disk');
    /** Runs the program where a directory is a file system of its own, seen by it alone. */
    const mounted = (name: string, options: string): readonly string[] => {
      mkdirSync(place.path(name), { recursive: true });
      const script = `mount -t tmpfs -o "$1" none "$2" && shift 2 && exec "$@"`;
      return ['unshare', '--mount', 'sh', '-c', script, 'sh', options, place.path(name)];
    };
    it.skipIf(!mounts)('a full disk', async () => {
      const args = ['build', 'tiny.yaml', ...fast, ...from(archive, server.url)];
      for (const size of ['size=16k', 'size=64k', 'size=1m', 'size=3m']) {
        // Whatever is left over is seen from inside alone.
        const script = `"$@"; code=$?; find ${place.out} -mindepth 1 >&2; exit $code`;
        const outcome = await place.run([...args, '-q'], {
          under: [...mounted('out', size), 'sh', '-c', script, 'sh'],
        });
        expect(outcome.code).toBe(1);
        const [line, ...left] = outcome.stderr.trimEnd().split('\n');
        expect(line).toMatch(/^error: cannot write \S+: no space is left on the device; free some space/);
        // The layout may have been finished; what is there must be whole, and nothing else.
        expect(temporaryNames(left)).toEqual([]);
        if (size !== 'size=3m') expect(left).toEqual([]);
      }
      for (const size of ['size=16k', 'size=1m']) {
        const line = failed(
          await place.run([...args, '-q'], { under: mounted('cache', size) }),
          1,
          kept(place),
        );
        expect(line).toMatch(
          /^cannot write \S+: no space is left on the device; free some space.*XDG_CACHE_HOME/,
        );
      }
    });

    it.skipIf(!mounts)('a read-only file system', async () => {
      const args = ['build', 'tiny.yaml', ...fast, ...from(archive, server.url)];
      const out = await failing(1, args, { under: mounted('out', 'ro') });
      expect(out).toMatch(
        /^cannot write \S+\/out\/?\S*: the file system is read-only; choose a writable place/,
      );
      const cache = await failing(1, args, { under: mounted('cache', 'ro') });
      expect(cache).toMatch(/^cannot write \S+: the file system is read-only; .*XDG_CACHE_HOME/);
    });
  });

  describe('with the cache', () => {
    const digestOf = (): string => readLayout(place.path('out/tiny.oci')).top.digest;

    it('broken blobs and records are made anew', async () => {
      const args = ['build', 'tiny.yaml', ...fast, ...from(archive, server.url)];
      await place.ok(args);
      const digest = digestOf();
      for (const damage of [flipByte, cutOff, fillWithGarbage]) {
        for (const name of place.list('cache/dhcpd-scratch')) {
          const path = join(place.cache, name);
          if (name !== 'CACHEDIR.TAG' && statSync(path).isFile()) damage(path);
        }
        const { code, stderr } = await place.run([...args, '-q']);
        expect(code, stderr).toBe(0);
        expect(stderr).not.toMatch(/error|^ +at /);
        expect(digestOf()).toBe(digest);
        rmSync(place.path('tiny.lock.yaml'));
      }
      expect(temporaryNames(place.list())).toEqual([]);
    });

    it('a directory of another purpose is left alone', async () => {
      mkdirSync(place.cache, { recursive: true });
      writeFileSync(join(place.cache, 'thesis.txt'), 'all of it');
      expect(await build(1)).toMatch(/^cannot use the cache \S+: .*; set XDG_CACHE_HOME/);
      expect(await failing(1, ['cache', 'clean'])).toMatch(
        /^cannot use the cache \S+: .*; set XDG_CACHE_HOME/,
      );
      expect(place.list('cache/dhcpd-scratch')).toEqual(['thesis.txt']);
    });

    it('no home', async () => {
      const environment = { HOME: undefined, XDG_CACHE_HOME: undefined };
      expect(await failing(2, ['build', 'tiny.yaml', ...from(archive)], { environment })).toMatch(
        /^cannot find the cache directory: .*; set XDG_CACHE_HOME/,
      );
    });
  });
});

/** What a failure must not change: all but the cache, and in the cache no half-made thing. */
function kept(place: Place): readonly string[] {
  const names = place.list();
  expect(temporaryNames(names)).toEqual([]);
  return names.filter((name) => !/^(?:cache|nobody)\//.test(name));
}

function flipByte(path: string): void {
  const bytes = readFileSync(path);
  const at = Math.floor(bytes.length / 3);
  bytes[at] = (bytes[at] ?? 0) ^ 0x20;
  writeFileSync(path, bytes);
}

function cutOff(path: string): void {
  writeFileSync(path, readFileSync(path).subarray(0, 10));
}

function fillWithGarbage(path: string): void {
  writeFileSync(path, Buffer.alloc(5000, '{"'));
}

/** A port of this machine that nobody listens on. */
async function closedPort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  return typeof address === 'object' && address !== null ? address.port : 1;
}
