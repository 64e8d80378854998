import { resolve } from 'node:path';
import type { Context } from './context.js';
import { requestOf, type ImageOptions } from './request.js';
import { servicesOf } from './services.js';
import { pathFrom } from './path-from.js';
import { buildImages } from '../pipeline.js';
import type { BuildOutcome } from '../request.js';
import type { Compression } from '../rootfs/layer.js';
import { quoteCommand } from '../support/exec.js';
import { formatBytes } from '../support/format.js';

export interface BuildOptions extends ImageOptions {
  readonly output: string;
  readonly engine: 'auto' | 'oci' | 'buildah';
  readonly compression: Compression;
  readonly reference?: string;
}

/** `build`: makes the image, writes it and the lock file, and prints where it is. */
export async function build(definition: string, options: BuildOptions, context: Context): Promise<void> {
  const outcome = await buildImages(requestOf(definition, options, context), await servicesOf(context), {
    directory: resolve(context.cwd, options.output),
    engine: options.engine,
    compression: options.compression,
    reference: options.reference,
  });
  context.print(
    options.json === true
      ? `${JSON.stringify(documentOf(outcome), undefined, 2)}\n`
      : textOf(outcome, context.cwd),
  );
}

function documentOf({ image, images, lockFile, lockChanged }: BuildOutcome): unknown {
  return {
    reference: image.reference,
    digest: image.digest,
    engine: image.engine,
    layout: image.layout,
    archive: image.archive,
    lockFile,
    lockChanged,
    manifests: image.manifests.map((manifest, index) => ({ ...manifest, ...images[index] })),
  };
}

function textOf({ image, images, lockFile, lockChanged }: BuildOutcome, cwd: string): string {
  const lines = [`image    ${image.reference}`, `digest   ${image.digest}`];
  image.manifests.forEach((manifest, index) => {
    const made = images[index];
    if (made === undefined) return;
    const digest = image.manifests.length > 1 ? ` ${manifest.digest}` : '';
    const size = `${formatBytes(manifest.layerSize)} compressed`;
    lines.push(
      `${manifest.architecture.padEnd(8)} ${size}, ` +
        ('upon' in made
          ? `${made.packages} packages upon the ${made.basePackages} of ${made.upon} (${made.release})${digest}`
          : `${formatBytes(made.contentBytes)} in ${made.files} files from ${made.packages} packages (${made.release})${digest}`),
    );
  });
  const archive = pathFrom(cwd, image.archive);
  lines.push(`layout   ${pathFrom(cwd, image.layout)}`, `archive  ${archive}`);
  lines.push(
    `lock     ${pathFrom(cwd, lockFile)}${lockChanged ? ' (written)' : ''}`,
    // buildah has put it where podman finds it.
    image.engine === 'buildah'
      ? `run it   ${quoteCommand(['podman', 'run', image.reference])}`
      : `load it  ${quoteCommand(['podman', 'load', '-i', archive])}`,
  );
  return `${lines.join('\n')}\n`;
}
