import { createHash } from 'node:crypto';
import { posix } from 'node:path';

import type { FileEntry, PackageEntry } from '../package/contents.js';
import { decompress } from '../package/decompress.js';
import { readTar } from '../package/tar.js';
import { cannot } from '../support/errors.js';
import { fileRole, looksLikeElf } from './file-role.js';
import type { ImageStore } from './image-store.js';
import { ImageTree, type FileNode, type ImageNode } from './image-tree.js';
import type { OciLayer } from './oci-image.js';
import { Tap, type Keep } from './tap.js';

/** Bounds that keep a hostile image from using up memory or time. Nothing of it is written to disk. */
export interface ImageLimits {
  /** Unpacked bytes of all layers together. */
  readonly unpackedBytes: number;
  /** Entries of all layers together. */
  readonly entries: number;
  /** Bytes of the files whose content is kept, all together. */
  readonly contentBytes: number;
}
export const defaultImageLimits: ImageLimits = {
  unpackedBytes: 8 * 1024 ** 3,
  entries: 500_000,
  contentBytes: 512 * 1024 ** 2,
};

/** A larger ELF file is judged by its header alone. */
const maxElfBytes = 256 * 1024 ** 2;

export interface StackedLayers {
  readonly tree: ImageTree;
  /** Bytes of each uncompressed layer. */
  readonly unpackedBytes: readonly number[];
}

/**
 * Reads the layers of an image one after the other and puts each on those below. Each blob is verified by its digest,
 * and what it unpacks to by the configuration's.
 *
 * @param isWanted whether the content of a file is to be kept, by its path
 * @param signal looked at between chunks
 * @throws ToolError
 */
export async function stackLayers(
  store: ImageStore,
  layers: readonly OciLayer[],
  isWanted: (path: string) => boolean,
  signal: AbortSignal,
  limits = defaultImageLimits,
): Promise<StackedLayers> {
  const tree = new ImageTree(store.name, limits.entries);
  const unpackedBytes: number[] = [];
  const budget = { left: limits.contentBytes };
  let left = limits.unpackedBytes;
  for (const layer of layers) {
    const name = `${store.name} (layer ${layer.digest})`;
    const counted = new Counted(layer.diffId, signal);
    const limit = left;
    await store.withBlob(layer, async (chunks) => {
      const unpacked = decompress(chunks, layer.compression, { name, limit });
      tree.beginLayer();
      await readLayer(tree, counted.through(unpacked), name, isWanted, budget);
      tree.endLayer();
    });
    if (counted.digest() !== layer.diffId) {
      throw cannot('read', name, `it unpacks to ${counted.digest()} instead of ${layer.diffId}`);
    }
    left -= counted.bytes;
    unpackedBytes.push(counted.bytes);
  }
  return { tree, unpackedBytes };
}

/** Counts and hashes what streams by. */
class Counted {
  bytes = 0;
  readonly #algorithm: string;
  readonly #hash;
  readonly #signal: AbortSignal;
  #digest: string | undefined;

  constructor(like: string, signal: AbortSignal) {
    this.#algorithm = like.split(':')[0] ?? '';
    this.#hash = createHash(this.#algorithm);
    this.#signal = signal;
  }

  async *through(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, void, undefined> {
    for await (const chunk of chunks) {
      this.#signal.throwIfAborted();
      this.bytes += chunk.length;
      this.#hash.update(chunk);
      yield chunk;
    }
  }

  digest(): string {
    this.#digest ??= `${this.#algorithm}:${this.#hash.digest('hex')}`;
    return this.#digest;
  }
}

async function readLayer(
  tree: ImageTree,
  chunks: AsyncIterable<Uint8Array>,
  name: string,
  isWanted: (path: string) => boolean,
  budget: { left: number },
): Promise<void> {
  const tap = new Tap();
  let last: { readonly path: string; readonly node: FileNode } | undefined;
  const settle = (): void => {
    const bytes = tap.finish();
    if (last === undefined || bytes === undefined) return;
    last.node.role = fileRole(bytes, posix.basename(last.path));
    if (isWanted(last.path) && bytes.length === last.node.size) last.node.content = bytes;
    last = undefined;
  };
  for await (const { entry, offset } of readTar(tap.through(chunks), name)) {
    settle();
    if (entry.kind === 'hardlink') {
      if (!tree.link(entry.path, entry.target)) {
        throw cannot('read', name, `${entry.path} is a hard link to ${entry.target}, which is no file`);
      }
      continue;
    }
    const node = nodeOf(entry);
    if (!tree.add(entry.path, node) || entry.kind !== 'file' || node.kind !== 'file') continue;
    tap.begin(offset, entry.size, keepOf(entry, isWanted, budget));
    last = { path: entry.path, node };
  }
  settle();
}

function keepOf(entry: FileEntry, isWanted: (path: string) => boolean, budget: { left: number }): Keep {
  return (start) => {
    if (isWanted(entry.path) && entry.size <= budget.left) {
      budget.left -= entry.size;
      return 'all';
    }
    if (looksLikeElf(start)) return entry.size <= maxElfBytes ? 'all' : 'start';
    return 'start';
  };
}

function nodeOf(entry: Exclude<PackageEntry, { kind: 'hardlink' }>): ImageNode {
  switch (entry.kind) {
    case 'file':
      return {
        kind: 'file',
        mode: entry.mode,
        size: entry.size,
        capable: entry.capability !== undefined,
        role: 'other',
        content: undefined,
      };
    case 'directory':
      return { kind: 'directory', mode: entry.mode, entries: new Map() };
    case 'symlink':
      return { kind: 'symlink', target: entry.target };
    case 'character-device':
    case 'block-device':
    case 'fifo':
      return { kind: 'special', mode: entry.mode };
  }
}
