import { createPublicKey, verify as verifyRsa } from 'node:crypto';
import type { Config, Key, PublicKey, Subkey } from 'openpgp';
import { reasonOf } from '../../support/errors.js';

/** Whose signature a package must have; `unsigned` when none is asked for. */
export type SignaturePolicy = SignerPolicy | 'unsigned';

export interface SignerPolicy {
  /** Upper-case fingerprints of primary keys. */
  readonly pinned: readonly string[];
  /**
   * Key material that may hold a key or subkey.
   *
   * @param keyId its 64-bit key ID, 16 upper-case hexadecimal digits
   */
  readonly keys: (keyId: string) => Promise<readonly PublicKey[]>;
}

/** What a signature is worth. Fingerprints are of primary keys, upper-case. */
export type Verdict =
  | { readonly kind: 'good'; readonly fingerprint: string }
  | { readonly kind: 'not-pinned'; readonly fingerprint: string }
  | { readonly kind: 'unknown-key'; readonly keyId: string }
  | { readonly kind: 'misfit'; readonly keyId: string }
  | { readonly kind: 'worthless'; readonly reason: string };

/** A signature packet of version 3 (RFC 4880, 5.2.2), which rpm has made until 4.14. openpgp reads none. */
interface OldSignature {
  readonly keyId: string;
  readonly created: Date;
  /** node:crypto's name. */
  readonly digest: string;
  /** What follows the data in the hash. */
  readonly trailer: Buffer;
  readonly rsa: Buffer;
}

const openpgp = () => import('openpgp');

/** RFC 9580, 9.5; older ones are no longer safe. */
const digests = new Map([
  [8, 'sha256'],
  [9, 'sha384'],
  [10, 'sha512'],
  [11, 'sha224'],
]);
const weakDigest = 'its signature uses a digest that is no longer safe';
const minRsaBits = 2047;

/**
 * Judges one OpenPGP signature (RFC 9580, 5.2) over binary data. Keys that have expired since count, as with rpm: the
 * signature was made while they held.
 */
export async function judgeSignature(packet: Buffer, data: Buffer, policy: SignerPolicy): Promise<Verdict> {
  let old: OldSignature | undefined;
  try {
    old = readOldSignature(packet);
    if (old === undefined) return await judgeCurrent(packet, data, policy);
  } catch (error) {
    return { kind: 'worthless', reason: reasonOf(error) };
  }
  const signature = old;
  return judgeWith(signature.keyId, signature.created, policy, (_, signer) =>
    Promise.resolve(fitsOld(signature, data, signer)),
  );
}

/** @throws Error that says what is wrong with the packet */
async function judgeCurrent(packet: Buffer, data: Buffer, policy: SignerPolicy): Promise<Verdict> {
  const { createMessage, enums, readSignature, verify } = await openpgp();
  const signature = await readSignature({ binarySignature: packet }).catch((error: unknown) => {
    throw new Error('its signature is broken', { cause: error });
  });
  const [first, ...others] = signature.packets;
  if (first?.created == null || others.length > 0) throw new Error('its signature is broken');
  if (first.signatureType !== enums.signature.binary) throw new Error('its signature is not one of a file');
  const { md5, ripemd, sha1 } = enums.hash;
  if (first.hashAlgorithm === null || [md5, ripemd, sha1].includes(first.hashAlgorithm)) {
    throw new Error(weakDigest);
  }
  const config = await verificationConfig();
  const keyId = first.issuerKeyID.toHex().toUpperCase();
  return judgeWith(keyId, first.created, policy, async (key) => {
    const message = await createMessage({ binary: data });
    const { signatures } = await verify({ message, signature, verificationKeys: key, date: anyTime, config });
    try {
      return (await signatures[0]?.verified) === true;
    } catch (error) {
      if (/digest did not match|verification failed/i.test(reasonOf(error))) return false;
      throw error;
    }
  });
}

/** openpgp takes null for "whatever time"; its types do not say so. */
const anyTime = null as unknown as Date;

async function verificationConfig(): Promise<Partial<Config>> {
  const { enums } = await openpgp();
  const { md5, ripemd, sha1 } = enums.hash;
  return {
    rejectMessageHashAlgorithms: new Set([md5, ripemd, sha1]),
    minRSABits: minRsaBits,
    allowInsecureVerificationWithReformattedKeys: true,
  };
}

/** Looks the signer up, pinned keys first, and asks whether the signature fits one. */
async function judgeWith(
  keyId: string,
  created: Date,
  policy: SignerPolicy,
  fits: (key: PublicKey, signer: Key | Subkey) => Promise<boolean>,
): Promise<Verdict> {
  const isPinned = (key: PublicKey) => policy.pinned.includes(fingerprintOf(key));
  const found = (await policy.keys(keyId)).filter((key) => partOf(key, keyId) !== undefined);
  let verdict: Verdict = { kind: 'unknown-key', keyId };
  for (const key of [...found.filter(isPinned), ...found.filter((one) => !isPinned(one))]) {
    const signer = partOf(key, keyId);
    if (signer === undefined) continue;
    const fault = await keyFault(key, signer, created);
    if (fault !== undefined) {
      verdict = { kind: 'worthless', reason: `key ${fingerprintOf(key)}: ${fault}` };
      continue;
    }
    try {
      if (await fits(key, signer)) {
        return { kind: isPinned(key) ? 'good' : 'not-pinned', fingerprint: fingerprintOf(key) };
      }
      verdict = { kind: 'misfit', keyId };
    } catch (error) {
      verdict = { kind: 'worthless', reason: `key ${fingerprintOf(key)}: ${lowerFirst(reasonOf(error))}` };
    }
  }
  return verdict;
}

/** Whether a key could sign at that time. */
async function keyFault(key: PublicKey, signer: Key | Subkey, created: Date): Promise<string | undefined> {
  const { config: defaults } = await openpgp();
  try {
    const config = { ...defaults, ...(await verificationConfig()) };
    await key.getSigningKey(signer.getKeyID(), null, undefined, config);
  } catch (error) {
    return lowerFirst(reasonOf(error));
  }
  if (signer.getCreationTime() > created) return 'it is newer than the signature';
  for (const part of [key, signer]) {
    const end = await part.getExpirationTime();
    if (end instanceof Date && end <= created) return 'it had expired when the signature was made';
  }
  return undefined;
}

/** @returns undefined for a packet of a later version. @throws Error that says what is wrong with it */
function readOldSignature(packet: Buffer): OldSignature | undefined {
  const body = packetBody(packet);
  if (body?.[0] !== 3) return undefined;
  // Version, length of what is hashed, type, time, key, two algorithms, two bytes of the digest, one number.
  if (body.length < 22 || body[1] !== 5) throw new Error('its signature is broken');
  if (body[2] !== 0) throw new Error('its signature is not one of a file');
  if (body[15] !== 1 && body[15] !== 3) throw new Error('its signature is of version 3 and not RSA');
  const digest = digests.get(body[16] ?? 0);
  if (digest === undefined) throw new Error(weakDigest);
  const rsa = body.subarray(21);
  if (rsa.length !== Math.ceil(body.readUInt16BE(19) / 8)) throw new Error('its signature is broken');
  return {
    keyId: body.toString('hex', 7, 15).toUpperCase(),
    created: new Date(body.readUInt32BE(3) * 1000),
    digest,
    trailer: body.subarray(2, 7),
    rsa,
  };
}

/** The body of a signature packet, when the bytes are exactly that (RFC 9580, 4.2). */
function packetBody(bytes: Buffer): Buffer | undefined {
  const first = bytes[0] ?? 0;
  const second = bytes[1] ?? 0;
  const start =
    first === 0x88
      ? { header: 2, length: second }
      : first === 0x89 && bytes.length >= 3
        ? { header: 3, length: bytes.readUInt16BE(1) }
        : first === 0xc2 && second < 192
          ? { header: 2, length: second }
          : first === 0xc2 && second < 224
            ? { header: 3, length: (second - 192) * 256 + (bytes[2] ?? 0) + 192 }
            : undefined;
  if (start === undefined || start.header + start.length !== bytes.length) return undefined;
  return bytes.subarray(start.header);
}

/** RSASSA-PKCS1-v1_5 with the key's own numbers. @throws Error for a key of another kind */
function fitsOld({ digest, trailer, rsa }: OldSignature, data: Buffer, signer: Key | Subkey): boolean {
  const { publicParams } = signer.keyPacket;
  const number = (value: unknown): Buffer | undefined =>
    value instanceof Uint8Array ? Buffer.from(value) : undefined;
  const n = 'n' in publicParams ? number(publicParams.n) : undefined;
  const e = 'e' in publicParams ? number(publicParams.e) : undefined;
  if (n === undefined || e === undefined) throw new Error('it is no RSA key');
  const jwk = { kty: 'RSA', n: n.toString('base64url'), e: e.toString('base64url') };
  const key = createPublicKey({ key: jwk, format: 'jwk' });
  const bytes = Math.ceil((key.asymmetricKeyDetails?.modulusLength ?? 0) / 8);
  if (rsa.length > bytes) return false;
  // A number loses its leading zeros in OpenPGP.
  const padded = Buffer.concat([Buffer.alloc(bytes - rsa.length), rsa]);
  return verifyRsa(digest, Buffer.concat([data, trailer]), key, padded);
}

function partOf(key: PublicKey, keyId: string): Key | Subkey | undefined {
  return key.getKeys().find((part) => part.getKeyID().toHex().toUpperCase() === keyId);
}

function fingerprintOf(key: PublicKey): string {
  return key.getFingerprint().toUpperCase();
}

function lowerFirst(text: string): string {
  return /^[A-Z][a-z]/.test(text) ? text.charAt(0).toLowerCase() + text.slice(1) : text;
}
