import { createHash } from 'node:crypto';
import { createReadStream, createWriteStream } from 'node:fs';
import { chmod, lstat, mkdir, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';

import { finishDirectory, finishFile, giveUp, takePlaces, type Finished } from '../support/atomic.js';
import { cannot, ToolError } from '../support/errors.js';
import { compareBytes } from '../support/order.js';
import { endOfArchive, padding, tarHeader } from '../support/tar-writer.js';
import { describe, indexBlob, indexType, manifestType, ociPlatform } from './config.js';
import type { Descriptor } from './config.js';
import type { BuiltImage, BuiltManifest, ImageConfig, ImageTarget } from './engine.js';

/** One architecture's image, complete: what an engine has made of its input. */
export interface FinishedImage {
  readonly config: ImageConfig;
  readonly manifest: Buffer;
  readonly configuration: Buffer;
  /** Lowest first. The last one is the image's own, those below it are its base's. */
  readonly layers: readonly FinishedLayer[];
}

export interface FinishedLayer {
  readonly blob: Descriptor;
  /** File that holds the blob. */
  readonly path: string;
  /** Digest of the uncompressed layer. */
  readonly diffId: string;
}

/**
 * Publishes images as `<directory>/<name>.oci/` (image-spec image-layout.md) and as `<name>.oci.tar`, an oci-archive
 * of the same. Several images are put under one index. Both are finished before either takes its place.
 *
 * @throws ToolError
 */
export async function publish(
  engine: BuiltImage['engine'],
  images: readonly FinishedImage[],
  target: ImageTarget,
): Promise<BuiltImage> {
  stopIfAborted(target);
  const manifests = images.map(builtManifest);
  const blobs = new Map<string, BlobSource>();
  for (const [index, image] of images.entries()) {
    const manifest = manifests[index];
    if (manifest === undefined) continue;
    for (const { blob, path } of image.layers) blobs.set(blob.digest, { path, size: blob.size });
    blobs.set(manifest.configDigest, image.configuration);
    blobs.set(manifest.digest, image.manifest);
  }
  const top = topDescriptor(images, blobs);
  const named: Descriptor = {
    ...top,
    annotations: {
      'io.containerd.image.name': target.reference,
      'org.opencontainers.image.ref.name': target.reference,
    },
  };
  const files = new Map<string, BlobSource>([
    ...[...blobs].map(([digest, source]): [string, BlobSource] => [blobPath(digest), source]),
    ['index.json', indexBlob([named], new Map())],
    ['oci-layout', Buffer.from('{"imageLayoutVersion":"1.0.0"}')],
  ]);

  const layout = join(target.directory, `${target.name}.oci`);
  const archive = `${layout}.tar`;
  await refuseDirectory(archive);
  await refuseForeign(layout);
  const created = Math.max(...images.map((image) => image.config.created));
  const finished: Finished[] = [];
  try {
    const directory = await finishDirectory(layout, (aside) => writeLayout(aside, files));
    finished.push(directory);
    finished.push(await finishFile(archive, layoutTar(directory.aside, files, created)));
    stopIfAborted(target);
  } catch (error) {
    await giveUp(finished);
    throw error;
  }
  await takePlaces(finished);
  return { engine, digest: top.digest, reference: target.reference, manifests, layout, archive };
}

/** Before the layout is replaced, because the two belong together. */
async function refuseDirectory(archive: string): Promise<void> {
  const stats = await lstat(archive).catch(() => undefined);
  if (stats?.isDirectory() !== true) return;
  throw cannot('write', archive, 'it is a directory', {
    hint: 'move it away, or choose another place with --output',
  });
}

/** Only what looks like a layout is replaced: a directory of the user's own may have the name by chance. */
async function refuseForeign(layout: string): Promise<void> {
  const names: readonly string[] = await readdir(layout).catch(() => []);
  if (names.length === 0 || names.includes('oci-layout')) return;
  throw cannot('write', layout, 'it is a directory of something else', {
    hint: 'move it away, or choose another place with --output',
  });
}

/** @throws ToolError when the build has been interrupted */
export function stopIfAborted({ signal, reference }: Pick<ImageTarget, 'signal' | 'reference'>): void {
  if (!signal.aborted) return;
  const reason: unknown = signal.reason;
  throw reason instanceof ToolError
    ? reason
    : cannot('build', reference, 'it was interrupted', { cause: reason });
}

/** Bytes of a small blob, or the file that holds a large one. */
type BlobSource = Buffer | { readonly path: string; readonly size: number };

function builtManifest(image: FinishedImage): BuiltManifest {
  const own = image.layers.at(-1);
  if (own === undefined) throw cannot('write', 'the image', 'it has no layer');
  return {
    architecture: image.config.architecture,
    digest: describe(manifestType, image.manifest).digest,
    size: image.manifest.length,
    configDigest: describe('', image.configuration).digest,
    layerDigest: own.blob.digest,
    diffId: own.diffId,
    layerSize: own.blob.size,
  };
}

/** Describes the one manifest, or the index over several, which is then a blob of its own. */
function topDescriptor(images: readonly FinishedImage[], blobs: Map<string, BlobSource>): Descriptor {
  const manifests = images.map((image) =>
    describe(manifestType, image.manifest, { platform: ociPlatform(image.config.architecture) }),
  );
  const [only] = manifests;
  if (only === undefined) throw cannot('write', 'the image', 'there is nothing to write');
  if (manifests.length === 1) return only;
  const index = indexBlob(manifests, commonAnnotations(images.map((image) => image.config)));
  const descriptor = describe(indexType, index);
  blobs.set(descriptor.digest, index);
  return descriptor;
}

/** The annotations that are true of every image under an index. */
function commonAnnotations(configs: readonly ImageConfig[]): ReadonlyMap<string, string> {
  const [first, ...others] = configs.map((config) => config.annotations);
  return new Map(
    [...(first ?? [])].filter(([key, value]) => others.every((other) => other.get(key) === value)),
  );
}

function blobPath(digest: string): string {
  return `blobs/sha256/${digest.replace('sha256:', '')}`;
}

async function writeLayout(directory: string, files: ReadonlyMap<string, BlobSource>): Promise<void> {
  for (const name of ['blobs', 'blobs/sha256']) {
    const path = join(directory, name);
    await mkdir(path);
    await chmod(path, 0o755);
  }
  for (const [name, source] of files) {
    const path = join(directory, name);
    if (Buffer.isBuffer(source)) await writeFile(path, source);
    else await copyBlob(source.path, path, `sha256:${name.replace('blobs/sha256/', '')}`);
    await chmod(path, 0o644);
  }
}

/**
 * Copies a blob and makes sure that it still is what its digest says.
 *
 * @throws ToolError when it is not
 */
export async function copyBlob(from: string, to: string, digest: string): Promise<void> {
  const hash = createHash('sha256');
  await pipeline(
    createReadStream(from),
    async function* (chunks: AsyncIterable<Buffer>) {
      for await (const chunk of chunks) {
        hash.update(chunk);
        yield chunk;
      }
    },
    createWriteStream(to, { flags: 'wx' }),
  );
  const found = `sha256:${hash.digest('hex')}`;
  if (found !== digest) throw cannot('write', to, `the layer has changed: ${found} instead of ${digest}`);
}

async function* layoutTar(
  layout: string,
  files: ReadonlyMap<string, BlobSource>,
  mtime: number,
): AsyncGenerator<Uint8Array> {
  const owned = { uid: 0, gid: 0, mtime };
  for (const path of ['blobs', 'blobs/sha256', ...files.keys()].sort(compareBytes)) {
    const source = files.get(path);
    if (source === undefined) {
      yield tarHeader({ ...owned, kind: 'directory', path, mode: 0o755, size: 0 });
      continue;
    }
    const size = Buffer.isBuffer(source) ? source.length : source.size;
    yield tarHeader({ ...owned, kind: 'file', path, mode: 0o644, size });
    if (Buffer.isBuffer(source)) yield source;
    else yield* exactly(size, join(layout, path));
    yield padding(size);
  }
  yield endOfArchive;
}

async function* exactly(size: number, path: string): AsyncGenerator<Uint8Array> {
  let read = 0;
  for await (const chunk of createReadStream(path) as AsyncIterable<Buffer>) {
    read += chunk.length;
    yield chunk;
  }
  if (read !== size) throw cannot('read', path, `it has ${read} bytes instead of ${size}`);
}
