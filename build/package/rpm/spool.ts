import type { FileHandle } from 'node:fs/promises';
import type { Cache } from '../../support/cache.js';
import { cannot } from '../../support/errors.js';
import { readAt, readRange } from '../bytes.js';
import { decompress, type CompressionFormat } from '../decompress.js';
import { collectEntries } from '../entries.js';
import { fillSpool, openSpool, type Spool } from '../spool.js';
import type { RpmContainer } from './container.js';
import type { RpmFile } from './files.js';
import type { RpmHeader } from './header.js';
import { payloadMembers } from './payload.js';
import { tags } from './tags.js';
import { withDigests, type PayloadDigests } from './verify.js';

/** Kind of the cache records that map a verified package's sha256 to its unpacked payload and its signer. */
const verifiedRecords = 'rpm-payload';

/** What is known of a package whose digests, and signature where there is a signer, have been verified. */
export interface VerifiedPackage {
  /** sha256 of the unpacked payload; undefined where the package holds it as it is. */
  readonly payload: string | undefined;
  /** Upper-case fingerprint of the primary key; undefined when no signature was asked for. */
  readonly signer: string | undefined;
}

export interface PayloadSpool extends Spool {
  /** sha256 of the unpacked payload in the cache; undefined where the package itself holds it. */
  readonly payload: string | undefined;
}

export interface PayloadInput {
  readonly rpm: FileHandle;
  /** What the package is called in errors. */
  readonly name: string;
  readonly container: RpmContainer;
  readonly digests: PayloadDigests;
  readonly files: readonly RpmFile[];
  readonly cache: Cache;
  readonly limits: { readonly unpackedBytes: number; readonly entries: number };
}

/**
 * Unpacks the payload of a verified package into the cache and reads it there, or finds it there.
 *
 * @param known sha256 of the unpacked payload, where it has been unpacked before
 */
export async function openPayload(input: PayloadInput, known: string | undefined): Promise<PayloadSpool> {
  const { rpm, name, container, digests, files, cache, limits } = input;
  const collect = (chunks: AsyncIterable<Uint8Array>, digest?: string) =>
    collectEntries(payloadMembers(chunks, name, files, digest), name, limits.entries);
  const options = { name: `the payload of ${name}`, limit: limits.unpackedBytes };

  const unpacked = known === undefined ? undefined : await cache.find(known);
  if (unpacked !== undefined) {
    return { ...(await openSpool(unpacked, options, (chunks) => collect(chunks))), payload: known };
  }

  const { offset, size } = container.payload;
  const format = await payloadFormat(rpm, name, container);
  const packed = decompress(readRange(rpm, name, offset, size), format, options);
  const verified = withDigests(packed, digests.unpacked, name);
  // Without a digest of the payload as a whole, those of the files have to hold.
  const joint = digests.packed.length + digests.unpacked.length === 0;
  const fileDigest = joint ? fileDigestOf(container.header, name) : undefined;
  if (format === 'none')
    return { handle: rpm, offset, collected: await collect(verified, fileDigest), payload: undefined };
  const { sha256, ...spool } = await fillSpool(verified, cache, (chunks) => collect(chunks, fileDigest));
  return { ...spool, payload: sha256 };
}

/** What is known of a package seen before. */
export async function findVerified(cache: Cache, sha256: string): Promise<VerifiedPackage | undefined> {
  const text = await cache.readRecord(verifiedRecords, sha256);
  if (text === undefined) return undefined;
  const record: unknown = JSON.parse(text);
  if (typeof record !== 'object' || record === null) return undefined;
  const payload = 'payload' in record && typeof record.payload === 'string' ? record.payload : undefined;
  const signer = 'signer' in record && typeof record.signer === 'string' ? record.signer : undefined;
  return { payload, signer };
}

export async function rememberVerified(
  cache: Cache,
  sha256: string,
  { payload, signer }: VerifiedPackage,
): Promise<void> {
  await cache.writeRecord(verifiedRecords, sha256, JSON.stringify({ payload, signer }));
}

/** PAYLOADCOMPRESSOR; rpm leaves it out of packages that are not compressed, and long ago of those with gzip. */
async function payloadFormat(
  rpm: FileHandle,
  name: string,
  { header, payload }: RpmContainer,
): Promise<CompressionFormat> {
  const archive = header.text(tags.payloadFormat) ?? 'cpio';
  if (archive !== 'cpio') {
    throw cannot(
      'read',
      name,
      `its payload is of the format ${JSON.stringify(archive)}, which is not supported`,
    );
  }
  const compressor = header.text(tags.payloadCompressor);
  if (compressor === undefined) {
    const start = await readAt(rpm, name, payload.offset, Math.min(2, payload.size));
    return start.toString('hex') === '1f8b' ? 'gz' : 'none';
  }
  const format = formats.get(compressor);
  if (format === undefined) {
    throw cannot(
      'read',
      name,
      `the compression of its payload, ${JSON.stringify(compressor)}, is not supported`,
    );
  }
  return format;
}

const formats = new Map<string, CompressionFormat>([
  ['none', 'none'],
  ['gzip', 'gz'],
  ['xz', 'xz'],
  ['lzma', 'lzma'],
  ['zstd', 'zst'],
]);

/** node:crypto's names for FILEDIGESTALGO; packages without it have MD5. */
const fileDigestNames = new Map([
  [1, 'md5'],
  [2, 'sha1'],
  [8, 'sha256'],
  [9, 'sha384'],
  [10, 'sha512'],
  [11, 'sha224'],
]);

function fileDigestOf(header: RpmHeader, name: string): string {
  const number = header.number(tags.fileDigestAlgo) ?? 1;
  const algorithm = fileDigestNames.get(number);
  if (algorithm === undefined)
    throw cannot('read', name, `its file digests are of an unknown algorithm (${number})`);
  return algorithm;
}
