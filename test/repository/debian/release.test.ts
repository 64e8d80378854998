import { copyFile, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { archivePath, parseRelease } from '../../../build/repository/debian/release.js';
import { plainDefaults } from '../../../build/repository/debian/apt-config.js';
import { verifyClearSigned, type Verification } from '../../../build/repository/signature.js';
import type { Source } from '../../../build/repository/debian/sources.js';
import { silentLog } from '../../../build/support/log.js';
import { ToolError } from '../../../build/support/errors.js';
import { makeAptRoot, type AptRoot } from '../../support/apt-root.js';
import {
  debianArchiveTools,
  makeArchive,
  makeKeys,
  type Keys,
  type SigningKey,
  type SuiteSpec,
  type TestArchive,
} from '../../support/debian-archive.js';
import { requireTools } from '../../support/tools.js';
import { makeOpening, sourceOf, type Opening } from './opening.js';

const day = 24 * 3600 * 1000;
const daysFromNow = (days: number): Date => new Date(Math.floor(Date.now() / 1000) * 1000 + days * day);
const tools = requireTools(...debianArchiveTools, 'apt-get', 'gpgv');

describe.skipIf(!tools)('trust in a Release', () => {
  let keys: Keys;
  let rsa: SigningKey;
  let stranger: SigningKey;
  let expired: SigningKey;
  let revoked: SigningKey;
  let unrevoked: SigningKey;
  let archive: TestArchive;
  let apt: AptRoot;
  let opening: Opening;
  const suite: SuiteSpec = { name: 'test', packages: [{ name: 'hello', version: '1' }] };
  const inRelease = (): string => join(archive.directory, 'dists/test/InRelease');

  beforeAll(async () => {
    keys = await makeKeys();
    [rsa, stranger, expired, unrevoked] = await Promise.all([
      keys.make('rsa', { algorithm: 'rsa2048' }),
      keys.make('stranger'),
      keys.make('expired', { expires: '3d', made: daysFromNow(-30) }),
      keys.make('revoked'),
    ]);
    archive = await makeArchive({ suites: [] }, keys);
    apt = await makeAptRoot();
  });
  afterAll(async () => {
    await archive.remove();
    await apt.remove();
    await keys.remove();
  });
  beforeEach(async () => {
    opening = await makeOpening();
    await rm(join(apt.directory, 'state/lists'), { recursive: true, force: true });
  });
  afterEach(() => opening.close());

  /** Asks both apt and us; gives our refusal, after checking that apt's verdict is the same. */
  async function verdict(
    spec: SuiteSpec | undefined,
    keyring = archive.keyring,
    changes: Partial<Source> = {},
    aptOptions: readonly string[] = [],
    bracket = '',
  ): Promise<ToolError | undefined> {
    if (spec !== undefined) await archive.publish(spec);
    const refused = await apt.update(
      `deb [signed-by=${keyring}${bracket}] ${archive.url} test main\n`,
      aptOptions,
    );
    const ours = await opening.open([sourceOf(archive.url, 'test', keyring, changes)]).then(
      (opened) => {
        expect(opened.find('hello')?.version).toBe('1');
        return undefined;
      },
      (error: unknown) => {
        if (error instanceof ToolError) return error;
        throw error;
      },
    );
    expect(ours === undefined ? 'accepted' : 'refused', refused ?? ours?.message ?? '').toBe(
      refused === undefined ? 'accepted' : 'refused',
    );
    if (ours !== undefined) expect(ours.hint).toBeDefined();
    return ours;
  }

  it('takes InRelease signed by the keyring, RSA and Ed25519', async () => {
    expect(await verdict(suite)).toBeUndefined();
    const ring = join(apt.directory, 'rsa.gpg');
    await writeFile(ring, rsa.publicKey);
    expect(await verdict({ ...suite, signers: [rsa] }, ring)).toBeUndefined();
  });

  it('takes Release with Release.gpg', async () => {
    expect(await verdict({ ...suite, sign: 'detached' })).toBeUndefined();
    const gpg = join(archive.directory, 'dists/test/Release.gpg');
    // Several armoured blocks one after the other, as archives with two keys had it.
    const release = await readFile(join(archive.directory, 'dists/test/Release'));
    const foreign = await keys.sign(release, 'detached', [stranger]);
    await writeFile(gpg, Buffer.concat([await readFile(gpg), foreign]));
    expect(await opening.open([sourceOf(archive.url, 'test', archive.keyring)])).toBeDefined();
  });

  it('takes an armoured keyring', async () => {
    const ring = join(apt.directory, 'armoured.asc');
    await writeFile(ring, rsa.armoured + archive.key.armoured);
    await archive.publish(suite);
    expect(await opening.open([sourceOf(archive.url, 'test', ring)])).toBeDefined();
    await writeFile(ring, archive.key.armoured);
    expect(await verdict(undefined, ring)).toBeUndefined();
  });

  it('needs one good signature of several', async () => {
    expect(await verdict({ ...suite, signers: [stranger, archive.key] })).toBeUndefined();
    const error = await verdict({ ...suite, signers: [stranger] });
    expect(error?.message).toContain(`key ${stranger.fingerprint.slice(-16)} is not in the keyring`);
    expect(error?.hint).toContain('--keyring FILE');
  });

  it('refuses any flipped byte of the signed text', async () => {
    await archive.publish(suite);
    const good = await readFile(inRelease());
    const at = good.indexOf('Codename: test') + 3;
    for (const offset of [at, good.indexOf('SHA256:') + 20, good.lastIndexOf('\n=') - 10]) {
      const bad = Buffer.from(good);
      bad.writeUInt8(bad.readUInt8(offset) ^ 1, offset);
      await writeFile(inRelease(), bad);
      const error = await verdict(undefined);
      expect(error?.message).toMatch(/^cannot trust file:.*InRelease: /);
    }
  });

  it('refuses a false signature of a known key beside a good one, like apt', async () => {
    const ring = join(apt.directory, 'both.gpg');
    await writeFile(ring, Buffer.concat([archive.key.publicKey, rsa.publicKey]));
    await archive.publish({ ...suite, sign: 'detached' });
    const release = await readFile(join(archive.directory, 'dists/test/Release'));
    const wrong = await keys.sign(Buffer.concat([release, Buffer.from('\n')]), 'detached', [rsa]);
    const path = join(archive.directory, 'dists/test/Release.gpg');
    const packets = [await readFile(path), wrong].map((armoured) => {
      const body = /\n\n([^]*?)\n=/.exec(armoured.toString())?.[1] ?? '';
      return Buffer.from(body, 'base64');
    });
    const lines =
      Buffer.concat(packets)
        .toString('base64')
        .match(/.{1,64}/g) ?? [];
    await writeFile(
      path,
      ['-----BEGIN PGP SIGNATURE-----', '', ...lines, '-----END PGP SIGNATURE-----', ''].join('\n'),
    );
    const error = await verdict(undefined, ring);
    expect(error?.message).toContain('does not fit the text: it was changed on its way');
    // Without the key that made it, the false signature is nobody's.
    expect(await verdict(undefined)).toBeUndefined();
  });

  it('gives the signed text or a ToolError, whatever happens to the file', async () => {
    await archive.publish(suite);
    const good = await readFile(inRelease());
    const verification: Verification = {
      url: 'InRelease',
      keyring: { files: [archive.keyring], blocks: [], fingerprints: [] },
      now: new Date(),
      log: silentLog,
    };
    const text = await verifyClearSigned(good, verification);
    expect(text).toContain('Codename: test\n');
    const damage = fc.record({
      at: fc.nat(good.length - 1),
      remove: fc.nat(40),
      insert: fc.oneof(fc.uint8Array({ maxLength: 4 }), fc.constant(Buffer.from('\n\n')), fc.constant(good)),
    });
    await fc.assert(
      fc.asyncProperty(damage, async ({ at, remove, insert }) => {
        const bad = Buffer.concat([good.subarray(0, at), insert, good.subarray(at + remove)]);
        const result = await verifyClearSigned(bad, verification).catch((error: unknown) => error);
        if (!(result instanceof ToolError)) expect(result).toBe(text);
      }),
      { numRuns: 150 },
    );
  });

  it('uses only what is signed', async () => {
    await archive.publish(suite);
    const good = await readFile(inRelease(), 'utf8');
    for (const changed of [
      `Codename: evil\n${good}`,
      `${good}Codename: evil\n`,
      good.replace('-----BEGIN PGP SIGNATURE-----', 'Codename: evil\n-----BEGIN PGP SIGNATURE-----'),
      good + good,
      good.slice(0, good.indexOf('Codename:')),
    ]) {
      await writeFile(inRelease(), changed);
      expect((await verdict(undefined))?.message).toMatch(/^cannot trust /);
    }
    // apt does not look at the headers of the armour; nor would anything there be used.
    await writeFile(inRelease(), good.replace(/^Hash: .*$/m, 'Codename: evil'));
    const opened = opening.open([sourceOf(archive.url, 'test', archive.keyring)]);
    await expect(opened).rejects.toThrow('its signed message is broken');
  });

  it('refuses weak digests', async () => {
    expect(
      (await verdict({ ...suite, digest: 'SHA1', signers: [rsa] }, await ringOf(rsa)))?.message,
    ).toContain('digest that is no longer safe');
    expect(await verdict({ ...suite, digest: 'SHA256', signers: [rsa] }, await ringOf(rsa))).toBeUndefined();
  });

  async function ringOf(key: SigningKey): Promise<string> {
    const ring = join(apt.directory, `${key.fingerprint}.gpg`);
    await writeFile(ring, key.publicKey);
    return ring;
  }

  it('refuses an expired key', async () => {
    const text = Buffer.from(await releaseText());
    const signed = await keys.signAt(daysFromNow(-29), text, 'inline', [expired]);
    await archive.publish(suite);
    await writeFile(inRelease(), signed);
    const error = await verdict(undefined, await ringOf(expired));
    expect(error?.message).toContain('expired');
  });

  it('refuses a revoked key', async () => {
    expect(await verdict({ ...suite, signers: [unrevoked] }, await ringOf(unrevoked))).toBeUndefined();
    revoked = await keys.revoke(unrevoked);
    const error = await verdict(undefined, await ringOf(revoked));
    expect(error?.message).toContain('revoked');
  });

  async function releaseText(): Promise<string> {
    await archive.publish({ ...suite, sign: 'none' });
    return readFile(join(archive.directory, 'dists/test/Release'), 'utf8');
  }

  it('refuses an archive without signature', async () => {
    const error = await verdict({ ...suite, sign: 'none' });
    expect(error?.message).toContain('it has no signature');
    expect(await verdict(undefined, archive.keyring, { trusted: true }, [], ' trusted=yes')).toBeUndefined();
    await archive.publish({ ...suite, signers: [stranger] });
    expect(await verdict(undefined, archive.keyring, { trusted: true }, [], ' trusted=yes')).toBeUndefined();
  });

  it('refuses to trust what the host says not to trust', async () => {
    await archive.publish(suite);
    const opened = opening.open([sourceOf(archive.url, 'test', archive.keyring, { trusted: false })]);
    await expect(opened).rejects.toThrow('says trusted=no');
  });

  it('takes only the keys whose fingerprint is given', async () => {
    const ring = join(apt.directory, 'two.gpg');
    await writeFile(ring, Buffer.concat([archive.key.publicKey, rsa.publicKey]));
    const only = (key: SigningKey, mark = ''): Partial<Source> => ({
      keyring: { files: [ring], blocks: [], fingerprints: [key.fingerprint + mark] },
    });
    expect(await verdict(suite, ring, only(archive.key), [], `,${archive.key.fingerprint}`)).toBeUndefined();
    expect(
      await verdict(suite, ring, only(archive.key, '!'), [], `,${archive.key.fingerprint}!`),
    ).toBeUndefined();
    expect(await verdict(suite, ring, only(rsa), [], `,${rsa.fingerprint}`)).toBeInstanceOf(ToolError);
  });

  it('takes a key written into the source', async () => {
    await archive.publish(suite);
    const keyring = { files: [], blocks: [archive.key.armoured.trim()], fingerprints: [] };
    expect(await opening.open([sourceOf(archive.url, 'test', '', { keyring })])).toBeDefined();
    const foreign = { files: [], blocks: [stranger.armoured.trim()], fingerprints: [] };
    await expect(opening.open([sourceOf(archive.url, 'test', '', { keyring: foreign })])).rejects.toThrow(
      'is not in the keyring',
    );
  });

  it('refuses an expired Release unless the host does not care', async () => {
    const old = { ...suite, date: daysFromNow(-10), validUntil: daysFromNow(-3) };
    const error = await verdict(old);
    expect(error?.message).toMatch(/it was valid until [-0-9]+T[0-9:]+Z, and now it is [-0-9]+T[0-9:]+Z$/);
    const lax = { checks: { ...plainDefaults.checks, validUntil: false } };
    expect(
      await verdict(undefined, archive.keyring, lax, ['-o', 'Acquire::Check-Valid-Until=false']),
    ).toBeUndefined();
    expect(opening.said.filter((line) => line.startsWith('warn: ')).join()).toContain(
      'configured not to check',
    );
    const longer = { checks: { ...plainDefaults.checks, minValid: 20 * 86400 } };
    expect(await verdict(undefined, archive.keyring, longer, [], ' valid-until-min=1728000')).toBeUndefined();
  });

  it('lets the host shorten the time a Release is valid', async () => {
    const shorter = { checks: { ...plainDefaults.checks, maxValid: 5 * 86400 } };
    const error = await verdict(
      { ...suite, date: daysFromNow(-10) },
      archive.keyring,
      shorter,
      [],
      ' valid-until-max=432000',
    );
    expect(error?.message).toContain('it was valid until');
  });

  it('refuses a Release from the future unless the host does not care', async () => {
    const error = await verdict({ ...suite, date: daysFromNow(2) });
    expect(error?.message).toContain("this machine's clock says");
    const lax = { checks: { ...plainDefaults.checks, date: false, validUntil: false } };
    expect(
      await verdict(undefined, archive.keyring, lax, ['-o', 'Acquire::Check-Date=false']),
    ).toBeUndefined();
  });

  it('never goes back in time', async () => {
    expect(await verdict({ ...suite, date: daysFromNow(-1) })).toBeUndefined();
    await archive.publish({ ...suite, date: daysFromNow(-2) });
    const source = sourceOf(archive.url, 'test', archive.keyring);
    const older = /it is dated \S+Z, but one of \S+Z has been seen$/;
    await expect(opening.open([source])).rejects.toThrow(older);
    await archive.publish({ ...suite, date: daysFromNow(-1) });
    expect(await opening.open([source])).toBeDefined();
  });

  it('refuses the Release of another suite', async () => {
    await archive.publish({ ...suite, codename: 'other', suite: 'another' });
    const opened = opening.open([sourceOf(archive.url, 'test', archive.keyring)]);
    await expect(opened).rejects.toThrow('it is the Release of another, other, not of test');
    await archive.publish({ ...suite, codename: 'test', suite: 'stable' });
    expect(await opening.open([sourceOf(archive.url, 'test', archive.keyring)])).toBeDefined();
  });

  it('refuses an index that does not have the hash of the Release', async () => {
    await archive.publish({ ...suite, byHash: false });
    const index = join(archive.directory, 'dists/test/main/binary-amd64/Packages.gz');
    const bytes = await readFile(index);
    bytes.writeUInt8(bytes.readUInt8(30) ^ 1, 30);
    await writeFile(index, bytes);
    await copyFile(index, index.replace('.gz', '.xz'));
    await expect(opening.open([sourceOf(archive.url, 'test', archive.keyring)])).rejects.toThrow(
      /^cannot fetch /,
    );
    const refused = await apt.update(`deb [signed-by=${archive.keyring}] ${archive.url} test main\n`);
    expect(refused).toBeDefined();
  });

  it('says what is wrong with a keyring', async () => {
    await archive.publish(suite);
    const missing = opening.open([sourceOf(archive.url, 'test', '/nowhere/keys.gpg')]);
    await expect(missing).rejects.toThrow('cannot read keyring /nowhere/keys.gpg: no such file or directory');
    const broken = join(apt.directory, 'broken.gpg');
    await writeFile(broken, 'not a key');
    await expect(opening.open([sourceOf(archive.url, 'test', broken)])).rejects.toThrow(
      `cannot read keyring ${broken}: it holds no OpenPGP keys`,
    );
    for (const bytes of [archive.key.publicKey.subarray(0, 60), Buffer.from([0xff, 0xff, 0xff, 0xff])]) {
      const damaged = join(apt.directory, 'damaged.gpg');
      await writeFile(damaged, bytes);
      await expect(opening.open([sourceOf(archive.url, 'test', damaged)])).rejects.toThrow(
        `cannot read keyring ${damaged}: its OpenPGP keys cannot be read`,
      );
    }
    const keyring = { files: [broken, archive.keyring], blocks: [], fingerprints: [] };
    expect(await opening.open([sourceOf(archive.url, 'test', '', { keyring })])).toBeDefined();
    expect(opening.said.join('\n')).toContain(`keyring ${broken} is left out`);
  });
});

describe('parseRelease', () => {
  const hash = 'a'.repeat(64);
  const parse = (text: string): unknown => parseRelease(text, 'Release', 'file:///base/');

  it('reads dates, flags and hashes', () => {
    const text = `Suite: oldstable\nCodename: test\nDate: Sat, 11 Jul 2026 10:16:37 UTC\nAcquire-By-Hash: yes\nArchitectures: all amd64\nNo-Support-for-Architecture-all: Packages\nComponents: main\nSHA256:\n ${hash.toUpperCase()}  12 main/a\n`;
    expect(parse(text)).toMatchObject({
      date: Date.UTC(2026, 6, 11, 10, 16, 37),
      byHash: true,
      indexOfAll: false,
      files: new Map([['main/a', { sha256: hash, size: 12 }]]),
    });
  });

  it.each([
    ['SHA256:\n', 'the field Date is missing'],
    ['Date: Sat, 11 Jul 2026 10:16:37 UTC\n', 'it lists no SHA256 sums'],
    ['Date: 2026-07-11\nSHA256:\n', 'not a date in UTC'],
    ['Date: Sat, 11 Jux 2026 10:16:37 UTC\nSHA256:\n', 'not a date in UTC'],
    ['Date: Sat, 11 Jul 2026 10:16:37 CEST\nSHA256:\n', 'not a date in UTC'],
    [`Date: Sat, 11 Jul 2026 10:16:37 UTC\nSHA256:\n ${hash} 1 ../x\n`, 'leaves the archive'],
    [`Date: Sat, 11 Jul 2026 10:16:37 UTC\nSHA256:\n ${hash} -1 x\n`, 'is not a hash, a size and a path'],
    [`Date: Sat, 11 Jul 2026 10:16:37 UTC\nSHA256:\n ${hash} 1 x\n ${hash} 2 x\n`, 'x has two hashes'],
  ])('refuses %j', (text, reason) => {
    expect(() => parse(text)).toThrow(reason);
  });

  it('throws nothing but ToolError', () => {
    const line = fc.oneof(
      fc.string(),
      fc.constantFrom(
        'Date: Sat, 11 Jul 2026 10:16:37 UTC',
        'SHA256:',
        ` ${hash} 1 x`,
        ` ${hash} 99999999999999999 y`,
      ),
    );
    fc.assert(
      fc.property(fc.array(line), (lines) => {
        try {
          parse(lines.join('\n'));
        } catch (error) {
          expect(error).toBeInstanceOf(ToolError);
        }
      }),
      { numRuns: 500 },
    );
  });
});

describe('archivePath', () => {
  it.each([
    ['pool/a.deb', 'pool/a.deb'],
    ['./a.deb', 'a.deb'],
    ['a/./b_1%3a2~x+y.deb', 'a/b_1%3a2~x+y.deb'],
    ['/etc/passwd', undefined],
    ['../a', undefined],
    ['a/../../b', undefined],
    ['http://host/a', undefined],
    ['//host/a', undefined],
    ['a//b', undefined],
    ['a b', undefined],
    ['a\nb', undefined],
    ['a\\..\\b', undefined],
    ['a?b', undefined],
    ['', undefined],
    ['.', undefined],
  ])('%j gives %j', (path, expected) => {
    expect(archivePath(path)).toBe(expected);
  });
});
