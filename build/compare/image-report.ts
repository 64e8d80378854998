import type { Architecture } from '../support/architecture.js';
import { compareBytes } from '../support/order.js';
import { openImageStore } from './image-store.js';
import type { ImageNode, ImageTree } from './image-tree.js';
import { countPackages, tellsOfPackages, type InstalledPackages } from './installed-packages.js';
import { stackLayers } from './layers.js';
import { readOciImage, type OciImage } from './oci-image.js';

/** What an image is and holds, as far as two of them are compared. Paths are absolute, sorted by their bytes. */
export interface ImageReport {
  /** As the user called the archive or directory. */
  readonly name: string;
  /** How containers-transports(5) calls such a thing. */
  readonly transport: 'oci' | 'oci-archive';
  readonly image: OciImage;
  readonly layers: readonly LayerReport[];
  /** Bytes of all regular files, one with several names counted once. */
  readonly contentBytes: number;
  /** Names of regular files, hard links included. */
  readonly files: number;
  readonly directories: number;
  readonly symlinks: number;
  /** Devices and pipes. */
  readonly specials: number;
  readonly packages: InstalledPackages;
  /** Executable ELF programs and scripts. */
  readonly programs: readonly string[];
  /** Shared libraries in the ELF format. */
  readonly libraries: readonly string[];
  readonly shells: readonly string[];
  /** Python, Perl and Lua. */
  readonly interpreters: readonly string[];
  /** Files with the setuid or setgid bit. */
  readonly setid: readonly string[];
  /** Files with capabilities. */
  readonly capable: readonly string[];
  /** Regular files that everybody may write to, and directories without the sticky bit. */
  readonly worldWritable: readonly string[];
  /** Whether the image holds a directory of this absolute path. */
  readonly hasDirectory: (path: string) => boolean;
}

export interface LayerReport {
  readonly digest: string;
  readonly diffId: string;
  /** Bytes of the blob. */
  readonly compressedBytes: number;
  /** Bytes of the uncompressed archive. */
  readonly unpackedBytes: number;
}

const shellList = 'etc/shells';
const shellNames = /^(?:sh|bash|dash|ash|busybox|zsh|ksh|ksh93|mksh|fish|csh|tcsh)$/;
const interpreterNames = /^(?:platform-)?(?:python|perl|lua)[0-9.]*$/;
const maxListedShells = 1000;

/**
 * Reads one architecture's image of an OCI layout directory or an oci-archive, every byte of it, without unpacking
 * anything to disk.
 *
 * @param path absolute
 * @param name as the user calls it
 * @throws ToolError with exit code 2 when it is not there, or not for the architecture
 */
export async function reportImage(
  path: string,
  name: string,
  architecture: Architecture,
  signal: AbortSignal,
): Promise<ImageReport> {
  const store = await openImageStore(path, name);
  try {
    const image = await readOciImage(store, architecture);
    const isWanted = (file: string): boolean => file === shellList || tellsOfPackages(file);
    const { tree, unpackedBytes } = await stackLayers(store, image.layers, isWanted, signal);
    return {
      name,
      transport: store.transport,
      image,
      layers: image.layers.map(({ digest, diffId, size }, index) => ({
        digest,
        diffId,
        compressedBytes: size,
        unpackedBytes: unpackedBytes[index] ?? 0,
      })),
      ...count(tree),
      packages: countPackages(tree),
      hasDirectory: (directory) => tree.resolve(directory)?.node.kind === 'directory',
    };
  } finally {
    await store.close();
  }
}

type Counts = Omit<ImageReport, 'name' | 'transport' | 'image' | 'layers' | 'packages' | 'hasDirectory'>;

function count(tree: ImageTree): Counts {
  const counts = { contentBytes: 0, files: 0, directories: 0, symlinks: 0, specials: 0 };
  const [shells, interpreters] = [new Collection(), new Collection()];
  const [programs, libraries, setid, capable, worldWritable] = [
    new Collection(),
    new Collection(),
    new Collection(),
    new Collection(),
    new Collection(),
  ];
  const counted = new Set<ImageNode>();
  for (const { path, node } of tree.walk()) {
    const name = path.slice(path.lastIndexOf('/') + 1);
    if (shellNames.test(name)) shells.addProgram(tree, path);
    if (interpreterNames.test(name)) interpreters.addProgram(tree, path);
    if (isWorldWritable(node)) worldWritable.add(path, node);
    switch (node.kind) {
      case 'directory':
        counts.directories += 1;
        break;
      case 'symlink':
        counts.symlinks += 1;
        break;
      case 'special':
        counts.specials += 1;
        break;
      case 'file':
        counts.files += 1;
        if (!counted.has(node)) counts.contentBytes += node.size;
        counted.add(node);
        if ((node.mode & 0o6000) !== 0) setid.add(path, node);
        if (node.capable) capable.add(path, node);
        if (node.role === 'library') libraries.add(path, node);
        if (node.role === 'program' && (node.mode & 0o111) !== 0) programs.add(path, node);
    }
  }
  for (const path of listedShells(tree)) shells.addProgram(tree, path);
  return {
    ...counts,
    programs: programs.paths(),
    libraries: libraries.paths(),
    shells: shells.paths(),
    interpreters: interpreters.paths(),
    setid: setid.paths(),
    capable: capable.paths(),
    worldWritable: worldWritable.paths(),
  };
}

/** Files by what they are: one with several names is there once, under the first. */
class Collection {
  readonly #found = new Map<ImageNode, string>();

  add(path: string, node: ImageNode): void {
    if (!this.#found.has(node)) this.#found.set(node, `/${path}`);
  }

  /** What the path leads to, if that can be executed. */
  addProgram(tree: ImageTree, path: string): void {
    const found = tree.resolve(path);
    if (found?.node.kind === 'file' && (found.node.mode & 0o111) !== 0) this.add(found.path, found.node);
  }

  paths(): readonly string[] {
    return [...this.#found.values()].sort(compareBytes);
  }
}

function isWorldWritable(node: ImageNode): boolean {
  if (node.kind !== 'file' && node.kind !== 'directory') return false;
  const isSticky = node.kind === 'directory' && (node.mode & 0o1000) !== 0;
  return (node.mode & 0o002) !== 0 && !isSticky;
}

/** shells(5): one absolute path a line, and comments. */
function listedShells(tree: ImageTree): readonly string[] {
  const node = tree.resolve(shellList)?.node;
  if (node?.kind !== 'file') return [];
  return (node.content?.toString() ?? '')
    .split('\n')
    .map((line) => line.replace(/#.*/, '').trim())
    .filter((line) => line.startsWith('/'))
    .slice(0, maxListedShells);
}
