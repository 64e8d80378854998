import { createHash, type Hash } from 'node:crypto';
import type { FileHandle } from 'node:fs/promises';
import { cannot } from '../../support/errors.js';
import { readRange } from '../bytes.js';
import type { RpmContainer } from './container.js';
import type { RpmHeader } from './header.js';
import { judgeSignature, type SignaturePolicy, type SignerPolicy, type Verdict } from './signature.js';
import { tags } from './tags.js';

export interface Digest {
  /** node:crypto's name. */
  readonly algorithm: string;
  /** Lower-case hexadecimal. */
  readonly expected: string;
}

/** What a header says of the bytes after it. */
export interface PayloadDigests {
  /** Of the payload as it is in the file. */
  readonly packed: readonly Digest[];
  /** Of the payload decompressed. */
  readonly unpacked: readonly Digest[];
}

const damaged = { hint: 'fetch it again, or use another mirror' };
/** A signature of header and payload needs both in memory. */
const maxJointBytes = 512 * 1024 ** 2;

/** RFC 9580, 9.5, as far as they are safe. */
const digestNames = new Map([
  [8, 'sha256'],
  [9, 'sha384'],
  [10, 'sha512'],
  [11, 'sha224'],
  [12, 'sha3-256'],
  [14, 'sha3-512'],
]);

/** The payload digests that a header states. @throws ToolError for one that is no digest */
export function payloadDigests(header: RpmHeader, name: string): PayloadDigests {
  const number = header.number(tags.payloadDigestAlgo) ?? 8;
  const sha2 = digestNames.get(number);
  const digest = (tag: number, algorithm: string | undefined): readonly Digest[] => {
    const texts = header.texts(tag) ?? [];
    if (texts.length > 1) throw cannot('read', name, `its header has several payload digests in tag ${tag}`);
    return texts.map((text) => {
      if (algorithm === undefined) {
        throw cannot('trust', name, `its payload digest is of an algorithm that is not safe (${number})`);
      }
      const expected = text.toLowerCase();
      if (!/^[0-9a-f]+$/.test(expected) || expected.length !== digestLength(algorithm)) {
        throw cannot('read', name, `its payload digest in tag ${tag} is damaged`);
      }
      return { algorithm, expected };
    });
  };
  return {
    packed: [
      ...digest(tags.payloadSha256, sha2),
      ...digest(tags.payloadSha512, 'sha512'),
      ...digest(tags.payloadSha3, 'sha3-256'),
    ],
    unpacked: [
      ...digest(tags.payloadSha256Alt, sha2),
      ...digest(tags.payloadSha512Alt, 'sha512'),
      ...digest(tags.payloadSha3Alt, 'sha3-256'),
    ],
  };
}

/**
 * Verifies a package before anything in its header is believed: the header's digests, its signature, and the payload.
 * Where the header has no payload digest, as before rpm 4.14, the signature must span both.
 *
 * @returns upper-case fingerprint of the signer's primary key; undefined when no signature is asked for
 * @throws ToolError `cannot trust NAME: reason`
 */
export async function verifyPackage(
  handle: FileHandle,
  name: string,
  container: RpmContainer,
  digests: PayloadDigests,
  policy: SignaturePolicy,
): Promise<string | undefined> {
  const { signatures, header, payload } = container;
  checkHeaderDigests(signatures, header, name);
  const joint = digests.packed.length + digests.unpacked.length === 0;

  const hashes: (readonly [Hash, Digest])[] = digests.packed.map(
    (digest) => [createHash(digest.algorithm), digest] as const,
  );
  const md5 = joint && policy === 'unsigned' ? jointMd5(signatures, header, name) : undefined;
  const kept: Buffer[] = [];
  const keep = joint && policy !== 'unsigned';
  if (keep && payload.size + header.bytes.length > maxJointBytes) {
    throw cannot('trust', name, `its signature spans more than ${maxJointBytes} bytes`);
  }
  let signer: string | undefined;
  if (!joint && policy !== 'unsigned') {
    signer = await requireSigner(signaturePackets(signatures, name, 'header'), header.bytes, name, policy);
  }
  for await (const chunk of readRange(handle, name, payload.offset, payload.size)) {
    for (const [hash] of hashes) hash.update(chunk);
    md5?.[0].update(chunk);
    if (keep) kept.push(chunk);
  }
  for (const [hash, { algorithm, expected }] of [...hashes, ...(md5 === undefined ? [] : [md5])]) {
    if (hash.digest('hex') !== expected) {
      throw cannot('trust', name, `the ${algorithm} digest of its payload is wrong`, damaged);
    }
  }
  if (keep) {
    const both = Buffer.concat([header.bytes, ...kept]);
    signer = await requireSigner(signaturePackets(signatures, name, 'joint'), both, name, policy);
  }
  return signer;
}

/** Passes the unpacked payload on, and throws at its end when a digest is wrong. */
export async function* withDigests(
  chunks: AsyncIterable<Uint8Array>,
  digests: readonly Digest[],
  name: string,
): AsyncGenerator<Uint8Array, void, undefined> {
  const hashes = digests.map((digest) => [createHash(digest.algorithm), digest] as const);
  for await (const chunk of chunks) {
    for (const [hash] of hashes) hash.update(chunk);
    yield chunk;
  }
  for (const [hash, { algorithm, expected }] of hashes) {
    if (hash.digest('hex') !== expected) {
      throw cannot('trust', name, `the ${algorithm} digest of its unpacked payload is wrong`, damaged);
    }
  }
}

function checkHeaderDigests(signatures: RpmHeader, header: RpmHeader, name: string): void {
  const stated = [
    ['sha256', signatures.text(tags.sha256Header)],
    ['sha3-256', signatures.text(tags.sha3Header)],
    ['sha1', signatures.text(tags.sha1Header)],
  ] as const;
  if (stated.every(([, expected]) => expected === undefined)) {
    throw cannot('trust', name, 'it has no digest of its header', damaged);
  }
  for (const [algorithm, expected] of stated) {
    if (expected === undefined) continue;
    if (createHash(algorithm).update(header.bytes).digest('hex') !== expected.toLowerCase()) {
      throw cannot('trust', name, `the ${algorithm} digest of its header is wrong`, damaged);
    }
  }
}

/** Of header and payload, already fed with the header: against accidents alone, when no signature is asked for. */
function jointMd5(signatures: RpmHeader, header: RpmHeader, name: string): readonly [Hash, Digest] {
  const expected = signatures.binary(tags.legacyMd5)?.toString('hex');
  if (expected === undefined) throw cannot('trust', name, 'it has no digest of its payload', damaged);
  return [createHash('md5').update(header.bytes), { algorithm: 'md5', expected }];
}

/** The signatures over the header, or over header and payload, as packets. */
function signaturePackets(signatures: RpmHeader, name: string, range: 'header' | 'joint'): readonly Buffer[] {
  const binary = range === 'header' ? [tags.rsaHeader, tags.dsaHeader] : [tags.legacyRsa, tags.legacyDsa];
  const list = range === 'header' ? (signatures.texts(tags.openPgp) ?? []) : [];
  if (list.length > maxSignatures)
    throw cannot('trust', name, `it has more than ${maxSignatures} signatures`);
  return [
    ...list.map((text) => Buffer.from(text, 'base64')),
    ...binary.flatMap((tag) => signatures.binary(tag) ?? []),
  ];
}

/** rpm 6 can add one signature after the other. */
const maxSignatures = 32;

/** One signature must be good and of a pinned key, and none of a known key may be bad. */
async function requireSigner(
  packets: readonly Buffer[],
  data: Buffer,
  name: string,
  policy: SignerPolicy,
): Promise<string> {
  // Newer packages repeat a signature in the tag of older ones.
  const distinct = packets.filter(
    (packet, index) => packets.findIndex((one) => one.equals(packet)) === index,
  );
  if (distinct.length === 0) {
    throw cannot('trust', name, 'it is not signed', {
      hint: 'use a repository whose packages are signed',
    });
  }
  const verdicts: Verdict[] = [];
  for (const packet of distinct) verdicts.push(await judgeSignature(packet, data, policy));
  for (const verdict of verdicts) {
    if (verdict.kind !== 'misfit') continue;
    throw cannot(
      'trust',
      name,
      `the signature of key ${verdict.keyId} does not fit: it was changed`,
      damaged,
    );
  }
  for (const verdict of verdicts) if (verdict.kind === 'good') return verdict.fingerprint;
  throw refusal(verdicts, name);
}

function refusal(verdicts: readonly Verdict[], name: string): Error {
  const other = verdicts.find((verdict) => verdict.kind === 'not-pinned');
  if (other !== undefined) {
    return cannot(
      'trust',
      name,
      `it is signed by ${other.fingerprint}, which is none of the keys asked for`,
      {
        hint: 'if you trust that key, add its fingerprint to keys in the definition',
      },
    );
  }
  const reasons = verdicts.map((verdict) =>
    verdict.kind === 'worthless'
      ? verdict.reason
      : verdict.kind === 'unknown-key'
        ? `it is signed by key ${verdict.keyId}, which is not at hand`
        : verdict.kind,
  );
  return cannot('trust', name, reasons.join('; '), {
    hint: 'give the keys of the distribution with --keyring FILE, and their fingerprints in the definition',
  });
}

function digestLength(algorithm: string): number {
  return createHash(algorithm).digest('hex').length;
}
