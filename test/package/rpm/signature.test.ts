import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { SignerPolicy } from '../../../build/package/rpm/signature.js';
import { detachedSignature, makeSigningKey, type RpmSpec, type SigningKey } from '../../support/rpm.js';
import {
  binaryTag,
  headerOf,
  partsOf,
  resealed,
  rpmOf,
  textsTag,
  textTag,
  withoutTags,
  withTags,
  type RpmParts,
} from '../../support/rpm-bytes.js';
import { oldSignature } from '../../support/rpm-old-signature.js';
import { policyOf, RpmOpening } from '../../support/rpm-opening.js';
import { rpmMetadataOf } from '../../support/rpm-oracle.js';
import { requireTools } from '../../support/tools.js';

const opening = new RpmOpening();
const { directory } = opening;
afterAll(() => opening.remove());

const files: RpmSpec['files'] = { 'usr/bin/tool': '#!/bin/sh\n', 'usr/bin/alias': { link: 'tool' } };
const neverAsked: SignerPolicy['keys'] = () => Promise.reject(new Error('keys were looked up'));

describe.skipIf(!requireTools('rpmbuild', 'rpmsign', 'rpmkeys', 'gpg', 'gpgconf'))('signatures', () => {
  let key: SigningKey;
  let stranger: SigningKey;
  let signed: string;
  /** The same package without its signature, and its header. */
  let parts: RpmParts;
  let header: Buffer;
  beforeAll(() => {
    key = makeSigningKey(directory);
    stranger = makeSigningKey(directory, 'ed25519');
    signed = opening.build({ files, sign: key });
    parts = partsOf(resealed(partsOf(readFileSync(signed))));
    header = headerOf(63, parts.header);
  });

  /** The package with a signature over its header. */
  const withSignature = (packet: Buffer, tag = 268) =>
    rpmOf({ ...parts, signatures: withTags(parts.signatures, binaryTag(tag, packet)) });
  const signerOf = async (bytes: Buffer, policy: SignerPolicy) =>
    rpmMetadataOf(await opening.bytes(bytes, policy)).signer;

  it.each([
    ['rsa2048', undefined],
    ['rsa4096', undefined],
    ['ed25519', undefined],
    ['rsa2048', 'rsa4096'],
    ['ed25519', 'ed25519'],
  ] as const)('of rpmsign with %s, subkey %s, are as good as to rpm', async (algorithm, subkey) => {
    const own = makeSigningKey(directory, algorithm, subkey === undefined ? {} : { subkey });
    expect(own.signer === own.fingerprint).toBe(subkey === undefined);
    const path = opening.build({ files, sign: own });
    const contents = await opening.path(path, await policyOf(own, key));
    expect(rpmMetadataOf(contents).signer).toBe(own.fingerprint);

    const database = mkdtempSync(join(directory, 'rpmdb-'));
    writeFileSync(join(database, 'key'), own.publicKey);
    execFileSync('rpmkeys', ['--dbpath', database, '--import', join(database, 'key')]);
    const verdict = execFileSync('rpmkeys', ['--dbpath', database, '-Kv', path], { encoding: 'utf8' });
    expect(verdict).toMatch(/Signature, key ID [0-9a-f]{8}: OK/);
  });

  it('are looked at once, and again when other keys are asked for', async () => {
    const path = opening.build({ files: { once: '1' }, sign: key });
    const { pinned, keys } = await policyOf(key);
    expect(rpmMetadataOf(await opening.path(path)).signer).toBeUndefined();
    // Nobody asked for a signature before.
    await expect(opening.path(path, { pinned, keys: neverAsked })).rejects.toThrow('keys were looked up');
    await opening.path(path, { pinned, keys });
    const warm = await opening.path(path, { pinned, keys: neverAsked });
    expect(rpmMetadataOf(warm).signer).toBe(key.fingerprint);
    expect(rpmMetadataOf(await opening.path(path)).signer).toBeUndefined();
    await opening.path(path, { pinned, keys: neverAsked });
    await expect(opening.path(path, { pinned: [stranger.fingerprint], keys })).rejects.toThrow(
      `it is signed by ${key.fingerprint}, which is none of the keys asked for`,
    );
  });

  it('must be there, of a key at hand, and of a pinned one', async () => {
    const keyId = key.fingerprint.slice(-16);
    const asked: string[] = [];
    const none = (id: string) => {
      asked.push(id);
      return Promise.resolve([]);
    };
    await expect(opening.path(signed, { pinned: [key.fingerprint], keys: none })).rejects.toMatchObject({
      message: `cannot trust ${signed}: it is signed by key ${keyId}, which is not at hand`,
      hint: 'give the keys of the distribution with --keyring FILE, and their fingerprints in the definition',
    });
    expect(asked).toEqual([keyId]);
    const { keys } = await policyOf(key, stranger);
    await expect(opening.path(signed, { pinned: [stranger.fingerprint], keys })).rejects.toMatchObject({
      message: `cannot trust ${signed}: it is signed by ${key.fingerprint}, which is none of the keys asked for`,
      hint: 'if you trust that key, add its fingerprint to keys in the definition',
    });
    const plain = opening.build({ files });
    await expect(opening.path(plain, await policyOf(key))).rejects.toMatchObject({
      message: `cannot trust ${plain}: it is not signed`,
      hint: 'use a repository whose packages are signed',
    });
  });

  it('must fit the header, which must fit the payload', async () => {
    const policy = await policyOf(key);
    const whole = partsOf(readFileSync(signed));
    const other = partsOf(readFileSync(opening.build({ files: { other: 'x' }, sign: key })));
    const packet = whole.signatures.filter(({ tag }) => tag === 268);
    // With right digests of a changed header, the signature is all that stands against it.
    const changed = partsOf(resealed({ ...parts, header: withTags(parts.header, textTag(1000, 'evil')) }));
    const swapped = withTags(parts.signatures, ...other.signatures.filter(({ tag }) => tag === 268));
    await expect(opening.bytes(rpmOf({ ...parts, signatures: swapped }), policy)).rejects.toThrow(
      /the signature of key [0-9A-F]{16} does not fit: it was changed$/,
    );
    await expect(
      opening.bytes(rpmOf({ ...changed, signatures: withTags(changed.signatures, ...packet) }), policy),
    ).rejects.toThrow('does not fit');
    await expect(opening.bytes(rpmOf({ ...whole, payload: other.payload }), policy)).rejects.toThrow(
      'the sha256 digest of its payload is wrong',
    );
    await expect(opening.bytes(rpmOf({ ...whole, header: changed.header }), policy)).rejects.toThrow(
      'the sha256 digest of its header is wrong',
    );
    await expect(opening.bytes(rpmOf({ ...whole, signatures: packet }), policy)).rejects.toThrow(
      'it has no digest of its header',
    );
  });

  it('may be a list, of which one is enough', async () => {
    const list = (...packets: readonly Buffer[]) => {
      const texts = packets.map((packet) => packet.toString('base64'));
      return rpmOf({ ...parts, signatures: withTags(parts.signatures, textsTag(278, texts)) });
    };
    const mine = detachedSignature(header, key);
    const theirs = detachedSignature(header, stranger);
    const policy = await policyOf(key);
    for (const bytes of [list(mine), list(theirs, mine), list(mine, theirs)]) {
      expect(await signerOf(bytes, policy)).toBe(key.fingerprint);
    }
    await expect(opening.bytes(list(theirs), policy)).rejects.toThrow('which is not at hand');
    const misfit = detachedSignature(Buffer.from('other'), key);
    await expect(opening.bytes(list(mine, misfit), policy)).rejects.toThrow('does not fit');
    await expect(opening.bytes(list(Buffer.from('garbage')), policy)).rejects.toThrow(
      'its signature is broken',
    );
    await expect(opening.bytes(list(Buffer.concat([mine, mine])), policy)).rejects.toThrow(
      'its signature is broken',
    );
    const many = Array<Buffer>(33).fill(mine);
    await expect(opening.bytes(list(...many), policy)).rejects.toThrow('it has more than 32 signatures');
  });

  it('with weak digests are refused', async () => {
    const policy = await policyOf(key);
    for (const digest of ['sha1', 'ripemd160', 'md5']) {
      const packet = detachedSignature(header, key, '--allow-weak-digest-algos', `--digest-algo=${digest}`);
      await expect(opening.bytes(withSignature(packet), policy), digest).rejects.toThrow(
        'its signature uses a digest that is no longer safe',
      );
    }
  });

  it('stay good when the key expires, and not when it is revoked', async () => {
    const old = makeSigningKey(directory, 'rsa2048', { expiredYear: 2020 });
    const packet = detachedSignature(header, old, '--faked-system-time=20200601T000000');
    expect(await signerOf(withSignature(packet), await policyOf(old))).toBe(old.fingerprint);

    const revocation = readFileSync(join(old.home, 'openpgp-revocs.d', `${old.fingerprint}.rev`), 'utf8');
    const gpg = ['--homedir', old.home, '--batch', '--quiet'];
    execFileSync('gpg', [...gpg, '--import'], {
      input: revocation.replace(/^:-----/m, '-----'),
      stdio: 'pipe',
    });
    const publicKey = execFileSync('gpg', [...gpg, '--armor', '--export'], { encoding: 'utf8' });
    // In another tag, so that it is a file that has not been verified yet.
    await expect(
      opening.bytes(withSignature(packet, 267), await policyOf({ ...old, publicKey })),
    ).rejects.toThrow('primary key is revoked');
  });

  it('of version 3, as rpm made them before 4.14', async () => {
    const policy = await policyOf(key);
    const sign = async (...change: readonly Parameters<typeof oldSignature>[2][]) =>
      withSignature(await oldSignature(header, key, ...change));
    expect(await signerOf(await sign(), policy)).toBe(key.fingerprint);
    expect(await signerOf(await sign({ digest: 10 }), policy)).toBe(key.fingerprint);
    const other = withSignature(await oldSignature(Buffer.from('other'), key));
    await expect(opening.bytes(other, policy)).rejects.toThrow('does not fit');
    for (const [change, reason] of [
      [{ digest: 2 }, 'its signature uses a digest that is no longer safe'],
      [{ type: 1 }, 'its signature is not one of a file'],
      [{ algorithm: 17 }, 'its signature is of version 3 and not RSA'],
      [{ created: 1 }, 'it is newer than the signature'],
    ] as const) {
      await expect(opening.bytes(await sign(change), policy)).rejects.toThrow(reason);
    }
    const old = makeSigningKey(directory, 'rsa2048', { expiredYear: 2020 });
    const late = await oldSignature(header, old, { created: Date.UTC(2022, 0) / 1000 });
    await expect(opening.bytes(withSignature(late), await policyOf(old))).rejects.toThrow(
      'it had expired when the signature was made',
    );
    const whole = await oldSignature(header, key);
    for (const length of [0, 1, 2, 3, 10, 21, 22, 100, whole.length - 1]) {
      const cut = Buffer.concat([whole.subarray(0, length), Buffer.from('x')]);
      await expect(opening.bytes(withSignature(cut), policy)).rejects.toThrow(/cannot trust .*: /);
    }
  });

  it('must span header and payload where the header has no payload digest', async () => {
    const undigested = withoutTags(partsOf(readFileSync(signed)).header, 5092, 5093, 5097);
    const joint = partsOf(resealed({ ...parts, header: undigested }));
    const both = Buffer.concat([headerOf(63, joint.header), joint.payload]);
    const policy = await policyOf(key);
    const sealed = (tag: number, packet: Buffer, payload = joint.payload) =>
      rpmOf({ ...joint, payload, signatures: withTags(joint.signatures, binaryTag(tag, packet)) });
    const other = partsOf(readFileSync(opening.build({ files: { other: 'x' } }))).payload;
    for (const packet of [detachedSignature(both, key), await oldSignature(both, key)]) {
      for (const tag of [1002, 1005]) {
        expect(await signerOf(sealed(tag, packet), policy)).toBe(key.fingerprint);
        await expect(opening.bytes(sealed(tag, packet, other), policy)).rejects.toThrow('does not fit');
      }
    }
    // A signature of the header alone says nothing about the files.
    const ofHeader = detachedSignature(headerOf(63, joint.header), key);
    await expect(opening.bytes(sealed(268, ofHeader), policy)).rejects.toThrow('it is not signed');

    // Where no signature is asked for, MD5 and the digests of the files hold against accidents.
    await opening.bytes(rpmOf(joint));
    const bare = { ...joint, signatures: withoutTags(joint.signatures, 1004) };
    await expect(opening.bytes(rpmOf(bare))).rejects.toThrow('it has no digest of its payload');
    await expect(opening.bytes(rpmOf({ ...joint, payload: other }))).rejects.toThrow(
      'the md5 digest of its payload is wrong',
    );
    const digests = joint.header.find(({ tag }) => tag === 1035);
    if (digests === undefined) throw new Error('no digests');
    const data = Buffer.from(digests.data.toString().replace(/[0-9a-f]{64}/, '0'.repeat(64)));
    const wrong = resealed({ ...joint, header: withTags(joint.header, { ...digests, data }) });
    await expect(opening.bytes(wrong)).rejects.toThrow('the digest of /usr/bin/tool is wrong');
  });
});
