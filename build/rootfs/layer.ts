import { createHash } from 'node:crypto';

import { writeFileAtomically } from '../support/atomic.js';
import { cannot } from '../support/errors.js';
import { endOfArchive, padding, tarHeader } from '../support/tar-writer.js';
import { compress } from './compress.js';
import type { RootfsEntry, RootfsPlan } from './plan.js';

export type Compression = 'gzip' | 'zstd' | 'none';

/** One image layer on disk. Digests are `sha256:` and 64 lower-case hexadecimal digits. */
export interface Layer {
  /** File that holds the compressed bytes. */
  readonly path: string;
  readonly compression: Compression;
  /** Of the compressed bytes: the blob's name in a registry. */
  readonly digest: string;
  /** Of the uncompressed tar: the image configuration's `rootfs.diff_ids`. */
  readonly diffId: string;
  /** Compressed bytes. */
  readonly size: number;
  /** Bytes of the uncompressed tar. */
  readonly tarSize: number;
}

/**
 * Writes the plan as one deterministic tar layer (image-spec layer.md). Same plan, same bytes, on any machine and
 * Node version. The file appears whole or not at all; one file's content is held in memory at a time, for zstd all.
 *
 * @throws ToolError when the plan states what no tar can hold, a file cannot be read, or the layer cannot be written
 */
export async function writeLayer(plan: RootfsPlan, compression: Compression, path: string): Promise<Layer> {
  const tar = new Meter();
  const blob = new Meter();
  await writeFileAtomically(path, blob.watch(compress(tar.watch(layerTar(plan)), compression)));
  return {
    path,
    compression,
    digest: blob.digest(),
    diffId: tar.digest(),
    size: blob.size,
    tarSize: tar.size,
  };
}

/** Digest of the tar that the plan makes: with the compressor, all that a layer's bytes depend on. @throws ToolError */
export async function diffIdOf(plan: RootfsPlan): Promise<string> {
  const tar = new Meter();
  for await (const chunk of layerTar(plan)) tar.count(chunk);
  return tar.digest();
}

async function* layerTar(plan: RootfsPlan): AsyncGenerator<Uint8Array> {
  for (const entry of plan.entries) {
    const content = await contentOf(entry);
    yield tarHeader({
      kind: entry.kind === 'text' ? 'file' : entry.kind,
      path: entry.path,
      mode: entry.mode,
      uid: entry.uid,
      gid: entry.gid,
      mtime: plan.epoch,
      size: content.length,
      target: entry.kind === 'symlink' ? entry.target : '',
      capability: entry.kind === 'file' ? entry.capability : undefined,
    });
    yield content;
    yield padding(content.length);
  }
  yield endOfArchive;
}

async function contentOf(entry: RootfsEntry): Promise<Buffer> {
  switch (entry.kind) {
    case 'directory':
    case 'symlink':
      return Buffer.alloc(0);
    case 'text':
      return entry.content;
    case 'file': {
      const content = await entry.read();
      if (content.length === entry.size) return content;
      throw cannot('write', entry.path, `it has ${content.length} bytes where ${entry.size} were stated`);
    }
  }
}

/** Hashes and counts the bytes of a stream on their way. */
class Meter {
  size = 0;
  readonly #hash = createHash('sha256');

  async *watch(source: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
    for await (const chunk of source) {
      this.count(chunk);
      yield chunk;
    }
  }

  count(chunk: Uint8Array): void {
    this.#hash.update(chunk);
    this.size += chunk.length;
  }

  digest(): string {
    return `sha256:${this.#hash.digest('hex')}`;
  }
}
