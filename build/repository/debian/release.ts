import { cannot } from '../../support/errors.js';
import { shownUrl } from '../../support/url.js';
import type { ExpectedBlob, Fetcher } from '../fetch.js';
import { parseStanza } from './deb822.js';
import { fetchSignedRelease, type ReleaseContext } from './signed-release.js';
import { encodePath, type DateChecks, type Source } from './sources.js';

/** A verified Release file (https://wiki.debian.org/DebianRepository/Format), reduced to what reading needs. */
export interface Release {
  /** URL of the directory that the paths of its files are relative to, with a slash at its end. */
  readonly base: string;
  readonly suite: string | undefined;
  readonly codename: string | undefined;
  readonly origin: string | undefined;
  readonly label: string | undefined;
  readonly version: string | undefined;
  /** Milliseconds since the epoch. */
  readonly date: number;
  /** Milliseconds since the epoch, or undefined when it does not say. */
  readonly validUntil: number | undefined;
  readonly byHash: boolean;
  /** Not `NotAutomatic`, as backports are: apt takes from such a suite only what no other has. */
  readonly automatic: boolean;
  readonly architectures: readonly string[];
  readonly components: readonly string[];
  /** Packages of Architecture: all are in an index of their own, not in every architecture's. */
  readonly indexOfAll: boolean;
  /** Index files by their path below `base`. */
  readonly files: ReadonlyMap<string, ReleaseFile>;
}

export interface ReleaseFile {
  readonly sha256: string;
  /** Bytes. */
  readonly size: number;
}

/**
 * Fetches, verifies and judges the Release of a source: signature, dates, suite, no going back in time.
 * @returns undefined when the archive has no such suite
 * @throws ToolError
 */
export async function fetchRelease(source: Source, context: ReleaseContext): Promise<Release | undefined> {
  const base = source.suite.endsWith('/')
    ? new URL(encodePath(source.suite), source.uri).href
    : `${source.uri}dists/${encodePath(source.suite)}/`;
  const { url, text, remember } = await fetchSignedRelease(source, base, context);
  let release: Release | undefined;
  if (text !== undefined) {
    release = parseRelease(text, url, base);
    checkSuite(release, source, url);
    checkDates(release, source.checks, url, context);
    await refuseOlder(release, source, url, context);
  } else if ((await newestSeen(source, context)) !== undefined) {
    throw cannot('find', `the suite ${source.suite}`, `${shownUrl(source.uri)} had it before`, {
      hint: 'try later, or use another mirror; if it was removed on purpose, empty the cache',
    });
  }
  await remember();
  return release;
}

/** @throws ToolError when a field is missing or malformed */
export function parseRelease(text: string, url: string, base: string): Release {
  const stanza = parseStanza(text, url);
  const date = stanza.get('Date');
  if (date === undefined) throw cannot('read', url, 'the field Date is missing');
  const sums = stanza.get('SHA256');
  if (sums === undefined) {
    throw cannot('read', url, 'it lists no SHA256 sums', { hint: 'the archive is too old to be trusted' });
  }
  const validUntil = stanza.get('Valid-Until');
  const architectures = words(stanza.get('Architectures'));
  const noAll = words(stanza.get('No-Support-for-Architecture-all')).includes('Packages');
  return {
    base,
    suite: stanza.get('Suite'),
    codename: stanza.get('Codename'),
    origin: stanza.get('Origin'),
    label: stanza.get('Label'),
    version: stanza.get('Version'),
    date: parseDate(date, 'Date', url),
    validUntil: validUntil === undefined ? undefined : parseDate(validUntil, 'Valid-Until', url),
    byHash: stanza.get('Acquire-By-Hash')?.trim().toLowerCase() === 'yes',
    automatic: stanza.get('NotAutomatic')?.trim().toLowerCase() !== 'yes',
    architectures,
    components: words(stanza.get('Components')),
    indexOfAll: architectures.includes('all') && !noAll,
    files: parseSums(sums, url),
  };
}

function parseSums(text: string, url: string): ReadonlyMap<string, ReleaseFile> {
  const files = new Map<string, ReleaseFile>();
  for (const line of text.split('\n')) {
    if (line.trim() === '') continue;
    const match = /^\s*([0-9A-Fa-f]{64})\s+([0-9]{1,15})\s+(\S+)$/.exec(line);
    const [, hash, size, path] = match ?? [];
    if (hash === undefined || size === undefined || path === undefined) {
      throw cannot('read', url, `${JSON.stringify(line.slice(0, 80))} is not a hash, a size and a path`);
    }
    const safe = archivePath(path);
    if (safe === undefined) throw cannot('read', url, `the path ${JSON.stringify(path)} leaves the archive`);
    const file = { sha256: hash.toLowerCase(), size: Number(size) };
    const known = files.get(safe);
    if (known !== undefined && (known.sha256 !== file.sha256 || known.size !== file.size)) {
      throw cannot('read', url, `${path} has two hashes`);
    }
    files.set(safe, file);
  }
  return files;
}

/**
 * A path that an archive names, without `.` components.
 * @returns undefined for a path that is absolute, climbs, has a scheme or an unprintable character
 */
export function archivePath(path: string): string | undefined {
  if (path.length > 4096 || !/^[!-~\u00a0-\uffff]+$/.test(path) || /[\\?#]/.test(path)) return undefined;
  if (path.startsWith('/') || /^[A-Za-z][A-Za-z0-9+.-]*:/.test(path)) return undefined;
  const parts = path.split('/').filter((part) => part !== '.');
  if (parts.length === 0 || parts.some((part) => part === '' || part === '..')) return undefined;
  return parts.join('/');
}

const months = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'];

/** The date format of Release files: RFC 2822 in UTC, whatever the locale. Gives milliseconds since the epoch. */
function parseDate(text: string, field: string, url: string): number {
  const match =
    /^(?:[A-Z][a-z]{2}, +)?([0-9]{1,2}) ([A-Z][a-z]{2}) ([0-9]{4}) ([0-9]{1,2}):([0-9]{2}):([0-9]{2}) (?:UTC|GMT|Z|[+-]0000)$/.exec(
      text.trim(),
    );
  const [, day, name, year, hour, minute, second] = match ?? [];
  const month = months.indexOf(name ?? '');
  const time = Date.UTC(Number(year), month, Number(day), Number(hour), Number(minute), Number(second));
  if (match === null || month < 0 || Number.isNaN(time)) {
    throw cannot('read', url, `the field ${field} is ${JSON.stringify(text)}, not a date in UTC`);
  }
  return time;
}

/** A mirror, or somebody on the way, may answer with another suite that is signed just as well. */
function checkSuite(release: Release, source: Source, url: string): void {
  const { suite } = source;
  if (suite.endsWith('/')) return;
  const known = [release.suite, release.codename];
  // Security suites up to Debian 10 were named `buster/updates` and called themselves `buster`.
  if (known.includes(suite) || (suite.includes('/') && known.includes(suite.split('/')[0]))) return;
  const named = known.filter((name) => name !== undefined).join(', ');
  throw cannot('use', url, `it is the Release of ${named === '' ? 'no suite' : named}, not of ${suite}`, {
    hint: `use another mirror, or correct the suite at ${source.configuredAt}`,
  });
}

function isInFuture(release: Release, { maxFuture }: DateChecks, { now }: ReleaseContext): boolean {
  return release.date > now.getTime() + maxFuture * 1000;
}

function checkDates(release: Release, checks: DateChecks, url: string, context: ReleaseContext): void {
  const { now, log, offline } = context;
  if (isInFuture(release, checks, context)) {
    const reason = `it is dated ${iso(release.date)}, and this machine's clock says ${iso(now.getTime())}`;
    if (checks.date) throw cannot('use', url, reason, { hint: 'set the clock, or use another mirror' });
    log.warn(`${url}: ${reason}; apt is configured not to check dates`);
  }
  const until = endOfValidity(release, checks);
  if (until === undefined || until >= now.getTime()) return;
  const reason = `it was valid until ${iso(until)}, and now it is ${iso(now.getTime())}`;
  if (checks.validUntil) {
    throw cannot('use', url, reason, {
      hint: offline
        ? 'run it once without --offline, which fills the cache'
        : 'use a mirror that is kept up to date; for a historic archive set check-valid-until=no on its source',
    });
  }
  log.warn(`${url}: ${reason}; apt is configured not to check Valid-Until`);
}

/** As apt computes it: the maximum shortens, or makes, the end of validity, then the minimum puts it off. */
function endOfValidity(release: Release, checks: DateChecks): number | undefined {
  let until = release.validUntil;
  if (checks.maxValid !== undefined) {
    const latest = release.date + checks.maxValid * 1000;
    until = until === undefined ? latest : Math.min(until, latest);
  }
  if (until !== undefined && checks.minValid !== undefined) {
    until = Math.max(until, release.date + checks.minValid * 1000);
  }
  return until;
}

/** Somebody who answers with an old Release keeps security updates away. The newest Date seen is remembered. */
async function refuseOlder(
  release: Release,
  source: Source,
  url: string,
  context: ReleaseContext,
): Promise<void> {
  const newest = await newestSeen(source, context);
  if (newest !== undefined && release.date < newest) {
    throw cannot('use', url, `it is dated ${iso(release.date)}, but one of ${iso(newest)} has been seen`, {
      hint: 'the mirror is behind: try later, or use another; if it was set back on purpose, empty the cache',
    });
  }
  // One in the future gets here where dates are not checked; it must not lock out everything that comes later.
  if (newest === release.date || isInFuture(release, source.checks, context)) return;
  await context.cache.writeRecord('release', recordKey(source), JSON.stringify({ date: iso(release.date) }));
}

async function newestSeen(source: Source, { cache }: ReleaseContext): Promise<number | undefined> {
  const record = await cache.readRecord('release', recordKey(source));
  return record === undefined ? undefined : recordedDate(record);
}

/** Without the password, which has no place in the cache and may change. */
function recordKey({ uri, suite }: Source): string {
  return `${shownUrl(uri)} ${suite}`;
}

function recordedDate(record: string): number | undefined {
  const date = /^\{"date":"([^"]+)"\}$/.exec(record)?.[1];
  const time = date === undefined ? Number.NaN : Date.parse(date);
  return Number.isNaN(time) ? undefined : time;
}

function iso(time: number): string {
  return new Date(time).toISOString().replace(/\.[0-9]{3}Z$/, 'Z');
}

/** Fetches an index file of a Release, by hash where the archive offers it. @returns path of the verified blob */
export async function fetchIndex(
  release: Release,
  source: Source,
  path: string,
  file: ReleaseFile,
  fetcher: Fetcher,
): Promise<string> {
  const plain = release.base + encodePath(path);
  const directory = plain.slice(0, plain.lastIndexOf('/') + 1);
  const hashed = `${directory}by-hash/SHA256/${file.sha256}`;
  const useHash = source.byHash === 'force' || (source.byHash === 'yes' && release.byHash);
  const expected: ExpectedBlob = {
    ...file,
    label: `${source.suite} ${path}`,
    hint: 'the mirror is probably in the middle of an update: try again in a few minutes, or use another with --mirror URL',
  };
  return fetcher.blob(useHash ? [hashed, plain] : [plain], expected);
}

function words(value: string | undefined): readonly string[] {
  return value?.split(/\s+/).filter((word) => word !== '') ?? [];
}
