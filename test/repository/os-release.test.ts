import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { familyOfSystem, readOsRelease } from '../../build/repository/os-release.js';

const directory = await mkdtemp(join(tmpdir(), 'os-release-'));
afterAll(() => rm(directory, { recursive: true }));

async function familyOf(text: string): Promise<string | undefined> {
  const path = join(directory, 'os-release');
  await writeFile(path, text);
  return familyOfSystem(await readOsRelease(path));
}

describe('familyOfSystem', () => {
  it.each([
    ['NAME="Fedora Linux"\nID=fedora\nVERSION_ID=43\nVARIANT_ID=coreos\n', 'fedora'],
    ['ID="rocky"\nID_LIKE="rhel centos fedora"\nVERSION_ID="9.4"\n', 'fedora'],
    ['ID=rhel\n', 'fedora'],
    ['ID=debian\nVERSION_CODENAME=bookworm\n', 'debian'],
    ["ID='ubuntu'\nID_LIKE=debian\n", 'debian'],
    ['ID=alpine\nVERSION_ID=3.20.0\n', undefined],
    ['', undefined],
  ])('%j is %s', async (text, family) => {
    expect(await familyOf(text)).toBe(family);
  });

  it('knows of no system without the file', async () => {
    expect(await readOsRelease(join(directory, 'none'))).toEqual(new Map());
    await expect(readOsRelease(directory)).rejects.toThrow(`cannot read ${directory}: `);
  });
});
