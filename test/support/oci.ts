import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

import type { Architecture } from '../../build/support/architecture.js';
import type { ImageInput, ImageTarget } from '../../build/image/engine.js';
import { writeLayer } from '../../build/rootfs/layer.js';
import type { Compression } from '../../build/rootfs/layer.js';
import type { RootfsPlan } from '../../build/rootfs/plan.js';
import { sha256 } from './extract.js';
import { sampleConfig, samplePlan } from './plan.js';

interface LayoutDescriptor {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
  readonly platform?: object;
  readonly annotations?: Readonly<Record<string, string>>;
}
export interface LayoutIndex {
  readonly schemaVersion: number;
  readonly mediaType: string;
  readonly manifests: readonly LayoutDescriptor[];
  readonly annotations?: Readonly<Record<string, string>>;
}
export interface LayoutManifest {
  readonly config: LayoutDescriptor;
  readonly layers: readonly LayoutDescriptor[];
  readonly annotations?: Readonly<Record<string, string>>;
}
export interface LayoutConfig {
  readonly config: Readonly<Record<string, unknown>>;
  readonly rootfs: { readonly diff_ids: readonly string[] };
  readonly history: readonly object[];
}

/** Reads an OCI layout whole. @throws Error unless every file in it is where its digest says, referenced, and whole */
export function readLayout(directory: string): {
  readonly top: LayoutDescriptor;
  readonly index: LayoutIndex | undefined;
  readonly images: readonly {
    readonly manifest: LayoutManifest;
    readonly config: LayoutConfig;
    readonly layer: string;
  }[];
} {
  const seen = new Set<string>();
  const blob = (descriptor: LayoutDescriptor): Buffer => {
    const hex = descriptor.digest.replace('sha256:', '');
    const bytes = readFileSync(join(directory, 'blobs/sha256', hex));
    if (sha256(bytes) !== hex || bytes.length !== descriptor.size) throw new Error(`${hex} is damaged`);
    seen.add(hex);
    return bytes;
  };
  // Read back what the product wrote; the assertions of the tests are about these very shapes.
  const json = (descriptor: LayoutDescriptor): unknown => JSON.parse(blob(descriptor).toString());
  if (readFileSync(join(directory, 'oci-layout'), 'utf8') !== '{"imageLayoutVersion":"1.0.0"}') {
    throw new Error('oci-layout is wrong');
  }
  const [top, ...more] = (JSON.parse(readFileSync(join(directory, 'index.json'), 'utf8')) as LayoutIndex)
    .manifests;
  if (top === undefined || more.length > 0) throw new Error('index.json does not name one image');
  const index = top.mediaType.includes('index') ? (json(top) as LayoutIndex) : undefined;
  const images = (index?.manifests ?? [top]).map((descriptor) => {
    const manifest = json(descriptor) as LayoutManifest;
    const [layer] = manifest.layers;
    if (layer === undefined) throw new Error('there is no layer');
    blob(layer);
    return {
      manifest,
      config: json(manifest.config) as LayoutConfig,
      layer: join(directory, 'blobs/sha256', layer.digest.replace('sha256:', '')),
    };
  });
  const stray = readdirSync(join(directory, 'blobs/sha256')).filter((name) => !seen.has(name));
  if (stray.length > 0) throw new Error(`${stray.join()} belongs to nothing`);
  return { top, index, images };
}

/** The sample image for each architecture, with its layer in `directory`. */
export async function sampleInputs(
  directory: string,
  architectures: readonly Architecture[],
  compression: Compression = 'gzip',
  plan: RootfsPlan = samplePlan(),
): Promise<readonly ImageInput[]> {
  return Promise.all(
    architectures.map(async (architecture) => ({
      config: sampleConfig(architecture, plan.epoch),
      plan,
      layer: await writeLayer(plan, compression, join(directory, `${architecture}-${compression}.layer`)),
    })),
  );
}

export function sampleTarget(directory: string, signal = new AbortController().signal): ImageTarget {
  return { name: 'dhcpd', reference: 'localhost/dhcpd-test:latest', directory, signal };
}
