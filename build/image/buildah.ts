import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { cannot, hintOf, reasonOf, ToolError } from '../support/errors.js';
import { commitArguments, configArguments, pushImage } from './buildah-push.js';
import { Storage, type BuildahHost, type StoredImage } from './buildah-storage.js';
import { fromNothing } from './config.js';
import type { BuiltImage, ImageEngine, ImageInput, ImageTarget } from './engine.js';
import { copyBlob, publish } from './layout.js';
import type { FinishedImage } from './layout.js';

/**
 * Builds with buildah, and leaves the image in the user's container storage under its reference. Nothing else there
 * changes: working containers and images without a name go away on success, error and interruption. A command is never
 * interrupted, because a killed buildah leaves halves behind; the signal is looked at between commands.
 */
export function createBuildahEngine(host: BuildahHost): ImageEngine {
  return {
    name: 'buildah',
    build: (inputs, target) => inScratch(target, (scratch) => buildWith(host, inputs, target, scratch)),
  };
}

/**
 * Runs `work` with an empty directory, which is gone afterwards.
 *
 * @throws ToolError whatever `work` throws
 */
export async function inScratch<Result>(
  { reference }: Pick<ImageTarget, 'reference'>,
  work: (scratch: string) => Promise<Result>,
): Promise<Result> {
  let scratch: string | undefined;
  try {
    scratch = await mkdtemp(join(tmpdir(), 'dhcpd-scratch-'));
    return await work(scratch);
  } catch (error) {
    if (error instanceof ToolError) throw error;
    const hint = hintOf(error);
    throw cannot('build', reference, reasonOf(error), {
      cause: error,
      ...(hint === undefined ? {} : { hint }),
    });
  } finally {
    if (scratch !== undefined) await rm(scratch, { recursive: true, force: true });
  }
}

/** @param scratch empty directory for copies of the layers and for what buildah hands out */
async function buildWith(
  host: BuildahHost,
  inputs: readonly ImageInput[],
  target: ImageTarget,
  scratch: string,
): Promise<BuiltImage> {
  const storage = await Storage.open(host, target);
  try {
    const images: StoredImage[] = [];
    const finished: FinishedImage[] = [];
    for (const [index, input] of inputs.entries()) {
      const { config, layer } = input;
      const image = { id: await commitImage(storage, input, join(scratch, `layer-${index}`)), config };
      images.push(image);
      const directory = join(scratch, `image-${index}`);
      finished.push(await pushImage(storage, image, layer.compression, fromNothing, directory));
    }
    const built = await publish('buildah', finished, target);
    await storage.nameResult(images);
    return built;
  } finally {
    await storage.clean();
  }
}

/** Unpacks the layer into a working container, configures it and commits it. */
async function commitImage(
  storage: Storage,
  { config, plan, layer }: ImageInput,
  copy: string,
): Promise<string> {
  if (plan.epoch !== config.created) {
    throw cannot('build', 'the image', 'buildah gives every file the creation time of the image', {
      hint: 'choose --engine oci',
    });
  }
  // Under a plain name: buildah takes wildcards in the path of a layer.
  await copyBlob(layer.path, copy, layer.digest);
  return storage.inContainer(['scratch'], async (container) => {
    await storage.buildah('add', '--quiet', container, copy, '/');
    await storage.buildah('config', ...configArguments(config), container);
    return [...commitArguments(config), '--squash'];
  });
}
