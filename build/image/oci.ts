import { configBlob, configType, describe, layerType, manifestBlob } from './config.js';
import type { Descriptor } from './config.js';
import type { ImageEngine, ImageInput } from './engine.js';
import { publish } from './layout.js';
import type { FinishedImage } from './layout.js';

/** Writes OCI images by itself: no root, no daemon, no user namespace, on any operating system. */
export function createOciEngine(): ImageEngine {
  return {
    name: 'oci',
    build: (inputs, target) => publish('oci', inputs.map(finish), target),
  };
}

function finish({ config, layer }: ImageInput): FinishedImage {
  const configuration = configBlob(config, layer.diffId);
  const blob: Descriptor = {
    mediaType: layerType(layer.compression),
    digest: layer.digest,
    size: layer.size,
  };
  return {
    config,
    configuration,
    manifest: manifestBlob(describe(configType, configuration), blob, config.annotations),
    layers: [{ blob, path: layer.path, diffId: layer.diffId }],
  };
}
