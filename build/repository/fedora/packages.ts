import { similarNames } from '../similar-names.js';
import type { Architecture } from '../../support/architecture.js';
import { compareBytes } from '../../support/order.js';
import type { RpmRecord } from './record.js';
import { compareRecords, provides, type RpmRepository } from './repository.js';

/** A package, and the repository to fetch it from. */
export interface FoundPackage {
  readonly record: RpmRecord;
  readonly repository: RpmRepository;
}

/** The packages of several repositories together, such as a release and its updates. */
export interface RpmPackages {
  /**
   * The newest version of a package in the repositories of the best priority that have it; of equal ones that of the
   * lowest cost, then of the first repository by name.
   *
   * @throws ToolError on a malformed record
   */
  find(name: string): FoundPackage | undefined;
  /** Of the packages that `find` finds, those that provide something; sorted by name. @throws ToolError */
  providers(key: string): readonly FoundPackage[];
  /** Of the packages that `find` finds, those that own one of some absolute paths; sorted by name. */
  owners(paths: readonly string[]): Promise<readonly FoundPackage[]>;
  /** Names near to a missing one, best first, for error messages. */
  similar(name: string): readonly string[];
  close(): void;
}

/** The order of the repositories does not matter. */
export function mergeRepositories(
  repositories: readonly RpmRepository[],
  architecture: Architecture,
): RpmPackages {
  const ordered = [...repositories].sort(
    ({ source: a }, { source: b }) => a.priority - b.priority || a.cost - b.cost || compareBytes(a.id, b.id),
  );
  const known = new Map<string, FoundPackage | undefined>();

  function find(name: string): FoundPackage | undefined {
    if (!known.has(name)) known.set(name, choose(name));
    return known.get(name);
  }

  function choose(name: string): FoundPackage | undefined {
    let best: FoundPackage | undefined;
    for (const repository of ordered) {
      if (best !== undefined && best.repository.source.priority < repository.source.priority) break;
      const [record] = repository.find(name);
      if (record === undefined) continue;
      // A tie in all but the checksum is for the order of the repositories to decide.
      const equal =
        best === undefined ? record : { ...record, checksum: best.record.checksum, path: best.record.path };
      if (best === undefined || compareRecords(equal, best.record, architecture) < 0)
        best = { record, repository };
    }
    return best;
  }

  /** Older packages, and those that a better repository hides, are not to be had. */
  function chosen(
    records: readonly RpmRecord[],
    fits: (record: RpmRecord) => boolean,
  ): readonly FoundPackage[] {
    const names = [...new Set(records.map(({ name }) => name))].sort(compareBytes);
    return names.flatMap((name) => {
      const found = find(name);
      return found !== undefined && fits(found.record) ? [found] : [];
    });
  }

  return {
    find,
    providers: (key) =>
      chosen(
        ordered.flatMap((repository) => repository.providers(key)),
        (record) => provides(record, key),
      ),
    owners: async (paths) => {
      const records = (await Promise.all(ordered.map((repository) => repository.owners(paths)))).flat();
      const owned = new Set(records.map(({ checksum }) => checksum.value));
      return chosen(records, ({ checksum }) => owned.has(checksum.value));
    },
    similar: (name) => similarNames(name, new Set(ordered.flatMap((repository) => repository.names()))),
    close: () => {
      for (const repository of repositories) repository.close();
    },
  };
}
