import { lstat, readdir, readFile, readlink } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { linkNames, type LinkNames } from './binaries.js';
import type { DebianPackage } from './debian.js';
import type { PackagedFile } from './spec.js';

/** Files of a package under their Fedora paths. */
export type Files = Readonly<Record<string, PackagedFile>>;

/** Where the loader is on Fedora; programs ask for it through the links `/lib64` and `/lib`. */
export const loaders = {
  x86_64: { name: 'ld-linux-x86-64.so.2', path: '/usr/lib64/ld-linux-x86-64.so.2' },
  aarch64: { name: 'ld-linux-aarch64.so.1', path: '/usr/lib/ld-linux-aarch64.so.1' },
} as const;

/** A package of Debian that libraries are taken from. */
export interface LibraryPackage {
  readonly from: DebianPackage;
  readonly files: Files;
}

/**
 * The library packages whose files the given programs load, directly or not, by the sonames in the files themselves.
 *
 * @param more sonames that are opened at run time, and no file names
 * @throws Error when a library is in none of the packages
 */
export async function loadedBy(
  programs: readonly Files[],
  packages: readonly DebianPackage[],
  more: readonly string[],
): Promise<readonly LibraryPackage[]> {
  const providers = new Map<string, LibraryPackage & { readonly needed: readonly string[] }>();
  for (const from of packages) {
    const files = await libraryFiles(from);
    const links = await linksOf(files);
    const provider = { from, files, needed: links.flatMap(({ needed }) => needed) };
    for (const { soname } of links) if (soname !== undefined) providers.set(soname, provider);
  }
  const links = (await Promise.all(programs.map(linksOf))).flat();
  const wanted = new Set([...more, ...links.flatMap(({ needed }) => needed)]);
  const found = new Set<LibraryPackage>();
  // A set that grows while it is walked is walked to its end.
  for (const soname of wanted) {
    const provider = providers.get(soname);
    if (provider === undefined) throw new Error(`${soname} is in none of the packages`);
    found.add(provider);
    for (const name of provider.needed) wanted.add(name);
  }
  return [...found];
}

/** The shared libraries in Debian's library directories themselves, not those below, moved to `/usr/lib64`. */
async function libraryFiles(from: DebianPackage): Promise<Files> {
  const files: Record<string, PackagedFile> = {};
  for (const top of ['lib', 'usr/lib']) {
    for (const triplet of (await list(join(from.root, top))).filter((name) => name.endsWith('-linux-gnu'))) {
      const directory = join(from.root, top, triplet);
      for (const name of await list(directory)) {
        if (!/\.so(\.|$)/.test(name)) continue;
        const file = await packaged(join(directory, name), 0o755);
        if (file !== undefined) files[`/usr/lib64/${name}`] = file;
      }
    }
  }
  return files;
}

/** The programs of a package, moved to `/usr/bin` whichever of the four directories they are in. */
export async function programFiles(from: DebianPackage): Promise<Files> {
  const files: Record<string, PackagedFile> = {};
  for (const top of ['bin', 'sbin', 'usr/bin', 'usr/sbin']) {
    for (const name of await list(join(from.root, top))) {
      // `[` would be a pattern in a spec file, and every shell has its own.
      if (!/^[\w.+-]+$/.test(name)) continue;
      const file = await packaged(join(from.root, top, name), 0o755);
      if (file !== undefined) files[`/usr/bin/${name}`] = file;
    }
  }
  return files;
}

/** @param mode of regular files @returns undefined for what is neither a file nor a link */
async function packaged(path: string, mode: number): Promise<PackagedFile | undefined> {
  const stats = await lstat(path);
  // Debian's links between libraries stay within their directory.
  if (stats.isSymbolicLink()) return { kind: 'link', target: basename(await readlink(path)) };
  return stats.isFile() ? { kind: 'copy', from: path, mode } : undefined;
}

async function linksOf(files: Files): Promise<readonly LinkNames[]> {
  const all = await Promise.all(
    Object.values(files).map(async (file) =>
      file.kind === 'copy' ? linkNames(await readFile(file.from), file.from) : undefined,
    ),
  );
  return all.filter((each) => each !== undefined);
}

/** Names in a directory in a stable order; none where there is no such directory. */
async function list(directory: string): Promise<readonly string[]> {
  return (await readdir(directory).catch(() => [])).sort();
}
