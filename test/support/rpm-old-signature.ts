import { execFileSync } from 'node:child_process';
import { createPrivateKey, sign, type KeyObject } from 'node:crypto';
import { readPrivateKey } from 'openpgp';
import type { SigningKey } from './rpm.js';

export interface OldSignatureOptions {
  /** Number of the digest (RFC 9580, 9.5). */
  readonly digest?: number;
  readonly type?: number;
  readonly algorithm?: number;
  /** Seconds since the epoch. */
  readonly created?: number;
}

/** An RSA signature packet of version 3 (RFC 4880, 5.2.2), which gpg no longer makes. */
export async function oldSignature(
  data: Buffer,
  key: SigningKey,
  options: OldSignatureOptions = {},
): Promise<Buffer> {
  const { digest = 8, type = 0, algorithm = 1, created = Math.floor(Date.now() / 1000) } = options;
  const trailer = Buffer.alloc(5);
  trailer.writeUInt8(type);
  trailer.writeUInt32BE(created, 1);
  const name = new Map([
    [2, 'sha1'],
    [8, 'sha256'],
    [10, 'sha512'],
  ]).get(digest);
  const value = sign(name, Buffer.concat([data, trailer]), await secretKey(key));
  // A number has no leading zeros, and its length is in bits.
  const rsa = value.subarray(value.findIndex((byte) => byte !== 0));
  const bits = Buffer.alloc(2);
  bits.writeUInt16BE((rsa.length - 1) * 8 + (32 - Math.clz32(rsa[0] ?? 0)));
  const body = Buffer.concat([
    Buffer.from([3, 5]),
    trailer,
    Buffer.from(key.signer.slice(-16), 'hex'),
    Buffer.from([algorithm, digest, 0, 0]),
    bits,
    rsa,
  ]);
  const length = Buffer.alloc(2);
  length.writeUInt16BE(body.length);
  return Buffer.concat([Buffer.from([0x89]), length, body]);
}

async function secretKey({ home }: SigningKey): Promise<KeyObject> {
  const armoredKey = execFileSync('gpg', ['--homedir', home, '--batch', '--armor', '--export-secret-keys'], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  execFileSync('gpgconf', ['--homedir', home, '--kill', 'all'], { stdio: 'ignore' });
  const { keyPacket } = await readPrivateKey({ armoredKey });
  const secret = 'privateParams' in keyPacket ? keyPacket.privateParams : {};
  const values = new Map<string, unknown>(Object.entries({ ...keyPacket.publicParams, ...secret }));
  const number = (name: string): bigint => {
    const value = values.get(name);
    if (!(value instanceof Uint8Array)) throw new Error(`the key has no number ${name}`);
    return BigInt(`0x${Buffer.from(value).toString('hex')}`);
  };
  const [d, p, q] = [number('d'), number('p'), number('q')];
  const numbers = {
    n: number('n'),
    e: number('e'),
    d,
    p,
    q,
    dp: d % (p - 1n),
    dq: d % (q - 1n),
    qi: inverse(q, p),
  };
  const fields = Object.entries(numbers).map(([name, value]): [string, string] => [name, base64(value)]);
  return createPrivateKey({ format: 'jwk', key: { kty: 'RSA', ...Object.fromEntries(fields) } });
}

function base64(value: bigint): string {
  const hex = value.toString(16);
  return Buffer.from(hex.padStart(hex.length + (hex.length % 2), '0'), 'hex').toString('base64url');
}

function inverse(value: bigint, modulus: bigint): bigint {
  let [a, b, x, y] = [value % modulus, modulus, 1n, 0n];
  while (b !== 0n) [a, b, x, y] = [b, a % b, y, x - (a / b) * y];
  return ((x % modulus) + modulus) % modulus;
}
