import { createHash } from 'node:crypto';
import type { Cache } from '../../support/cache.js';
import { cannot, ToolError } from '../../support/errors.js';
import type { Log } from '../../support/log.js';
import { shownUrl, tryUrl } from '../../support/url.js';
import type { Fetcher } from '../fetch.js';
import type { Keyring } from '../signature.js';
import { locate } from './location.js';
import { parseMetalink, parseMirrorlist, type MetalinkVersion } from './metalink.js';
import { parseRepomd, type Repomd } from './repomd.js';
import type { RpmSource } from './source.js';

export interface RepomdContext {
  readonly fetcher: Fetcher;
  readonly cache: Cache;
  /** Take the documents from the cache, as they were last accepted. The fetcher must be offline too. */
  readonly offline: boolean;
  readonly now: Date;
  readonly log: Log;
  readonly signal: AbortSignal;
  /** Keys of which one must have signed repomd.xml; undefined: no signature is asked for. */
  readonly keyring?: Keyring | undefined;
}

/** The top document of a repository, and what was found out about it. */
export interface TrustedRepomd {
  readonly repomd: Repomd;
  /** Base URLs with a slash at the end; the first has this repomd.xml. None offline, but those of this machine. */
  readonly mirrors: readonly string[];
  /** Where it came from, fit for messages. */
  readonly url: string;
  /** What vouches for it, such as `hash of the metalink`. */
  readonly trust: string;
}

/** Bytes; today's documents have a hundredth of these. */
const repomdLimit = 1024 ** 2;
const listLimit = 4 * 1024 ** 2;
const signatureLimit = 256 * 1024;
/** Mirrors that are asked at most. */
const mostTried = 10;
/** Mirrors that are asked for the newest repomd.xml when some have one of the older ones that are still right. */
const patience = 3;
/** Seconds that a repository's clock may be ahead of ours. */
const mostAhead = 3600;

/**
 * Fetches and judges repomd.xml: its hash must be in the metalink, or it must be signed, or it must come over https or
 * from this machine; for plain http alone there is a warning. An older one than has been seen is refused, unless the
 * metalink says that it is still right.
 *
 * @throws ToolError
 */
export async function fetchRepomd(source: RpmSource, context: RepomdContext): Promise<TrustedRepomd> {
  if (context.offline) {
    const remembered = await recall(source, context);
    if (remembered !== undefined) return remembered;
  }
  const places = await findPlaces(source, context);
  const found =
    places.versions === undefined
      ? await firstGood(places, source, context)
      : await newest(places, places.versions, source, context);
  await rememberTimestamp(source, found.repomd, context);
  await remember(source, found, context);
  warnOfPlainHttp(places, found, source, context);
  const others = places.mirrors.filter((mirror) => mirror !== found.mirror);
  return {
    repomd: found.repomd,
    mirrors: [found.mirror, ...others].slice(0, mostTried),
    url: found.url,
    trust: trustOf(places, context),
  };
}

/**
 * Does what needs a repository, and leaves out one that cannot be had where its configuration allows that
 * (skip_if_unavailable of dnf.conf(5)).
 *
 * @returns undefined for one that is left out
 * @throws ToolError that says how to do without it, if the host names it
 */
export async function unlessUnavailable<Result>(
  source: RpmSource,
  { log, signal }: Pick<RepomdContext, 'log' | 'signal'>,
  work: () => Promise<Result>,
): Promise<Result | undefined> {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof ToolError) || signal.aborted || !source.isOfHost) throw error;
    const { message, hint, exitCode, details } = error;
    if (!source.skipIfUnavailable) {
      const without = `switch it off with enabled=0 in ${source.configuredAt}`;
      const both = hint === undefined ? without : `${hint}; or ${without}`;
      throw new ToolError(message, { cause: error, hint: both, exitCode, details });
    }
    log.warn(`${message}; ${source.configuredAt} is left out, it has skip_if_unavailable`);
    return undefined;
  }
}

/** Where repomd.xml may be had, and which bytes are right. */
interface Places {
  readonly mirrors: readonly string[];
  /** Of the metalink; undefined without one. */
  readonly versions: readonly MetalinkVersion[] | undefined;
  /** Whether nobody on the way could have changed the list of mirrors. */
  readonly isSafe: boolean;
}

/** A repomd.xml that has been judged. */
interface Found {
  readonly repomd: Repomd;
  readonly document: Buffer;
  readonly signature: Buffer | undefined;
  readonly mirror: string;
  readonly url: string;
}

async function findPlaces(source: RpmSource, { fetcher }: RepomdContext): Promise<Places> {
  const list = source.metalink ?? source.mirrorlist;
  if (list === undefined) return { mirrors: source.bases, versions: undefined, isSafe: true };
  const where = shownUrl(list);
  const document = await fetcher.document(list, listLimit);
  if (document === undefined) {
    throw cannot('fetch', where, 'the server does not have it', {
      hint: `correct ${source.configuredAt}, or choose another repository with --mirror URL`,
    });
  }
  // Some mirrorlists are metalinks, whatever the option is called.
  const isMetalink = source.metalink !== undefined || /^\s*</.test(document.toString('latin1', 0, 256));
  const { mirrors, versions } = isMetalink
    ? parseMetalink(document, where)
    : { mirrors: parseMirrorlist(document.toString('utf8')), versions: undefined };
  if (mirrors.length === 0) {
    throw cannot('use', where, 'it names no mirror with an http, https or file URL', {
      hint: `correct ${source.configuredAt}, or choose another repository with --mirror URL`,
    });
  }
  return { mirrors, versions, isSafe: isSafe(list) };
}

/** Mirrors one after the other, until one has a document that nothing is to be said against. */
async function firstGood(places: Places, source: RpmSource, context: RepomdContext): Promise<Found> {
  let failure: ToolError | undefined;
  for (const mirror of places.mirrors.slice(0, mostTried)) {
    const result = await attempt(failure, mirror, context, async () => {
      const found = await fetchFrom(mirror, undefined, context);
      await refuseOlder(found, source, context);
      return found;
    });
    if (!(result instanceof ToolError)) return result;
    failure = result;
  }
  throw failure ?? cannot('find', `the repository ${source.id}`, `${source.configuredAt} names no URL`);
}

/** The newest version of the metalink, or, when the first mirrors do not have it yet, the newest that they have. */
async function newest(
  places: Places,
  versions: readonly MetalinkVersion[],
  source: RpmSource,
  context: RepomdContext,
): Promise<Found> {
  let failure: ToolError | undefined;
  let best: { readonly found: Found; readonly rank: number } | undefined;
  let older = 0;
  for (const mirror of places.mirrors.slice(0, mostTried)) {
    if (older >= patience) break;
    const result = await attempt(failure, mirror, context, () => fetchFrom(mirror, versions, context));
    if (result instanceof ToolError) {
      failure = result;
      continue;
    }
    const rank = versions.findIndex((version) => isVersion(result.document, version));
    if (best === undefined || rank < best.rank) best = { found: result, rank };
    if (rank === 0) break;
    context.log.debug(`${result.url} is an older one that the metalink still lists`);
    failure = undefined;
    older++;
  }
  if (best === undefined)
    throw failure ?? cannot('find', `the repository ${source.id}`, `${source.configuredAt} names no URL`);
  // Over plain http an old list may be played again together with what it lists.
  if (!places.isSafe) await refuseOlder(best.found, source, context);
  return best.found;
}

/** @returns the error instead of throwing it: the next mirror may do better */
async function attempt(
  before: ToolError | undefined,
  mirror: string,
  { log, signal }: RepomdContext,
  work: () => Promise<Found>,
): Promise<Found | ToolError> {
  if (before !== undefined) log.info(`${before.message}; trying ${shownUrl(mirror)}`);
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof ToolError) || signal.aborted) throw error;
    return error;
  }
}

async function fetchFrom(
  mirror: string,
  versions: readonly MetalinkVersion[] | undefined,
  context: RepomdContext,
): Promise<Found> {
  const address = locate(mirror, 'repodata/repomd.xml');
  const url = shownUrl(address);
  const document = await context.fetcher.document(address, repomdLimit);
  if (document === undefined) {
    throw cannot('fetch', url, 'the server does not have it', {
      hint: 'check the URL of the repository, or use another with --mirror URL',
    });
  }
  if (versions !== undefined && !versions.some((version) => isVersion(document, version))) {
    throw cannot('trust', url, 'its hash is none of those that the metalink lists', {
      hint: 'the mirrors are behind or false: try again later',
    });
  }
  const signature =
    context.keyring === undefined
      ? undefined
      : await context.fetcher.document(locate(mirror, 'repodata/repomd.xml.asc'), signatureLimit);
  await checkSignature(document, signature, url, context);
  return { repomd: parseRepomd(document, url), document, signature, mirror, url };
}

async function checkSignature(
  document: Buffer,
  signature: Buffer | undefined,
  url: string,
  { keyring, now, log }: RepomdContext,
): Promise<void> {
  if (keyring === undefined) return;
  if (signature === undefined) {
    throw cannot('trust', url, 'it has no signature: there is no repomd.xml.asc', {
      hint: 'use another mirror, or set repo_gpgcheck=0 if the repository does not sign its metadata',
    });
  }
  const { verifyDetached } = await import('../signature.js');
  await verifyDetached(document, signature, { url, keyring, now, log });
}

/** Every hash that the metalink has of a version must fit. */
function isVersion(document: Buffer, { size, checksums }: MetalinkVersion): boolean {
  if (size !== undefined && size !== document.length) return false;
  return checksums.every(
    ({ algorithm, value }) => createHash(algorithm).update(document).digest('hex') === value,
  );
}

/** Somebody who answers with an old repomd.xml keeps security updates away. The newest time seen is remembered. */
async function refuseOlder({ repomd, url }: Found, source: RpmSource, context: RepomdContext): Promise<void> {
  const seen = await newestSeen(source, context);
  if (seen === undefined || repomd.timestamp >= seen) return;
  throw cannot('use', url, `it is dated ${iso(repomd.timestamp)}, but one of ${iso(seen)} has been seen`, {
    hint: 'the mirror is behind: try later, or use another; if it was set back on purpose, empty the cache',
  });
}

async function rememberTimestamp(
  source: RpmSource,
  { timestamp }: Repomd,
  context: RepomdContext,
): Promise<void> {
  const seen = await newestSeen(source, context);
  // One in the future must not lock out everything that comes later.
  if (timestamp > context.now.getTime() / 1000 + mostAhead) return;
  if (seen !== undefined && timestamp <= seen) return;
  await context.cache.writeRecord('repomd', recordKey(source), JSON.stringify({ date: iso(timestamp) }));
}

async function newestSeen(source: RpmSource, { cache }: RepomdContext): Promise<number | undefined> {
  const record = await cache.readRecord('repomd', recordKey(source));
  const date = /^\{"date":"([^"]+)"\}$/.exec(record ?? '')?.[1];
  const time = date === undefined ? NaN : Date.parse(date);
  return Number.isNaN(time) ? undefined : time / 1000;
}

/** Keeps the documents for offline use. */
async function remember(
  source: RpmSource,
  { url, document, signature }: Found,
  { cache }: RepomdContext,
): Promise<void> {
  const parts = [url, document.toString('base64'), signature?.toString('base64') ?? ''];
  await cache.writeRecord('repomd-files', recordKey(source), JSON.stringify(parts));
}

async function recall(source: RpmSource, context: RepomdContext): Promise<TrustedRepomd | undefined> {
  const record = await context.cache.readRecord('repomd-files', recordKey(source));
  const [, shown, base64 = '', signed = ''] =
    /^\["((?:[^"\\]|\\.)*)","([A-Za-z0-9+/=]*)","([A-Za-z0-9+/=]*)"\]$/.exec(record ?? '') ?? [];
  if (shown === undefined) return undefined;
  const url = shownUrl(shown);
  const document = Buffer.from(base64, 'base64');
  await checkSignature(document, signed === '' ? undefined : Buffer.from(signed, 'base64'), url, context);
  const repomd = parseRepomd(document, url);
  return { repomd, mirrors: source.bases, url, trust: 'the cache' };
}

/** Without the password, which has no place in the cache and may change; a hash, since a query may hold a token. */
function recordKey({ metalink, mirrorlist, bases }: RpmSource): string {
  const list = metalink ?? mirrorlist;
  const urls = (list === undefined ? bases : [list]).map((address) => {
    const url = tryUrl(address);
    if (url === undefined) return address;
    url.username = '';
    url.password = '';
    return url.href;
  });
  return createHash('sha256').update(urls.join('\n')).digest('hex');
}

function isSafe(address: string): boolean {
  return ['https:', 'file:'].includes(tryUrl(address)?.protocol ?? '') || address.startsWith('/');
}

function warnOfPlainHttp(
  { versions, isSafe: isSafeList }: Places,
  { mirror }: Found,
  source: RpmSource,
  { keyring, log }: RepomdContext,
): void {
  if (keyring !== undefined) return;
  if (versions === undefined ? isSafe(mirror) && isSafeList : isSafeList) return;
  log.warn(
    `${source.configuredAt}: ${new URL(mirror).host} is asked over plain http, so nothing proves that its list of packages is the right one; the signatures of the packages are still checked`,
  );
}

function trustOf({ versions, isSafe: isSafeList, mirrors }: Places, { keyring }: RepomdContext): string {
  if (keyring !== undefined) return `keys of ${keyring.files.join(', ') || 'the repository'}`;
  if (versions !== undefined && isSafeList) return 'hash of the metalink';
  return mirrors.every(isSafe) && isSafeList ? 'https or this machine' : 'nothing';
}

function iso(seconds: number): string {
  return new Date(seconds * 1000).toISOString().replace(/\.[0-9]{3}Z$/, 'Z');
}
