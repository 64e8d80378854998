/**
 * A process of its own that builds the sample image: `oci-build ENGINE DIRECTORY EPOCH...`, one build an epoch, over
 * and over when the last argument is `forever`. Prints one line of JSON a build.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { createBuildahEngine } from '../../build/image/buildah.js';
import { createOciEngine } from '../../build/image/oci.js';
import { run } from '../../build/support/exec.js';
import { sampleInputs, sampleTarget } from './oci.js';
import { samplePlan } from './plan.js';

const [engineName, directory = '.', ...epochs] = process.argv.slice(2);
const engine =
  engineName === 'buildah' ? createBuildahEngine({ exec: run, environment: process.env }) : createOciEngine();
const abort = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.on(signal, () => {
    abort.abort();
  });
}
const layers = await mkdtemp(join(tmpdir(), 'oci-build-'));
try {
  const inputs = await Promise.all(
    epochs
      .filter((epoch) => epoch !== 'forever')
      .map((epoch, index) =>
        sampleInputs(layers, [index % 2 === 0 ? 'x86_64' : 'aarch64'], 'gzip', samplePlan(Number(epoch))),
      ),
  );
  do {
    for (const input of inputs) {
      const built = await engine.build(input, sampleTarget(directory, abort.signal));
      process.stdout.write(`${JSON.stringify(built)}\n`);
    }
  } while (epochs.at(-1) === 'forever');
} finally {
  await rm(layers, { recursive: true });
}
