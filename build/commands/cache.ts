import type { Context } from './context.js';
import { defaultCacheDirectory, openCache } from '../support/cache.js';
import { formatBytes } from '../support/format.js';

/** `cache clean`: removes everything that can be fetched or computed again. */
export async function cleanCache(options: { readonly json?: boolean }, context: Context): Promise<void> {
  const cache = await openCache(defaultCacheDirectory(context.environment));
  const freed = await cache.clean();
  context.print(
    options.json === true
      ? `${JSON.stringify({ directory: cache.directory, ...freed }, undefined, 2)}\n`
      : `${cache.directory}: removed ${freed.files} files, ${formatBytes(freed.bytes)}\n`,
  );
}
