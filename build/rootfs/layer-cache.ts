import type { Cache } from '../support/cache.js';
import { compressors } from './compress.js';
import { diffIdOf, writeLayer, type Compression, type Layer } from './layer.js';
import type { RootfsPlan } from './plan.js';

/** Kind of the cache records that map a tar's digest and a compressor to the compressed blob. */
const layerRecords = 'layer';

/**
 * `writeLayer` into the cache. A layer that has been compressed before is not compressed again, which is most of the
 * work of a build whose packages are at hand; making its tar once more tells for certain which layer it is.
 *
 * @throws ToolError as `writeLayer`
 */
export async function cachedLayer(plan: RootfsPlan, compression: Compression, cache: Cache): Promise<Layer> {
  const diffId = await diffIdOf(plan);
  const key = `${diffId} ${compressors[compression]}`;
  const known = await findLayer(key, cache);
  if (known !== undefined) return { ...known, compression, diffId };
  const temporary = await cache.temporary();
  try {
    const layer = await writeLayer(plan, compression, temporary.path);
    const kept = await temporary.keep(layer.digest.replace('sha256:', ''));
    await cache.writeRecord(
      layerRecords,
      key,
      JSON.stringify({ sha256: kept.sha256, size: layer.size, tarSize: layer.tarSize }),
    );
    return { ...layer, path: kept.path };
  } finally {
    await temporary.discard();
  }
}

async function findLayer(
  key: string,
  cache: Cache,
): Promise<Pick<Layer, 'path' | 'digest' | 'size' | 'tarSize'> | undefined> {
  const text = await cache.readRecord(layerRecords, key);
  if (text === undefined) return undefined;
  const record: unknown = JSON.parse(text);
  if (typeof record !== 'object' || record === null) return undefined;
  if (!('sha256' in record) || typeof record.sha256 !== 'string') return undefined;
  if (!('size' in record) || typeof record.size !== 'number') return undefined;
  if (!('tarSize' in record) || typeof record.tarSize !== 'number') return undefined;
  const path = await cache.find(record.sha256);
  if (path === undefined) return undefined;
  return { path, digest: `sha256:${record.sha256}`, size: record.size, tarSize: record.tarSize };
}
