import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { familyOfSystem, isEnterprise, isRawhide, readOsRelease } from '../../build/repository/os-release.js';

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

describe('isEnterprise', () => {
  it.each([
    ['ID="rocky"\nID_LIKE="rhel centos fedora"', true],
    ['ID="rhel"\nID_LIKE="fedora"', true],
    ['ID="centos"\nID_LIKE="rhel fedora"', true],
    ['ID="ol"\nID_LIKE="fedora"', true],
    ['ID="fedora"', false],
    ['ID=nobara\nID_LIKE="fedora"', false],
    ['ID=debian', false],
  ])('%j: %s', async (text, expected) => {
    const path = join(directory, 'os-release');
    await writeFile(path, text);
    expect(isEnterprise(await readOsRelease(path))).toBe(expected);
  });
});

describe('isRawhide', () => {
  it.each([
    ['ID=fedora\nVERSION="46 (Rawhide Prerelease)"\nVERSION_ID=46', true],
    ['ID=fedora\nVERSION_ID=46\nREDHAT_SUPPORT_PRODUCT_VERSION=rawhide', true],
    ['ID=fedora\nVERSION="45 (Server Edition)"\nVERSION_ID=45', false],
    ['ID=other\nVERSION=rawhide', false],
  ])('%j: %s', async (text, expected) => {
    const path = join(directory, 'os-release');
    await writeFile(path, text);
    expect(isRawhide(await readOsRelease(path))).toBe(expected);
  });
});
