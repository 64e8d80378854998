import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openRpm } from '../../build/package/rpm.js';
import type { SignerPolicy } from '../../build/package/rpm/signature.js';
import { readPublicKeys } from '../../build/repository/signature.js';
import { openCache } from '../../build/support/cache.js';
import { sha256Of } from '../support/deb.js';
import { expectAsRpmSays, rpmMetadataOf } from '../support/rpm-oracle.js';
import { requireTools } from '../support/tools.js';

const samples = process.env['RPM_SAMPLES'] ?? '';
const metadata = process.env['REPODATA_SAMPLES'] ?? '';
const usable =
  samples !== '' &&
  metadata !== '' &&
  requireTools('rpm', 'rpmkeys', 'rpm2cpio', 'rpm2archive', 'cpio', 'tar');
if (samples === '' || metadata === '') {
  // Packages of distributions are not part of this project: their absence is no failure in CI either.
  process.stderr.write('skipped: the test needs RPM_SAMPLES and REPODATA_SAMPLES\n');
}

const directory = mkdtempSync(join(tmpdir(), 'real-rpms-'));
const keyFiles = usable
  ? readdirSync(join(metadata, 'keys')).map((name) => join(metadata, 'keys', name))
  : [];
let keyring: SignerPolicy;

beforeAll(async () => {
  const keys = (await Promise.all(keyFiles.map((path) => readPublicKeys(readFileSync(path))))).flat();
  keyring = {
    pinned: keys.map((key) => key.getFingerprint().toUpperCase()),
    keys: () => Promise.resolve(keys),
  };
  if (usable) execFileSync('rpmkeys', ['--dbpath', join(directory, 'rpmdb'), '--import', ...keyFiles]);
});
afterAll(() => {
  rmSync(directory, { recursive: true });
});

const packages = (usable ? readdirSync(samples, { recursive: true, encoding: 'utf8' }) : [])
  .filter((name) => name.endsWith('.rpm'))
  .sort();

/** What `rpm -Kv` says: whether all is good, and of which signatures it knows the key. */
function rpmVerdict(path: string, database: string): { readonly good: boolean; readonly signed: boolean } {
  const report = execFileSync('sh', ['-c', 'rpmkeys --dbpath "$1" -Kv "$0" 2>&1; true', path, database], {
    encoding: 'utf8',
    env: { PATH: process.env['PATH'], LC_ALL: 'C.UTF-8' },
  });
  const verdicts = [...report.matchAll(/: (OK|BAD|NOKEY|NOTTRUSTED|NOTFOUND)\b/g)].map(([, word]) => word);
  return { good: verdicts.every((word) => word === 'OK'), signed: /Signature/.test(report) };
}

describe.skipIf(!usable)('openRpm with packages of distributions', () => {
  it.each(packages)('%s: as rpm says', async (name) => {
    const path = join(samples, name);
    const sha256 = sha256Of(readFileSync(path));
    const cache = await openCache(join(directory, 'cache', basename(name)));
    const verdict = rpmVerdict(path, join(directory, 'rpmdb'));

    // Signatures: the same verdict as rpm with these keys, and with none.
    const signed = await openRpm(path, sha256, cache, keyring).catch((error: unknown) => String(error));
    if (typeof signed === 'string') {
      expect(verdict.good && verdict.signed, signed).toBe(false);
      expect(signed).toMatch(/^ToolError: cannot (trust|read) /);
    } else {
      expect(verdict).toEqual({ good: true, signed: true });
      expect(keyring.pinned).toContain(rpmMetadataOf(signed).signer);
      await signed.close();
    }
    const stranger: SignerPolicy = { pinned: keyring.pinned, keys: () => Promise.resolve([]) };
    const cold = await openCache(join(directory, 'cold', basename(name)));
    await expect(openRpm(path, sha256, cold, stranger)).rejects.toThrow(
      verdict.signed ? /which is not at hand$/ : /it is not signed$/,
    );

    if (name.includes('corrupted')) {
      await expect(openRpm(path, sha256, cold, 'unsigned')).rejects.toThrow(
        `cannot trust ${path}: the sha256 digest of its payload is wrong`,
      );
      return;
    }
    // Contents: twice, unpacked and out of the cache.
    for (const time of ['cold', 'warm']) {
      const begin = performance.now();
      const contents = await openRpm(path, sha256, cold, 'unsigned');
      const took = performance.now() - begin;
      await expectAsRpmSays(contents, path);
      expect(rpmMetadataOf(contents).signer).toBeUndefined();
      await contents.close();
      if (time === 'cold' && name.startsWith('glibc')) {
        process.stdout.write(`${name}: ${contents.entries.length} entries, ${Math.round(took)} ms\n`);
        expect(took).toBeLessThan(5000);
      }
    }
  });

  it('knows the accounts that dhcp-server makes', async () => {
    const name = packages.find((one) => one.startsWith('dhcp-server-4.4'));
    const path = join(samples, name ?? '');
    if (!existsSync(path)) throw new Error('there is no such sample');
    const cache = await openCache(join(directory, 'accounts'));
    const contents = await openRpm(path, sha256Of(readFileSync(path)), cache, keyring);
    const owners = contents.entries
      .filter(({ userName }) => userName !== 'root')
      .map(({ path: file, userName, groupName, uid, gid }) => [file, userName, groupName, uid, gid]);
    expect(owners).toEqual([
      ['var/lib/dhcpd', 'dhcpd', 'dhcpd', 177, 177],
      ['var/lib/dhcpd/dhcpd.leases', 'dhcpd', 'dhcpd', 177, 177],
      ['var/lib/dhcpd/dhcpd6.leases', 'dhcpd', 'dhcpd', 177, 177],
    ]);
    await contents.close();
  });
});
