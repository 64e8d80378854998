import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { readArMembers, type ArMember } from '../../build/package/ar.js';
import { arArchive, type ArMemberSpec } from '../support/ar.js';
import { requireTools } from '../support/tools.js';

const directory = mkdtempSync(join(tmpdir(), 'ar-'));
afterAll(() => {
  rmSync(directory, { recursive: true });
});

async function read(archive: Buffer): Promise<readonly ArMember[]> {
  const path = join(directory, 'archive');
  writeFileSync(path, archive);
  const handle = await open(path);
  try {
    return await readArMembers(handle, 'sample');
  } finally {
    await handle.close();
  }
}

const odd: ArMemberSpec = { name: 'odd', data: Buffer.from('odd'), mtime: 1_700_000_000 };
const even: ArMemberSpec = { name: 'even', data: Buffer.from('even') };

describe('readArMembers', () => {
  it('finds members of even, odd and no length', async () => {
    const archive = arArchive([
      odd,
      { ...even, name: 'slash/' },
      { name: 'none', data: Buffer.alloc(0) },
      odd,
    ]);
    const members = await read(archive);
    expect(members.map(({ name, mtime, size }) => [name, mtime, size])).toEqual([
      ['odd', 1_700_000_000, 3],
      ['slash', 0, 4],
      ['none', 0, 0],
      ['odd', 1_700_000_000, 3],
    ]);
    const texts = members.map(({ offset, size }) => archive.toString('latin1', offset, offset + size));
    expect(texts).toEqual(['odd', 'even', '', 'odd']);
  });

  it.skipIf(!requireTools('ar'))('agrees with ar(1)', async () => {
    const names = ['first', 'second', 'third-is-15-long'.slice(0, 15)];
    names.forEach((name, index) => {
      writeFileSync(join(directory, name), 'x'.repeat(index * 3 + 1));
    });
    const path = join(directory, 'made.a');
    execFileSync('ar', ['rcS', path, ...names], { cwd: directory });
    const handle = await open(path);
    const members = await readArMembers(handle, 'sample');
    await handle.close();
    expect(members.map(({ name, size }) => [name, size])).toEqual(
      names.map((name, index) => [name, index * 3 + 1]),
    );
    expect(members.every(({ mtime }) => mtime === 0)).toBe(true);
  });

  it.each<[string, Buffer, string]>([
    ['nothing', Buffer.alloc(0), 'it is too short'],
    ['another file', Buffer.from('#!/bin/sh\nexit 0\n'), 'the ar signature is missing'],
    [
      'a header without its magic',
      arArchive([{ ...odd, magic: '`x' }]),
      'the ar header at byte 8 is damaged',
    ],
    ['a size beyond the end', arArchive([{ ...even, size: 5 }]), 'the ar member even is cut off'],
    ['a huge size', arArchive([{ ...even, size: 9_999_999_999 }]), 'the ar member even is cut off'],
    ['a negative size', arArchive([{ ...even, size: -4 }]), 'no valid size'],
    ['an empty size', arArchive([{ ...even, size: '' }]), 'no valid size'],
    ['a size with text', arArchive([{ ...even, size: '4x' }]), 'no valid size'],
    [
      'a size that leads into data',
      arArchive([{ ...even, size: 2 }, odd]),
      'the ar header at byte 70 is damaged',
    ],
    ['a hexadecimal size', arArchive([{ ...even, size: '0x4' }]), 'no valid size'],
    ['a negative time', arArchive([{ ...even, mtime: '-1' }]), 'no valid time'],
    [
      'wrong padding',
      arArchive([{ ...odd, padding: 'x' }, even]),
      'the padding of the ar member odd is damaged',
    ],
    ['missing padding', arArchive([{ ...odd, padding: '' }]), 'the padding of the ar member odd is cut off'],
    ['a BSD long name', arArchive([{ ...even, name: '#1/4' }]), 'no plain short name'],
    ['a GNU name table', arArchive([{ ...even, name: '//' }]), 'no plain short name'],
    ['a path', arArchive([{ ...even, name: '../x' }]), 'no plain short name'],
    ['a name with control characters', arArchive([{ ...even, name: 'a\nb' }]), 'no plain short name'],
    ['too many members', arArchive(Array.from({ length: 65 }, () => even)), 'more than 64 ar members'],
  ])('refuses %s', async (_, archive, reason) => {
    await expect(read(archive)).rejects.toThrow(`cannot read sample: `);
    await expect(read(archive)).rejects.toThrow(reason);
  });

  it('refuses an archive cut off at any byte', async () => {
    const archive = arArchive([odd, even]);
    const whole = new Set([8, 8 + 60 + 4]);
    for (let length = 0; length < archive.length; length += 1) {
      if (whole.has(length)) continue;
      await expect(read(archive.subarray(0, length)), String(length)).rejects.toThrow(
        /^cannot read sample: /,
      );
    }
  });
});
