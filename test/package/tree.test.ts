import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import fc from 'fast-check';
import type { PackageContents } from '../../build/package/contents.js';
import { openDeb } from '../../build/package/deb.js';
import { createPackageTree, type PackageTree } from '../../build/package/tree.js';
import { openCache, type Cache } from '../../build/support/cache.js';
import { controlText, debOf, sha256Of } from '../support/deb.js';
import type { TarSpec } from '../support/tar-builder.js';
import { requireThat, requireTools } from '../support/tools.js';

const merged = new Map([
  ['lib', 'usr/lib'],
  ['lib64', 'usr/lib64'],
  ['bin', 'usr/bin'],
  ['sbin', 'usr/sbin'],
]);
const directory = mkdtempSync(join(tmpdir(), 'tree-'));
const opened: PackageContents[] = [];
let cache: Cache;
beforeAll(async () => {
  cache = await openCache(join(directory, 'cache'));
});
afterAll(async () => {
  for (const contents of opened) await contents.close();
  rmSync(directory, { recursive: true });
});

/** A real package: path to a text, or `-> target`, or `=> hard link`, or nothing for a directory (path ends in a slash). */
async function packageOf(
  name: string,
  files: Readonly<Record<string, string>>,
  mode?: number,
): Promise<PackageContents> {
  const data = Object.entries(files).map(([path, text]): TarSpec => {
    if (path.endsWith('/')) return { name: path, type: '5', mode: mode ?? 0o755 };
    if (text.startsWith('-> ')) return { name: path, type: '2', linkName: text.slice(3), mode: 0o777 };
    if (text.startsWith('=> ')) return { name: path, type: '1', linkName: text.slice(3) };
    return { name: path, data: Buffer.from(text), mode: mode ?? 0o644 };
  });
  const bytes = debOf(data, [{ name: 'control', data: Buffer.from(controlText({ Package: name })) }]);
  const path = join(directory, `${name}.deb`);
  writeFileSync(path, bytes);
  const contents = await openDeb(path, sha256Of(bytes), cache);
  opened.push(contents);
  return contents;
}

async function treeOf(files: Readonly<Record<string, string>>, aliases = merged): Promise<PackageTree> {
  const tree = createPackageTree(aliases);
  await tree.add(await packageOf('one', files));
  return tree;
}

describe('lookup', () => {
  it('finds files through the aliases of a merged /usr', async () => {
    const tree = await treeOf({
      'lib/a.so': 'a',
      'usr/lib/b.so': 'b',
      'lib64/ld.so': '-> ../lib/a.so',
      'bin/': '',
    });
    const alias = { path: 'lib', target: 'usr/lib', owner: undefined };
    expect(tree.lookup('/lib/a.so')).toMatchObject({
      path: 'usr/lib/a.so',
      links: [alias],
      entry: { path: 'lib/a.so' },
    });
    expect(tree.lookup('usr/lib/a.so')).toMatchObject({ path: 'usr/lib/a.so', links: [] });
    expect(tree.lookup('/lib/b.so')).toMatchObject({ path: 'usr/lib/b.so', links: [alias] });
    // The link moved with its directory: its `..` is usr now.
    const found = tree.lookup('/lib64/ld.so');
    expect(found?.path).toBe('usr/lib/a.so');
    expect(found?.links).toEqual([
      { path: 'lib64', target: 'usr/lib64', owner: undefined },
      { path: 'usr/lib64/ld.so', target: '../lib/a.so', owner: tree.packages[0] },
    ]);
    expect(found?.owner.name).toBe('one');
    expect(tree.list('lib')).toEqual(['a.so', 'b.so']);
    expect(tree.list('')).toEqual(['bin', 'lib', 'lib64', 'sbin', 'usr']);
  });

  it('follows relative, absolute, chained and directory links, and `..`', async () => {
    const tree = await treeOf({
      'opt/real/file': 'x',
      'opt/hard': '=> opt/real/file',
      'opt/dir': '-> real',
      abs: '-> /opt/dir/file',
      chain: '-> abs',
      climb: '-> ../../../opt/./real//file',
      slash: '-> opt/real/file/',
      dangling: '-> nowhere',
      loop: '-> loop',
      'opt/up': '-> ..',
    });
    const pathOf = (path: string) => tree.lookup(path)?.path;
    expect(pathOf('chain')).toBe('opt/real/file');
    expect(tree.lookup('chain')?.links.map(({ path }) => path)).toEqual(['chain', 'abs', 'opt/dir']);
    expect(pathOf('climb')).toBe('opt/real/file');
    expect(pathOf('/opt/up/opt/up/opt/hard')).toBe('opt/hard');
    expect(pathOf('opt/dir/../real/file')).toBe('opt/real/file');
    expect(pathOf('opt/dir/..//../../opt/hard')).toBe('opt/hard');
    for (const path of [
      'slash',
      'dangling',
      'loop',
      'opt/real/file/',
      'opt/real/file/.',
      'opt/real/file/../file',
      'opt/none/../hard',
      'opt',
      'opt/dir',
      '',
      '/',
      '..',
      'opt/real/none',
      'chain/..',
      'none',
    ]) {
      expect(tree.lookup(path), path).toBeUndefined();
    }
    expect(tree.list('opt/dir')).toEqual(['file']);
    expect(tree.list('chain')).toEqual([]);
    expect(tree.list('none')).toEqual([]);
  });

  it('gives up after 40 links, not before', async () => {
    const files: Record<string, string> = { l0: 'file' };
    for (let index = 1; index <= 41; index += 1) files[`l${index}`] = `-> l${index - 1}`;
    const tree = await treeOf(files);
    expect(tree.lookup('l40')?.links).toHaveLength(40);
    expect(tree.lookup('l41')).toBeUndefined();
  });

  it('lists in the order of bytes', async () => {
    const tree = await treeOf({
      'd/é': '',
      'd/Z': '',
      'd/a': '',
      'd/\u{1f600}': '',
      'd/\uffee': '',
      'd/sub/x': '',
    });
    expect(tree.list('/d/')).toEqual(['Z', 'a', 'sub', 'é', '\uffee', '\u{1f600}']);
  });

  it('takes aliases of any depth, and refuses circles', async () => {
    const fedora = new Map([
      ['sbin', 'usr/sbin'],
      ['bin', '/usr/bin/'],
      ['usr/sbin', 'bin'],
    ]);
    const tree = await treeOf({ 'sbin/dhcpd': 'x', 'usr/sbin/': '' }, fedora);
    expect(tree.lookup('/sbin/dhcpd')).toMatchObject({
      path: 'usr/bin/dhcpd',
      links: [
        { path: 'sbin', target: 'usr/sbin' },
        { path: 'usr/sbin', target: 'bin' },
      ],
    });
    expect(tree.lookup('bin/dhcpd')?.path).toBe('usr/bin/dhcpd');
    for (const circle of [
      [
        ['a', 'b'],
        ['b', 'a'],
      ],
      [['a', 'a']],
      [['a', 'a/b']],
    ] as [string, string][][]) {
      expect(() => createPackageTree(new Map(circle))).toThrow('it leads in a circle');
    }
  });
});

describe('add', () => {
  it('lets packages share directories, and files that are equal', async () => {
    const tree = await treeOf({ 'd/': '', 'd/same': 'same', 'd/link': '-> x' });
    await tree.add(
      await packageOf('two', { 'd/': '', 'd/same': 'same', 'd/link': '-> x', 'd/other': '=> d/same' }),
    );
    expect(tree.packages.map(({ name }) => name)).toEqual(['one', 'two']);
    expect(tree.lookup('d/same')?.owner.name).toBe('one');
    const [first] = tree.packages;
    if (first !== undefined) await tree.add(first);
    expect(tree.packages).toHaveLength(2);
  });

  it.each<[string, Readonly<Record<string, string>>, string, number?]>([
    ['another size', { 'd/file': 'longer' }, 'its d/file differs from that of one 1.0-1'],
    ['other bytes', { 'd/file': 'TEXT' }, 'its d/file differs from that of one 1.0-1'],
    ['another mode', { 'd/file': 'text' }, 'its d/file differs from that of one 1.0-1', 0o755],
    ['a link for a file', { 'd/file': '-> x' }, 'its d/file differs from that of one 1.0-1'],
    ['another target', { 'd/link': '-> y' }, 'its d/link differs from that of one 1.0-1'],
    ['a directory for a link', { 'd/link/': '' }, 'its d/link differs from that of one 1.0-1'],
    ['a file for a directory', { d: 'x' }, 'its d differs from that of one 1.0-1'],
    ['a file for an unstated directory', { unstated: 'x' }, 'its unstated is a directory in another package'],
    [
      'a file below a file',
      { 'd/file/x': 'x' },
      'its d/file/x lies below d/file of one 1.0-1, which is no directory',
    ],
    [
      'a file below a link',
      { 'd/link/a/b': 'x' },
      'its d/link/a/b lies below d/link of one 1.0-1, which is no directory',
    ],
    [
      'the same file through an alias',
      { 'usr/lib/a.so': 'b' },
      'its usr/lib/a.so differs from that of one 1.0-1',
    ],
    ['a file for an alias', { lib: 'x' }, 'its lib is not the link to usr/lib of the merged /usr layout'],
    [
      'another link for an alias',
      { lib: '-> opt' },
      'its lib is not the link to usr/lib of the merged /usr layout',
    ],
  ])('refuses %s, and changes nothing', async (_, files, reason, mode) => {
    const tree = await treeOf({
      'd/': '',
      'd/file': 'text',
      'd/link': '-> x',
      'unstated/x': '',
      'lib/a.so': 'a',
    });
    const two = await packageOf('two', { 'new/file': 'x', ...files }, mode);
    await expect(tree.add(two)).rejects.toThrow(`cannot add two 1.0-1: ${reason}`);
    expect(tree.lookup('new/file')).toBeUndefined();
    expect(tree.list('')).not.toContain('new');
    expect(tree.packages).toHaveLength(1);
  });

  it('takes the alias itself from a package that ships it', async () => {
    const tree = await treeOf({
      lib: '-> usr/lib',
      bin: '-> /usr/bin',
      'usr/lib/a.so': 'a',
      'usr/bin/a': 'a',
    });
    expect(tree.lookup('lib/a.so')?.links).toEqual([
      { path: 'lib', target: 'usr/lib', owner: tree.packages[0] },
    ]);
    expect(tree.lookup('bin/a')?.links).toEqual([
      { path: 'bin', target: '/usr/bin', owner: tree.packages[0] },
    ]);
  });

  it('compares a package with itself across an alias', async () => {
    await expect(treeOf({ 'lib/a': 'a', 'usr/lib/a': 'b' })).rejects.toThrow(
      'its usr/lib/a differs from that of one',
    );
    expect((await treeOf({ 'lib/a': 'a', 'usr/lib/a': 'a' })).lookup('lib/a')?.path).toBe('usr/lib/a');
    await expect(treeOf({ 'lib/a': 'a', 'usr/lib/a/b': 'b' })).rejects.toThrow('which is no directory');
  });

  it('does not mix packages that are added at the same time', async () => {
    const tree = createPackageTree(merged);
    const [two, three] = [
      await packageOf('two', { 'd/x': 'two' }),
      await packageOf('three', { 'd/x': '333' }),
    ];
    const results = await Promise.allSettled([tree.add(two), tree.add(three)]);
    expect(results.map(({ status }) => status)).toEqual(['fulfilled', 'rejected']);
    expect(tree.lookup('d/x')?.owner.name).toBe('two');
  });

  it('adds 10,000 entries in less than 50 ms', async () => {
    const files: Record<string, string> = {};
    for (let index = 0; index < 10_000; index += 1)
      files[`usr/share/dir-${index % 500}/sub/file-${index}`] = '';
    const contents = await packageOf('large', files);
    // Processor time: the machine may be busy with other things.
    const times: number[] = [];
    for (let round = 0; round < 10; round += 1) {
      const tree = createPackageTree(merged);
      const begin = process.cpuUsage();
      await tree.add(contents);
      const { user, system } = process.cpuUsage(begin);
      times.push((user + system) / 1000);
      expect(tree.lookup('usr/share/dir-3/sub/file-503')).toBeDefined();
    }
    expect(Math.min(...times)).toBeLessThan(50);
  });
});

/** Looks paths up in directories as if each were the root, with the kernel's own eyes. */
const lookupScript = `
import json, os, stat, sys
fds = os.open('/proc/self/fd', os.O_RDONLY)
def find(query):
    try:
        fd = os.open(query, os.O_PATH)
    except OSError:
        return ''
    try:
        return os.readlink(str(fd), dir_fd=fds)[1:] if stat.S_ISREG(os.fstat(fd).st_mode) else ''
    finally:
        os.close(fd)
def look(root, queries):
    os.fchdir(outside)
    os.chroot('.')
    os.chroot(root)
    os.chdir('/')
    return [find(query) for query in queries]
outside = os.open('/', os.O_RDONLY)
roots, queries = json.load(sys.stdin)
json.dump([look(*pair) for pair in zip(roots, queries)], sys.stdout)
`;

function kernelLookups(roots: readonly string[], queries: readonly (readonly string[])[]): unknown {
  const input = JSON.stringify([roots, queries]);
  return JSON.parse(execFileSync('python3', ['-c', lookupScript], { input, encoding: 'utf8' }));
}

const canChroot = requireTools('python3') && requireThat(process.getuid?.() === 0, 'root, for chroot');

describe.skipIf(!canChroot)('lookup beside the kernel', () => {
  it('agrees on random trees of links', async () => {
    const name = fc.constantFrom('a', 'b', 'c');
    const target = fc
      .tuple(
        fc.constantFrom('', '/', '../'),
        fc.array(fc.constantFrom('a', 'b', 'c', '..', '.'), { minLength: 1, maxLength: 4 }),
      )
      .map(([start, parts]) => start + parts.join('/'));
    const entry = fc.tuple(
      fc.array(name, { minLength: 1, maxLength: 3 }).map((parts) => parts.join('/')),
      fc.option(target),
    );
    const trees = fc.array(
      fc.record({
        wanted: fc.array(entry, { minLength: 1, maxLength: 12 }),
        queries: fc.array(target, { minLength: 5, maxLength: 20 }),
      }),
      { minLength: 40, maxLength: 60 },
    );
    let round = 0;
    await fc.assert(
      fc.asyncProperty(trees, async (list) => {
        const looked: string[][] = [];
        const roots: string[] = [];
        for (const { wanted, queries } of list) {
          // Entries that would lie below others are left out: a package with them is refused.
          const files: Record<string, string> = {};
          for (const [path, link] of wanted) {
            const clash = Object.keys(files).some(
              (other) => `${other}/`.startsWith(`${path}/`) || `${path}/`.startsWith(`${other}/`),
            );
            if (!clash) files[path] = link === null ? 'text' : `-> ${link}`;
          }
          const tree = await treeOf(files, new Map());
          const root = join(directory, `kernel-${++round}`, 'root');
          for (const [path, text] of Object.entries(files)) {
            mkdirSync(dirname(join(root, path)), { recursive: true });
            if (text.startsWith('-> ')) symlinkSync(text.slice(3), join(root, path));
            else writeFileSync(join(root, path), text);
          }
          roots.push(root);
          looked.push(queries.map((query) => tree.lookup(query)?.path ?? ''));
        }
        expect(looked).toEqual(
          kernelLookups(
            roots,
            list.map(({ queries }) => queries),
          ),
        );
      }),
      { numRuns: 3 },
    );
  });
});
