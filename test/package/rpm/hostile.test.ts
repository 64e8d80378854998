import { gzipSync } from 'node:zlib';
import { afterAll, describe, expect, it } from 'vitest';
import {
  binaryTag,
  cpioOf,
  cpioRecord,
  cpioTrailer,
  numbersTag,
  resealed,
  rpmOf,
  rpmParts,
  strippedRecord,
  textsTag,
  textTag,
  withoutTags,
  withTags,
  type RpmFileSpec,
  type RpmParts,
  type RpmTag,
} from '../../support/rpm-bytes.js';
import { RpmOpening, textOf } from '../../support/rpm-opening.js';
import { rpmMetadataOf } from '../../support/rpm-oracle.js';

const opening = new RpmOpening();
afterAll(() => opening.remove());

const files: readonly RpmFileSpec[] = [
  { path: '/dir', mode: 0o040755 },
  { path: '/dir/file', data: 'text' },
  { path: '/dir/one', data: 'linked', inode: 90 },
  { path: '/dir/two', data: 'linked', inode: 90 },
  { path: '/ghost', target: 'nowhere', flags: 64 },
  { path: '/link', target: 'dir/file' },
];
const open = (parts: RpmParts) => opening.bytes(resealed(parts));
const openFiles = (list: readonly RpmFileSpec[], payload?: Buffer) => open(rpmParts(list, payload));
/** The sample with other tags in its header. */
const openTags = (...tags: readonly RpmTag[]) => {
  const parts = rpmParts(files);
  return open({ ...parts, header: withTags(parts.header, ...tags) });
};

describe('openRpm', () => {
  it('opens the sample that the others spoil', async () => {
    const contents = await openFiles(files);
    expect(contents.entries.map(({ kind, path }) => `${kind} ${path}`)).toEqual([
      'directory dir',
      'file dir/file',
      'file dir/two',
      'hardlink dir/one',
      'symlink link',
    ]);
    expect(await textOf(contents, 'dir/one')).toBe('linked');
    expect(rpmMetadataOf(contents)).toMatchObject({
      epoch: undefined,
      vendor: '',
      ghostLinks: [{ path: 'ghost', target: 'nowhere' }],
    });
  });

  it('opens special files, the root, and names without ./', async () => {
    const special = [
      { path: '/', mode: 0o040555 },
      { path: '/null', mode: 0o020666 },
      { path: '/disk', mode: 0o060660 },
      { path: '/pipe', mode: 0o010600 },
    ];
    const records = special.map(({ path, mode }) => cpioRecord(path.slice(1) || '.', undefined, { mode }));
    const contents = await openFiles(special, Buffer.concat([...records, cpioTrailer]));
    expect(contents.entries.map(({ path, kind }) => [path, kind])).toEqual([
      ['null', 'character-device'],
      ['disk', 'block-device'],
      ['pipe', 'fifo'],
    ]);
    expect(contents.entries[0]).toMatchObject({ major: 0x12, minor: 0x34 });
  });

  it('opens file lists of before rpm 4.0, and sizes of 64 bits', async () => {
    const parts = rpmParts([files[1] ?? { path: '' }]);
    const old = withTags(withoutTags(parts.header, 1116, 1117, 1118), textsTag(1027, ['/dir/file']));
    expect((await open({ ...parts, header: old })).entries).toMatchObject([{ path: 'dir/file', size: 4 }]);
    const long = withTags(
      withoutTags(parts.header, 1028),
      numbersTag(5008, [4], 8),
      numbersTag(5009, [2 ** 40], 8),
    );
    const contents = await open({ ...parts, header: long });
    expect(rpmMetadataOf(contents).installedSize).toBe(2 ** 40);
    const beyond = withTags(parts.header, { ...numbersTag(5009, [0], 8), data: Buffer.alloc(8, 0xff) });
    await expect(open({ ...parts, header: beyond })).rejects.toThrow(
      'the tag 5009 holds a number out of range',
    );
  });

  it('opens stripped payloads, and payloads with checksums', async () => {
    const shipped = [0, 1, 2, 3, 5].map((index) => {
      const { data, target } = files[index] ?? {};
      return strippedRecord(index, index === 2 ? undefined : Buffer.from(target ?? data ?? ''));
    });
    const stripped = Buffer.concat([...shipped, cpioTrailer]);
    expect(await textOf(await openFiles(files, stripped), 'dir/one')).toBe('linked');
    const twice = Buffer.concat([...shipped, strippedRecord(0), cpioTrailer]);
    await expect(openFiles(files, twice)).rejects.toThrow('its payload holds /dir twice');
    for (const index of [4, 6, 0xffffffff]) {
      await expect(openFiles(files, Buffer.concat([strippedRecord(index), cpioTrailer]))).rejects.toThrow(
        'its payload holds a file that its header does not list',
      );
    }
    const [, file = { path: '' }] = files;
    const sum = [...Buffer.from('text')].reduce((total, byte) => total + byte, 0);
    const crc = (checksum: number) =>
      Buffer.concat([cpioRecord('./dir/file', Buffer.from('text'), { checksum }), cpioTrailer]);
    await openFiles([file], crc(sum));
    await expect(openFiles([file], crc(sum + 1))).rejects.toThrow('the checksum of /dir/file is wrong');
  });

  const record = (path: string, data = '', mode = 0o100644) => cpioRecord(path, Buffer.from(data), { mode });
  const archive = (...records: readonly Buffer[]) => Buffer.concat([...records, cpioTrailer]);
  const one: readonly RpmFileSpec[] = [{ path: '/a', data: 'text' }];
  const two: readonly RpmFileSpec[] = [
    { path: '/a', data: 'text', inode: 5 },
    { path: '/b', data: 'text', inode: 5 },
  ];
  it.each<readonly [string, readonly RpmFileSpec[], Buffer, string]>([
    ['a missing file', one, archive(), 'its payload does not hold /a'],
    ['an extra file', [], archive(record('a')), 'a file that its header does not list'],
    ['a ghost', [{ path: '/g', flags: 64 }], archive(record('g')), 'a file that its header does not list'],
    ['a file twice', one, archive(record('a', 'text'), record('a', 'text')), 'its payload holds /a twice'],
    ['another size', one, archive(record('a', 'texts')), 'the size of /a differs in header and payload'],
    ['no data', one, archive(record('a')), 'the size of /a differs in header and payload'],
    ['another mode', one, archive(record('a', 'text', 0o104755)), 'the mode of /a differs'],
    ['another type', one, archive(record('a', 'text', 0o120644)), 'the mode of /a differs'],
    ['no bytes of links', two, archive(record('a'), record('b')), 'does not hold the bytes of /b'],
    ['bytes twice', two, archive(record('a', 'text'), record('b', 'text')), 'the bytes of /b twice'],
    ['other bytes', two, archive(record('a', 'tex'), record('b', 'text')), 'the size of /a differs'],
    [
      'another target',
      [{ path: '/l', target: 'x' }],
      archive(record('l', 'y', 0o120777)),
      'the target of /l',
    ],
    [
      'data of a directory',
      [{ path: '/d', mode: 0o040755 }],
      archive(record('d', 'x', 0o040755)),
      'has data',
    ],
    [
      'a long target',
      [{ path: '/l', target: 'x'.repeat(5000) }],
      cpioOf([{ path: '/l', target: 'x'.repeat(5000) }]),
      'too long',
    ],
    [
      'an empty target',
      [{ path: '/l', mode: 0o120777 }],
      archive(record('l', '', 0o120777)),
      'has no target',
    ],
    [
      'a socket',
      [{ path: '/s', mode: 0o140755 }],
      archive(record('s', '', 0o140755)),
      'a type that is not supported',
    ],
    ['no trailer', one, record('a', 'text'), 'its payload is cut off'],
    ['nothing', [], Buffer.alloc(0), 'its payload is cut off'],
    ['garbage', [], Buffer.alloc(200, 'x'), 'there is no cpio header at byte 0'],
    [
      'more after the trailer',
      [],
      Buffer.concat([cpioTrailer, Buffer.from('more')]),
      'goes on after its end',
    ],
    ['much after the trailer', [], Buffer.concat([cpioTrailer, Buffer.alloc(600)]), 'goes on after its end'],
    ['data cut off', one, cpioRecord('a', Buffer.from('text'), { size: 99 }), 'its payload is cut off'],
    ['a huge size', one, cpioRecord('a', Buffer.alloc(0), { size: 0xffffffff }), 'its payload is cut off'],
    [
      'a name that does not end',
      [],
      Buffer.concat([Buffer.from('070701' + '0'.repeat(88) + '00000001' + '0'.repeat(8) + 'ab')]),
      'a name that does not end',
    ],
    ['a name of no length', [], Buffer.from('070701' + '0'.repeat(104)), 'a name that is empty or too long'],
    ['a name of any length', [], Buffer.from('070701' + 'f'.repeat(104)), 'a name that is empty or too long'],
    [
      'digits that are none',
      [],
      Buffer.from('070701' + 'g'.repeat(104)),
      'the cpio header at byte 0 is wrong',
    ],
    ['a climbing path', [{ path: '/../a' }], archive(), 'leaves the package'],
    ['a relative path', [{ path: 'a' }], archive(), 'is not absolute'],
    ['a long path', [{ path: `/${'x'.repeat(4100)}` }], archive(), 'a path is too long'],
    ['a deep path', [{ path: '/x'.repeat(70) }], archive(), 'a path is too deep'],
    ['a path twice', [{ path: '/a' }, { path: '//a' }], archive(), 'its header lists a twice'],
    [
      'a file below a link',
      [{ path: '/l', target: 'x' }, { path: '/l/x' }],
      cpioOf([{ path: '/l', target: 'x' }, { path: '/l/x' }]),
      'which is no directory',
    ],
    ['bad capabilities', [{ path: '/a', capabilities: 'cap_of_all=ep' }], archive(), 'of /a are not valid'],
    [
      'half effective',
      [{ path: '/a', capabilities: 'cap_chown,cap_kill=p cap_kill+e' }],
      archive(),
      'are not valid',
    ],
  ])('refuses %s', async (_, list, payload, reason) => {
    await expect(openFiles(list, payload)).rejects.toThrow(reason);
  });

  it.each<readonly [string, RpmTag, string]>([
    ['no valid name', textTag(1000, '../x'), 'its name "../x" is not valid'],
    ['a version with a dash', textTag(1001, '1-2'), 'its version "1-2" is not valid'],
    ['an empty release', textTag(1002, ''), 'its release "" is not valid'],
    ['an odd architecture', textTag(1022, 'x86/64'), 'its architecture "x86/64" is not valid'],
    ['a source package', numbersTag(1106, [1]), 'it is a source package'],
    ['a number for a name', numbersTag(1000, [1]), 'the tag 1000 holds no strings'],
    ['text for a time', textTag(1006, '1'), 'the tag 1006 holds no numbers'],
    ['two times', numbersTag(1006, [1, 2]), 'the tag 1006 holds several numbers'],
    ['several names', textsTag(1000, ['a', 'b']), 'the tag 1000 holds several strings'],
    ['a name not in UTF-8', { ...textTag(1000, 'x'), data: Buffer.from('ff00', 'hex') }, 'is not UTF-8'],
    ['fewer sizes', numbersTag(1028, [1]), 'its header lists sizes for another number of files'],
    ['fewer names', textsTag(1117, ['a']), 'its header lists directories for another number of files'],
    ['more users', textsTag(1039, Array<string>(7).fill('root')), 'lists users for another number of files'],
    ['a directory that is not', numbersTag(1116, [0, 1, 2, 3, 4, 9]), 'names a directory that there is not'],
    ['half a directory', textsTag(1118, Array<string>(6).fill('/x')), 'names a directory that there is not'],
    ['another archive', textTag(1124, 'drpm'), 'its payload is of the format "drpm"'],
    ['another compression', textTag(1125, 'lz4'), 'the compression of its payload, "lz4", is not supported'],
    ['a wrong compression', textTag(1125, 'zstd'), 'it is not zst data'],
    ['a weak payload digest', numbersTag(5093, [1]), 'of an algorithm that is not safe (1)'],
    [
      'a wrong alternative',
      textsTag(5097, ['0'.repeat(64)]),
      'the sha256 digest of its unpacked payload is wrong',
    ],
    [
      'a wrong digest of format 6',
      textTag(5121, '0'.repeat(128)),
      'the sha512 digest of its payload is wrong',
    ],
    ['another wrong one', textTag(5123, '0'.repeat(64)), 'the sha3-256 digest of its payload is wrong'],
    ['a short digest', textTag(5123, '00'), 'its payload digest in tag 5123 is damaged'],
  ])('refuses %s', async (_, tag, reason) => {
    await expect(openTags(tag)).rejects.toThrow(reason);
  });

  it('refuses a few directories in very many paths', async () => {
    const count = 50_000;
    const all = <Value>(value: Value) => Array<Value>(count).fill(value);
    await expect(
      openTags(
        numbersTag(1028, all(0)),
        numbersTag(1030, all(0o100644), 2),
        numbersTag(1033, all(0), 2),
        numbersTag(1034, all(0)),
        textsTag(1035, all('')),
        textsTag(1036, all('')),
        numbersTag(1037, all(0)),
        textsTag(1039, all('root')),
        textsTag(1040, all('root')),
        numbersTag(1095, all(1)),
        numbersTag(1096, all(1)),
        numbersTag(1116, all(0)),
        textsTag(
          1117,
          all('').map((_, index) => String(index)),
        ),
        textsTag(1118, [`/${'x'.repeat(4000)}/`]),
        textsTag(5010, all('')),
      ),
    ).rejects.toThrow('its paths take more than 67108864 characters');
  });

  it('takes gzip data without a word about compression', async () => {
    const parts = rpmParts(files);
    const payload = gzipSync(parts.payload);
    expect((await open({ ...parts, payload })).entries).toHaveLength(5);
  });

  it('checks what stands before the headers', async () => {
    const parts = rpmParts(files);
    const lead = (change: (bytes: Buffer) => void) => {
      const bytes = Buffer.from(parts.lead);
      change(bytes);
      return open({ ...parts, lead: bytes });
    };
    await lead((bytes) => bytes.fill(0xff, 5));
    await lead((bytes) => bytes.writeUInt8(4, 4));
    await expect(lead((bytes) => bytes.writeUInt8(2, 4))).rejects.toThrow(
      'its package format 2 is not supported',
    );
    await expect(lead((bytes) => bytes.fill(0, 0, 4))).rejects.toThrow('it is no RPM package');
    await expect(opening.bytes(Buffer.from('text'))).rejects.toThrow('it is too short to be an RPM package');
  });

  it('checks the structure of headers as rpm does', async () => {
    const parts = rpmParts(files);
    const bytes = resealed(parts);
    const start = 96 + 16 + bytes.readUInt32BE(104) * 16 + bytes.readUInt32BE(108);
    const at = start + ((8 - (start % 8)) % 8);
    const spoiled = (offset: number, value: number) => {
      const copy = Buffer.from(bytes);
      copy.writeUInt32BE(value, offset);
      return opening.bytes(copy);
    };
    const first = at + 32;
    for (const [offset, value, reason] of [
      [at, 0, 'its header is damaged: it has no magic number'],
      [at + 8, 0x10000, 'its header has more than 65535 tags'],
      [at + 8, 0, 'its header is empty'],
      [at + 12, 0x7fffffff, 'its header has more than'],
      [at + 12, 0x00f00000, 'its header is cut off'],
      [104, 33, 'its signature header has more than 32 tags'],
      [at + 16, 62, 'its header has no region'],
      [at + 20, 6, 'its region is wrong'],
      [at + 24, 0xfffffff0, 'its region is wrong'],
      [at + 24, 0, 'its region is wrong'],
      [at + 28, 15, 'its region is wrong'],
      [first, 63, 'the tag 63 is out of range'],
      [first, 0xffffffff, 'is out of range'],
      [first + 4, 10, 'has an unknown type'],
      [first + 4, 0, 'has data that do not fit'],
      [first + 8, 0x7fffffff, 'has its data in the wrong place'],
      [first + 8, 0xffffffff, 'has its data in the wrong place'],
      [first + 12, 2, 'the tag 1000 has a wrong count'],
      [first + 16 + 8, 0, 'the tag 1001 has its data in the wrong place'],
      [first + 16, 1000, 'the tag 1000 is there twice'],
      [first + 48 + 8, 17, 'the tag 1006 is not aligned'],
      [first + 48 + 12, 0x3fffffff, 'the tag 1006 has data that do not fit'],
    ] as const) {
      await expect(spoiled(offset, value), `${offset - at}: ${value}`).rejects.toThrow(reason);
    }
    const trailer = bytes.length - parts.payload.length - 16;
    for (const [offset, value] of [
      [0, 62],
      [4, 6],
      [8, 0],
      [8, 16],
      [8, 0xfffffff0],
      [8, 0xfffffff1],
      [8, 0x80000000],
      [12, 17],
    ] as const) {
      await expect(spoiled(trailer + offset, value)).rejects.toThrow('its region is wrong');
    }
    // Numbers of the wrong type among the signatures.
    const wrong = (tag: RpmTag) => opening.bytes(rpmOf({ ...parts, signatures: [tag] }));
    await expect(wrong(binaryTag(273, Buffer.from('x')))).rejects.toThrow('the tag 273 holds no strings');
    await expect(wrong(textTag(273, 'x'))).rejects.toThrow('the sha256 digest of its header is wrong');
  });
});
