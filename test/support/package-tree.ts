import type { PackageContents, PackageEntry } from '../../build/package/contents.js';
import { createPackageTree, type PackageTree } from '../../build/package/tree.js';
import { mergedUsr } from '../../build/repository/debian/layout.js';

/** What a test says of an entry; the rest is as usual. */
type Some<Entry> = Entry extends PackageEntry ? Partial<Entry> & Pick<Entry, 'kind' | 'path'> : never;

/** A package as package/ would hand it on. */
export function packageOf(name: string, ...entries: readonly Some<PackageEntry>[]): PackageContents {
  const common = { mode: 0o644, uid: 0, gid: 0, userName: 'root', groupName: 'root', mtime: 0 };
  const files = entries.map((entry): PackageEntry => {
    switch (entry.kind) {
      case 'file':
        return { ...common, size: entry.path.length, capability: undefined, ...entry };
      case 'symlink':
        return { ...common, target: '', ...entry };
      case 'hardlink':
        return { ...common, target: '', size: 0, ...entry };
      case 'directory':
      case 'fifo':
        return { ...common, ...entry };
      case 'character-device':
      case 'block-device':
        return { ...common, major: 1, minor: 3, ...entry };
    }
  });
  return {
    name,
    version: '1',
    architecture: 'amd64',
    metadata: { format: 'deb', control: new Map(), controlText: `Package: ${name}\nVersion: 1\n` },
    built: 0,
    entries: files,
    read: (entry) => Promise.resolve(Buffer.from(entry.path)),
    close: () => Promise.resolve(),
  };
}

export async function treeOf(...packages: readonly PackageContents[]): Promise<PackageTree> {
  const tree = createPackageTree(mergedUsr);
  for (const contents of packages) await tree.add(contents);
  return tree;
}
