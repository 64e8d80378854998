import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  copyFileSync,
  linkSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { PackageContents } from '../../build/package/contents.js';
import { openDeb } from '../../build/package/deb.js';
import type { OpenOptions } from '../../build/package/open-options.js';
import { openCache, type Cache } from '../../build/support/cache.js';
import { arArchive, type ArMemberSpec } from '../support/ar.js';
import {
  buildDeb,
  controlOf,
  controlText,
  debCompressions,
  debMembers,
  debOf,
  sha256Of,
} from '../support/deb.js';
import { paxHeader, tarArchive, tarMember, type TarSpec } from '../support/tar-builder.js';
import { requireTools } from '../support/tools.js';

const directory = mkdtempSync(join(tmpdir(), 'deb-'));
let cache: Cache;
const opened: PackageContents[] = [];
let serial = 0;

beforeAll(async () => {
  cache = await openCache(join(directory, 'cache'));
});
afterAll(async () => {
  for (const contents of opened) await contents.close();
  rmSync(directory, { recursive: true });
});

async function openPath(path: string, options?: OpenOptions): Promise<PackageContents> {
  const contents = await openDeb(path, sha256Of(readFileSync(path)), cache, options);
  opened.push(contents);
  return contents;
}

async function openBytes(bytes: Buffer, options?: OpenOptions): Promise<PackageContents> {
  const path = join(directory, `${++serial}.deb`);
  writeFileSync(path, bytes);
  try {
    return await openPath(path, options);
  } finally {
    rmSync(path);
  }
}

async function textOf(contents: PackageContents, path: string): Promise<string> {
  const entry = contents.entries.find((candidate) => candidate.path === path);
  if (entry?.kind !== 'file' && entry?.kind !== 'hardlink') throw new Error(`${path} is no file`);
  return (await contents.read(entry)).toString();
}

function openFiles(): number {
  return readdirSync('/proc/self/fd').length;
}

function temporaries(): string[] {
  return readdirSync(join(directory, 'cache', 'tmp'));
}

const file: TarSpec = { name: './file', data: Buffer.from('text') };
const dir: TarSpec = { name: './dir/', type: '5', mode: 0o755 };

describe.skipIf(!requireTools('dpkg-deb', 'tar', 'xz'))('openDeb', () => {
  for (const compression of debCompressions) {
    it(`opens what dpkg-deb -Z${compression} built`, async () => {
      const path = buildDeb(
        directory,
        { 'usr/bin/tool': '#!/bin/sh\n', 'etc/x.conf': 'x\n', 'big/file': 'line\n'.repeat(100_000) },
        {
          compression,
          epoch: 1_600_000_000,
          control: { Version: '2:1.0~rc1+b-3', Depends: 'libc6 (>= 2.36),\n  adduser' },
          prepare: (root) => {
            chmodSync(join(root, 'usr/bin/tool'), 0o4755);
            linkSync(join(root, 'usr/bin/tool'), join(root, 'usr/bin/twin'));
            symlinkSync('tool', join(root, 'usr/bin/alias'));
          },
        },
      );
      const contents = await openPath(path);
      expect(contents).toMatchObject({
        name: 'sample',
        version: '2:1.0~rc1+b-3',
        architecture: 'amd64',
        built: 1_600_000_000,
        metadata: {
          format: 'deb',
          controlText: execFileSync('dpkg-deb', ['-I', path, 'control'], { encoding: 'utf8' }),
        },
      });
      expect(controlOf(contents).get('Depends')).toBe('libc6 (>= 2.36),\n adduser');
      const listed = execFileSync('sh', ['-c', `dpkg-deb --fsys-tarfile '${path}' | tar -t`], {
        encoding: 'utf8',
      });
      expect(
        contents.entries.map(({ path: name, kind }) => `./${name}${kind === 'directory' ? '/' : ''}`),
      ).toEqual(listed.trimEnd().split('\n').slice(1));
      expect(await textOf(contents, 'usr/bin/tool')).toBe('#!/bin/sh\n');
      expect(await textOf(contents, 'usr/bin/twin')).toBe('#!/bin/sh\n');
      expect(await textOf(contents, 'big/file')).toBe('line\n'.repeat(100_000));
      expect(contents.entries.find(({ path: name }) => name === 'usr/bin/tool')?.mode).toBe(0o4755);
      expect(contents.entries.find(({ path: name }) => name === 'usr/bin/alias')).toMatchObject({
        target: 'tool',
      });
    });
  }

  it('unpacks once: the second opening reads the cache alone', async () => {
    const path = buildDeb(directory, { 'a/file': 'from the cache' });
    const sha256 = sha256Of(readFileSync(path));
    await (await openDeb(path, sha256, cache)).close();
    // With its compressed data overwritten the package can only be read from the cache.
    const broken = readFileSync(path);
    broken.fill(0xff, broken.lastIndexOf('7zXZ') + 20, broken.length - 4);
    copyFileSync(path, `${path}.whole`);
    writeFileSync(path, broken);
    const again = await openDeb(path, sha256, cache);
    expect(await textOf(again, 'a/file')).toBe('from the cache');
    await again.close();

    // A damaged blob counts as missing, and the package is unpacked anew.
    for (const name of readdirSync(join(directory, 'cache/blobs'), { recursive: true, encoding: 'utf8' })) {
      const blob = join(directory, 'cache/blobs', name);
      if (/[0-9a-f]{62}$/.test(name)) writeFileSync(blob, 'damaged');
    }
    await expect(openDeb(path, sha256, cache)).rejects.toThrow('cannot decompress data.tar.xz of');
    const unpacked = await openDeb(`${path}.whole`, sha256, cache);
    expect(await textOf(unpacked, 'a/file')).toBe('from the cache');
    await unpacked.close();
  });

  it('opens one package several times at once', async () => {
    const path = buildDeb(directory, { 'a/file': 'at once', 'a/big': 'line\n'.repeat(200_000) });
    const all = await Promise.all(Array.from({ length: 8 }, () => openPath(path)));
    for (const contents of all) {
      expect(await textOf(contents, 'a/file')).toBe('at once');
      await contents.close();
    }
    expect(temporaries()).toEqual([]);
  });

  it('gives back what it opened, and reads nothing after close', async () => {
    const path = buildDeb(directory, { file: 'text' });
    const before = openFiles();
    const contents = await openPath(path);
    const [entry] = contents.entries;
    if (entry?.kind !== 'file') throw new Error('no file');
    await contents.close();
    await contents.close();
    expect(openFiles()).toBe(before);
    await expect(contents.read(entry)).rejects.toThrow(
      'cannot read file of sample 1.0-1: the package has been closed',
    );
  });

  it('leaves nothing open and nothing behind when it fails', async () => {
    const before = openFiles();
    const packed: ArMemberSpec[] = debMembers([]).slice(0, 2);
    const climbing = gzipSync(tarArchive([file, { ...file, name: '../x' }]));
    await expect(openBytes(arArchive([...packed, { name: 'data.tar.gz', data: climbing }]))).rejects.toThrow(
      'leaves',
    );
    await expect(openBytes(arArchive(packed))).rejects.toThrow('it has no member data.tar');
    await expect(openBytes(Buffer.from('text'))).rejects.toThrow('too short');
    expect(openFiles()).toBe(before);
    expect(temporaries()).toEqual([]);
  });

  it('refuses entries of other packages', async () => {
    const [one, other] = [await openBytes(debOf([file])), await openBytes(debOf([file]))];
    const [entry] = one.entries;
    if (entry?.kind !== 'file') throw new Error('no file');
    await expect(other.read(entry)).rejects.toThrow('it is no file of this package');
  });

  it('takes the container as dpkg does', async () => {
    const [version, control, data] = debMembers([file]);
    if (version === undefined || control === undefined || data === undefined) throw new Error('no members');
    const extra = { name: '_note', data: Buffer.from('note') };
    const contents = await openBytes(
      arArchive([
        version,
        extra,
        { ...control, name: 'control.tar/' },
        extra,
        data,
        { ...extra, name: 'any', mtime: 9 },
      ]),
    );
    expect(await textOf(contents, 'file')).toBe('text');
    expect(contents.built).toBe(9);

    const refused: [ArMemberSpec[], string][] = [
      [[control, version, data], 'its first member is not debian-binary'],
      [[version, data, control], 'it has the member data.tar in place of control.tar'],
      [
        [version, { ...extra, name: 'note' }, control, data],
        'it has the member note in place of control.tar',
      ],
      [
        [version, control, { ...data, name: 'data.tar.bz2' }],
        'the compression of its member data.tar.bz2 is not supported',
      ],
      [[version, control, { ...data, name: 'data.tar.gz' }], 'it is not gz data'],
      [[version, control], 'it has no member data.tar'],
      [[version], 'it has no member control.tar'],
      [[{ ...version, data: Buffer.from('3.0\n') }, control, data], 'its package format is not 2.x'],
      [[{ ...version, data: Buffer.from('2.0') }, control, data], 'its package format is not 2.x'],
      [
        [{ ...version, data: Buffer.alloc(2000, '2.0\n') }, control, data],
        'its debian-binary member is too large',
      ],
    ];
    for (const [members, reason] of refused)
      await expect(openBytes(arArchive(members))).rejects.toThrow(reason);
  });

  it('checks the control file', async () => {
    const open = (text: string | Buffer) =>
      openBytes(debOf([file], [{ name: './control', data: Buffer.from(text) }]));
    await expect(open(controlText({ Package: 'Upper' }))).rejects.toThrow('its Package "Upper" is not valid');
    await expect(open(controlText({ Package: 'x' }))).rejects.toThrow('its Package "x" is not valid');
    await expect(open(controlText({ Package: '../x' }))).rejects.toThrow('its Package "../x" is not valid');
    await expect(open(controlText({ Version: 'v1' }))).rejects.toThrow('its Version "v1" is not valid');
    await expect(open(controlText({ Version: '1.0 2' }))).rejects.toThrow('its Version "1.0 2" is not valid');
    await expect(open(controlText({ Version: '1/2' }))).rejects.toThrow('its Version "1/2" is not valid');
    await expect(open(controlText({ Architecture: 'amd64 i386' }))).rejects.toThrow('its Architecture');
    await expect(open('Package: sample\nVersion: 1\n')).rejects.toThrow(
      'its control file has no field Architecture',
    );
    await expect(open(`${controlText()}\n${controlText()}`)).rejects.toThrow('more than one stanza');
    await expect(open(Buffer.from([0xff]))).rejects.toThrow('its control file is not UTF-8');
    await expect(open('')).rejects.toThrow('has no field Package');
    await expect(openBytes(debOf([file], [{ name: './md5sums' }]))).rejects.toThrow(
      'it holds no control file',
    );
    await expect(openBytes(debOf([file], [{ name: 'control', type: '2', linkName: 'x' }]))).rejects.toThrow(
      'it holds no control file',
    );
  });

  it('keeps the last of several entries of one path', async () => {
    const contents = await openBytes(
      debOf([
        dir,
        { ...file, name: 'dir/x' },
        { ...dir, mode: 0o700 },
        { ...file, name: './dir//x', data: Buffer.from('last') },
      ]),
    );
    expect(contents.entries).toMatchObject([
      { path: 'dir', mode: 0o700 },
      { path: 'dir/x', size: 4 },
    ]);
    expect(await textOf(contents, 'dir/x')).toBe('last');
  });

  it('leads hard links to the file that holds the bytes', async () => {
    const link = (name: string, linkName: string): TarSpec => ({ name, type: '1', linkName });
    const contents = await openBytes(debOf([file, link('b', './file'), link('c', 'b')]));
    expect(contents.entries).toMatchObject([{}, { target: 'file', size: 4 }, { target: 'file', size: 4 }]);
    expect(await textOf(contents, 'c')).toBe('text');

    const refused: [(TarSpec | Buffer)[], string][] = [
      [[link('b', 'file'), file], 'the hard link b has no regular file file before it'],
      [[dir, link('b', 'dir')], 'the hard link b has no regular file dir before it'],
      [
        [{ name: 'l', type: '2', linkName: '/etc/shadow' }, link('b', 'l')],
        'the hard link b has no regular file l',
      ],
      [[link('b', '/etc/shadow')], 'the hard link b has no regular file etc/shadow before it'],
      [[link('b', '../../etc/shadow')], 'leaves the package'],
      [[file, link('./file', 'file')], 'the hard link file has no regular file file before it'],
      [[link('b', 'b')], 'the hard link b has no regular file b before it'],
      [[file, link('b', 'file'), file], 'file is replaced after a hard link to it'],
    ];
    for (const [entries, reason] of refused) await expect(openBytes(debOf(entries))).rejects.toThrow(reason);
  });

  it('refuses what would be written through a link', async () => {
    const link: TarSpec = { name: 'dir', type: '2', linkName: '/etc' };
    const refused: [(TarSpec | Buffer)[], string][] = [
      [[link, { ...file, name: 'dir/passwd' }], 'dir/passwd lies below dir, which is no directory'],
      [[{ ...file, name: 'dir/a/b' }, link], 'dir/a/b lies below dir, which is no directory'],
      [
        [
          { ...file, name: 'dir' },
          { ...file, name: 'dir-x' },
          { ...file, name: 'dir/x' },
        ],
        'dir/x lies below dir',
      ],
      [[dir, link], 'dir is a directory and also something else'],
      [[link, dir], 'dir is a directory and also something else'],
    ];
    for (const [entries, reason] of refused) await expect(openBytes(debOf(entries))).rejects.toThrow(reason);
    // The names that sort between a path and what is below it are no obstacle, and no reason to refuse.
    const fine = await openBytes(
      debOf([dir, { ...file, name: 'dir/x' }, { ...file, name: 'dir-x' }, { ...file, name: 'dir.x' }]),
    );
    expect(fine.entries).toHaveLength(4);
  });

  it('represents devices, set-id bits and capabilities, and does not judge them', async () => {
    const capability = Buffer.from('0100000200200000000000000000000000000000', 'hex');
    const contents = await openBytes(
      debOf([
        { name: 'dev', type: '3', major: 1, minor: 3 },
        { name: 'pipe', type: '6' },
        { ...file, mode: 0o6755 },
        paxHeader({ 'SCHILY.xattr.security.capability': capability, 'SCHILY.xattr.user.other': 'x' }),
        { ...file, name: 'ping' },
      ]),
    );
    expect(contents.entries).toMatchObject([
      { kind: 'character-device', major: 1, minor: 3 },
      { kind: 'fifo' },
      { kind: 'file', mode: 0o6755, capability: undefined },
      { kind: 'file', path: 'ping', capability },
    ]);
  });

  it('calls the package what it is told to in every error', async () => {
    const name = 'sample 1.0-1';
    await expect(openBytes(Buffer.from('x'), { name })).rejects.toThrow('cannot read sample 1.0-1: ');
    await expect(openBytes(debOf([{ ...file, name: '../x' }]), { name })).rejects.toThrow(
      /^cannot read data\.tar of sample 1\.0-1: /,
    );
    await expect(openBytes(debOf([file], []), { name })).rejects.toThrow(
      'cannot read control.tar of sample 1.0-1: it holds no control file',
    );
  });

  it('holds its limits', async () => {
    const limits = { unpackedBytes: 2 ** 20, entries: 10, controlBytes: 4096 };
    const many = Array.from({ length: 11 }, (_, index) => ({ ...file, name: `f${index}` }));
    await expect(openBytes(debOf(many.slice(1)), { limits })).resolves.toBeDefined();
    await expect(openBytes(debOf(many), { limits })).rejects.toThrow('it has more than 10 entries');
    await expect(openBytes(debOf([{ ...file, data: Buffer.alloc(2 ** 20) }]), { limits })).rejects.toThrow(
      'unpacks to more than',
    );
    const control = [
      { name: 'control', data: Buffer.from(controlText()) },
      { name: 'x', data: Buffer.alloc(5000) },
    ];
    await expect(openBytes(debOf([file], control), { limits })).rejects.toThrow(
      /control\.tar .*unpacks to more than 4096 bytes/,
    );
  });

  it('stops at a million entries, soon and in bounded memory', async () => {
    const entries = Buffer.concat(
      Array.from({ length: 1000 }, (_, index) => tarMember({ name: `file-${index}` })),
    );
    const packed = gzipSync(entries, { level: 1 });
    const members = debMembers([]).slice(0, 2);
    const million = arArchive([
      ...members,
      { name: 'data.tar.gz', data: Buffer.concat(Array.from({ length: 1000 }, () => packed)) },
    ]);
    const before = process.memoryUsage.rss();
    const begin = performance.now();
    await expect(openBytes(million)).rejects.toThrow('it has more than 200000 entries');
    expect(performance.now() - begin).toBeLessThan(10_000);
    expect(process.memoryUsage.rss() - before).toBeLessThan(300 * 2 ** 20);
    expect(temporaries()).toEqual([]);
  });

  it('refuses a package cut off at any byte', { timeout: 60_000 }, async () => {
    const built = readFileSync(buildDeb(directory, { file: 'text' }, { compression: 'xz' }));
    const path = join(directory, 'cut.deb');
    for (const whole of [built, debOf([file])]) {
      for (let length = 0; length < whole.length; length += 1) {
        writeFileSync(path, whole.subarray(0, length));
        // Under a hash that the cache has never seen.
        const outcome = openDeb(path, sha256Of(Buffer.from(`${whole.length} ${length}`)), cache);
        await expect(outcome, String(length)).rejects.toThrow(/^cannot (read|decompress) .*: /);
      }
    }
  });
});
