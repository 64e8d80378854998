import { createHash } from 'node:crypto';
import { constants } from 'node:fs';
import { open, stat, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';

import { readAt, readRange } from '../package/bytes.js';
import { readTar } from '../package/tar.js';
import { cannot, reasonOf, type ToolError } from '../support/errors.js';

/** The files of an OCI image layout (image-spec image-layout.md): a directory, or a tar archive of one. */
export interface ImageStore {
  /** As the user calls it. */
  readonly name: string;
  /** How containers-transports(5) calls such a thing. */
  readonly transport: 'oci' | 'oci-archive';
  /** A small file such as `index.json`. @throws ToolError */
  file(path: string): Promise<Buffer>;
  /** A small blob, verified. @throws ToolError */
  blob(described: Described): Promise<Buffer>;
  /** Hands the bytes of a blob of any size to `use`, after all of them have been verified. @throws ToolError */
  withBlob<Result>(
    described: Described,
    use: (chunks: AsyncIterable<Buffer>) => Promise<Result>,
  ): Promise<Result>;
  close(): Promise<void>;
}

/** The part of a descriptor that says what a blob is. */
export interface Described {
  /** `sha256:` or `sha512:` with lower-case hexadecimal digits, checked. */
  readonly digest: string;
  /** Bytes. */
  readonly size: number;
}

/** Index, manifest and configuration: registries refuse manifests of more than 4 MiB. */
const maxDocumentBytes = 4 * 1024 ** 2;
/** Blobs of one archive. */
const maxBlobs = 10_000;

const digestForm = /^(?:sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})$/;

export function isDigest(text: string): boolean {
  return digestForm.test(text);
}

/**
 * Opens an OCI layout directory or an oci-archive. Nothing is unpacked to disk.
 *
 * @param path absolute
 * @param name as the user calls it
 * @throws ToolError with exit code 2 when there is no such thing
 */
export async function openImageStore(path: string, name: string): Promise<ImageStore> {
  const stats = await stat(path).catch((error: unknown) => {
    throw cannot('read', name, reasonOf(error), {
      hint: 'give an OCI layout directory or an oci-archive, such as build makes',
      exitCode: 2,
      cause: error,
    });
  });
  const files = stats.isDirectory() ? directoryFiles(path, name) : await archiveFiles(path, name);
  const store = storeOf(name, stats.isDirectory() ? 'oci' : 'oci-archive', files);
  try {
    await checkLayout(files, name);
  } catch (error) {
    await files.close();
    throw error;
  }
  return store;
}

/** A file that lies somewhere in an open file. */
interface Range {
  readonly handle: FileHandle;
  readonly offset: number;
  readonly size: number;
  /** Gives back what was opened for this range alone. */
  release(): Promise<void>;
}

interface Files {
  /** Undefined when there is no such file. */
  find(path: string): Promise<Range | undefined>;
  close(): Promise<void>;
}

function storeOf(name: string, transport: ImageStore['transport'], files: Files): ImageStore {
  async function withFile<Result>(path: string, use: (range: Range) => Promise<Result>): Promise<Result> {
    const range = await files.find(path);
    if (range === undefined) throw cannot('read', name, `it has no ${path}`);
    try {
      return await use(range);
    } finally {
      await range.release();
    }
  }
  const whole = (path: string, { handle, offset, size }: Range): Promise<Buffer> => {
    if (size > maxDocumentBytes)
      throw cannot('read', name, `${path} has more than ${maxDocumentBytes} bytes`);
    return readAt(handle, name, offset, size);
  };
  const pathOf = ({ digest }: Described): string => `blobs/${digest.replace(':', '/')}`;
  const store: ImageStore = {
    name,
    transport,
    file: (path) => withFile(path, (range) => whole(path, range)),
    blob: (described) =>
      withFile(pathOf(described), async (range) => {
        const bytes = await whole(pathOf(described), range);
        const [algorithm = ''] = described.digest.split(':');
        compare(name, described, bytes.length, createHash(algorithm).update(bytes).digest('hex'));
        return bytes;
      }),
    withBlob: (described, use) =>
      withFile(pathOf(described), async ({ handle, offset, size }) => {
        const [algorithm = ''] = described.digest.split(':');
        const hash = createHash(algorithm);
        if (size === described.size) {
          for await (const chunk of readRange(handle, name, offset, size)) hash.update(chunk);
        }
        compare(name, described, size, hash.digest('hex'));
        return use(readRange(handle, name, offset, size));
      }),
    close: () => files.close(),
  };
  return store;
}

/** @throws ToolError when a blob is not what its descriptor says */
function compare(name: string, { digest, size }: Described, foundSize: number, foundHex: string): void {
  if (foundSize !== size) {
    throw cannot('read', name, `the blob ${digest} has ${foundSize} bytes instead of ${size}`);
  }
  if (!digest.endsWith(`:${foundHex}`)) {
    throw cannot('read', name, `the blob ${digest} is damaged: its digest is ${foundHex}`);
  }
}

function directoryFiles(directory: string, name: string): Files {
  return {
    find: async (path) => {
      let handle: FileHandle;
      try {
        // Opening must not wait where somebody has put a pipe.
        handle = await open(join(directory, path), constants.O_RDONLY | constants.O_NONBLOCK);
      } catch (error) {
        if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined;
        throw cannot('read', `${name}/${path}`, reasonOf(error), { cause: error });
      }
      const release = (): Promise<void> => handle.close();
      const stats = await handle.stat();
      if (stats.isFile()) return { handle, offset: 0, size: stats.size, release };
      await release();
      throw cannot('read', `${name}/${path}`, 'it is no regular file');
    },
    close: () => Promise.resolve(),
  };
}

/** Beginnings of compressed files, in hexadecimal, and what such a file is. */
const compressions: readonly (readonly [magic: string, what: string])[] = [
  ['1f8b', 'gzip'],
  ['fd377a585a00', 'xz'],
  ['28b52ffd', 'zstd'],
];

async function archiveFiles(path: string, name: string): Promise<Files> {
  const handle = await open(path, constants.O_RDONLY | constants.O_NONBLOCK).catch((error: unknown) => {
    throw cannot('read', name, reasonOf(error), { exitCode: 2, cause: error });
  });
  try {
    const stats = await handle.stat();
    if (!stats.isFile()) throw cannot('read', name, 'it is no regular file', { exitCode: 2 });
    const start = (await readAt(handle, name, 0, Math.min(stats.size, 6))).toString('hex');
    const compression = compressions.find(([magic]) => start.startsWith(magic))?.[1];
    if (compression !== undefined) {
      throw cannot('read', name, `it is compressed with ${compression}`, {
        hint: 'decompress it first: an oci-archive is a plain tar archive',
      });
    }
    const found = new Map<string, Range>();
    const release = (): Promise<void> => Promise.resolve();
    for await (const { entry, offset } of readTar(readRange(handle, name, 0, stats.size), name)) {
      if (entry.kind !== 'file' || !isLayoutFile(entry.path)) continue;
      found.set(entry.path, { handle, offset, size: entry.size, release });
      if (found.size > maxBlobs) throw cannot('read', name, `it has more than ${maxBlobs} blobs`);
    }
    return { find: (file) => Promise.resolve(found.get(file)), close: () => handle.close() };
  } catch (error) {
    await handle.close();
    throw error;
  }
}

function isLayoutFile(path: string): boolean {
  const blob = /^blobs\/(sha256|sha512)\/([0-9a-f]+)$/.exec(path);
  return blob === null
    ? ['index.json', 'oci-layout', 'manifest.json'].includes(path)
    : isDigest(`${blob[1] ?? ''}:${blob[2] ?? ''}`);
}

async function checkLayout(files: Files, name: string): Promise<void> {
  const has = async (path: string): Promise<boolean> => {
    const range = await files.find(path);
    await range?.release();
    return range !== undefined;
  };
  if ((await has('oci-layout')) && (await has('index.json'))) return;
  throw notLayout(name, await has('manifest.json'));
}

function notLayout(name: string, isDocker: boolean): ToolError {
  return isDocker
    ? cannot('read', name, 'it is a docker-archive', {
        hint: 'save it with podman save --format oci-archive, or convert it with skopeo copy',
      })
    : cannot('read', name, 'it is no OCI image layout: it has no oci-layout and index.json', {
        hint: 'give an OCI layout directory or an oci-archive, such as build makes',
      });
}
