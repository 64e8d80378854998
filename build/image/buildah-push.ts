import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';

import type { Compression } from '../rootfs/layer.js';
import { arrayAt, digestAt, memberOf, namesOf, parse, textAt, unexpected } from './buildah-answer.js';
import type { Storage, StoredImage } from './buildah-storage.js';
import { configBlob, createdBy, layerType, ociPlatform, type BaseLayers } from './config.js';
import type { ImageConfig } from './engine.js';
import type { FinishedImage, FinishedLayer } from './layout.js';

/** Arguments of `buildah config` that give a working container this configuration. */
export function configArguments(config: ImageConfig): readonly string[] {
  const { os, architecture, variant } = ociPlatform(config.architecture);
  const annotations = [...config.annotations].flatMap(([key, value]) => [
    ...['--annotation', `${key}=${value}`],
    ...['--label', `${key}=${value}`],
  ]);
  return [
    ...['--os', os, '--arch', architecture, '--variant', variant ?? '', '--created-by', createdBy],
    ...['--user', config.user, '--workingdir', config.workingDirectory, '--stop-signal', config.stopSignal],
    ...config.exposedPorts.flatMap((port) => ['--port', port]),
    ...config.volumes.flatMap((volume) => ['--volume', volume]),
    ...environmentArguments(config.environment),
    ...(config.entrypoint.length === 0 ? [] : ['--entrypoint', JSON.stringify(config.entrypoint)]),
    ...(config.command.length === 0 ? [] : ['--cmd', config.command.map(quote).join(' ')]),
    // Buildah states these of an image from nothing too, with empty values.
    ...['--annotation', 'org.opencontainers.image.base.name-'],
    ...['--annotation', 'org.opencontainers.image.base.digest-'],
    ...annotations,
  ];
}

/** Arguments of `buildah config` that take away what the base has said of itself. */
export const forgetBase: readonly string[] = [
  ...['--env', '-', '--label', '-', '--annotation', '-', '--port', '-', '--volume', '-'],
  ...['--cmd', '', '--author', '', '--comment', ''],
];

/** Arguments of `buildah commit` for an image of this configuration. */
export function commitArguments({ created }: ImageConfig): readonly string[] {
  return [
    ...['--quiet', '--format', 'oci', '--disable-compression', '--identity-label=false'],
    ...['--timestamp', String(created)],
  ];
}

/** Buildah expands variables in the values, as in a Dockerfile: a `$` is written as the value of a variable `$`. */
function environmentArguments(environment: readonly string[]): readonly string[] {
  const literal = environment.flatMap((entry) => ['--env', entry.replaceAll('$', '$$$$')]);
  return environment.some((entry) => entry.includes('$'))
    ? ['--env', '$=$', ...literal, '--env', '$-']
    : literal;
}

/** A word for `buildah config --cmd`, which splits like a POSIX shell. */
function quote(word: string): string {
  return `'${word.replaceAll("'", `'\\''`)}'`;
}

/**
 * Copies an image with one layer of its own out of the storage, compressed as asked, and checks what buildah made.
 *
 * @param base what lies below that layer
 * @param directory where it is put; must not exist
 */
export async function pushImage(
  storage: Storage,
  { id, config }: StoredImage,
  compression: Compression,
  base: BaseLayers,
  directory: string,
): Promise<FinishedImage> {
  await storage.buildah('push', '--quiet', ...compressionArguments(compression), id, `dir:${directory}`);
  const manifest = await readFile(join(directory, 'manifest.json'));
  const said = parse(manifest.toString());
  const configuration = await readFile(join(directory, digestAt(memberOf(said, 'config')).slice(7)));
  const found = parse(configuration.toString());
  const diffIds = arrayAt(memberOf(found, 'rootfs'), 'diff_ids').map(String);
  const diffId = diffIds.at(-1);
  if (diffId === undefined) throw unexpected('rootfs');

  const expected = parse(configBlob(config, diffId, base).toString());
  for (const field of new Set([...namesOf(expected), ...namesOf(found)])) {
    const [is, ought] = [found, expected].map((whole) => {
      const value = memberOf(whole, field);
      return field === 'history' && base.diffIds.length > 0 ? withoutComments(value) : value;
    });
    if (!isDeepStrictEqual(is, ought)) throw unexpected(field);
  }
  const annotations = memberOf(said, 'annotations') ?? {};
  if (!isDeepStrictEqual(annotations, Object.fromEntries(config.annotations)))
    throw unexpected('annotations');
  const mediaType = layerType(compression);
  const blobs = arrayAt(said, 'layers');
  if (blobs.length !== diffIds.length || blobs.some((blob) => textAt(blob, 'mediaType') !== mediaType))
    throw unexpected('layers');
  const layers = blobs.map((blob, index): FinishedLayer => {
    const digest = digestAt(blob);
    return {
      blob: { mediaType, digest, size: Number(memberOf(blob, 'size')) },
      path: join(directory, digest.slice(7)),
      diffId: diffIds[index] ?? diffId,
    };
  });
  return { config, manifest, configuration, layers };
}

/** Upon a base, buildah notes in its own entry which that was. */
function withoutComments(history: unknown): unknown {
  if (!Array.isArray(history)) return history;
  return history.map((entry: unknown) =>
    namesOf(entry)
      .filter((name) => name !== 'comment')
      .map((name) => [name, memberOf(entry, name)])
      .sort(),
  );
}

function compressionArguments(compression: Compression): readonly string[] {
  switch (compression) {
    case 'none':
      return ['--disable-compression'];
    case 'gzip':
      return ['--compression-format', 'gzip'];
    case 'zstd':
      return ['--compression-format', 'zstd', '--compression-level', '19'];
  }
}
