import { createRequire } from 'node:module';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import { compressors } from '../../build/rootfs/compress.js';
import { cachedLayer } from '../../build/rootfs/layer-cache.js';
import { diffIdOf, writeLayer } from '../../build/rootfs/layer.js';
import { openCache, type Cache } from '../../build/support/cache.js';
import { sampleEpoch, samplePlan } from '../support/plan.js';

let directory: string;
let cache: Cache;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'layer-cache-'));
  cache = await openCache(join(directory, 'cache'));
});
afterEach(async () => {
  await rm(directory, { recursive: true, force: true });
});

describe('cachedLayer', () => {
  it.each(['gzip', 'zstd', 'none'] as const)(
    'gives what writeLayer writes, twice: %s',
    async (compression) => {
      const { path, ...written } = await writeLayer(samplePlan(), compression, join(directory, 'layer'));
      const bytes = await readFile(path);
      for (let time = 0; time < 2; time += 1) {
        const { path: kept, ...layer } = await cachedLayer(samplePlan(), compression, cache);
        expect(layer).toEqual(written);
        expect(await readFile(kept)).toEqual(bytes);
      }
    },
  );

  it('compresses once as long as tar and compressor are the same', async () => {
    let written = 0;
    const counting: Cache = {
      directory: cache.directory,
      find: (sha256) => cache.find(sha256),
      read: (sha256) => cache.read(sha256),
      temporary: () => {
        written += 1;
        return cache.temporary();
      },
      partial: (sha256) => cache.partial(sha256),
      readRecord: (kind, key) => cache.readRecord(kind, key),
      writeRecord: (kind, key, text) => cache.writeRecord(kind, key, text),
      clean: () => cache.clean(),
    };
    await cachedLayer(samplePlan(), 'gzip', counting);
    await cachedLayer(samplePlan(), 'gzip', counting);
    expect(written).toBe(1);
    await cachedLayer(samplePlan(sampleEpoch + 1), 'gzip', counting);
    expect(written).toBe(2);
    await cachedLayer(samplePlan(), 'none', counting);
    expect(written).toBe(3);
  });

  it('makes a layer anew whose blob was damaged or removed', async () => {
    const first = await cachedLayer(samplePlan(), 'gzip', cache);
    const bytes = await readFile(first.path);
    await writeFile(first.path, bytes.subarray(1));
    const second = await cachedLayer(samplePlan(), 'gzip', cache);
    expect(await readFile(second.path)).toEqual(bytes);
    await cache.clean();
    expect(await cachedLayer(samplePlan(), 'gzip', cache)).toEqual(first);
  });

  it('leaves nothing behind when the layer cannot be made', async () => {
    const plan = samplePlan();
    const broken = {
      ...plan,
      entries: plan.entries.map((entry) =>
        entry.kind === 'file' ? { ...entry, read: () => Promise.reject(new Error('unreadable')) } : entry,
      ),
    };
    await expect(cachedLayer(broken, 'gzip', cache)).rejects.toThrow('unreadable');
    expect(await cache.clean()).toEqual({ files: 0, bytes: 0 });
  });
});

describe('diffIdOf', () => {
  it('is the digest of the tar that writeLayer writes', async () => {
    const layer = await writeLayer(samplePlan(), 'none', join(directory, 'layer'));
    expect(await diffIdOf(samplePlan())).toBe(layer.digest);
  });
});

describe('compressors', () => {
  it.each([
    ['gzip', 'fflate'],
    ['zstd', '@bokuweb/zstd-wasm'],
  ] as const)('%s names the installed version of %s', async (compression, library) => {
    expect(compressors[compression]).toContain(`${library} ${await installedVersion(library)} `);
  });
});

async function installedVersion(library: string): Promise<string> {
  let path = dirname(createRequire(import.meta.url).resolve(library));
  while (!path.endsWith(`node_modules/${library}`)) path = dirname(path);
  const manifest = JSON.parse(await readFile(join(path, 'package.json'), 'utf8')) as { version: string };
  return manifest.version;
}
