import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { listNames, sha256 } from '../support/extract.js';
import { readLayout } from '../support/oci.js';
import { formatBytes } from '../../build/support/format.js';
import { errorLines, Place, program } from '../support/cli.js';
import { requireThat, requireTools } from '../support/tools.js';
import type { TestArchive } from '../support/debian-archive.js';
import { architecture, definition, from, libraries, makeTinyArchive, release, tinyTools } from './tiny.js';

const digest: unknown = expect.stringMatching(/^sha256:[0-9a-f]{64}$/);
const commands = ['build', 'plan', 'why', 'lock', 'doctor', 'cache', 'cache clean'];

describe.skipIf(!requireTools(...tinyTools))('the program', () => {
  let archive: TestArchive;
  let shared: Place;
  const places: Place[] = [];
  const place = (): Place => {
    const made = new Place({ 'tiny.yaml': definition });
    places.push(made);
    return made;
  };
  beforeAll(async () => {
    archive = await makeTinyArchive();
    shared = new Place({ 'tiny.yaml': definition });
    await shared.ok(['build', 'tiny.yaml', ...from(archive)]);
  });
  afterEach(() => {
    for (const made of places.splice(0)) made.remove();
  });
  afterAll(async () => {
    shared.remove();
    await archive.remove();
  });

  describe('build', () => {
    it('writes an image that runs, the lock file beside the definition, and says where', async () => {
      const mine = place();
      const { code, stdout, stderr } = await mine.run(['build', './tiny.yaml', ...from(archive)]);
      expect(code, stderr).toBe(0);
      const { top, images } = readLayout(mine.path('out/tiny.oci'));
      expect(stdout.split('\n')).toEqual([
        'image    localhost/tiny:latest',
        `digest   ${top.digest}`,
        expect.stringMatching(
          new RegExp(
            `^${architecture.padEnd(8)} [0-9.]+ KiB compressed, [0-9.]+ MiB in 14 files from 5 packages \\(${release}\\)$`,
          ),
        ),
        'layout   out/tiny.oci',
        'archive  out/tiny.oci.tar',
        'lock     tiny.lock.yaml (written)',
        'load it  podman load -i out/tiny.oci.tar',
        '',
      ]);
      expect(stderr).toMatch(/^fetched libc6 2\.0-1 \(/m);
      expect(stderr).not.toContain(top.digest);
      expect(mine.list('out').filter((name) => !name.includes('/'))).toEqual(['tiny.oci.tar']);
      expect(images[0]?.config.config).toMatchObject({
        User: '177:177',
        Entrypoint: ['/usr/sbin/tinyd', '-f'],
        ExposedPorts: { '67/udp': {} },
        Volumes: { '/var/lib/tiny': {} },
      });

      if (!requireThat(process.getuid?.() === 0, 'root, for chroot')) return;
      const root = mine.path('root');
      mkdirSync(root);
      execFileSync('tar', ['-xpf', images[0]?.layer ?? '', '-C', root]);
      expect(execFileSync('chroot', [root, '/usr/sbin/tinyd'], { encoding: 'utf8' })).toBe('inner\n');
    });

    it('prints one JSON document with --json, and the same image again', async () => {
      const text = await shared.ok(['build', 'tiny.yaml', '--json', ...from(archive)]);
      const document: unknown = JSON.parse(text);
      expect(document).toEqual({
        reference: 'localhost/tiny:latest',
        digest,
        engine: 'oci',
        layout: join(shared.out, 'tiny.oci'),
        archive: join(shared.out, 'tiny.oci.tar'),
        lockFile: shared.path('tiny.lock.yaml'),
        lockChanged: false,
        manifests: [
          {
            architecture,
            digest,
            size: expect.any(Number) as unknown,
            configDigest: digest,
            layerDigest: digest,
            diffId: digest,
            layerSize: expect.any(Number) as unknown,
            release,
            packages: 5,
            files: 14,
            contentBytes: expect.any(Number) as unknown,
          },
        ],
      });
      const { top } = readLayout(join(shared.out, 'tiny.oci'));
      expect(document).toMatchObject({ digest: top.digest });
    });

    it('takes another output directory, reference and lock file', async () => {
      const mine = place();
      const options = ['-o', 'deep/er', '--reference', 'example.org/t:1', '--lock-file', 'other.yaml'];
      const stdout = await mine.ok(['build', 'tiny.yaml', ...options, ...from(archive)]);
      expect(stdout).toMatch(/^image {4}example\.org\/t:1$/m);
      const { top } = readLayout(mine.path('deep/er/tiny.oci'));
      expect(top.annotations).toMatchObject({ 'org.opencontainers.image.ref.name': 'example.org/t:1' });
      expect(mine.list().filter((name) => name.endsWith('.yaml'))).toEqual(['other.yaml', 'tiny.yaml']);
    });

    it('shows paths as they are typed from another directory', async () => {
      const mine = place();
      mkdirSync(mine.path('elsewhere'));
      const stdout = await mine.ok(['build', '../tiny.yaml', ...from(archive)], {
        cwd: mine.path('elsewhere'),
      });
      expect(stdout).toContain('archive  out/tiny.oci.tar\n');
      expect(stdout).toContain(`lock     ${mine.path('tiny.lock.yaml')} (written)\n`);
    });

    it('reads the sources of the host’s apt', async () => {
      const mine = place();
      mine.write(
        'apt/sources.list',
        `deb [signed-by=${archive.keyring}] ${archive.url.replace(/\/$/, '')} ${release} main\n`,
      );
      await mine.ok(['build', 'tiny.yaml']);
      expect(existsSync(join(mine.out, 'tiny.oci.tar'))).toBe(true);
    });
  });

  describe('plan', () => {
    const plan = async (): Promise<{
      readonly images: readonly { entries: readonly { path: string }[] }[];
    }> =>
      // The program's own promise of what it prints.
      JSON.parse(await shared.ok(['plan', 'tiny.yaml', '--json', ...from(archive)])) as Awaited<
        ReturnType<typeof plan>
      >;

    it('shows every entry with its reason and writes nothing', async () => {
      const mine = place();
      const before = snapshot(mine);
      const stdout = await mine.ok(['plan', 'tiny.yaml', ...from(archive)]);
      expect(snapshot(mine)).toEqual(before);
      const [image] = (await plan()).images;
      const rows = stdout.split('\n').slice(2, -1);
      expect(rows.length).toBe(image?.entries.length);
      expect(stdout.replace(/ {2,}/g, '  ')).toContain('/usr/sbin/tinyd  tiny-server 1.0-1  root program\n');
      expect(stdout).toMatch(
        /^0644 {2}177:177 +0 {2}\/var\/lib\/tiny\/tiny\.leases +- +state, volume leases$/m,
      );
      expect(stdout).toMatch(/^0777 {2}0:0 +\S*libouter\.so\.1 -> libouter\.so\.1\.0 +libouter1 1\.0-1 /m);
      expect(rows.filter((row) => / $/.test(row))).toEqual([]);
    });

    it('prints with --json what the layer then holds', async () => {
      const document = await plan();
      const { images } = document;
      const layer = readLayout(join(shared.out, 'tiny.oci')).images[0]?.layer ?? '';
      expect(images[0]?.entries.map(({ path }) => path.slice(1))).toEqual(listNames(layer));
      expect(document).toMatchObject({
        images: [
          {
            architecture,
            family: 'debian',
            release,
            entries: expect.arrayContaining([
              {
                path: `/${libraries}/libinner.so.2`,
                kind: 'file',
                mode: '0644',
                uid: 0,
                gid: 0,
                size: expect.any(Number) as unknown,
                package: { name: 'libinner2', version: '2.0-1' },
                reason: {
                  kind: 'needed',
                  name: 'libinner.so.2',
                  chain: ['/usr/sbin/tinyd', `/${libraries}/libouter.so.1.0`, `/${libraries}/libinner.so.2`],
                  text: `needed by /${libraries}/libouter.so.1.0 as libinner.so.2`,
                },
              },
            ]) as unknown,
          },
        ],
      });
    });
  });

  describe('why', () => {
    const inner = `/${libraries}/libinner.so.2`;

    it('shows the chain through two libraries with their packages', async () => {
      const lines = (await shared.ok(['why', inner, 'tiny.yaml', ...from(archive)])).split('\n');
      expect(lines).toEqual([
        architecture,
        '  /usr/sbin/tinyd  (tiny-server 1.0-1): root program',
        expect.stringMatching(
          /^ {4}\/usr\/\S+\/libouter\.so\.1\.0 {2}\(libouter1 1\.0-1\): needed by \/usr\/sbin\/tinyd as libouter\.so\.1$/,
        ),
        expect.stringMatching(
          /^ {6}\/usr\/\S+\/libinner\.so\.2 {2}\(libinner2 2\.0-1\): needed by \S+ as libinner\.so\.2$/,
        ),
        '',
      ]);
      const document: unknown = JSON.parse(
        await shared.ok(['why', inner, 'tiny.yaml', '--json', ...from(archive)]),
      );
      expect(document).toMatchObject({
        path: inner,
        answers: [
          { architecture, steps: [{ path: '/usr/sbin/tinyd' }, {}, { package: { name: 'libinner2' } }] },
        ],
      });
    });

    it.each([
      [`${libraries}/libinner.so.2`, /libinner\.so\.2$/m],
      [inner.replace('/usr', ''), /another name of/],
      ['/lib', /^ +\/lib: leads to \/usr\/lib\/\S+$/m],
      ['/etc/passwd', /account tiny/],
      ['/var/lib/tiny/', /state, volume leases/],
      ['/usr/sbin', /leads to \/usr\/sbin\/tinyd/],
    ])('explains %s', async (path, reason) => {
      expect(await shared.ok(['why', path, 'tiny.yaml', ...from(archive)])).toMatch(reason);
    });

    it('names the nearest path for one that is not there', async () => {
      const wrong = inner.replace('inner', 'iner');
      const outcome = await shared.run(['why', wrong, 'tiny.yaml', '-q', ...from(archive)]);
      expect(errorLines(outcome)).toEqual([
        `error: cannot explain ${wrong} (${architecture}): it is not in the image; did you mean ${inner}?`,
      ]);
      expect(outcome.code).toBe(2);
      const far = await shared.run(['why', '/opt', 'tiny.yaml', '-q', ...from(archive)]);
      expect(errorLines(far)).toEqual([
        `error: cannot explain /opt (${architecture}): it is not in the image; npx dhcpd-scratch plan lists what is`,
      ]);
    });
  });

  describe('lock', () => {
    it('writes the lock file and prints what has changed', async () => {
      const mine = place();
      const stdout = await mine.ok(['lock', 'tiny.yaml', ...from(archive)]);
      expect(stdout).toBe(
        [
          `debian ${release} ${architecture}: base-files (new) -> 12`,
          `debian ${release} ${architecture}: libc6 (new) -> 2.0-1`,
          `debian ${release} ${architecture}: libinner2 (new) -> 2.0-1`,
          `debian ${release} ${architecture}: libouter1 (new) -> 1.0-1`,
          `debian ${release} ${architecture}: tiny-server (new) -> 1.0-1`,
          'tiny.lock.yaml: 5 changes\n',
        ].join('\n'),
      );
      expect(existsSync(mine.out)).toBe(false);
      const written = readFileSync(mine.path('tiny.lock.yaml'), 'utf8');
      const again: unknown = JSON.parse(await mine.ok(['lock', 'tiny.yaml', '--json', ...from(archive)]));
      expect(again).toMatchObject({
        lockFile: mine.path('tiny.lock.yaml'),
        changes: [],
        lock: { definition: sha256(Buffer.from(definition)), targets: [{ release, architecture }] },
      });
      expect(readFileSync(mine.path('tiny.lock.yaml'), 'utf8')).toBe(written);
    });
  });

  describe('doctor', () => {
    it('says what works', async () => {
      const options = ['--suite', release, ...from(archive)];
      const stdout = await shared.ok(['doctor', ...options]);
      expect(stdout).toMatch(/^ok +node +v\d/m);
      for (const suite of ['trial', 'trial-security']) {
        expect(stdout).toMatch(
          new RegExp(
            `^ok +Debian archive +${archive.url} ${suite} of \\d{4}-\\d\\d-\\d\\d\n +for ${architecture}\n +from --mirror, signed with keys of ${archive.keyring}$`,
            'm',
          ),
        );
      }
      expect(stdout).toMatch(/^ok +embedded engine +used by --engine auto; /m);
      if (stdout.includes('ok       podman')) expect(stdout).toMatch(/^ok +podman +podman version \d/m);
      expect(Math.max(...stdout.split('\n').map((line) => line.length))).toBeLessThan(160);
      expect(stdout).toMatch(new RegExp(`^ok +cache +${shared.cache}$`, 'm'));
      const document: unknown = JSON.parse(await shared.ok(['doctor', '--json', ...options]));
      const { findings } = document as { findings: { about: string; state: string }[] };
      expect(findings.map(({ about }) => about)).toContain('podman');
    });

    it('says what is broken or missing, and what to do, and exits 1 when nothing can be built', async () => {
      const options = ['--suite', 'nosuch', ...from(archive)];
      const { code, stdout, stderr } = await shared.run(['doctor', ...options], {
        environment: { PATH: '/nonexistent', XDG_CACHE_HOME: shared.path('tiny.yaml') },
      });
      expect(code).toBe(1);
      expect(stderr).toBe('');
      expect(stdout).toMatch(/^broken +cache +cannot [^\n]*\n +-> /m);
      expect(stdout).toMatch(/^broken +packages +cannot [^\n]*\n +-> /m);
      expect(stdout).toMatch(/^missing +podman +[^\n]*\n +-> install podman$/m);
    });
  });

  it('cache clean empties the cache, twice', async () => {
    const mine = place();
    await mine.ok(['plan', 'tiny.yaml', ...from(archive)]);
    const full = mine.list('cache/dhcpd-scratch').filter((name) => !name.endsWith('/'));
    expect(full.length).toBeGreaterThan(10);
    const bytes = full.reduce((sum, name) => sum + statSync(join(mine.cache, name)).size, 0);
    const tag = statSync(join(mine.cache, 'CACHEDIR.TAG')).size;
    expect(await mine.ok(['cache', 'clean'])).toBe(
      `${mine.cache}: removed ${full.length - 1} files, ${formatBytes(bytes - tag)}\n`,
    );
    expect(mine.list('cache/dhcpd-scratch').filter((name) => !name.endsWith('/'))).toEqual(['CACHEDIR.TAG']);
    expect(JSON.parse(await mine.ok(['cache', 'clean', '--json']))).toEqual({
      directory: mine.cache,
      files: 0,
      bytes: 0,
    });
    await mine.ok(['plan', 'tiny.yaml', ...from(archive)]);
  });

  describe('what it says', () => {
    it('is only the result with -q, and more with --debug', async () => {
      const quiet = await place().run(['build', 'tiny.yaml', '-q', ...from(archive)]);
      expect(quiet).toMatchObject({ code: 0, stderr: '' });
      const loud = await place().run(['build', 'tiny.yaml', '--debug', ...from(archive)]);
      expect(loud.stderr).toMatch(/^debug: libinner\.so\.2: /m);
      expect(loud.stdout.replace(/^(image|digest).*\n/gm, '')).toBe(
        quiet.stdout.replace(/^(image|digest).*\n/gm, ''),
      );
    });

    it('shows where an error came from with --debug alone', async () => {
      const args = ['build', 'missing.yaml', ...from(archive)];
      const plain = await shared.run(args);
      expect(errorLines(plain)).toHaveLength(1);
      const debug = await shared.run([...args, '--debug']);
      expect(debug.stderr).toMatch(/^ +at .*load\.js/m);
      expect(debug.stderr).toContain('ENOENT');
    });

    it.skipIf(!requireTools('script'))('has colour on a terminal alone, and none with NO_COLOR', async () => {
      const escape = '\u001b[';
      const mine = place();
      const wanted = ['plan', 'tiny.yaml', '--debug', ...from(archive)];
      const piped = await mine.run(wanted);
      expect(piped.stdout + piped.stderr).not.toContain(escape);
      // A new terminal has no width.
      const command = `stty cols 80; ${[process.execPath, program, ...wanted].map((word) => `'${word}'`).join(' ')}`;
      const onTerminal = (environment: Record<string, string>): string =>
        execFileSync('script', ['-qec', command, '/dev/null'], {
          cwd: mine.directory,
          env: { ...mine.environment, TERM: 'xterm', ...environment },
          encoding: 'utf8',
          stdio: ['ignore', 'pipe', 'pipe'],
        });
      expect(onTerminal({})).toContain(`${escape}2mdebug: `);
      expect(onTerminal({ NO_COLOR: '1' })).not.toMatch(/\[[0-9;]*m/);
      expect(onTerminal({ TERM: 'dumb' })).not.toContain(escape);
    });

    it('ends quietly when the reader of its output goes away', async () => {
      const shell = ['sh', '-c', '{ "$@"; echo "code $?" >&2; } | head -1', 'sh'];
      for (const args of [
        ['plan', 'tiny.yaml', ...from(archive)],
        ['build', '--help'],
      ]) {
        const { stdout, stderr } = await shared.run(args, { under: shell });
        expect(stdout.split('\n')).toHaveLength(2);
        expect(stderr).toMatch(/^code 0$/m);
        expect(stderr).not.toMatch(/EPIPE|^ +at /m);
      }
    });
  });

  describe('help', () => {
    it('is there for the program and each command', async () => {
      const top = await shared.ok(['--help']);
      for (const command of commands) {
        const words = command.split(' ');
        if (words.length === 1) expect(top).toMatch(new RegExp(`^  ${command} `, 'm'));
        const [stdout, short] = await Promise.all([
          shared.ok([...words, '--help']),
          shared.ok([...words, '-h']),
        ]);
        expect(stdout).toMatch(new RegExp(`^Usage: dhcpd-scratch ${command} `));
        expect(short).toBe(stdout);
      }
    });

    it('answers a command without its subcommand', async () => {
      const none = await shared.run([]);
      expect(none).toMatchObject({ code: 2, stdout: '', stderr: await shared.ok(['--help']) });
      const cache = await shared.run(['cache']);
      expect(cache).toMatchObject({ code: 2, stdout: '', stderr: await shared.ok(['cache', '--help']) });
    });

    it('tells the version of the package', async () => {
      const manifest: unknown = JSON.parse(
        readFileSync(new URL('../../package.json', import.meta.url), 'utf8'),
      );
      const version = await shared.ok(['--version']);
      expect(manifest).toMatchObject({ version: version.trim() });
      expect(await shared.ok(['-V'])).toBe(version);
    });
  });
});

/** Everything but the cache, with what would tell a change. */
function snapshot(place: Place): readonly string[] {
  return place
    .list()
    .filter((name) => !name.startsWith('cache/'))
    .map((name) => {
      const { mtimeNs, size, ino } = statSync(place.path(name), { bigint: true });
      // The cache is made in the directory itself, and so changes its time.
      return `${name} ${mtimeNs} ${size} ${ino}`;
    });
}
