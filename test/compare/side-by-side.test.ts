import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { BuiltImage } from '../../build/image/engine.js';
import { compare } from '../../build/commands/compare.js';
import { openImageStore } from '../../build/compare/image-store.js';
import { readOciImage } from '../../build/compare/oci-image.js';
import { run } from '../../build/support/exec.js';
import { silentLog } from '../../build/support/log.js';
import { privateStorage } from '../support/buildah.js';
import { hostArchitecture } from '../support/host.js';
import { buildImage, checkout } from '../support/lab-image.js';
import { requireThat, requireTools } from '../support/tools.js';
import { digestOf } from './store-builder.js';

const ready =
  requireThat(process.getuid?.() === 0, 'root, for network namespaces') &&
  requireTools(
    'ip',
    'podman',
    'runc',
    'buildah',
    'skopeo',
    'mmdebstrap',
    'tar',
    'find',
    'ldconfig',
    'dpkg-query',
  );

/** What `compare --json` prints of one image, as far as it is looked at here. */
interface Described {
  readonly digest: string;
  readonly compressedBytes: number;
  readonly contentBytes: number;
  readonly layers: readonly { readonly digest: string; readonly compressedBytes: number }[];
  readonly files: number;
  readonly directories: number;
  readonly symlinks: number;
  readonly specials: number;
  readonly packages: { readonly count: number };
  readonly programs: readonly string[];
  readonly libraries: readonly string[];
  readonly shells: readonly string[];
  readonly interpreters: readonly string[];
  readonly setid: readonly string[];
  readonly worldWritable: readonly string[];
  readonly user: string;
  readonly offer: {
    readonly median: number;
    readonly milliseconds: readonly number[];
    readonly reason: null;
  };
}

describe.skipIf(!ready)('dhcpd from nothing beside a Debian that holds dhcpd', () => {
  let work = '';
  let scratch: BuiltImage;
  let debian = '';
  let a: Described;
  let b: Described;
  let table = '';

  beforeAll(async () => {
    work = realpathSync(mkdtempSync(join(tmpdir(), 'side-by-side-')));
    mkdirSync(join(work, 'scratch'));
    scratch = await buildImage(run, join(work, 'scratch'), join(work, 'cache'), [
      'images/scratch/dhcpd.yaml',
    ]);
    debian = makeDebian();
    const document = JSON.parse(await output({ json: true, offer: true })) as {
      images: [Described, Described];
    };
    [a, b] = document.images;
    table = await output({ offer: false });
  }, 300_000);
  afterAll(() => {
    rmSync(work, { recursive: true, force: true });
  });

  it('has the sizes and digests that skopeo sees', () => {
    for (const [archive, found] of [
      [scratch.archive, a],
      [debian, b],
    ] as const) {
      const raw = execFileSync('skopeo', ['inspect', '--raw', `oci-archive:${archive}`]);
      const { layers } = JSON.parse(raw.toString()) as { layers: { digest: string; size: number }[] };
      expect(found.digest).toBe(digestOf(raw));
      expect(found.layers.map(({ digest, compressedBytes }) => [digest, compressedBytes])).toEqual(
        layers.map(({ digest, size }) => [digest, size]),
      );
      expect(found.compressedBytes).toBe(layers.reduce((sum, { size }) => sum + size, 0));
    }
  });

  it('has the files that GNU tar unpacks and find finds', async () => {
    for (const [archive, found] of [
      [scratch.archive, a],
      [debian, b],
    ] as const) {
      const root = await unpack(archive);
      const paths = (...tests: readonly string[]): readonly string[] =>
        execFileSync('find', [root, '-mindepth', '1', ...tests, '-printf', '/%P\\n'], { encoding: 'utf8' })
          .split('\n')
          .slice(0, -1)
          .sort();
      expect(found.files).toBe(paths('-type', 'f').length);
      expect(found.directories).toBe(paths('-type', 'd').length);
      expect(found.symlinks).toBe(paths('-type', 'l').length);
      expect(found.specials).toBe(paths('!', '-type', 'f', '!', '-type', 'd', '!', '-type', 'l').length);
      expect(found.setid).toEqual(paths('-type', 'f', '-perm', '/6000'));
      expect(found.worldWritable).toEqual(
        paths('-perm', '-2', '(', '-type', 'f', '-o', '-type', 'd', '!', '-perm', '-1000', ')'),
      );
      const sizes = execFileSync('find', [root, '-type', 'f', '-printf', '%D:%i %s\\n'], {
        encoding: 'utf8',
      });
      const bytes = [...new Set(sizes.trim().split('\n'))].reduce(
        (sum, line) => sum + Number(line.split(' ')[1]),
        0,
      );
      expect(found.contentBytes).toBe(bytes);
      expect(found.libraries).toEqual(expect.arrayContaining([...librariesIn(root)]));
      const programs = paths('-type', 'f', '-perm', '/111', '-path', '*bin/*');
      expect(
        programs.filter((path) => !found.programs.includes(path)).filter((path) => !isHardLinked(root, path)),
      ).toEqual([]);
    }
  }, 120_000);

  it('has its packages, and what a full system brings with it', () => {
    expect(a.packages.count).toBe(3);
    expect(a).toMatchObject({ user: '177:177', shells: [], interpreters: [], setid: [], worldWritable: [] });
    expect(a.programs).toEqual(['/usr/sbin/dhcpd']);
    const installed = execFileSync(
      'dpkg-query',
      ['--admindir', join(work, 'root-1/var/lib/dpkg'), '-W', '-f', '${db:Status-Status}\\n'],
      {
        encoding: 'utf8',
      },
    );
    expect(b.packages.count).toBe(installed.split('\n').filter((line) => line === 'installed').length);
    expect(b.shells).toEqual(expect.arrayContaining(['/usr/bin/bash', '/usr/bin/dash'].map(usrMerged)));
    expect(b.interpreters).toEqual(['/usr/bin/perl']);
    expect(b.setid).toContain('/usr/bin/passwd');
    expect(b).toMatchObject({ user: '' });
  });

  it('answers, and its time is taken five times', () => {
    for (const { offer } of [a, b]) {
      expect(offer.reason).toBeNull();
      expect(offer.milliseconds).toHaveLength(5);
      expect([...offer.milliseconds].sort((x, y) => x - y)[2]).toBe(offer.median);
      expect(Math.min(...offer.milliseconds)).toBeGreaterThan(10);
    }
  });

  it('is put into a table', () => {
    const lines = table.split('\n').map((line) => line.trim().split(/ {2,}/));
    const row = (label: string): readonly string[] =>
      lines.find(([first]) => first === label)?.slice(1) ?? [];
    expect(lines[0]).toEqual([scratch.archive, debian]);
    expect(row('packages')).toEqual(['3', String(b.packages.count), `+${b.packages.count - 3}`]);
    expect(row('shells')).toEqual(['0', String(b.shells.length), `+${b.shells.length}`]);
    expect(row('user')).toEqual(['177:177', 'root', 'differs']);
    expect(row('compressed')).toHaveLength(3);
    expect(row('time to first OFFER')).toEqual([]);
  });

  async function output(options: { json?: boolean; offer: boolean }): Promise<string> {
    const printed: string[] = [];
    await compare(scratch.archive, debian, options, {
      log: silentLog,
      print: (text) => printed.push(text),
      environment: process.env,
      cwd: work,
      hostArchitecture: process.arch,
      packageDirectory: checkout,
      signal: new AbortController().signal,
      now: new Date(),
    });
    return printed.join('');
  }

  /** A small Debian with dhcpd as its administrator would make it; two layers. */
  function makeDebian(): string {
    const tar = join(work, 'debian.tar');
    const codename =
      /^VERSION_CODENAME=(.*)$/m.exec(readFileSync('/etc/os-release', 'utf8'))?.[1] ?? 'stable';
    execFileSync('mmdebstrap', ['--quiet', '--variant=minbase', '--include=isc-dhcp-server', codename, tar], {
      stdio: 'ignore',
    });
    const leases = join(work, 'dhcpd.leases');
    writeFileSync(leases, '');
    const storage = privateStorage(join(work, 'storage'));
    try {
      const base = storage.buildah('from', 'scratch');
      storage.buildah('add', base, tar, '/');
      storage.buildah('commit', '--quiet', base, 'localhost/base:1');
      const container = storage.buildah('from', '--pull-never', 'localhost/base:1');
      storage.buildah('copy', container, leases, '/var/lib/dhcp/dhcpd.leases');
      storage.buildah(
        'config',
        '--entrypoint',
        '["/usr/sbin/dhcpd", "-4", "-f", "-d", "--no-pid"]',
        '--volume',
        '/var/lib/dhcp',
        container,
      );
      storage.buildah('commit', '--quiet', container, 'localhost/debian:1');
      const archive = join(work, 'debian.oci.tar');
      storage.buildah('push', '--quiet', 'localhost/debian:1', `oci-archive:${archive}:localhost/debian:1`);
      return archive;
    } finally {
      storage.remove();
    }
  }

  let roots = 0;

  /** Unpacks archive and layers with GNU tar. None of the two images has a whiteout. */
  async function unpack(archive: string): Promise<string> {
    const [layout, root] = [join(work, `layout-${roots}`), join(work, `root-${roots}`)];
    roots += 1;
    mkdirSync(layout);
    mkdirSync(root);
    execFileSync('tar', ['-xf', archive, '-C', layout]);
    const store = await openImageStore(layout, 'it');
    const { layers } = await readOciImage(store, hostArchitecture);
    for (const { digest } of layers) {
      execFileSync('tar', ['-xpf', join(layout, 'blobs', digest.replace(':', '/')), '-C', root]);
    }
    await store.close();
    return root;
  }

  /** The libraries that ldconfig would put into its cache. */
  function librariesIn(root: string): ReadonlySet<string> {
    const said = execFileSync('ldconfig', ['-r', root, '-N', '-X', '-v'], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    const found = new Set<string>();
    let directory = '';
    for (const line of said.split('\n')) {
      directory = /^(\/[^:]*):/.exec(line)?.[1] ?? directory;
      const file = /-> (\S+)/.exec(line)?.[1];
      if (file !== undefined)
        found.add(realpathSync(join(root, directory, file)).slice(realpathSync(root).length));
    }
    return found;
  }

  function isHardLinked(root: string, path: string): boolean {
    return Number(execFileSync('stat', ['-c', '%h', join(root, path)], { encoding: 'utf8' })) > 1;
  }

  /** Where the release still has /bin as a directory, the shells are in it. */
  function usrMerged(path: string): string {
    return b.shells.includes(path) ? path : path.replace('/usr/', '/');
  }
});
