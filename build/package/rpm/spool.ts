import { open, type FileHandle } from 'node:fs/promises';
import { cannotWrite } from '../../support/atomic.js';
import type { Cache } from '../../support/cache.js';
import { cannot, reasonOf } from '../../support/errors.js';
import { readAt, readRange } from '../bytes.js';
import { decompress, type CompressionFormat } from '../decompress.js';
import { collectEntries, type CollectedEntries } from '../entries.js';
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

/** Where the unpacked payload is. */
export interface Spool {
  readonly handle: FileHandle;
  /** Byte offset of the archive in the file. */
  readonly offset: number;
  readonly collected: CollectedEntries;
  /** sha256 of the unpacked payload in the cache; undefined where the package itself holds it. */
  readonly payload: string | undefined;
}

export interface SpoolInput {
  readonly rpm: FileHandle;
  readonly file: string;
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
export async function openSpool(input: SpoolInput, known: string | undefined): Promise<Spool> {
  const { rpm, file, container, digests, files, cache, limits } = input;
  // Without a digest of the payload as a whole, those of the files have to hold.
  const joint = digests.packed.length + digests.unpacked.length === 0;
  const fileDigest = joint ? fileDigestOf(container.header, file) : undefined;
  const collect = (chunks: AsyncIterable<Uint8Array>, digest = fileDigest) =>
    collectEntries(payloadMembers(chunks, file, files, digest), file, limits.entries);
  const options = { name: `the payload of ${file}`, limit: limits.unpackedBytes };

  const unpacked = known === undefined ? undefined : await cache.find(known);
  if (unpacked !== undefined) {
    const handle = await openFile(unpacked);
    try {
      const { size } = await handle.stat();
      const spooled = decompress(readRange(handle, unpacked, 0, size), 'none', options);
      return { handle, offset: 0, collected: await collect(spooled, undefined), payload: known };
    } catch (error) {
      await handle.close();
      throw error;
    }
  }

  const { offset, size } = container.payload;
  const format = await payloadFormat(rpm, file, container);
  const packed = decompress(readRange(rpm, file, offset, size), format, options);
  const verified = withDigests(packed, digests.unpacked, file);
  if (format === 'none')
    return { handle: rpm, offset, collected: await collect(verified), payload: undefined };

  const temporary = await cache.temporary();
  try {
    const output = await open(temporary.path, 'w+');
    try {
      const collected = await collect(copied(verified, output, temporary.path));
      const kept = await temporary.keep();
      return { handle: output, offset: 0, collected, payload: kept.sha256 };
    } catch (error) {
      await output.close();
      throw error;
    }
  } finally {
    await temporary.discard();
  }
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
  file: string,
  { header, payload }: RpmContainer,
): Promise<CompressionFormat> {
  const archive = header.text(tags.payloadFormat) ?? 'cpio';
  if (archive !== 'cpio') {
    throw cannot(
      'read',
      file,
      `its payload is of the format ${JSON.stringify(archive)}, which is not supported`,
    );
  }
  const name = header.text(tags.payloadCompressor);
  if (name === undefined) {
    const start = await readAt(rpm, file, payload.offset, Math.min(2, payload.size));
    return start.toString('hex') === '1f8b' ? 'gz' : 'none';
  }
  const format = formats.get(name);
  if (format === undefined) {
    throw cannot('read', file, `the compression of its payload, ${JSON.stringify(name)}, is not supported`);
  }
  return format;
}

const formats = new Map<string, CompressionFormat>([
  ['none', 'none'],
  ['gzip', 'gz'],
  ['xz', 'xz'],
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

function fileDigestOf(header: RpmHeader, file: string): string {
  const number = header.number(tags.fileDigestAlgo) ?? 1;
  const name = fileDigestNames.get(number);
  if (name === undefined)
    throw cannot('read', file, `its file digests are of an unknown algorithm (${number})`);
  return name;
}

/** Passes the chunks on and writes them to the file. */
async function* copied(
  chunks: AsyncIterable<Uint8Array>,
  output: FileHandle,
  path: string,
): AsyncGenerator<Uint8Array, void, undefined> {
  for await (const chunk of chunks) {
    try {
      await output.writeFile(chunk);
    } catch (error) {
      throw cannotWrite(path, error);
    }
    yield chunk;
  }
}

export async function openFile(path: string): Promise<FileHandle> {
  try {
    return await open(path);
  } catch (error) {
    throw cannot('read', path, reasonOf(error), { cause: error });
  }
}
