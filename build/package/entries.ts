import { cannot } from '../support/errors.js';
import type { FileEntry, PackageEntry } from './contents.js';
import type { TarMember } from './tar.js';

export interface CollectedEntries {
  readonly entries: readonly PackageEntry[];
  /** Byte offset of the data of every regular file in the unpacked archive. */
  readonly offsets: ReadonlyMap<FileEntry, number>;
}

/**
 * Makes one consistent list of an archive's members: the last member of a path wins, hard links point at the file
 * that holds the bytes, and nothing lies below a path that is no directory.
 *
 * @param limit most members
 * @throws ToolError `cannot read NAME: reason`
 */
export async function collectEntries(
  members: AsyncIterable<TarMember>,
  name: string,
  limit: number,
): Promise<CollectedEntries> {
  const fail = (reason: string) => cannot('read', name, reason);
  const byPath = new Map<string, { readonly entry: PackageEntry; readonly offset: number }>();
  const linked = new Set<string>();
  let count = 0;
  for await (const member of members) {
    count += 1;
    if (count > limit) throw fail(`it has more than ${limit} entries`);
    const { path } = member.entry;
    if (path === '') continue;
    const before = byPath.get(path)?.entry;
    if (before !== undefined) {
      if ((before.kind === 'directory') !== (member.entry.kind === 'directory')) {
        throw fail(`${path} is a directory and also something else`);
      }
      if (linked.has(path)) throw fail(`${path} is replaced after a hard link to it`);
      // A map keeps the place of the first; the list is in the order of the last.
      byPath.delete(path);
    }
    const entry = member.entry.kind === 'hardlink' ? resolved(member.entry) : member.entry;
    byPath.set(path, { entry, offset: member.offset });
  }
  requireDirectories([...byPath.values()].map(({ entry }) => entry));

  const offsets = new Map<FileEntry, number>();
  for (const { entry, offset } of byPath.values()) if (entry.kind === 'file') offsets.set(entry, offset);
  return { entries: [...byPath.values()].map(({ entry }) => entry), offsets };

  function resolved(link: Extract<PackageEntry, { kind: 'hardlink' }>): PackageEntry {
    let target = byPath.get(link.target)?.entry;
    // Links made earlier are resolved already: one step leads to the file.
    if (target?.kind === 'hardlink') target = byPath.get(target.target)?.entry;
    if (target?.kind !== 'file') {
      throw fail(`the hard link ${link.path} has no regular file ${link.target} before it`);
    }
    linked.add(target.path);
    return { ...link, target: target.path, size: target.size };
  }

  /** A file below a symbolic link would be written wherever the link points. */
  function requireDirectories(entries: readonly PackageEntry[]): void {
    // With NUL, which no name holds, for the slash, what lies below a path follows it directly.
    const key = (entry: PackageEntry) => entry.path.replaceAll('/', '\0');
    const sorted = entries
      .map((entry) => ({ entry, key: key(entry) }))
      .sort((a, b) => (a.key < b.key ? -1 : 1));
    sorted.forEach(({ entry, key: above }, index) => {
      const next = sorted[index + 1];
      if (entry.kind !== 'directory' && next?.key.startsWith(`${above}\0`) === true) {
        throw fail(`${next.entry.path} lies below ${entry.path}, which is no directory`);
      }
    });
  }
}
