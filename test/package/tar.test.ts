import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { PackageEntry } from '../../build/package/contents.js';
import { readTar, type TarMember } from '../../build/package/tar.js';
import {
  gnuLong,
  listingLine,
  listingLines,
  paxHeader,
  tarArchive,
  tarMember,
  type TarSpec,
} from '../support/tar-builder.js';
import { requireThat, requireTools } from '../support/tools.js';

// eslint-disable-next-line @typescript-eslint/require-await -- a stream of what is in memory
async function* chunksOf(data: Buffer, size: number): AsyncGenerator<Buffer> {
  for (let at = 0; at < data.length; at += size) yield data.subarray(at, at + size);
}

async function read(archive: Buffer, size = 65_536): Promise<TarMember[]> {
  const members: TarMember[] = [];
  for await (const member of readTar(chunksOf(archive, size), 'sample')) members.push(member);
  return members;
}

async function entriesOf(...members: readonly (TarSpec | Buffer)[]): Promise<PackageEntry[]> {
  return (await read(tarArchive(members))).map(({ entry }) => entry);
}

const file: TarSpec = { name: 'file', data: Buffer.from('text') };

describe('readTar', () => {
  it('reads every kind of member, in any cut', async () => {
    const archive = tarArchive([
      { name: './', type: '5', mode: 0o755 },
      {
        name: './dir/',
        type: '5',
        mode: 0o1777,
        uid: 1,
        gid: 2,
        userName: 'one',
        groupName: 'two',
        mtime: 7,
      },
      { name: '/dir//./file', data: Buffer.from('x'.repeat(600)), mode: 0o106755 },
      { name: 'dir/hard', type: '1', linkName: './dir/file' },
      { name: 'dir/soft', type: '2', linkName: '../../etc/x', mode: 0o777 },
      { name: 'char', type: '3', major: 5, minor: 300 },
      { name: 'block', type: '4', major: 8, minor: 1 },
      { name: 'fifo', type: '6' },
      { name: 'contiguous', type: '7' },
    ]);
    const base = { mode: 0o644, uid: 0, gid: 0, userName: 'root', groupName: 'root', mtime: 0 };
    for (const size of [1, 100, 512, 65_536]) {
      const members = await read(archive, size);
      expect(members.map(({ entry }) => entry)).toEqual([
        { ...base, kind: 'directory', path: '', mode: 0o755 },
        {
          kind: 'directory',
          path: 'dir',
          mode: 0o1777,
          uid: 1,
          gid: 2,
          userName: 'one',
          groupName: 'two',
          mtime: 7,
        },
        { ...base, kind: 'file', path: 'dir/file', mode: 0o6755, size: 600, capability: undefined },
        { ...base, kind: 'hardlink', path: 'dir/hard', target: 'dir/file', size: 0 },
        { ...base, kind: 'symlink', path: 'dir/soft', target: '../../etc/x', mode: 0o777 },
        { ...base, kind: 'character-device', path: 'char', major: 5, minor: 300 },
        { ...base, kind: 'block-device', path: 'block', major: 8, minor: 1 },
        { ...base, kind: 'fifo', path: 'fifo' },
        { ...base, kind: 'file', path: 'contiguous', size: 0, capability: undefined },
      ]);
      const offset = members[2]?.offset ?? 0;
      expect(archive.toString('latin1', offset, offset + 600)).toBe('x'.repeat(600));
    }
  });

  it('reads v7 archives', async () => {
    const [directory, plain] = await entriesOf(
      { name: 'old/', type: '\0', format: 'v7' },
      { name: 'old/file', type: '\0', format: 'v7', mode: 0o100644, data: Buffer.from('a') },
    );
    expect(directory).toMatchObject({ kind: 'directory', path: 'old', userName: '' });
    expect(plain).toMatchObject({ kind: 'file', path: 'old/file', mode: 0o644, size: 1 });
  });

  it('joins the ustar prefix, and leaves the same place alone in GNU headers', async () => {
    const [posix, gnu] = await entriesOf(
      { ...file, prefix: 'a/b' },
      { ...file, prefix: 'a/b', format: 'gnu' },
    );
    expect(posix?.path).toBe('a/b/file');
    expect(gnu?.path).toBe('file');
  });

  it('reads base-256 numbers', async () => {
    const size = Buffer.alloc(12);
    size[0] = 0x80;
    size[11] = 4;
    expect(await entriesOf({ ...file, size })).toMatchObject([{ size: 4 }]);
  });

  it('applies GNU long names and pax records to the next member only', async () => {
    const long = `${'long/'.repeat(40)}name`;
    const [first, second, third, fourth] = await entriesOf(
      gnuLong('L', long),
      gnuLong('K', `${long}-target`),
      { name: 'short', type: '2', linkName: 'short' },
      paxHeader({
        path: 'pax/ünïcode',
        uid: '3000000',
        gid: '4000000',
        uname: 'öwner',
        gname: 'gröup',
        mtime: '1700000000.999',
        comment: 'with = and\nnewline',
        'SCHILY.xattr.security.capability': Buffer.from([1, 0, 0, 2, 0, 0x0a, 0x3d, 0xff]),
      }),
      file,
      file,
      paxHeader({ linkpath: 'pax target', mtime: '-1.5' }),
      { name: 'link', type: '2', linkName: 'x' },
    );
    expect(first).toMatchObject({ path: long, target: `${long}-target` });
    expect(second).toMatchObject({
      path: 'pax/ünïcode',
      uid: 3_000_000,
      gid: 4_000_000,
      userName: 'öwner',
      groupName: 'gröup',
      mtime: 1_700_000_000,
      capability: Buffer.from([1, 0, 0, 2, 0, 0x0a, 0x3d, 0xff]),
    });
    expect(third).toMatchObject({ path: 'file', uid: 0, capability: undefined });
    expect(fourth).toMatchObject({ target: 'pax target', mtime: -2 });
  });

  it('lets pax headers state the size, and global ones hold until taken back', async () => {
    const wrong = { ...file, data: Buffer.alloc(0), size: 0 };
    const data = Buffer.alloc(512, 'abc');
    const [first, second, third] = await entriesOf(
      paxHeader({ uname: 'everyone', gid: '7' }, 'g'),
      paxHeader({ size: '3' }),
      Buffer.concat([tarMember(wrong), data]),
      paxHeader({ uname: '' }),
      file,
      file,
    );
    expect(first).toMatchObject({ size: 3, userName: 'everyone', gid: 7 });
    expect(second).toMatchObject({ size: 4, userName: 'root', gid: 7 });
    expect(third).toMatchObject({ userName: 'everyone' });
  });

  const negative = Buffer.alloc(12, 0xff);
  const huge = Buffer.alloc(12, 0x7f);
  huge[0] = 0x80;
  it.each<[string, Buffer, string]>([
    ['a path that climbs', tarArchive([{ ...file, name: 'a/../../b' }]), 'leaves the package'],
    ['a path that climbs and comes back', tarArchive([{ ...file, name: 'a/../b' }]), 'leaves the package'],
    ['an absolute path that climbs', tarArchive([{ ...file, name: '/../etc/passwd' }]), 'leaves the package'],
    ['a pax path that climbs', tarArchive([paxHeader({ path: '../x' }), file]), 'leaves the package'],
    ['a GNU path that climbs', tarArchive([gnuLong('L', '../x'), file]), 'leaves the package'],
    ['a prefix that climbs', tarArchive([{ ...file, prefix: '..' }]), 'leaves the package'],
    [
      'a hard link that climbs',
      tarArchive([{ ...file, data: Buffer.alloc(0), type: '1', linkName: '../x' }]),
      'leaves',
    ],
    ['an empty path', tarArchive([{ ...file, name: '' }]), 'a path is empty'],
    ['a file as the root', tarArchive([{ ...file, name: '.' }]), 'the root is not a directory'],
    ['a path too long', tarArchive([gnuLong('L', 'x'.repeat(5000)), file]), 'a path is too long'],
    [
      'a path too deep',
      tarArchive([gnuLong('L', 'x/'.repeat(70)), { name: 'd/', type: '5' }]),
      'a path is too deep',
    ],
    [
      'a link target too long',
      tarArchive([gnuLong('K', 'x'.repeat(5000)), { name: 'l', type: '2' }]),
      'too long',
    ],
    ['a link without target', tarArchive([{ name: 'l', type: '2' }]), 'has no target'],
    ['a name not in UTF-8', tarArchive([{ ...file, name: Buffer.from([0x61, 0xff]) }]), 'is not UTF-8'],
    [
      'a target not in UTF-8',
      tarArchive([{ name: 'l', type: '2', linkName: Buffer.from([0xc3]) }]),
      'is not UTF-8',
    ],
    ['NUL in a pax path', tarArchive([paxHeader({ path: 'a\0b' }), file]), 'NUL'],
    ['NUL in a pax target', tarArchive([paxHeader({ linkpath: 'a\0b' }), { name: 'l', type: '2' }]), 'NUL'],
    [
      'a GNU sparse file',
      tarArchive([{ ...file, type: 'S', format: 'gnu' }]),
      'sparse files are not supported',
    ],
    [
      'a pax sparse file',
      tarArchive([paxHeader({ 'GNU.sparse.major': '1' }), file]),
      'sparse files are not supported',
    ],
    ['another type', tarArchive([{ ...file, type: 'V' }]), 'the member type "V" is not supported'],
    ['a wrong checksum', tarArchive([{ ...file, checksum: 1 }]), 'the header checksum is wrong'],
    ['a negative size', tarArchive([{ ...file, size: negative }]), 'the size is negative'],
    ['a huge size', tarArchive([{ ...file, size: huge }]), 'the size is out of range'],
    ['a size beyond the end', tarArchive([{ ...file, size: 10_000 }]), 'the data of file is cut off'],
    [
      'a size not in octal',
      tarArchive([{ ...file, size: Buffer.from('0000000009\0') }]),
      'the size field is damaged',
    ],
    ['a directory with data', tarArchive([{ ...file, type: '5' }]), 'has data and is no regular file'],
    [
      'a symlink with data',
      tarArchive([{ ...file, type: '2', linkName: 'x' }]),
      'has data and is no regular file',
    ],
    [
      'a hard link with data',
      tarArchive([{ ...file, type: '1', linkName: 'x' }]),
      'has data and is no regular file',
    ],
    ['a negative pax owner', tarArchive([paxHeader({ uid: '-1' }), file]), 'the pax uid is damaged'],
    ['a pax size with text', tarArchive([paxHeader({ size: '0x4' }), file]), 'the pax size is damaged'],
    [
      'a huge pax size',
      tarArchive([paxHeader({ size: '9'.repeat(30) }), file]),
      'the pax size is out of range',
    ],
    [
      'a huge capability',
      tarArchive([paxHeader({ 'SCHILY.xattr.security.capability': 'x'.repeat(65) }), file]),
      'damaged',
    ],
    [
      'a pax record without its end',
      tarArchive([{ name: 'x', type: 'x', data: Buffer.from('9 path=ab') }, file]),
      'pax',
    ],
    [
      'a pax record of wrong length',
      tarArchive([{ name: 'x', type: 'x', data: Buffer.from('99 path=a\n') }, file]),
      'pax',
    ],
    [
      'a pax record of no length',
      tarArchive([{ name: 'x', type: 'x', data: Buffer.from('0 path=a\n') }, file]),
      'pax',
    ],
    ['an extended header too large', tarArchive([{ name: 'x', type: 'x', size: 2 ** 21 }]), 'too large'],
    ['an extended header without a file', tarArchive([paxHeader({ path: 'x' })]), 'has no file after it'],
    ['no end mark', tarMember(file), 'without its end mark'],
    ['a lone zero block', Buffer.concat([tarMember(file), Buffer.alloc(512)]), 'data after the end mark'],
    ['data after the end', Buffer.concat([tarArchive([file]), tarMember(file)]), 'data after the end mark'],
    [
      'a zero block in the middle',
      Buffer.concat([Buffer.alloc(512), tarArchive([file])]),
      'data after the end mark',
    ],
    ['nothing', Buffer.alloc(0), 'without its end mark'],
    ['text', Buffer.from('text '.repeat(200)), 'damaged'],
  ])('refuses %s', async (_, archive, reason) => {
    const outcome = read(archive);
    await expect(outcome).rejects.toThrow(/^cannot read sample: .* \(tar header at byte \d+\)$/);
    await expect(outcome).rejects.toThrow(reason);
  });

  it('bounds what names take in memory', async () => {
    const long = gnuLong('K', 'x'.repeat(4000));
    const link = tarMember({ name: 'l', type: '2' });
    // eslint-disable-next-line @typescript-eslint/require-await -- a stream
    async function* endless(): AsyncGenerator<Buffer> {
      for (;;) yield Buffer.concat([long, link]);
    }
    const drain = async () => {
      for await (const member of readTar(endless(), 'sample')) expect(member.entry.kind).toBe('symlink');
    };
    await expect(drain()).rejects.toThrow('its names take more than');
  });
});

describe.skipIf(!requireTools('tar', 'setcap'))('readTar beside GNU tar', () => {
  const directory = mkdtempSync(join(tmpdir(), 'tar-'));
  const long = `long/${'component-of-a-long-name/'.repeat(5)}file`;
  const root = requireThat(process.getuid?.() === 0, 'root, for owners, devices and capabilities');

  beforeAll(() => {
    const script = `
      umask 022; mkdir tree; cd tree
      mkdir -p dir/empty; echo text >dir/file; chmod 4755 dir/file; ln dir/file dir/hard; ln -s ../nowhere dir/soft
      head -c 100000 /dev/urandom >big; : >zero; chmod 600 zero; mkdir sticky; chmod 1777 sticky
      touch -d @1600000000 dir/file; touch -d @5 zero
    `;
    execFileSync('sh', ['-ec', script], { cwd: directory });
    const extra = `mkdir -p "$(dirname ${long})"; echo long >${long}; ln -s ${long}/${long} long-link; echo ü >ünïcode`;
    execFileSync('sh', ['-ec', `cp -a tree rich; cd rich; ${extra}`], { cwd: directory });
    if (!root) return;
    execFileSync(
      'sh',
      [
        '-ec',
        'mknod fifo p; mknod null c 1 3; chown 12345:54321 zero; cp /bin/true cap; setcap cap_net_raw+ep cap',
      ],
      { cwd: join(directory, 'rich') },
    );
  });
  afterAll(() => {
    rmSync(directory, { recursive: true });
  });

  for (const [format, tree] of [
    ['v7', 'tree'],
    ['ustar', 'tree'],
    ['gnu', 'rich'],
    ['pax', 'rich'],
  ] as const) {
    it(`reads --format=${format} as tar itself does`, async () => {
      const path = join(directory, `${format}.tar`);
      const xattrs = format === 'pax' ? ['--xattrs', '--xattrs-include=*'] : [];
      execFileSync('tar', [
        `--format=${format}`,
        ...xattrs,
        '--sort=name',
        '-cf',
        path,
        '-C',
        join(directory, tree),
        '.',
      ]);
      const archive = execFileSync('cat', [path]);
      const members = await read(archive);
      const listed = execFileSync(
        'tar',
        ['--utc', '--full-time', '--numeric-owner', '--quoting-style=literal', '-tvf', path],
        {
          encoding: 'utf8',
          env: { PATH: process.env['PATH'], LC_ALL: 'C.UTF-8' },
        },
      );
      expect(members.map(({ entry }) => listingLine(entry))).toEqual(listingLines(listed));

      for (const { entry, offset } of members) {
        if (entry.kind !== 'file') continue;
        const bytes = execFileSync('tar', ['-xOf', path, `./${entry.path}`]);
        expect(archive.subarray(offset, offset + entry.size).equals(bytes), entry.path).toBe(true);
      }
      const capable = members.find(({ entry }) => entry.path === 'cap')?.entry;
      if (root && format === 'pax') {
        // VFS_CAP_REVISION_2 with the effective flag, CAP_NET_RAW permitted.
        const value = Buffer.alloc(20);
        value.writeUInt32LE(0x02000001, 0);
        value.writeUInt32LE(1 << 13, 4);
        expect(capable).toMatchObject({ kind: 'file', capability: value });
      }
    });
  }
});
