import { posix } from 'node:path';
import { cannot } from '../support/errors.js';
import { compareBytes } from '../support/order.js';
import type { FileEntry, HardlinkEntry, PackageContents, PackageEntry } from './contents.js';

/** One symbolic link that was followed on the way to a file. */
export interface FollowedLink {
  /** Path of the link itself, relative to the root, with every directory link before it already resolved. */
  readonly path: string;
  /** As the link has it. */
  readonly target: string;
  /** Package that ships the link, or undefined for a link of the family's merged /usr layout. */
  readonly owner: PackageContents | undefined;
}

export interface FoundFile {
  /** Real path, relative to the root, no link in any component. */
  readonly path: string;
  readonly links: readonly FollowedLink[];
  readonly owner: PackageContents;
  /** Its own path may be spelled through a directory alias. */
  readonly entry: FileEntry | HardlinkEntry;
}

/**
 * The file system that the packages would make together, seen through the links of a merged /usr
 * (directory aliases such as `lib64` -> `usr/lib64`). Nothing is unpacked.
 */
export interface PackageTree {
  readonly packages: readonly PackageContents[];
  /**
   * Adds a package whole or, when it fails, not at all.
   *
   * @throws ToolError when two packages own one path with differing contents
   */
  add(contents: PackageContents): Promise<void>;
  /** Resolves like the kernel: links in every component, `..`, at most 40 links; undefined when nothing is there or it is no regular file. */
  lookup(path: string): FoundFile | undefined;
  /** Names in a directory, sorted by bytes; links are followed. Nothing for what is no directory. */
  list(path: string): readonly string[];
}

/** path_resolution(7). */
const maxLinks = 40;

/**
 * Makes an empty tree.
 *
 * @param aliases directory links of the family's layout: path of the link, relative to the root, to its target as a
 *   link has it (relative to the link's own directory, or absolute), such as `lib` to `usr/lib`. What a package ships
 *   below a link is found below its target.
 * @throws ToolError when the aliases lead in a circle
 */
export function createPackageTree(aliases: ReadonlyMap<string, string>): PackageTree {
  return new MergedTree(aliases);
}

interface Owned {
  readonly owner: PackageContents;
  readonly entry: PackageEntry;
}

class MergedTree implements PackageTree {
  readonly packages: PackageContents[] = [];
  readonly #aliases: ReadonlyMap<string, string>;
  /** By real path. */
  readonly #entries = new Map<string, Owned>();
  /** Names by real path of the directory, whether an entry states the directory or only a path below it. */
  readonly #directories = new Map<string, Set<string>>([['', new Set()]]);
  #adding: Promise<void> = Promise.resolve();

  constructor(aliases: ReadonlyMap<string, string>) {
    this.#aliases = aliases;
    for (const [path, target] of aliases) {
      this.#realDirectory(targetPath(path, target), new Map());
      this.#makeParents(path);
    }
  }

  add(contents: PackageContents): Promise<void> {
    // Comparing contents takes turns of the event loop; another package must not come in between.
    const added = this.#adding.then(() => this.#add(contents));
    this.#adding = added.catch(() => undefined);
    return added;
  }

  async #add(contents: PackageContents): Promise<void> {
    if (this.packages.includes(contents)) return;
    const added = new Map<string, Owned>();
    const realDirectories = new Map<string, string>();
    const fail = (reason: string) =>
      cannot('add', nameOf(contents), reason, {
        hint: 'the two are not made for one system: choose another release, or other packages in the definition',
      });
    for (const entry of contents.entries) {
      const path = below(this.#realDirectory(parentOf(entry.path), realDirectories), nameIn(entry.path));
      const alias = this.#aliases.get(path);
      if (alias !== undefined) {
        // What a package calls a directory here is the alias's target.
        if (entry.kind === 'directory') continue;
        if (entry.kind !== 'symlink' || targetPath(path, entry.target) !== targetPath(path, alias)) {
          throw fail(`its ${entry.path} is not the link to ${alias} of the merged /usr layout`);
        }
      }
      const owned = { owner: contents, entry };
      const before = added.get(path) ?? this.#entries.get(path);
      if (before === undefined) {
        if (entry.kind !== 'directory' && this.#directories.has(path)) {
          throw fail(`its ${path} is a directory in another package`);
        }
        added.set(path, owned);
      } else if (!(await isSame(before, owned))) {
        throw fail(`its ${path} differs from that of ${nameOf(before.owner)}`);
      } else if (before.owner !== contents && compareBytes(contents.name, before.owner.name) < 0) {
        // Whichever comes first by name, so that the order in which packages were found does not matter.
        added.set(path, owned);
      }
    }
    for (const path of added.keys()) {
      for (let above = parentOf(path); !this.#directories.has(above); above = parentOf(above)) {
        const owned = added.get(above) ?? this.#entries.get(above);
        if (owned?.entry.kind === 'directory') break;
        if (owned !== undefined)
          throw fail(`its ${path} lies below ${above} of ${nameOf(owned.owner)}, which is no directory`);
      }
    }
    for (const [path, owned] of added) {
      this.#entries.set(path, owned);
      this.#makeParents(path);
      if (owned.entry.kind === 'directory' && !this.#directories.has(path))
        this.#directories.set(path, new Set());
    }
    this.packages.push(contents);
  }

  lookup(path: string): FoundFile | undefined {
    const found = this.#resolve(path);
    const owned = found === undefined ? undefined : this.#entries.get(found.path);
    if (found === undefined || owned === undefined) return undefined;
    const { entry, owner } = owned;
    return isFile(entry) ? { path: found.path, links: found.links, owner, entry } : undefined;
  }

  list(path: string): readonly string[] {
    const found = this.#resolve(path);
    const names = found === undefined ? undefined : this.#directories.get(found.path);
    return [...(names ?? [])].sort(compareBytes);
  }

  #resolve(path: string): { readonly path: string; readonly links: readonly FollowedLink[] } | undefined {
    const links: FollowedLink[] = [];
    const pending = path.split('/').reverse();
    let current = '';
    for (let name = pending.pop(); name !== undefined; name = pending.pop()) {
      // Whatever follows, even a slash alone, only a directory can have something after it.
      if (!this.#directories.has(current)) return undefined;
      if (name === '' || name === '.') continue;
      const next = name === '..' ? parentOf(current) : below(current, name);
      const link = this.#linkAt(next);
      if (link === undefined) {
        current = next;
        continue;
      }
      if (links.length === maxLinks) return undefined;
      links.push(link);
      if (link.target.startsWith('/')) current = '';
      pending.push(...link.target.split('/').reverse());
    }
    return { path: current, links };
  }

  #linkAt(path: string): FollowedLink | undefined {
    const owned = this.#entries.get(path);
    if (owned?.entry.kind === 'symlink') return { path, target: owned.entry.target, owner: owned.owner };
    const target = this.#aliases.get(path);
    return target === undefined ? undefined : { path, target, owner: undefined };
  }

  /** A directory's path with the aliases in it followed, those alone. */
  #realDirectory(path: string, known: Map<string, string>, followed = 0): string {
    if (path === '') return '';
    const before = known.get(path);
    if (before !== undefined) return before;
    if (followed > maxLinks) throw cannot('use', `the directory link ${path}`, 'it leads in a circle');
    let real = below(this.#realDirectory(parentOf(path), known, followed), nameIn(path));
    const target = this.#aliases.get(real);
    if (target !== undefined) real = this.#realDirectory(targetPath(real, target), known, followed + 1);
    known.set(path, real);
    return real;
  }

  #makeParents(path: string): void {
    for (let at = path; at !== '';) {
      const parent = parentOf(at);
      const names = this.#directories.get(parent);
      if (names !== undefined) {
        names.add(nameIn(at));
        return;
      }
      this.#directories.set(parent, new Set([nameIn(at)]));
      at = parent;
    }
  }
}

function isFile(entry: PackageEntry): entry is FileEntry | HardlinkEntry {
  return entry.kind === 'file' || entry.kind === 'hardlink';
}

/** Whether it makes no difference which of the two is there. Bytes are read only when all else is equal. */
async function isSame(
  { entry: a, owner: ownerA }: Owned,
  { entry: b, owner: ownerB }: Owned,
): Promise<boolean> {
  if (a.kind === 'directory') return b.kind === 'directory';
  if (a.mode !== b.mode || a.uid !== b.uid || a.gid !== b.gid) return false;
  if (isFile(a)) {
    if (!isFile(b) || a.size !== b.size) return false;
    const [bytesA, bytesB] = await Promise.all([ownerA.read(a), ownerB.read(b)]);
    return bytesA.equals(bytesB);
  }
  if (a.kind === 'symlink') return b.kind === 'symlink' && a.target === b.target;
  if (a.kind === 'fifo') return b.kind === 'fifo';
  return b.kind === a.kind && a.major === b.major && a.minor === b.minor;
}

/** Where a link at a path leads, relative to the root, by its text alone. */
function targetPath(path: string, target: string): string {
  return posix.join('/', target.startsWith('/') ? '' : parentOf(path), target).replace(/^\/|\/$/g, '');
}

function parentOf(path: string): string {
  const slash = path.lastIndexOf('/');
  return slash === -1 ? '' : path.slice(0, slash);
}

function nameIn(path: string): string {
  return path.slice(path.lastIndexOf('/') + 1);
}

function below(directory: string, name: string): string {
  return directory === '' ? name : `${directory}/${name}`;
}

function nameOf({ name, version }: PackageContents): string {
  return `${name} ${version}`;
}
