import { readFile } from 'node:fs/promises';
import type { Config, PublicKey, Signature } from 'openpgp';
import { cannot, reasonOf } from '../support/errors.js';
import type { Log } from '../support/log.js';

/** The keys that may sign. All keys of all files and blocks, or only those with the fingerprints. */
export interface Keyring {
  readonly files: readonly string[];
  /** Armoured keys written into the source itself. */
  readonly blocks: readonly string[];
  /** Upper-case hexadecimal; with `!` at the end exactly this key, no subkey of it. Empty: every key. */
  readonly fingerprints: readonly string[];
  /** What to do for other keys, in hints. Undefined: what helps where apt's configuration names them. */
  readonly remedy?: string;
}

// Loaded on first use: a build from a lock file and a filled cache verifies no Release and never needs it.
const openpgp = () => import('openpgp');

export interface Verification {
  /** Names the signed document in errors. */
  readonly url: string;
  readonly keyring: Keyring;
  readonly now: Date;
  readonly log: Log;
}

const beginMessage = '-----BEGIN PGP SIGNED MESSAGE-----';
const beginSignature = '-----BEGIN PGP SIGNATURE-----';
const endSignature = '-----END PGP SIGNATURE-----';

/**
 * Verifies a clear-signed document (RFC 9580, 7) and gives the text that was signed, and nothing else of it.
 * At least one signature must be good and none of a known key may be bad, as with apt.
 * @throws ToolError
 */
export async function verifyClearSigned(document: Buffer, verification: Verification): Promise<string> {
  const { url } = verification;
  const text = clearSignedText(document, url);
  const { readCleartextMessage } = await openpgp();
  const message = await parsing(url, 'signed message', readCleartextMessage({ cleartextMessage: text }));
  const config = await verificationConfig();
  await judge(verification, config, async (keys) => {
    const { verify } = await openpgp();
    // The Release's own Date is checked against the clock, under apt's settings; the signature's is not.
    const result = await verify({ message, verificationKeys: keys, date: anyTime, config });
    return result.signatures;
  });
  return message.getText();
}

/** The text of a clear-signed document whose signature nobody asked for (`trusted=yes`). @throws ToolError */
export async function readUnverified(document: Buffer, url: string): Promise<string> {
  const { readCleartextMessage } = await openpgp();
  const cleartextMessage = clearSignedText(document, url);
  return (await parsing(url, 'signed message', readCleartextMessage({ cleartextMessage }))).getText();
}

/**
 * Verifies a document against a detached signature, armoured or binary.
 * @returns the document's text
 * @throws ToolError
 */
export async function verifyDetached(
  document: Buffer,
  signature: Buffer,
  verification: Verification,
): Promise<string> {
  const { url } = verification;
  const { createMessage, readSignature, verify } = await openpgp();
  const blocks = armourBlocks(signature.toString('latin1'), 'SIGNATURE');
  const signatures: Signature[] = await parsing(
    url,
    'signature',
    blocks.length > 0
      ? Promise.all(blocks.map((armoredSignature) => readSignature({ armoredSignature })))
      : Promise.all([readSignature({ binarySignature: signature })]),
  );
  const config = await verificationConfig();
  await judge(verification, config, async (keys) => {
    const results = [];
    for (const one of signatures) {
      const message = await createMessage({ binary: document });
      results.push(await verify({ message, signature: one, verificationKeys: keys, date: anyTime, config }));
    }
    return results.flatMap((result) => result.signatures);
  });
  return decode(document, url);
}

/** openpgp takes null for "whatever time"; its types do not say so. */
const anyTime = null as unknown as Date;

async function verificationConfig(): Promise<Partial<Config>> {
  const { enums } = await openpgp();
  const { md5, ripemd, sha1 } = enums.hash;
  return {
    rejectMessageHashAlgorithms: new Set([md5, ripemd, sha1]),
    minRSABits: 2047,
    // Archive keys get a new self-signature when their expiry is put off; older signatures stay good, as with gpgv.
    allowInsecureVerificationWithReformattedKeys: true,
  };
}

interface SignatureResult {
  readonly keyID: { toHex(): string };
  readonly verified: Promise<true>;
  readonly signature: Promise<Signature>;
}

async function judge(
  verification: Verification,
  config: Partial<Config>,
  verifyWith: (keys: PublicKey[]) => Promise<readonly SignatureResult[]>,
): Promise<void> {
  const { url, keyring, now } = verification;
  const keys = await readKeyring(verification);
  const results = await parsing(url, 'signature', verifyWith([...keys]));
  const faults: string[] = [];
  let good = 0;
  for (const result of results) {
    const id = result.keyID.toHex().toUpperCase();
    const key = keys.find((candidate) => isSigner(candidate, result.keyID.toHex(), keyring));
    if (key === undefined) {
      faults.push(`key ${id} is not in the keyring`);
      continue;
    }
    const fault = await keyFault(key, result, now, config);
    if (fault !== undefined) {
      faults.push(`key ${id}: ${fault}`);
      continue;
    }
    try {
      await result.verified;
      good++;
    } catch (error) {
      const reason = reasonOf(error);
      if (/digest did not match|verification failed|message digest/i.test(reason)) {
        throw cannot(
          'trust',
          url,
          `the signature of key ${id} does not fit the text: it was changed on its way`,
          {
            cause: error,
            hint: 'try again, or use another mirror; a proxy that rewrites answers does this too',
          },
        );
      }
      faults.push(`key ${id}: ${lowerFirst(reason)}`);
    }
  }
  if (good > 0) return;
  throw cannot('trust', url, faults.length === 0 ? 'it has no signature' : faults.join('; '), {
    hint: faults.some((fault) => fault.endsWith('is in the future'))
      ? 'set the clock of this machine'
      : (keyring.remedy ??
        `install the archive's current keys${keyring.files.length === 0 ? '' : ` (looked in ${keyring.files.join(', ')})`}, or name them with Signed-By or --keyring FILE`),
  });
}

/** Whether a key, by itself or by a subkey, may stand for an issuer under the keyring's fingerprints. */
function isSigner(key: PublicKey, issuer: string, keyring: Keyring): boolean {
  const signer = key.getKeys().find((part) => part.getKeyID().toHex() === issuer);
  if (signer === undefined) return false;
  if (keyring.fingerprints.length === 0) return true;
  const primary = key.getFingerprint().toUpperCase();
  const exact = signer.getFingerprint().toUpperCase();
  return keyring.fingerprints.some(
    (wanted) =>
      wanted === primary || wanted === exact || (wanted.endsWith('!') && wanted.slice(0, -1) === exact),
  );
}

/** What makes a signature worthless however well it fits: a key that no longer holds, a weak digest. */
async function keyFault(
  key: PublicKey,
  result: SignatureResult,
  now: Date,
  config: Partial<Config>,
): Promise<string | undefined> {
  const { config: defaults, enums } = await openpgp();
  const signature = (await result.signature).packets[0];
  const weak = [enums.hash.md5, enums.hash.ripemd, enums.hash.sha1];
  if (signature?.hashAlgorithm == null || weak.includes(signature.hashAlgorithm)) {
    return 'its signature uses a digest that is no longer safe';
  }
  const end = signature.getExpirationTime();
  if (end instanceof Date && end <= now) return 'its signature has expired';
  try {
    const issuer = key.getKeys().find((part) => part.getKeyID().toHex() === result.keyID.toHex());
    await key.getSigningKey(issuer?.getKeyID(), now, undefined, { ...defaults, ...config });
    return undefined;
  } catch (error) {
    return lowerFirst(reasonOf(error));
  }
}

const otherKeys = 'name a file of OpenPGP keys with Signed-By or --keyring FILE';

async function readKeyring({ url, keyring, log }: Verification): Promise<readonly PublicKey[]> {
  const hint = keyring.remedy ?? otherKeys;
  const keys: PublicKey[] = [];
  for (const block of keyring.blocks)
    keys.push(...(await parsing(url, 'key', readPublicKeys(Buffer.from(block)))));
  for (const file of keyring.files) {
    let bytes: Buffer;
    try {
      bytes = await readFile(file);
    } catch (error) {
      throw cannot('read', `keyring ${file}`, reasonOf(error), { cause: error, hint });
    }
    if (bytes.length === 0) continue;
    try {
      keys.push(...(await readPublicKeys(bytes)));
    } catch (error) {
      // As with apt, one unusable file among several must not hide the keys of the others.
      if (keyring.files.length === 1)
        throw cannot('read', `keyring ${file}`, reasonOf(error), { cause: error, hint });
      log.warn(`keyring ${file} is left out: ${reasonOf(error)}`);
    }
  }
  return keys;
}

/** The public keys of a file, armoured or binary. @throws Error whose message says what is wrong with them */
export async function readPublicKeys(bytes: Buffer): Promise<readonly PublicKey[]> {
  const { readKeys } = await openpgp();
  const blocks = armourBlocks(bytes.toString('latin1'), 'PUBLIC KEY BLOCK');
  // The first bit of every packet is set (RFC 9580, 4.2).
  if (blocks.length === 0 && (bytes[0] ?? 0) < 0x80) throw new Error('it holds no OpenPGP keys');
  try {
    const keys =
      blocks.length > 0
        ? (await Promise.all(blocks.map((armoredKeys) => readKeys({ armoredKeys })))).flat()
        : await readKeys({ binaryKeys: bytes });
    return keys.map((key) => key.toPublic());
  } catch (error) {
    const reason = reasonOf(error);
    // Its own sentence about that is long and says no more.
    const detail = reason.startsWith('Error during parsing') ? '' : `: ${lowerFirst(reason)}`;
    throw new Error(`its OpenPGP keys cannot be read${detail}`, { cause: error });
  }
}

/** A file may hold several armoured blocks one after the other. */
function armourBlocks(text: string, kind: string): readonly string[] {
  return text.match(new RegExp(`^-----BEGIN PGP ${kind}-----$[^]*?^-----END PGP ${kind}-----$`, 'gm')) ?? [];
}

/**
 * The document as text, when it is exactly one clear-signed message: text before, between or after its parts is
 * what attacks on such files are made of.
 */
function clearSignedText(document: Buffer, url: string): string {
  const text = decode(document, url).replaceAll('\r\n', '\n');
  const lines = text.trimEnd().split('\n');
  const begin = lines.filter((line) => line.startsWith(beginMessage)).length;
  const signature = lines.filter((line) => line.startsWith(beginSignature)).length;
  const end = lines.filter((line) => line.startsWith(endSignature)).length;
  if (begin === 0 && signature === 0) {
    throw cannot('trust', url, 'it has no signature', {
      hint: 'the mirror is broken or not an archive; use another',
    });
  }
  if (
    begin !== 1 ||
    signature !== 1 ||
    end !== 1 ||
    lines[0] !== beginMessage ||
    lines.at(-1) !== endSignature ||
    lines.indexOf(beginSignature) < 0
  ) {
    throw cannot('trust', url, 'it is not exactly one clear-signed message', {
      hint: 'use another mirror; this one cuts or changes files',
    });
  }
  return `${lines.join('\n')}\n`;
}

function decode(bytes: Buffer, url: string): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (error) {
    throw cannot('trust', url, 'it is not UTF-8 text', { cause: error });
  }
}

async function parsing<T>(url: string, what: string, result: Promise<T>): Promise<T> {
  try {
    return await result;
  } catch (error) {
    throw cannot('trust', url, `its ${what} is broken: ${lowerFirst(reasonOf(error))}`, {
      cause: error,
      hint: 'try again, or use another mirror',
    });
  }
}

function lowerFirst(text: string): string {
  return /^[A-Z][a-z]/.test(text) ? text.charAt(0).toLowerCase() + text.slice(1) : text;
}
