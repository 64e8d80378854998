import { createHash } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { cannotWrite } from '../../support/atomic.js';
import type { Cache } from '../../support/cache.js';
import { cannot, ToolError } from '../../support/errors.js';
import type { Log } from '../../support/log.js';
import { shownUrl } from '../../support/url.js';
import type { Fetcher } from '../fetch.js';
import type { Checksum } from './record.js';

export interface CheckedBlob {
  readonly checksum: Checksum;
  /** Bytes. */
  readonly size: number;
  /** Shown in the progress display. */
  readonly label: string;
  readonly hint?: string;
}

export interface BlobContext {
  readonly fetcher: Fetcher;
  readonly cache: Cache;
  readonly log: Log;
}

/** Bytes of a file that is known by its SHA-512 alone; it is held in memory. */
const largest = 256 * 1024 ** 2;

/**
 * Fetches a file of a repository into the cache, from the first mirror that has its right bytes.
 *
 * @returns its path, and the hash that the cache knows it by
 * @throws ToolError
 */
export async function fetchChecked(
  urls: readonly string[],
  { checksum, size, label, hint }: CheckedBlob,
  context: BlobContext,
): Promise<{ readonly path: string; readonly sha256: string }> {
  const options = hint === undefined ? {} : { hint };
  if (checksum.algorithm === 'sha256') {
    const sha256 = checksum.value;
    return { sha256, path: await context.fetcher.blob(urls, { sha256, size, label, ...options }) };
  }
  // The cache and its transfers know files by SHA-256; which one it is has been seen before, or is seen now.
  const { cache, log } = context;
  const known = await cache.readRecord('sha512', checksum.value);
  const cached = known === undefined ? undefined : await cache.find(known);
  if (known !== undefined && cached !== undefined) return { sha256: known, path: cached };
  if (size > largest) throw cannot('fetch', label, `it is larger than ${largest} bytes`);
  let failure: ToolError | undefined;
  for (const url of urls) {
    if (failure !== undefined) log.info(`${failure.message}; trying ${shownUrl(url)}`);
    try {
      const bytes = await context.fetcher.document(url, size);
      const actual = bytes === undefined ? undefined : createHash('sha512').update(bytes).digest('hex');
      if (bytes !== undefined && actual === checksum.value) return await keep(bytes, checksum.value, cache);
      const reason =
        actual === undefined
          ? 'the server does not have it'
          : `expected sha512 ${checksum.value}, got ${actual}`;
      failure = cannot('fetch', shownUrl(url), reason, options);
    } catch (error) {
      if (!(error instanceof ToolError)) throw error;
      failure = error;
    }
  }
  throw failure ?? cannot('fetch', label, 'no mirror is known for it');
}

async function keep(
  bytes: Buffer,
  sha512: string,
  cache: Cache,
): Promise<{ readonly path: string; readonly sha256: string }> {
  const temporary = await cache.temporary();
  try {
    await writeFile(temporary.path, bytes);
  } catch (error) {
    await temporary.discard();
    throw cannotWrite(temporary.path, error);
  }
  const { path, sha256 } = await temporary.keep();
  await cache.writeRecord('sha512', sha512, sha256);
  return { path, sha256 };
}
