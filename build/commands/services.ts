import type { Context } from './context.js';
import { prepareImages, type Preparation } from '../pipeline.js';
import type { ImageRequest, Services } from '../request.js';
import { defaultCacheDirectory, openCache } from '../support/cache.js';
import { run } from '../support/exec.js';

/** What the pipeline works with, from what the program was started with. */
export async function servicesOf({ log, environment, signal, now }: Context): Promise<Services> {
  return {
    log,
    environment,
    signal,
    now,
    exec: run,
    cache: await openCache(defaultCacheDirectory(environment)),
  };
}

/** Prepares the images, hands them to `work`, and gives everything back on every way out. */
export async function withPrepared<Result>(
  request: ImageRequest,
  context: Context,
  work: (prepared: Preparation) => Result | Promise<Result>,
): Promise<Result> {
  const prepared = await prepareImages(request, await servicesOf(context));
  try {
    return await work(prepared);
  } finally {
    await prepared.close();
  }
}
