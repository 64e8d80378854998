import { createHash } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { tarArchive } from '../support/tar-builder.js';

/** The files of an OCI image layout, by path: to be written as they are, or tampered with before. */
export type StoreFiles = Map<string, Buffer>;

export interface Blob {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
  readonly platform?: object;
  readonly annotations?: Readonly<Record<string, string>>;
}

export interface ImageSpec {
  /** Uncompressed tar archives, lowest first. */
  readonly layers?: readonly Buffer[];
  /** Whether the layers are compressed with gzip; default true. */
  readonly gzip?: boolean;
  /** GOARCH; default `amd64`. */
  readonly architecture?: string;
  readonly variant?: string;
  readonly config?: object | null;
  /** Default is that of the architecture; null for none. */
  readonly platform?: object | null;
  readonly reference?: string;
  /** Changes what has been made, before it is put under a digest. */
  readonly changeConfiguration?: (configuration: Record<string, unknown>) => void;
  readonly changeManifest?: (manifest: Record<string, unknown>) => void;
}

export const types = {
  index: 'application/vnd.oci.image.index.v1+json',
  manifest: 'application/vnd.oci.image.manifest.v1+json',
  config: 'application/vnd.oci.image.config.v1+json',
  layer: 'application/vnd.oci.image.layer.v1.tar',
};

export function digestOf(bytes: Buffer): string {
  return `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
}

export function addBlob(files: StoreFiles, mediaType: string, content: Buffer | object): Blob {
  const bytes = Buffer.isBuffer(content) ? content : Buffer.from(JSON.stringify(content));
  const digest = digestOf(bytes);
  files.set(`blobs/${digest.replace(':', '/')}`, bytes);
  return { mediaType, digest, size: bytes.length };
}

/** Adds an image and gives the descriptor of its manifest. */
export function addImage(files: StoreFiles, spec: ImageSpec = {}): Blob {
  const { layers = [tarArchive([])], gzip = true, architecture = 'amd64', variant } = spec;
  const blobs = layers.map((layer) =>
    addBlob(files, gzip ? `${types.layer}+gzip` : types.layer, gzip ? gzipSync(layer) : layer),
  );
  const platform = { os: 'linux', architecture, ...(variant === undefined ? {} : { variant }) };
  const configuration: Record<string, unknown> = {
    ...platform,
    config: spec.config === undefined ? {} : spec.config,
    rootfs: { type: 'layers', diff_ids: layers.map(digestOf) },
  };
  spec.changeConfiguration?.(configuration);
  const manifest: Record<string, unknown> = {
    schemaVersion: 2,
    mediaType: types.manifest,
    config: addBlob(files, types.config, configuration),
    layers: blobs,
  };
  spec.changeManifest?.(manifest);
  const described = addBlob(files, String(manifest['mediaType']), manifest);
  const named = spec.platform === undefined ? platform : spec.platform;
  return {
    ...described,
    ...(named === null ? {} : { platform: named }),
    ...(spec.reference === undefined
      ? {}
      : { annotations: { 'org.opencontainers.image.ref.name': spec.reference } }),
  };
}

/** A layout that names these manifests. */
export function storeOf(files: StoreFiles, manifests: readonly Blob[]): StoreFiles {
  files.set('oci-layout', Buffer.from('{"imageLayoutVersion":"1.0.0"}'));
  files.set('index.json', Buffer.from(JSON.stringify({ schemaVersion: 2, manifests })));
  return files;
}

/** A layout of one image. */
export function imageStore(spec: ImageSpec = {}): StoreFiles {
  const files: StoreFiles = new Map();
  return storeOf(files, [addImage(files, spec)]);
}

export function writeArchive(path: string, files: StoreFiles): string {
  writeFileSync(path, tarArchive([...files].map(([name, data]) => ({ name, data }))));
  return path;
}

export function writeDirectory(path: string, files: StoreFiles): string {
  for (const [name, data] of files) {
    mkdirSync(dirname(join(path, name)), { recursive: true });
    writeFileSync(join(path, name), data);
  }
  return path;
}

/** Layer's contents as `tarArchive` takes them, from short lines: `dir/`, `file text`, `link -> target`, `hard => target`. */
export function layer(...lines: readonly string[]): Buffer {
  return tarArchive(
    lines.map((line) => {
      const [name = '', arrow = '', target = ''] = line.split(' ');
      if (arrow === '->') return { name, type: '2', linkName: target, mode: 0o777 };
      if (arrow === '=>') return { name, type: '1', linkName: target };
      if (name.endsWith('/')) return { name, type: '5', mode: 0o755 };
      return { name, data: Buffer.from(line.slice(name.length + 1)) };
    }),
  );
}
