import { similarNames } from '../similar-names.js';
import { cannot } from '../../support/errors.js';
import { compareBytes } from '../../support/order.js';
import { parseStanza, type Stanza } from './deb822.js';
import type { IndexFile } from './index-file.js';
import { archivePath } from './release.js';
import type { Dependency, PackageRecord } from './archive.js';
import type { Source } from './sources.js';
import { compareVersions, isVersion } from './versions.js';

/** The binary packages of all suites together. */
export interface PackageIndex {
  /**
   * The newest version of the suites that are automatic, else of the others; between equal ones the first source's.
   *
   * @throws ToolError on a malformed stanza
   */
  find(name: string): IndexedPackage | undefined;
  /** Packages that provide a virtual package, sorted by bytes. */
  providing(name: string): readonly string[];
  similar(name: string): readonly string[];
}

export interface IndexedPackage {
  readonly record: PackageRecord;
  readonly source: Source;
}

/** @param files in the order of their sources @param architecture Debian's name */
export function indexPackages(files: readonly IndexFile[], architecture: string): PackageIndex {
  const found = new Map<string, IndexedPackage | undefined>();

  const automatic = files.filter((file) => file.automatic);
  const others = files.filter((file) => !file.automatic);

  function newest(name: string, among: readonly IndexFile[]): IndexedPackage | undefined {
    let best: IndexedPackage | undefined;
    for (const file of among) {
      for (const offset of file.offsets.get(name) ?? []) {
        const where = `${file.url} at ${name}`;
        const stanza = parseStanza(file.stanza(offset), where);
        // An index of one architecture may hold others, in archives that do not sort them apart.
        if (!['all', architecture].includes(stanza.get('Architecture') ?? '')) continue;
        const version = versionOf(stanza, where);
        if (best !== undefined && compareVersions(version, best.record.version) <= 0) continue;
        best = { record: readRecord(stanza, version, file.source.suite, where), source: file.source };
      }
    }
    return best;
  }

  function find(name: string): IndexedPackage | undefined {
    if (found.has(name)) return found.get(name);
    const best = newest(name, automatic) ?? newest(name, others);
    found.set(name, best);
    return best;
  }

  return {
    find,
    providing: (name) => {
      // Searching the text first spares parsing thousands of fields for one name.
      const owners = files
        .flatMap(({ provides }) => provides)
        .filter(({ value }) => value.includes(name))
        .filter(({ value }) => parseDepends(value).some((group) => group.some((one) => one.name === name)))
        .map(({ owner }) => owner);
      return [...new Set(owners)].sort(compareBytes);
    },
    similar: (name) => similarNames(name, new Set(files.flatMap(({ offsets }) => [...offsets.keys()]))),
  };
}

/** Policy 5.6.7; names in old archives may be longer than today's rules want, never of other characters. */
const packageName = /^[a-z0-9][a-z0-9+.-]+$/;

function versionOf(stanza: Stanza, where: string): string {
  const version = needed(stanza, 'Version', where);
  if (!isVersion(version)) throw cannot('read', where, `the version ${JSON.stringify(version)} is malformed`);
  return version;
}

function readRecord(stanza: Stanza, version: string, suite: string, where: string): PackageRecord {
  const name = needed(stanza, 'Package', where);
  if (!packageName.test(name)) throw cannot('read', where, `the name ${JSON.stringify(name)} is malformed`);
  const filename = needed(stanza, 'Filename', where);
  const path = archivePath(filename);
  if (path === undefined) {
    throw cannot('read', where, `the Filename ${JSON.stringify(filename)} leaves the archive`, {
      hint: 'the archive is broken or hostile; remove its source',
    });
  }
  const size = needed(stanza, 'Size', where);
  if (!/^[0-9]{1,15}$/.test(size))
    throw cannot('read', where, `the Size ${JSON.stringify(size)} is no number`);
  const sha256 = needed(stanza, 'SHA256', where).toLowerCase();
  if (!/^[0-9a-f]{64}$/.test(sha256)) throw cannot('read', where, 'the SHA256 is not 64 hexadecimal digits');
  const groups = [stanza.get('Pre-Depends'), stanza.get('Depends')].flatMap((value) =>
    parseDepends(value ?? ''),
  );
  return {
    name,
    version,
    architecture: needed(stanza, 'Architecture', where),
    suite,
    path,
    size: Number(size),
    sha256,
    section: stanza.get('Section') ?? '',
    priority: stanza.get('Priority') ?? '',
    depends: groups,
    provides: parseDepends(stanza.get('Provides') ?? '').flat(),
  };
}

function needed(stanza: Stanza, field: string, where: string): string {
  const value = stanza.get(field);
  if (value === undefined || value === '') throw cannot('read', where, `the field ${field} is missing`);
  return value;
}

/**
 * Parses a relationship field (Policy 7.1): groups parted by commas, alternatives by bars. What is malformed names no
 * package and is left out.
 */
export function parseDepends(value: string): readonly (readonly Dependency[])[] {
  return value
    .split(',')
    .map((group) =>
      group.split('|').flatMap((alternative): Dependency[] => {
        const match =
          /^\s*([a-z0-9][a-z0-9+.-]*)(?::[a-z0-9-]+)?\s*(?:\(\s*([<>=]+)\s*([^\s()]+)\s*\))?/.exec(
            alternative,
          );
        const [, name, relation, version] = match ?? [];
        if (name === undefined) return [];
        return [{ name, constraint: relation === undefined ? undefined : `${relation} ${version ?? ''}` }];
      }),
    )
    .filter((group) => group.length > 0);
}
