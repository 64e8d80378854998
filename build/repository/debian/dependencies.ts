import type { Dependency, PackageRecord } from './archive.js';
import type { PackageIndex } from './packages.js';

export interface ReachedPackage {
  readonly record: PackageRecord;
  /** Number of dependencies on the way; 1 for a direct one. */
  readonly distance: number;
}

/** What a package depends on, directly and over others, nearest first. */
export interface DependencyWalk {
  /** Without the package itself; of equal distance in the order of the dependency fields. */
  readonly packages: readonly ReachedPackage[];
  /** Zero for the package itself, undefined for one it does not depend on. */
  distance(name: string): number | undefined;
  /** One line: how it comes to the package. */
  explain(name: string): string;
}

/** More than any closure in a distribution needs; bounds what a hostile index can make of it. */
const closureLimit = 20_000;

/**
 * Walks breadth first over Pre-Depends and Depends. Of alternatives all are followed, in their order, since any of
 * them may be the one that holds a library; a virtual package stands for all that provide it.
 */
export function walkDependencies(root: string, index: PackageIndex): DependencyWalk {
  const parents = new Map<string, string | undefined>([[root, undefined]]);
  const distances = new Map<string, number>([[root, 0]]);
  const packages: ReachedPackage[] = [];
  const start = index.find(root)?.record;
  let level = start === undefined ? [] : [start];
  for (let distance = 1; level.length > 0; distance++) {
    const next: PackageRecord[] = [];
    for (const parent of level) {
      for (const record of parent.depends.flat().flatMap((dependency) => resolve(dependency, index))) {
        if (distances.has(record.name) || distances.size > closureLimit) continue;
        distances.set(record.name, distance);
        parents.set(record.name, parent.name);
        packages.push({ record, distance });
        next.push(record);
      }
    }
    level = next;
  }
  return {
    packages,
    distance: (name) => distances.get(name),
    explain: (name) => {
      const between: string[] = [];
      for (let at = parents.get(name); at !== undefined && at !== root; at = parents.get(at))
        between.unshift(at);
      const through = between.length === 0 ? '' : ` through ${between.join(', ')}`;
      return `${name} is a dependency of ${root}${through}`;
    },
  };
}

function resolve({ name }: Dependency, index: PackageIndex): readonly PackageRecord[] {
  const real = index.find(name);
  if (real !== undefined) return [real.record];
  return index.providing(name).flatMap((provider) => index.find(provider)?.record ?? []);
}
