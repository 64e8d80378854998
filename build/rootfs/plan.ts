import type { PackageContents } from '../package/contents.js';
import type { FoundFile, PackageTree } from '../package/tree.js';
import { compareBytes, comparePaths } from '../support/order.js';
import { cannot } from '../support/errors.js';
import { printable } from '../support/format.js';
import { capabilityNames } from './capability.js';

/** Why an entry is in the image. Every entry has exactly one reason. */
export type Reason =
  | { readonly kind: 'root'; readonly program: string }
  /** Needed by the loader: root path first, this file last. */
  | { readonly kind: 'needed'; readonly chain: readonly string[]; readonly name: string }
  | { readonly kind: 'interpreter'; readonly of: string }
  | { readonly kind: 'dlopen'; readonly by: string; readonly name: string }
  /** A link or directory on the way to another entry. */
  | { readonly kind: 'path'; readonly to: string }
  | { readonly kind: 'state'; readonly volume: string }
  | { readonly kind: 'config' }
  | { readonly kind: 'account'; readonly user: string }
  | { readonly kind: 'inventory'; readonly about: string }
  /** The loader finds libraries in directories of ld.so.conf through it alone. */
  | { readonly kind: 'loader-cache' }
  | { readonly kind: 'declared'; readonly field: string };

interface EntryBase {
  /** Relative to the root, `/`-separated, no trailing slash. The root directory itself is not an entry. */
  readonly path: string;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Package the bytes come from, or undefined for what the plan itself writes. */
  readonly owner: PackageContents | undefined;
  readonly reason: Reason;
}
export interface PlannedDirectory extends EntryBase {
  readonly kind: 'directory';
}
export interface PlannedFile extends EntryBase {
  readonly kind: 'file';
  readonly size: number;
  /** Raw security.capability value to set, or undefined. */
  readonly capability: Buffer | undefined;
  read(): Promise<Buffer>;
}
export interface PlannedSymlink extends EntryBase {
  readonly kind: 'symlink';
  readonly target: string;
}
/** A file whose bytes the plan itself states; text but for the loader's cache. */
export interface PlannedText extends EntryBase {
  readonly kind: 'text';
  readonly content: Buffer;
}
export type RootfsEntry = PlannedDirectory | PlannedFile | PlannedSymlink | PlannedText;

export interface RootfsPlan {
  /** Sorted by path components, each by its bytes: a directory directly before what it holds. */
  readonly entries: readonly RootfsEntry[];
  /** Modification time of every entry, seconds since the epoch. */
  readonly epoch: number;
}

/** What the plan is made from: the closure's files with their packages, and what the definition declares. */
export interface PlanInput {
  readonly tree: PackageTree;
  /** Absolute paths as opened, each with the reason it is wanted for. */
  readonly wanted: readonly WantedFile[];
  readonly user: { readonly name: string; readonly id: number };
  readonly state:
    { readonly directory: string; readonly volume: string; readonly files: readonly string[] } | undefined;
  /** Absolute path. */
  readonly config: string | undefined;
  /** Capability names without CAP_ that a file may carry. */
  readonly capabilities: readonly string[];
  /** /etc/ld.so.cache, for libraries that the loader finds through it alone; undefined for none. */
  readonly loaderCache: Buffer | undefined;
  /** Makes the scanner's record of each package that has a file in the image; undefined for none. */
  readonly inventory: ((packages: readonly PackageContents[]) => readonly InventoryFile[]) | undefined;
  /** Seconds since the epoch. */
  readonly epoch: number;
}

export interface WantedFile {
  readonly path: string;
  readonly reason: Reason;
}

export interface InventoryFile {
  /** Relative to the root. */
  readonly path: string;
  readonly text: string;
}

/**
 * Decides everything the image holds. Pure: nothing is written, and bytes are read only when a layer asks.
 *
 * @throws ToolError when a wanted file is missing, or when it would bring in something dangerous: a setuid or
 * setgid program, or a file capability that the definition does not declare
 */
export function planRootfs(input: PlanInput): RootfsPlan {
  const draft = new Draft();
  const owners = new Set<PackageContents>();
  for (const wanted of input.wanted) {
    const found = input.tree.lookup(wanted.path.replace(/^\/+/, ''));
    if (found === undefined) {
      throw cannot('put', `${wanted.path} in the image`, 'no package of this image holds it', {
        hint: 'correct the path in the definition, or add the package that ships it',
      });
    }
    for (const name of [
      wanted.path,
      found.path,
      ...found.links.flatMap(({ path, target }) => [path, target]),
    ])
      refuseOddName(name);
    for (const link of found.links) {
      if (link.owner !== undefined) owners.add(link.owner);
      draft.add({
        kind: 'symlink',
        path: link.path,
        target: link.target,
        mode: 0o777,
        uid: 0,
        gid: 0,
        owner: link.owner,
        reason: { kind: 'path', to: `/${found.path}` },
      });
    }
    refuseDanger(found, input.capabilities);
    owners.add(found.owner);
    const { uid, gid } = ownersOf(found);
    draft.add({
      kind: 'file',
      path: found.path,
      mode: found.entry.mode,
      uid,
      gid,
      owner: found.owner,
      reason: wanted.reason,
      size: found.entry.size,
      capability: capabilityOf(found),
      read: () => found.owner.read(found.entry),
    });
  }

  const { name, id } = input.user;
  const written = { uid: 0, gid: 0, owner: undefined } as const;
  const account: Reason = { kind: 'account', user: name };
  draft.add({
    ...written,
    kind: 'text',
    path: 'etc/passwd',
    mode: 0o644,
    reason: account,
    content: Buffer.from(`${name}:x:${id}:${id}::/:/sbin/nologin\n`),
  });
  draft.add({
    ...written,
    kind: 'text',
    path: 'etc/group',
    mode: 0o644,
    reason: account,
    content: Buffer.from(`${name}:x:${id}:\n`),
  });
  if (input.config !== undefined) {
    draft.add({
      ...written,
      kind: 'directory',
      path: input.config.slice(1),
      mode: 0o755,
      reason: { kind: 'config' },
    });
  }
  if (input.state !== undefined) {
    const { directory, volume, files } = input.state;
    const reason: Reason = { kind: 'state', volume };
    const owned = { uid: id, gid: id, owner: undefined, reason } as const;
    draft.add({ ...owned, kind: 'directory', path: directory.slice(1), mode: 0o755 });
    for (const file of files) {
      draft.add({
        ...owned,
        kind: 'text',
        path: `${directory.slice(1)}/${file}`,
        mode: 0o644,
        content: Buffer.alloc(0),
      });
    }
  }
  if (input.loaderCache !== undefined) {
    draft.add({
      ...written,
      kind: 'text',
      path: 'etc/ld.so.cache',
      mode: 0o644,
      reason: { kind: 'loader-cache' },
      content: input.loaderCache,
    });
  }
  if (input.inventory !== undefined) {
    const packages = [...owners].sort((a, b) => compareBytes(a.name, b.name));
    for (const file of input.inventory(packages)) {
      draft.add({
        ...written,
        kind: 'text',
        path: file.path,
        mode: 0o644,
        reason: { kind: 'inventory', about: 'the packages' },
        content: Buffer.from(file.text),
      });
    }
  }
  return { entries: draft.finish(), epoch: input.epoch };
}

/** NAME_MAX (limits.h), bytes. */
const longestName = 255;

/** Collects entries, keeps the first reason of each, and adds the directories that lead to them. */
class Draft {
  readonly #entries = new Map<string, RootfsEntry>();

  add(entry: RootfsEntry): void {
    const there = this.#entries.get(entry.path);
    if (there === undefined) {
      this.#entries.set(entry.path, entry);
    } else if (
      there.kind !== entry.kind ||
      (there.kind === 'symlink' && entry.kind === 'symlink' && there.target !== entry.target)
    ) {
      throw cannot('plan', `/${entry.path}`, `it would be a ${there.kind} and a ${entry.kind} at once`, {
        hint: 'choose other config and state directories in the definition',
      });
    }
  }

  finish(): readonly RootfsEntry[] {
    for (const entry of [...this.#entries.values()].sort((a, b) => comparePaths(a.path, b.path))) {
      for (let slash = entry.path.indexOf('/'); slash !== -1; slash = entry.path.indexOf('/', slash + 1)) {
        const parent = entry.path.slice(0, slash);
        const there = this.#entries.get(parent);
        if (there === undefined) {
          this.#entries.set(parent, {
            kind: 'directory',
            path: parent,
            mode: 0o755,
            uid: 0,
            gid: 0,
            owner: undefined,
            reason: { kind: 'path', to: `/${entry.path}` },
          });
        } else if (there.kind !== 'directory') {
          throw cannot('plan', `/${entry.path}`, `/${parent} is a ${there.kind}`, {
            hint: 'choose other config and state directories in the definition',
          });
        }
      }
    }
    return [...this.#entries.values()].sort((a, b) => comparePaths(a.path, b.path));
  }
}

/** An extended attribute belongs to the file, whichever of its names is asked for. */
function capabilityOf({ entry, owner }: FoundFile): Buffer | undefined {
  const holder = entry.kind === 'file' ? entry : owner.entries.find(({ path }) => path === entry.target);
  return holder?.kind === 'file' ? holder.capability : undefined;
}

/** RPM names owners; an account that the package does not define has no number here. */
function ownersOf({ path, entry, owner }: FoundFile): { readonly uid: number; readonly gid: number } {
  const { uid, gid, userName, groupName } = entry;
  if (uid !== undefined && gid !== undefined) return { uid, gid };
  throw cannot(
    'put',
    `/${path} of package ${owner.name} in the image`,
    `it belongs to ${userName}:${groupName}, which the package does not define`,
    { hint: 'leave the file out of the definition' },
  );
}

/** A name is printed, written into the lock file and unpacked by others: it must mean the same everywhere. */
function refuseOddName(path: string): void {
  const object = `${path} in the image`;
  if (printable(path) !== path) throw cannot('put', object, 'its name holds what cannot be printed');
  if (path.split('/').some((part) => Buffer.byteLength(part) > longestName))
    throw cannot('put', object, `its name is longer than the ${longestName} bytes that file systems take`);
}

function refuseDanger(found: FoundFile, declared: readonly string[]): void {
  const object = `/${found.path} of package ${found.owner.name} in the image`;
  if ((found.entry.mode & 0o6000) !== 0) {
    throw cannot(
      'put',
      object,
      'it is setuid or setgid, and the image must not hold a way to more privileges',
      {
        hint: 'leave the file out of the definition, or take a package that does not need it',
      },
    );
  }
  if ((found.entry.mode & 0o002) !== 0) {
    throw cannot('put', object, 'everybody may write to it, the service too', {
      hint: 'leave the file out of the definition',
    });
  }
  const capability = capabilityOf(found);
  if (capability === undefined) return;
  const undeclared = capabilityNames(capability, `/${found.path}`).filter((name) => !declared.includes(name));
  if (undeclared.length > 0) {
    throw cannot(
      'put',
      object,
      `it carries the file capability ${undeclared.join(', ')}, which the definition does not declare`,
      {
        hint: 'declare it under capabilities, or leave the file out',
      },
    );
  }
}
