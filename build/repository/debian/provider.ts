import type { Log } from '../../support/log.js';
import { compareBytes } from '../../support/order.js';
import { shownUrl } from '../../support/url.js';
import type { PackageContents } from '../../package/contents.js';
import type { ProviderRequest } from '../origin.js';
import type { PackageRecord, Provider } from './archive.js';
import { packagesWithFile } from './contents-index.js';
import { walkDependencies, type DependencyWalk } from './dependencies.js';
import { mergedPath } from './layout.js';
import type { PackageIndex } from './packages.js';
import type { Release, ReleaseFile } from './release.js';
import type { Source } from './sources.js';

export interface ContentsFile {
  readonly source: Source;
  readonly release: Release;
  readonly path: string;
  readonly file: ReleaseFile;
  /** It lists packages of Architecture: all, which seldom hold a library. */
  readonly forAll: boolean;
}

export interface ProviderSearchOptions {
  readonly index: PackageIndex;
  readonly open: (record: PackageRecord) => Promise<PackageContents>;
  readonly contents: readonly ContentsFile[];
  /** Fetches and unpacks a Contents index. */
  readonly read: (file: ContentsFile) => Promise<AsyncIterable<Uint8Array>>;
  readonly log: Log;
}

export interface ProviderSearch {
  /** Packages that the image has anyway: looked into before any other. */
  chosen(records: readonly PackageRecord[]): void;
  provider(request: ProviderRequest): Promise<Provider | undefined>;
}

/** What looking into dependencies may download for one soname before the Contents index is asked instead. */
const probeLimits = { packages: 24, bytes: 32 * 1024 ** 2 };

export function createProviderSearch(options: ProviderSearchOptions): ProviderSearch {
  const { index, open, log } = options;
  const chosen = new Map<string, PackageRecord>();
  const walks = new Map<string, DependencyWalk>();
  // One after the other: what an answer finds opened must not depend on which download was faster.
  let queue: Promise<unknown> = Promise.resolve();

  const walk = (name: string): DependencyWalk => {
    let found = walks.get(name);
    if (found === undefined) walks.set(name, (found = walkDependencies(name, index)));
    return found;
  };

  const holds = async (record: PackageRecord, request: Wanted): Promise<boolean> => {
    const { entries } = await open(record);
    return entries.some(({ kind, path }) => {
      if (kind !== 'file' && kind !== 'symlink' && kind !== 'hardlink') return false;
      if (!path.endsWith(request.ending)) return false;
      return request.directories.has(mergedPath(path.slice(0, -request.ending.length)));
    });
  };

  async function search(request: ProviderRequest): Promise<Provider | undefined> {
    const wanted: Wanted = {
      ending: `/${request.soname}`,
      directories: new Set(request.directories.map((directory) => mergedPath(trimSlashes(directory)))),
    };
    for (const record of chosen.values()) {
      if (await holds(record, wanted)) return { record, explanation: explainChosen(record, request, walk) };
    }
    const starts = [...new Set([request.neededBy, request.root])].map((name) => walk(name));
    const tried = new Set<string>([...chosen.values()].map(({ sha256 }) => sha256));
    const probe = async (record: PackageRecord): Promise<boolean> => {
      if (tried.has(record.sha256)) return false;
      tried.add(record.sha256);
      log.debug(`looking for ${request.soname} in ${record.name} ${record.version}`);
      return holds(record, wanted);
    };

    const names = packageNames(request.soname);
    for (const closure of starts) {
      const named = closure.packages.filter(({ record }) => names.has(record.name));
      for (const { record } of named) {
        if (await probe(record)) return { record, explanation: closure.explain(record.name) };
      }
    }
    let packages = 0;
    let bytes = 0;
    for (const closure of starts) {
      for (const { record } of closure.packages) {
        if (!isLibrary(record) || tried.has(record.sha256)) continue;
        if (packages + 1 > probeLimits.packages || bytes + record.size > probeLimits.bytes) break;
        packages += 1;
        bytes += record.size;
        if (await probe(record)) return { record, explanation: closure.explain(record.name) };
      }
    }
    return askContents(request, wanted, probe);
  }

  async function askContents(
    request: ProviderRequest,
    wanted: Wanted,
    probe: (record: PackageRecord) => Promise<boolean>,
  ): Promise<Provider | undefined> {
    const root = walk(request.root);
    for (const forAll of [false, true]) {
      const files = options.contents.filter((file) => file.forAll === forAll);
      const names = new Set<string>();
      for (const file of files) {
        const url = shownUrl(file.release.base + file.path);
        const found = await packagesWithFile(
          await options.read(file),
          request.soname,
          wanted.directories,
          url,
        );
        for (const name of found) names.add(name);
      }
      const records = [...names].flatMap((name) => index.find(name)?.record ?? []);
      const rank = (record: PackageRecord): number => root.distance(record.name) ?? Infinity;
      records.sort(
        (a, b) =>
          compareNumbers(rank(a), rank(b)) ||
          Number(isLibrary(b)) - Number(isLibrary(a)) ||
          priorityOf(a) - priorityOf(b) ||
          compareBytes(a.name, b.name),
      );
      for (const record of records) {
        // The Contents index is made apart from the Packages index and may be older.
        if (!(await probe(record))) continue;
        const others = records.filter((other) => other !== record).map(({ name }) => name);
        const rest = others.length === 0 ? '' : `, rather than ${others.slice(0, 3).join(', ')}`;
        return { record, explanation: `${record.name} ships it according to the Contents index${rest}` };
      }
    }
    return undefined;
  }

  return {
    chosen: (records) => {
      for (const record of records) chosen.set(record.name, record);
    },
    provider: async (request) => {
      const answer = queue.then(() => search(request));
      queue = answer.catch(() => undefined);
      const provider = await answer;
      if (provider !== undefined) chosen.set(provider.record.name, provider.record);
      return provider;
    },
  };
}

interface Wanted {
  /** A slash and the soname. */
  readonly ending: string;
  /** Relative to the root, merged spelling. */
  readonly directories: ReadonlySet<string>;
}

function explainChosen(
  record: PackageRecord,
  request: ProviderRequest,
  walk: (name: string) => DependencyWalk,
): string {
  if (record.name === request.neededBy) return `${record.name} itself ships it`;
  for (const start of [request.neededBy, request.root]) {
    if (walk(start).distance(record.name) !== undefined) return walk(start).explain(record.name);
  }
  return `${record.name} is in the image already`;
}

/**
 * Names a library package may have by Policy 8.1: the soname without `.so`, in lower case, a hyphen before the
 * version when the name ends in a digit; `t64` marks the packages renamed for 64-bit time.
 */
export function packageNames(soname: string): ReadonlySet<string> {
  const match = /^(.+?)(?:\.so\.(.+)|-([0-9][0-9.]*)\.so|\.so)$/.exec(soname);
  const [, stem, after, inside] = match ?? [];
  if (stem === undefined) return new Set();
  const version = after ?? inside ?? '';
  const names = new Set<string>();
  for (const spelling of new Set([stem, stem.replaceAll('_', '-'), stem.replaceAll('_', '')])) {
    const base = spelling.toLowerCase();
    // libfoo.so.6.1 may be in libfoo6.1 or, against the letter, in libfoo6.
    for (const number of new Set([version, version.split('.')[0] ?? ''])) {
      for (const join of /[0-9]$/.test(base) && number !== '' ? ['-', ''] : ['', '-']) {
        names.add(base + (number === '' ? '' : join + number.toLowerCase()));
      }
    }
  }
  return new Set([...names].flatMap((name) => [name, `${name}t64`]));
}

/** The component, if any, stands before the section: `non-free/libs`. */
function isLibrary({ section }: PackageRecord): boolean {
  return section.slice(section.lastIndexOf('/') + 1) === 'libs';
}

/** Policy 2.5, most important first. */
const priorities = ['required', 'important', 'standard', 'optional', 'extra'];

function priorityOf({ priority }: PackageRecord): number {
  const at = priorities.indexOf(priority);
  return at < 0 ? priorities.length : at;
}

/** Subtraction would give NaN for two infinities. */
function compareNumbers(a: number, b: number): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

function trimSlashes(path: string): string {
  return path.replace(/^\/+|\/+$/g, '');
}
