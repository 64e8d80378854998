import type { Architecture } from '../../support/architecture.js';
import type { Cache, TemporaryBlob } from '../../support/cache.js';
import { cannot, ToolError } from '../../support/errors.js';
import type { Log } from '../../support/log.js';
import { shownUrl } from '../../support/url.js';
import type { PackageContents } from '../../package/contents.js';
import type { Fetcher } from '../fetch.js';
import type { LockedPackage } from '../lock.js';
import { checkIdentity } from './identity.js';
import { debianArchitecture } from './layout.js';
import { writeIndexFile, type IndexFile } from './index-file.js';
import { indexPackages } from './packages.js';
import { createProviderSearch, type ContentsFile } from './provider.js';
import { fetchIndex, fetchRelease, type Release, type ReleaseFile } from './release.js';
import { encodePath, type Source } from './sources.js';
import { belongsTo } from './suites.js';

/** The archive of one release for one architecture, verified: what pipeline needs of any family. */
export interface DebianArchive {
  /** Codename of the release, such as `bookworm`, or the suite that was asked for. */
  readonly release: string;
  readonly architecture: Architecture;
  /** The newest version of a binary package over all suites; virtual packages are not resolved here. */
  find(name: string): PackageRecord | undefined;
  /** Names near to a missing one, best first, for error messages. */
  similar(name: string): readonly string[];
  /** Fetches and opens packages, in parallel, each once. */
  open(records: readonly PackageRecord[]): Promise<readonly PackageContents[]>;
  /**
   * The package that provides a soname in one of the loader's directories. Walks the dependency graph from the package
   * that owns the needing object, then from the root package; the Contents index answers for the rest.
   */
  provider(request: ProviderRequest): Promise<Provider | undefined>;
  /** Removes the indexes from the disk; nothing can be found afterwards. */
  close(): Promise<void>;
}

export interface ProviderRequest {
  readonly soname: string;
  /** Package that owns the object which needs it. */
  readonly neededBy: string;
  /** Root package of the image. */
  readonly root: string;
  /** Directories, relative to the root, in the loader's order; usr-merged spellings are equal. */
  readonly directories: readonly string[];
}

export interface Provider {
  readonly record: PackageRecord;
  /** One line: why this package and not another, such as `libc6 is a dependency of isc-dhcp-server`. */
  readonly explanation: string;
}

/** One stanza of a Packages index, reduced to what choosing and fetching need. */
export interface PackageRecord extends Omit<LockedPackage, 'why'> {
  readonly section: string;
  readonly priority: string;
  /** Each group is a list of alternatives: Pre-Depends then Depends, version constraints kept as text. */
  readonly depends: readonly (readonly Dependency[])[];
  readonly provides: readonly Dependency[];
}

export interface Dependency {
  readonly name: string;
  /** Such as `>= 2.36`, or undefined. */
  readonly constraint: string | undefined;
}

/** package/ comes after this stage, so its functions are handed in. Who hands them in closes the packages. */
export type OpenPackage = (path: string, sha256: string) => Promise<PackageContents>;
/** @param limit most unpacked bytes */
export type DecompressFile = (
  path: string,
  format: 'none' | 'gz' | 'xz',
  limit: number,
) => AsyncIterable<Uint8Array>;

export interface ArchiveOptions {
  /** In order of preference. */
  readonly sources: readonly Source[];
  /** Codename, or the suite that was asked for. */
  readonly release: string;
  readonly architecture: Architecture;
  readonly fetcher: Fetcher;
  /** What has been fetched for other architectures of the same run. */
  readonly releases?: Map<string, Promise<Release | undefined>>;
  readonly cache: Cache;
  /** Read the Releases as they were last accepted; the fetcher must be offline too. */
  readonly offline: boolean;
  readonly openPackage: OpenPackage;
  readonly decompressFile: DecompressFile;
  readonly now: Date;
  readonly log: Log;
}

/** Bytes of an unpacked Packages or Contents index; the largest today has a twentieth of it. */
const indexLimit = 4 * 1024 ** 3;
const packagesLimit = 1024 ** 3;

/**
 * Opens the archive: fetches and verifies the Release of every source, then its Packages indexes, all in parallel.
 * @throws ToolError
 */
export async function openArchive(options: ArchiveOptions): Promise<DebianArchive> {
  const { architecture, fetcher, openPackage, decompressFile } = options;
  const debian = debianArchitecture(architecture);
  const suites = await readReleases(mergeSources(options.sources), debian, options);
  const parts = suites.flatMap((suite) => packagesParts(suite, debian, options.log));
  if (parts.length === 0) {
    throw cannot(
      'find',
      `packages of ${options.release} for ${debian}`,
      'none of the sources has an index of them',
      {
        hint: 'choose another architecture, or another archive with --mirror URL',
      },
    );
  }

  const temporaries: TemporaryBlob[] = [];
  const close = async (): Promise<void> => {
    await Promise.all(temporaries.map((temporary) => temporary.discard()));
  };
  const files = await Promise.all(
    parts.map(async (part) => {
      const temporary = await options.cache.temporary();
      temporaries.push(temporary);
      return readPackages(part, temporary.path, options);
    }),
  ).catch(async (error: unknown) => {
    await close();
    throw error;
  });
  const index = indexPackages(files, debian);
  const opened = new Map<string, Promise<PackageContents>>();
  const open = (record: PackageRecord): Promise<PackageContents> => {
    let contents = opened.get(record.sha256);
    if (contents === undefined) {
      const first = index.find(record.name)?.source;
      const sources = first === undefined ? options.sources : [first, ...options.sources];
      contents = fetcher
        .blob(locateLocked(sources, record), {
          sha256: record.sha256,
          size: record.size,
          label: `${record.name} ${record.version}`,
        })
        .then(async (path) => {
          const file = await openPackage(path, record.sha256);
          checkIdentity(file, record);
          return file;
        });
      opened.set(record.sha256, contents);
    }
    return contents;
  };
  const search = createProviderSearch({
    index,
    open,
    contents: suites.flatMap((suite) => contentsFiles(suite, debian)),
    read: async (file) =>
      decompressFile(
        await fetchIndex(file.release, file.source, file.path, file.file, fetcher),
        'gz',
        indexLimit,
      ),
    log: options.log,
  });
  return {
    release: options.release,
    architecture,
    find: (name) => index.find(name)?.record,
    similar: (name) => index.similar(name),
    open: async (records) => {
      search.chosen(records);
      return Promise.all(records.map((record) => open(record)));
    },
    provider: (request) => search.provider(request),
    close,
  };
}

/** URLs of a package: sources of its suite first, then the others, each once. A locked build needs no Release for it. */
export function locateLocked(
  sources: readonly Source[],
  locked: Pick<LockedPackage, 'suite' | 'path'>,
): string[] {
  const own = sources.filter(({ suite }) => suite === locked.suite);
  const others = sources.filter(({ suite }) => suite !== locked.suite);
  return [...new Set([...own, ...others].map(({ uri }) => uri + encodePath(locked.path)))];
}

interface OpenSuite {
  readonly source: Source;
  readonly release: Release;
}

/** apt takes entries of one URI and suite for one source; they may differ in their components only. */
function mergeSources(sources: readonly Source[]): readonly Source[] {
  const merged = new Map<string, Source>();
  for (const source of sources) {
    const key = `${source.uri} ${source.suite} ${source.architectures?.join(' ') ?? ''}`;
    const known = merged.get(key);
    if (known !== undefined && JSON.stringify(known.keyring) !== JSON.stringify(source.keyring)) {
      throw cannot(
        'use',
        `${shownUrl(source.uri)} ${source.suite}`,
        'two of its entries have different Signed-By values',
        {
          hint: `make ${known.configuredAt} and ${source.configuredAt} equal`,
        },
      );
    }
    const components = [...new Set([...(known?.components ?? []), ...source.components])];
    merged.set(key, { ...source, ...known, components });
  }
  return [...merged.values()];
}

async function readReleases(
  sources: readonly Source[],
  debian: string,
  options: ArchiveOptions,
): Promise<readonly OpenSuite[]> {
  const { log, release: wanted } = options;
  const usable = sources
    .filter((source) => {
      if (source.architectures === undefined || source.architectures.includes(debian)) return true;
      log.debug(`${source.configuredAt}: left out, it is not for ${debian}`);
      return false;
    })
    .map((source) => ({ ...source, suite: source.suite.replaceAll('$(ARCH)', debian) }));
  const results = await Promise.all(
    usable.map(async (source) => {
      try {
        return { source, release: await releaseOf(source, options), error: undefined };
      } catch (thrown) {
        const error = thrown instanceof Error ? thrown : new Error(String(thrown));
        return { source, release: undefined, error };
      }
    }),
  );
  const suites: OpenSuite[] = [];
  for (const { source, release, error } of results) {
    if (release !== undefined) {
      if (isOfRelease(source, release, wanted)) suites.push({ source, release });
      else
        log.debug(
          `${source.configuredAt}: left out, ${source.suite} is ${release.codename ?? 'another release'}`,
        );
      continue;
    }
    // Another archive of the same suite answers for an unreachable one; nothing answers for a false signature.
    const replaced = results.some(
      (other) => other.release !== undefined && other.source.suite === source.suite,
    );
    if (
      error !== undefined &&
      !(replaced && error instanceof ToolError && error.message.startsWith('cannot fetch '))
    ) {
      throw error;
    }
    if (error instanceof ToolError) log.warn(`${source.configuredAt}: left out, ${error.message}`);
    else if (source.optional || replaced)
      log.info(`${shownUrl(source.uri)} has no ${source.suite}, left out`);
    else {
      throw cannot(
        'find',
        `the suite ${source.suite}`,
        `${shownUrl(source.uri)} has neither InRelease nor Release of it`,
        {
          hint: `correct ${source.configuredAt}, or choose another archive with --mirror URL`,
        },
      );
    }
  }
  return suites;
}

/** Every architecture of a run asks for the same Releases. */
function releaseOf(source: Source, options: ArchiveOptions): Promise<Release | undefined> {
  const key = JSON.stringify(source);
  const release = options.releases?.get(key) ?? fetchRelease(source, options);
  options.releases?.set(key, release);
  return release;
}

/** A moving name such as `stable` may have come to mean another release than the one wanted. */
function isOfRelease(source: Source, { codename }: Release, wanted: string): boolean {
  if (source.suite.endsWith('/') || belongsTo(source.suite, wanted)) return true;
  return codename !== undefined && belongsTo(codename, wanted);
}

interface PackagesPart extends OpenSuite {
  readonly path: string;
  readonly file: ReleaseFile;
  readonly format: 'none' | 'gz' | 'xz';
  /** Unpacked bytes, when the Release says so. */
  readonly unpacked: number | undefined;
}

/** gzip unpacks in half the time of xz. The plain file is listed in most archives but served by few. */
const packagesEndings = [
  { ending: '.gz', format: 'gz' },
  { ending: '.xz', format: 'xz' },
  { ending: '', format: 'none' },
] as const;

function packagesParts({ source, release }: OpenSuite, debian: string, log: Log): PackagesPart[] {
  const architectures = release.indexOfAll ? [debian, 'all'] : [debian];
  const wanted = source.suite.endsWith('/')
    ? ['Packages']
    : source.components.flatMap((component) =>
        architectures.map((architecture) => `${component}/binary-${architecture}/Packages`),
      );
  return wanted.flatMap((path) => {
    for (const { ending, format } of packagesEndings) {
      const file = release.files.get(path + ending);
      if (file !== undefined) {
        return [
          { source, release, path: path + ending, file, format, unpacked: release.files.get(path)?.size },
        ];
      }
    }
    log.warn(`${source.configuredAt}: ${shownUrl(source.uri)} ${source.suite} has no ${path}`);
    return [];
  });
}

async function readPackages(
  part: PackagesPart,
  temporary: string,
  options: ArchiveOptions,
): Promise<IndexFile> {
  const { source, release, path, file, format, unpacked } = part;
  const url = shownUrl(release.base + path);
  const blob = await fetchIndex(release, source, path, file, options.fetcher);
  if (unpacked !== undefined && unpacked > packagesLimit)
    throw cannot('read', url, 'it is too large for an index');
  const chunks = options.decompressFile(blob, format, unpacked ?? packagesLimit);
  return writeIndexFile(chunks, { path: temporary, source, url, size: unpacked });
}

/** Contents indexes of the components; older archives have one for all components at the top. */
function contentsFiles({ source, release }: OpenSuite, debian: string): ContentsFile[] {
  const places = source.suite.endsWith('/')
    ? ['']
    : [...source.components.map((component) => `${component}/`), ''];
  return [debian, 'all'].flatMap((architecture) => {
    const found = places.flatMap((place) => {
      const path = `${place}Contents-${architecture}.gz`;
      const file = release.files.get(path);
      return file === undefined ? [] : [{ source, release, path, file, forAll: architecture === 'all' }];
    });
    const inComponents = found.filter(({ path }) => path.includes('/'));
    return inComponents.length > 0 ? inComponents : found;
  });
}
