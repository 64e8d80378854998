import { cannot } from '../support/errors.js';
import { compareBytes } from '../support/order.js';

/** What a file is to those who would run it. */
export type FileRole = 'program' | 'library' | 'other';

export interface FileNode {
  readonly kind: 'file';
  readonly mode: number;
  readonly size: number;
  /** Known when its layer has been read past its data. */
  role: FileRole;
  /** Holds a file capability (capabilities(7)). */
  readonly capable: boolean;
  /** Of the few files whose content counts. */
  content: Buffer | undefined;
}
export interface DirectoryNode {
  readonly kind: 'directory';
  mode: number;
  readonly entries: Map<string, Name>;
}
export interface LinkNode {
  readonly kind: 'symlink';
  readonly target: string;
}
export interface SpecialNode {
  readonly kind: 'special';
  readonly mode: number;
}
export type ImageNode = FileNode | DirectoryNode | LinkNode | SpecialNode;

/** A directory's entry: several may lead to one file. */
interface Name {
  /** Number of the layer that wrote it last. */
  layer: number;
  node: ImageNode;
}

/** What a directory's name may be in a layer to mean something else (image-spec layer.md, "Whiteouts"). */
const whiteoutPrefix = '.wh.';
const opaqueName = '.wh..wh..opq';
/** AUFS kept its own notes under such names. */
const reservedPrefix = '.wh..wh.';

const mostLinks = 40;

/**
 * The file tree that the layers of an image make, one put on the other as an overlay file system does: an entry
 * takes the place of what was there, directories are merged, whiteouts hide what layers below have brought. Paths are
 * normalised, `/`-separated, without a leading slash.
 */
export class ImageTree {
  readonly #root: DirectoryNode = { kind: 'directory', mode: 0o755, entries: new Map() };
  readonly #name: string;
  readonly #most: number;
  #members = 0;
  #layer = -1;
  /** Of the layer that is being put on: paths that it hides, and directories whose content it hides. */
  readonly #hidden = new Set<string>();
  readonly #emptied = new Set<string>();

  /**
   * @param name what messages call the image
   * @param most entries of all layers together
   */
  constructor(name: string, most: number) {
    this.#name = name;
    this.#most = most;
  }

  beginLayer(): void {
    this.#layer += 1;
  }

  /** A whiteout touches only what lower layers have brought, wherever it stands in its layer. */
  endLayer(): void {
    for (const path of this.#emptied) {
      const directory = this.#at(path);
      if (directory?.kind === 'directory') this.#hideIn(directory);
    }
    for (const path of this.#hidden) {
      const { parent, name } = split(path);
      const directory = this.#at(parent);
      if (directory?.kind === 'directory') this.#hideIn(directory, name);
    }
    this.#emptied.clear();
    this.#hidden.clear();
  }

  /** Puts an entry in its place. @returns false for a whiteout, which is no entry. @throws ToolError */
  add(path: string, node: ImageNode): boolean {
    this.#count();
    const { parent, name } = split(path);
    if (name.startsWith(whiteoutPrefix)) {
      if (this.#at(parent) === undefined) this.#directory(parent);
      if (name === opaqueName) this.#emptied.add(parent);
      else if (!name.startsWith(reservedPrefix)) this.#hidden.add(join(parent, hiddenName(name)));
      return false;
    }
    if (name === '') {
      if (node.kind === 'directory') this.#root.mode = node.mode;
      return true;
    }
    const { entries } = this.#directory(parent);
    const before = entries.get(name);
    if (before?.node.kind === 'directory' && node.kind === 'directory') {
      before.node.mode = node.mode;
      before.layer = this.#layer;
    } else {
      entries.set(name, { layer: this.#layer, node });
    }
    return true;
  }

  /** Gives a file one more name. @returns false when the other name leads to no file */
  link(path: string, target: string): boolean {
    const node = this.#at(target);
    if (node?.kind !== 'file') return false;
    this.add(path, node);
    return true;
  }

  /** What is there, symbolic links in the way and at the end followed within the image. */
  resolve(path: string): { readonly path: string; readonly node: ImageNode } | undefined {
    let rest = partsOf(path);
    let done: string[] = [];
    for (let links = 0; rest.length > 0;) {
      const [part = '', ...others] = rest;
      rest = others;
      if (part === '..') {
        done.pop();
        continue;
      }
      const node = this.#at([...done, part].join('/'));
      if (node === undefined) return undefined;
      if (node.kind !== 'symlink') {
        done.push(part);
        continue;
      }
      links += 1;
      if (links > mostLinks) return undefined;
      if (node.target.startsWith('/')) done = [];
      rest = [...partsOf(node.target), ...rest];
    }
    const node = this.#at(done.join('/'));
    return node && { path: done.join('/'), node };
  }

  /** All names but the root's, each directory before what it holds. The order depends on nothing but the names. */
  *walk(): Generator<{ readonly path: string; readonly node: ImageNode }, void, undefined> {
    const directories: { readonly path: string; readonly node: DirectoryNode }[] = [
      { path: '', node: this.#root },
    ];
    for (let next = directories.pop(); next !== undefined; next = directories.pop()) {
      if (next.path !== '') yield next;
      const below: typeof directories = [];
      const sorted = [...next.node.entries].sort(([a], [b]) => compareBytes(a, b));
      for (const [name, { node }] of sorted) {
        const path = join(next.path, name);
        if (node.kind === 'directory') below.push({ path, node });
        else yield { path, node };
      }
      directories.push(...below.reverse());
    }
  }

  #at(path: string): ImageNode | undefined {
    let node: ImageNode | undefined = this.#root;
    for (const part of partsOf(path)) {
      node = node?.kind === 'directory' ? node.entries.get(part)?.node : undefined;
    }
    return node;
  }

  /** The directory, made where it is missing: of layers that do not list the way to their files. */
  #directory(path: string): DirectoryNode {
    let directory = this.#root;
    for (const part of partsOf(path)) {
      const found = directory.entries.get(part)?.node;
      if (found?.kind === 'directory') {
        directory = found;
        continue;
      }
      this.#count();
      const made: DirectoryNode = { kind: 'directory', mode: 0o755, entries: new Map() };
      directory.entries.set(part, { layer: this.#layer, node: made });
      directory = made;
    }
    return directory;
  }

  /** @param only the one entry to hide; default all */
  #hideIn({ entries }: DirectoryNode, only?: string): void {
    for (const name of only === undefined ? [...entries.keys()] : [only]) {
      const found = entries.get(name);
      if (found === undefined) continue;
      if (found.node.kind === 'directory') {
        this.#hideIn(found.node);
        // What this layer itself has put into it stays, and the way there.
        if (found.node.entries.size > 0) continue;
      }
      if (found.layer < this.#layer) entries.delete(name);
    }
  }

  #count(): void {
    this.#members += 1;
    if (this.#members <= this.#most) return;
    throw cannot('read', this.#name, `its layers have more than ${this.#most} entries`);
  }
}

/** The entry that a whiteout hides. */
function hiddenName(name: string): string {
  return name.slice(whiteoutPrefix.length);
}

function split(path: string): { readonly parent: string; readonly name: string } {
  const slash = path.lastIndexOf('/');
  return { parent: path.slice(0, Math.max(slash, 0)), name: path.slice(slash + 1) };
}

function join(parent: string, name: string): string {
  return parent === '' ? name : `${parent}/${name}`;
}

function partsOf(path: string): string[] {
  return path.split('/').filter((part) => part !== '' && part !== '.');
}
