import type { Cache } from '../../support/cache.js';
import { cannot } from '../../support/errors.js';
import type { Log } from '../../support/log.js';
import { shownUrl } from '../../support/url.js';
import type { Fetcher } from '../fetch.js';
import type { Source } from './sources.js';

export interface ReleaseContext {
  readonly fetcher: Fetcher;
  readonly cache: Cache;
  /** Take the files from the cache, as they were last accepted. */
  readonly offline: boolean;
  readonly now: Date;
  readonly log: Log;
}

export interface SignedRelease {
  /** Of the file that was read, fit for messages. */
  readonly url: string;
  /** What the signature covers, and nothing else; undefined when the archive has no such suite. */
  readonly text: string | undefined;
  /** Keeps the files for offline use, once the text has been accepted too. */
  readonly remember: () => Promise<void>;
}

/** The files that make up a Release, by their name. */
type Documents = ReadonlyMap<string, Buffer>;

/** apt's Acquire::MaxReleaseFileSize. */
const releaseLimit = 10_000_000;

/**
 * Fetches InRelease, or else Release with Release.gpg, and verifies the signature.
 * @param base URL of their directory, slash at its end
 * @throws ToolError
 */
export async function fetchSignedRelease(
  source: Source,
  base: string,
  context: ReleaseContext,
): Promise<SignedRelease> {
  if (source.trusted === false) {
    throw cannot('trust', shownUrl(base), `${source.configuredAt} says trusted=no`, {
      hint: 'remove that option, or choose another archive with --mirror URL',
    });
  }
  const { cache, offline } = context;
  const remembered = offline ? recall(await cache.readRecord('release-files', shownUrl(base))) : undefined;
  const documents = remembered ?? (await fetchDocuments(base, context.fetcher));
  const url = shownUrl(base + (documents.has('InRelease') ? 'InRelease' : 'Release'));
  return {
    url,
    text: await verify(documents, url, source, context),
    remember: async () => {
      if (remembered !== undefined) return;
      const files = [...documents].map(([name, bytes]) => [name, bytes.toString('base64')]);
      await cache.writeRecord('release-files', shownUrl(base), JSON.stringify(files));
    },
  };
}

async function fetchDocuments(base: string, fetcher: Fetcher): Promise<Documents> {
  const documents = new Map<string, Buffer>();
  const fetch = async (name: string): Promise<boolean> => {
    const bytes = await fetcher.document(base + name, releaseLimit);
    if (bytes !== undefined) documents.set(name, bytes);
    return bytes !== undefined;
  };
  if (!(await fetch('InRelease')) && (await fetch('Release'))) await fetch('Release.gpg');
  return documents;
}

function recall(record: string | undefined): Documents | undefined {
  if (record === undefined) return undefined;
  const documents = new Map<string, Buffer>();
  for (const [, name, base64] of record.matchAll(/\["([A-Za-z.]+)","([A-Za-z0-9+/=]*)"\]/g)) {
    if (name !== undefined && base64 !== undefined) documents.set(name, Buffer.from(base64, 'base64'));
  }
  return documents;
}

async function verify(
  documents: Documents,
  url: string,
  source: Source,
  { now, log }: ReleaseContext,
): Promise<string | undefined> {
  const inline = documents.get('InRelease');
  const plain = documents.get('Release');
  if (inline === undefined && plain === undefined) return undefined;
  const { readUnverified, verifyClearSigned, verifyDetached } = await import('../signature.js');
  const verification = { url, keyring: source.keyring, now, log };
  if (inline !== undefined) {
    return source.trusted === true ? readUnverified(inline, url) : verifyClearSigned(inline, verification);
  }
  if (plain === undefined) return undefined;
  if (source.trusted === true) return plain.toString('utf8');
  const signature = documents.get('Release.gpg');
  if (signature === undefined) {
    throw cannot('trust', url, 'it has no signature: there is neither InRelease nor Release.gpg', {
      hint: `use another mirror, or say trusted=yes at ${source.configuredAt} if the archive is your own`,
    });
  }
  return verifyDetached(plain, signature, verification);
}
