import { createHash } from 'node:crypto';

import type { Architecture } from '../support/architecture.js';
import type { Compression } from '../rootfs/layer.js';
import { cannot } from '../support/errors.js';
import { compareBytes } from '../support/order.js';
import type { ImageConfig } from './engine.js';

/** `platform` of image-spec image-index.md, in the words of Go's GOOS and GOARCH. */
export interface OciPlatform {
  readonly architecture: string;
  readonly os: 'linux';
  readonly variant?: string;
}

/** `descriptor` of image-spec descriptor.md. */
export interface Descriptor {
  readonly mediaType: string;
  /** `sha256:` and 64 lower-case hexadecimal digits. */
  readonly digest: string;
  /** Bytes. */
  readonly size: number;
  readonly annotations?: Readonly<Record<string, string>>;
  readonly platform?: OciPlatform;
}

/** What lies below an image's own layer. */
export interface BaseLayers {
  /** Digests of the uncompressed layers, lowest first. */
  readonly diffIds: readonly string[];
  /** History entries, as they stand. */
  readonly history: readonly unknown[];
}
export const fromNothing: BaseLayers = { diffIds: [], history: [] };

/** What the history entry says made the layer. No version: the same packages give the same image. */
export const createdBy = 'dhcpd-scratch';

const platforms: Readonly<Record<Architecture, OciPlatform>> = {
  x86_64: { architecture: 'amd64', os: 'linux' },
  aarch64: { architecture: 'arm64', os: 'linux', variant: 'v8' },
  i686: { architecture: '386', os: 'linux' },
  armv7l: { architecture: 'arm', os: 'linux', variant: 'v7' },
  ppc64le: { architecture: 'ppc64le', os: 'linux' },
  riscv64: { architecture: 'riscv64', os: 'linux' },
  s390x: { architecture: 's390x', os: 'linux' },
};

export function ociPlatform(architecture: Architecture): OciPlatform {
  return platforms[architecture];
}

/**
 * @param seconds since the epoch
 * @throws ToolError for a time that RFC 3339 cannot write: before 1970 here, or after the year 9999
 */
export function rfc3339(seconds: number): string {
  if (!Number.isSafeInteger(seconds) || seconds < 0 || seconds > 253_402_300_799) {
    throw cannot('write', `the time ${seconds}`, 'it is not a number of seconds from 1970 to 9999');
  }
  return new Date(seconds * 1000).toISOString().replace('.000Z', 'Z');
}

/**
 * The image configuration (image-spec config.md, 1.1) as the bytes of its blob. Field order, sorted maps and left out
 * empty fields are those of Go's encoder, so that buildah's own configuration of the same image has the same digest.
 */
export function configBlob(config: ImageConfig, diffId: string, base = fromNothing): Buffer {
  const created = rfc3339(config.created);
  return encode({
    created,
    ...ociPlatform(config.architecture),
    config: {
      User: nonEmpty(config.user),
      ExposedPorts: set(config.exposedPorts),
      Env: list(config.environment),
      Entrypoint: list(config.entrypoint),
      Cmd: list(config.command),
      Volumes: set(config.volumes),
      WorkingDir: nonEmpty(config.workingDirectory),
      Labels: map(config.annotations),
      StopSignal: nonEmpty(config.stopSignal),
    },
    rootfs: { type: 'layers', diff_ids: [...base.diffIds, diffId] },
    history: [...base.history, { created, created_by: createdBy }],
  });
}

/** The manifest of one image with one layer (image-spec manifest.md). */
export function manifestBlob(
  config: Descriptor,
  layer: Descriptor,
  annotations: ReadonlyMap<string, string>,
): Buffer {
  return encode({
    schemaVersion: 2,
    mediaType: manifestType,
    config,
    layers: [layer],
    annotations: map(annotations),
  });
}

/** The index over the manifests of several platforms (image-spec image-index.md). */
export function indexBlob(
  manifests: readonly Descriptor[],
  annotations: ReadonlyMap<string, string>,
): Buffer {
  return encode({ schemaVersion: 2, mediaType: indexType, manifests, annotations: map(annotations) });
}

/** Describes a blob held in memory. */
export function describe(
  mediaType: string,
  blob: Buffer,
  more: Pick<Descriptor, 'annotations' | 'platform'> = {},
): Descriptor {
  const digest = `sha256:${createHash('sha256').update(blob).digest('hex')}`;
  return { mediaType, digest, size: blob.length, ...more };
}

export const manifestType = 'application/vnd.oci.image.manifest.v1+json';
export const indexType = 'application/vnd.oci.image.index.v1+json';
export const configType = 'application/vnd.oci.image.config.v1+json';

export function layerType(compression: Compression): string {
  const tar = 'application/vnd.oci.image.layer.v1.tar';
  return compression === 'none' ? tar : `${tar}+${compression}`;
}

/** JSON without white space; characters escaped that Go's encoder escapes. */
function encode(value: object): Buffer {
  const text = JSON.stringify(value).replace(
    /[<>&\u2028\u2029]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
  return Buffer.from(text);
}

function nonEmpty(text: string): string | undefined {
  return text === '' ? undefined : text;
}

function list(values: readonly string[]): readonly string[] | undefined {
  return values.length === 0 ? undefined : values;
}

function set(values: readonly string[]): Readonly<Record<string, object>> | undefined {
  if (values.length === 0) return undefined;
  return Object.fromEntries([...values].sort(compareBytes).map((value) => [value, {}]));
}

function map(values: ReadonlyMap<string, string>): Readonly<Record<string, string>> | undefined {
  if (values.size === 0) return undefined;
  return Object.fromEntries([...values].sort(([a], [b]) => compareBytes(a, b)));
}
