import { execFileSync } from 'node:child_process';
import { chmodSync, copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { afterAll, beforeAll, describe, expect, it } from 'vitest';

import { createBuildahEngine } from '../../build/image/buildah.js';
import type { BuiltImage } from '../../build/image/engine.js';
import { createOciEngine } from '../../build/image/oci.js';
import type { RootfsPlan } from '../../build/rootfs/plan.js';
import { run } from '../../build/support/exec.js';
import { privateStorage } from '../support/buildah.js';
import type { PrivateStorage } from '../support/buildah.js';
import { extract, planned } from '../support/extract.js';
import { compileFor } from '../support/oci-compile.js';
import { readLayout, sampleInputs, sampleTarget } from '../support/oci.js';
import { directory, sampleEpoch, samplePlan, text } from '../support/plan.js';
import { requireThat, requireTools } from '../support/tools.js';

const canCompare = requireTools('buildah', 'tar', 'getcap') && requireThat(process.getuid?.() === 0, 'root');

let scratch: string;
let storage: PrivateStorage;
beforeAll(() => {
  scratch = mkdtempSync(join(tmpdir(), 'contract-'));
  chmodSync(scratch, 0o755);
  if (canCompare) storage = privateStorage(join(scratch, 'storage'));
});
afterAll(() => {
  if (canCompare) storage.remove();
  rmSync(scratch, { recursive: true, force: true });
});

/**
 * What both engines must agree on. They differ in one thing alone: the compressed bytes of the layer, because buildah
 * compresses with Go's encoders. So the layer's digest and size differ, and with them the manifest's.
 */
function comparable(built: BuiltImage): unknown {
  const { top, index, images } = readLayout(built.layout);
  return {
    reference: built.reference,
    names: top.annotations,
    mediaTypes: [top.mediaType, index?.mediaType],
    platforms: index?.manifests.map(({ platform }) => platform) ?? top.platform,
    indexAnnotations: index?.annotations,
    images: images.map(({ manifest, config, layer }, number) => ({
      config,
      annotations: manifest.annotations,
      configDigest: manifest.config.digest,
      diffId: built.manifests[number]?.diffId,
      layerType: manifest.layers.map(({ mediaType }) => mediaType),
      entries: extract(layer),
    })),
  };
}

describe.skipIf(!canCompare)('both engines', () => {
  it.each([
    { architectures: ['x86_64'], compression: 'gzip' },
    { architectures: ['x86_64'], compression: 'none' },
    { architectures: ['ppc64le', 'riscv64'], compression: 'zstd' },
  ] as const)('make the same of $architectures with $compression', async ({ architectures, compression }) => {
    const base = join(scratch, [...architectures, compression].join('-'));
    for (const name of ['', 'oci', 'buildah']) mkdirSync(join(base, name));
    const inputs = await sampleInputs(base, architectures, compression);
    const ours = await createOciEngine().build(inputs, sampleTarget(join(base, 'oci')));
    const buildah = createBuildahEngine({ exec: run, environment: storage.environment });
    const theirs = await buildah.build(inputs, sampleTarget(join(base, 'buildah')));
    expect(comparable(theirs)).toEqual(comparable(ours));
    const [image] = readLayout(theirs.layout).images;
    expect(extract(image?.layer ?? '')).toEqual(
      await planned(samplePlan(), 'cap_net_bind_service,cap_net_raw=ep'),
    );
    // Uncompressed, nothing is left to differ.
    if (compression === 'none') expect(theirs.digest).toBe(ours.digest);
  });

  it('hold the same entries where buildah walks in another order than the plan', async () => {
    // Bytes of whole paths put `a-b` before `a/b`; a walk through directories does not. Then GNU tar takes `a` for
    // finished too early, and sets its time before the last change: directories are compared without their times.
    const plan: RootfsPlan = {
      epoch: sampleEpoch,
      entries: [directory('a'), directory('a-b'), text('a/b', '1')],
    };
    const base = join(scratch, 'order');
    for (const name of ['', 'oci', 'buildah']) mkdirSync(join(base, name));
    const inputs = await sampleInputs(base, ['x86_64'], 'gzip', plan);
    const ours = await createOciEngine().build(inputs, sampleTarget(join(base, 'oci')));
    const buildah = createBuildahEngine({ exec: run, environment: storage.environment });
    const theirs = await buildah.build(inputs, sampleTarget(join(base, 'buildah')));
    const [wanted, found] = [ours, theirs].map(
      ({ layout }) =>
        new Set(
          extract(readLayout(layout).images[0]?.layer ?? '').map(({ mtime, ...entry }) =>
            entry.kind === 'directory' ? entry : { ...entry, mtime },
          ),
        ),
    );
    expect(found).toEqual(wanted);
    expect(wanted?.size).toBe(3);
  });

  it('agree on variants, apart from where buildah writes the field', async () => {
    const base = join(scratch, 'variant');
    for (const name of ['', 'oci', 'buildah']) mkdirSync(join(base, name));
    const inputs = await sampleInputs(base, ['aarch64', 'armv7l']);
    const ours = await createOciEngine().build(inputs, sampleTarget(join(base, 'oci')));
    const buildah = createBuildahEngine({ exec: run, environment: storage.environment });
    const theirs = await buildah.build(inputs, sampleTarget(join(base, 'buildah')));
    // Buildah 1.28 writes `variant` before `os`, later ones after it as the specification does: the same
    // configuration in other bytes.
    const without = (value: unknown): unknown =>
      JSON.parse(
        JSON.stringify(value, (key, member: unknown) => (key === 'configDigest' ? undefined : member)),
      );
    expect(without(comparable(theirs))).toEqual(without(comparable(ours)));
  });
});

const user = 'dhcpd-scratch-test';
const canBecome = canCompare && requireTools('useradd', 'userdel', 'runuser', 'newuidmap');

describe.skipIf(!canBecome)('without root', () => {
  let program: string;
  let home: string;
  beforeAll(() => {
    home = join(scratch, 'home');
    program = compileFor(join(scratch, 'compiled'));
    removeUser();
    // A system user, so that no range is given unasked.
    execFileSync('useradd', ['--system', '--home-dir', home, '--create-home', '--shell', '/bin/sh', user]);
  });
  afterAll(removeUser);

  const asUser = (...argv: readonly string[]): string =>
    execFileSync(
      'runuser',
      [
        '-u',
        user,
        '--',
        'env',
        '-i',
        `PATH=${process.env['PATH'] ?? ''}`,
        `HOME=${home}`,
        `TMPDIR=${home}`,
        ...argv,
      ],
      { encoding: 'utf8', stdio: 'pipe', cwd: home },
    );
  const build = (engine: string): BuiltImage => {
    const output = join(home, engine);
    asUser('mkdir', output);
    return JSON.parse(asUser(process.execPath, program, engine, output, '1700000000')) as BuiltImage;
  };
  const usable = (): unknown => {
    const module = join(program, '../../../build/image/buildah-usable.js');
    const exec = join(program, '../../../build/support/exec.js');
    const script =
      `const { buildahUsable } = await import(${JSON.stringify(module)});` +
      `const { run: exec } = await import(${JSON.stringify(exec)});` +
      `console.log(JSON.stringify(await buildahUsable({ exec, environment: process.env })));`;
    return JSON.parse(asUser(process.execPath, '--input-type=module', '--eval', script));
  };

  it('the oci engine writes the same image', async () => {
    mkdirSync(join(scratch, 'as-root'));
    const inputs = await sampleInputs(scratch, ['x86_64']);
    const asRoot = await createOciEngine().build(inputs, sampleTarget(join(scratch, 'as-root')));
    const built = build('oci');
    expect(built.digest).toBe(asRoot.digest);
    expect(readFileSync(built.archive).equals(readFileSync(asRoot.archive))).toBe(true);
  });

  it('buildah is unusable for a user without subordinate IDs, and says why', () => {
    expect(usable()).toMatchObject({
      usable: false,
      hint: expect.stringContaining('/etc/subuid') as unknown,
    });
  });

  it('buildah makes the same image for a user with subordinate IDs', async () => {
    execFileSync('usermod', ['--add-subuids', '700000-765535', '--add-subgids', '700000-765535', user]);
    const config = join(home, '.config/containers');
    asUser('mkdir', '-p', config);
    asUser('sh', '-c', 'printf \'[storage]\\ndriver = "vfs"\\n\' >"$0"', join(config, 'storage.conf'));
    expect(usable()).toMatchObject({ usable: true });
    const built = build('buildah');
    const oci = readLayout(join(home, 'oci/dhcpd.oci')).images[0];
    expect(built.manifests[0]).toMatchObject({
      diffId: oci?.config.rootfs.diff_ids[0],
      configDigest: oci?.manifest.config.digest,
    });
    const [image] = readLayout(built.layout).images;
    copyFileSync(image?.layer ?? '', join(scratch, 'rootless.layer'));
    expect(extract(join(scratch, 'rootless.layer'))).toEqual(
      await planned(samplePlan(), 'cap_net_bind_service,cap_net_raw=ep'),
    );
    expect(asUser('buildah', 'containers', '--all', '--noheading')).toBe('');
    asUser('buildah', 'rmi', '--all', '--force');
  });

  function removeUser(): void {
    try {
      execFileSync('userdel', ['--force', user], { stdio: 'pipe' });
    } catch {
      // It was not there.
    }
  }
});
