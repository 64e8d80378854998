import type { Architecture } from '../../support/architecture.js';
import type { TemporaryBlob } from '../../support/cache.js';
import { cannot } from '../../support/errors.js';
import { shownUrl } from '../../support/url.js';
import type { PackageContents } from '../../package/contents.js';
import type { LockedPackage } from '../lock.js';
import type { ProviderRequest } from '../origin.js';
import { checkIdentity } from '../identity.js';
import { debianArchitecture } from './layout.js';
import { writeIndexFile, type IndexFile } from './index-file.js';
import { indexPackages } from './packages.js';
import { pinsAgainst, type Pin } from './preferences.js';
import { createProviderSearch, type ContentsFile } from './provider.js';
import { fetchIndex, type ReleaseFile } from './release.js';
import { openSuites, type OpenSuite, type SuitesOptions } from './open-suites.js';
import { encodePath, type Source } from './sources.js';

/** The archive of one release for one architecture, verified. */
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
export type OpenPackage = (
  path: string,
  sha256: string,
  /** What the package is called in errors. */
  name: string,
) => Promise<PackageContents>;
/** @param limit most unpacked bytes */
export type DecompressFile = (
  path: string,
  format: 'none' | 'gz' | 'xz',
  limit: number,
) => AsyncIterable<Uint8Array>;

export interface ArchiveOptions extends Omit<SuitesOptions, 'debian'> {
  /** In order of preference. */
  readonly sources: readonly Source[];
  readonly architecture: Architecture;
  /** Pins of the host's apt, to warn of. */
  readonly pins?: readonly Pin[];
  readonly openPackage: OpenPackage;
  readonly decompressFile: DecompressFile;
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
  const suites = await openSuites(options.sources, { ...options, debian });
  const wanted = suites.flatMap((suite) => wantedIndexes(suite, debian));
  const parts = wanted.flatMap(packagesPart);
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
  for (const { source, path } of wanted) {
    if (parts.some((part) => part.source === source && part.wanted === path)) continue;
    options.log.warn(`${source.configuredAt}: ${shownUrl(source.uri)} ${source.suite} has no ${path}`);
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
          const file = await openPackage(path, record.sha256, `package ${record.name} ${record.version}`);
          checkIdentity(file, record);
          return file;
        });
      opened.set(record.sha256, contents);
    }
    return contents;
  };
  const warnOfPins = (name: string): void => {
    const found = index.find(name);
    const having = files.filter(({ offsets }) => offsets.has(name)).map(({ source }) => source);
    const candidates = suites.filter(({ source }) => having.includes(source));
    const suite = candidates.find(({ source }) => source === found?.source);
    if (found === undefined || suite === undefined) return;
    const choice = { name, version: found.record.version, suite, candidates };
    for (const { where, packages } of pinsAgainst(options.pins ?? [], choice)) {
      options.log.warn(`${where}: the pin of ${packages} is not looked at, the newest version is taken`);
    }
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
      for (const { name } of records) warnOfPins(name);
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

interface WantedIndex extends OpenSuite {
  /** Without an ending. */
  readonly path: string;
}

interface PackagesPart extends OpenSuite {
  readonly wanted: string;
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

function wantedIndexes(suite: OpenSuite, debian: string): WantedIndex[] {
  const { source, release } = suite;
  if (source.suite.endsWith('/')) return [{ ...suite, path: 'Packages' }];
  const architectures = release.indexOfAll ? [debian, 'all'] : [debian];
  return source.components.flatMap((component) =>
    architectures.map((architecture) => ({
      ...suite,
      path: `${component}/binary-${architecture}/Packages`,
    })),
  );
}

function packagesPart({ source, release, path: wanted }: WantedIndex): PackagesPart[] {
  for (const { ending, format } of packagesEndings) {
    const path = wanted + ending;
    const file = release.files.get(path);
    if (file !== undefined) {
      return [{ source, release, wanted, path, file, format, unpacked: release.files.get(wanted)?.size }];
    }
  }
  return [];
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
  return writeIndexFile(chunks, {
    path: temporary,
    source,
    automatic: release.automatic,
    url,
    size: unpacked,
  });
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
