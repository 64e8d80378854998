import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';

import { buildahUsable } from '../../build/image/buildah-usable.js';
import { createBuildahEngine } from '../../build/image/buildah.js';
import type { ImageInput } from '../../build/image/engine.js';
import { cannot } from '../../build/support/errors.js';
import { run } from '../../build/support/exec.js';
import type { Exec } from '../../build/support/exec.js';
import { privateStorage } from '../support/buildah.js';
import type { PrivateStorage } from '../support/buildah.js';
import { compileFor } from '../support/oci-compile.js';
import { readLayout, sampleInputs, sampleTarget } from '../support/oci.js';
import { sampleConfig, samplePlan } from '../support/plan.js';
import { requireThat, requireTools } from '../support/tools.js';

const canBuild = requireTools('buildah') && requireThat(process.getuid?.() === 0, 'root');
const other = 'localhost/somebody-elses:1';

describe.skipIf(!canBuild)('the buildah engine', () => {
  let scratch: string;
  let storage: PrivateStorage;
  let one: readonly ImageInput[];
  let two: readonly ImageInput[];
  let directory: string;
  let foreign: readonly string[];

  beforeAll(async () => {
    scratch = mkdtempSync(join(tmpdir(), 'buildah-'));
    two = await sampleInputs(scratch, ['x86_64', 'aarch64']);
    one = two.slice(0, 1);
  });
  afterAll(() => {
    rmSync(scratch, { recursive: true });
  });
  beforeEach(() => {
    storage = privateStorage(join(scratch, 'storage'));
    directory = join(scratch, 'out');
    mkdirSync(directory);
    // What is somebody else's: a working container, a named image, one without a name.
    storage.buildah('from', '--name', 'somebodys-work', 'scratch');
    storage.buildah('commit', '--quiet', '--timestamp', '0', 'somebodys-work', other);
    storage.buildah('config', '--label', 'a=b', 'somebodys-work');
    storage.buildah('commit', '--quiet', '--timestamp', '0', 'somebodys-work');
    foreign = storage.content();
  });
  afterEach(() => {
    storage.remove();
    rmSync(directory, { recursive: true });
  });
  const engine = (exec: Exec = run): ReturnType<typeof createBuildahEngine> =>
    createBuildahEngine({ exec, environment: storage.environment });

  it('leaves the named image and nothing else', async () => {
    const built = await engine().build(one, sampleTarget(directory));
    const id = built.manifests[0]?.configDigest ?? '';
    expect(storage.content()).toEqual([...foreign, `${id} localhost/dhcpd-test:latest`].sort());
    expect(readdirSync(directory).sort()).toEqual(['dhcpd.oci', 'dhcpd.oci.tar']);
    expect(readLayout(built.layout).top.digest).toBe(built.digest);
    // Once more: nothing piles up.
    expect(await engine().build(one, sampleTarget(directory))).toEqual(built);
    expect(storage.content()).toEqual([...foreign, `${id} localhost/dhcpd-test:latest`].sort());
  });

  it('leaves a named manifest list with its images, and no list of an earlier build', async () => {
    for (let time = 0; time < 2; time += 1) {
      const built = await engine().build(two, sampleTarget(directory));
      const list = JSON.parse(storage.buildah('manifest', 'inspect', 'localhost/dhcpd-test:latest')) as {
        manifests: readonly { platform: object }[];
      };
      expect(list.manifests.map(({ platform }) => platform)).toEqual([
        { architecture: 'amd64', os: 'linux' },
        { architecture: 'arm64', os: 'linux', variant: 'v8' },
      ]);
      const more = storage.content().filter((line) => !foreign.includes(line));
      expect(more).toHaveLength(3);
      expect(more.filter((line) => line.endsWith(' localhost/dhcpd-test:latest'))).toHaveLength(1);
      for (const { configDigest } of built.manifests) expect(more).toContain(`${configDigest} <none>:<none>`);
    }
  });

  it('moves the name from the image that had it, and leaves that image', async () => {
    storage.buildah('config', '--label', 'c=d', 'somebodys-work');
    const old = storage.buildah('commit', '--quiet', 'somebodys-work', 'localhost/dhcpd-test:latest');
    await engine().build(two, sampleTarget(directory));
    const now = [...foreign, `sha256:${old} <none>:<none>`];
    expect(storage.content()).toEqual(expect.arrayContaining(now));
    expect(storage.content()).toHaveLength(now.length + 3);
  });

  // Steps 1 to 14 of two images are those of one image, done twice.
  it.each([
    { images: 1, first: 1 },
    { images: 2, first: 15 },
  ])(
    'undoes everything that a failure or interruption at a step left of $images',
    async ({ images, first }) => {
      let built = 0;
      let step = first - 1;
      while (built < 2) {
        step += 1;
        const fails = step % 2 === 0;
        const abort = new AbortController();
        let count = 0;
        const exec: Exec = async (command) => {
          // What cleans up after the failure runs as it is.
          count += 1;
          if (count === step && fails) throw cannot('run', command.argv.join(' '), 'the test says so');
          const result = await run(command);
          if (count === step) abort.abort();
          return result;
        };
        const result = await engine(exec)
          .build(two.slice(0, images), sampleTarget(directory, abort.signal))
          .then(
            () => 'built',
            (error: unknown) => String(error),
          );
        if (result === 'built') built += 1;
        else expect(result).toMatch(fails ? 'the test says so' : 'it was interrupted');
        const content = storage.content();
        // Whole, or not there at all; after the name has moved the result stays.
        const named = content.some((line) => line.endsWith(' localhost/dhcpd-test:latest'));
        expect([step, result === 'built' && !named]).toEqual([step, false]);
        if (named) {
          expect([step, content.length]).toEqual([step, foreign.length + (images === 1 ? 1 : 3)]);
          storage.buildah(...(images === 1 ? ['rmi'] : ['manifest', 'rm']), 'localhost/dhcpd-test:latest');
          for (const line of content.filter((one) => !foreign.includes(one) && one.endsWith('<none>'))) {
            storage.buildah('rmi', line.split(' ')[0] ?? '');
          }
        } else expect([step, content]).toEqual([step, foreign]);
      }
      expect(step).toBeGreaterThan(images === 1 ? 7 : 18);
    },
    120_000,
  );

  it.each(['SIGINT', 'SIGTERM'] as const)(
    'undoes everything at %s',
    async (signal) => {
      const program = compileFor(join(scratch, signal));
      for (const delay of [150, 400]) {
        const child = spawn(process.execPath, [program, 'buildah', directory, '1700000000', 'forever'], {
          env: { ...storage.environment, TMPDIR: scratch },
          stdio: ['ignore', 'pipe', 'pipe'],
        });
        let errors = '';
        child.stderr.on('data', (chunk: Buffer) => (errors += chunk.toString()));
        await once(child.stdout, 'data'); // one build has ended
        await sleep(delay);
        child.kill(signal);
        await once(child, 'exit');
        expect(errors).toContain('it was interrupted');
        const left = storage.content().filter((line) => !line.endsWith(' localhost/dhcpd-test:latest'));
        expect(left).toEqual(foreign);
      }
    },
    60_000,
  );

  it('refuses files with another time than the image', async () => {
    const plan = samplePlan(5);
    const inputs = one.map((input) => ({ ...input, plan, config: sampleConfig('x86_64', 6) }));
    await expect(engine().build(inputs, sampleTarget(directory))).rejects.toThrow('buildah gives every file');
    expect(storage.content()).toEqual(foreign);
  });

  it('notices when the image is not what was asked for', async () => {
    const exec: Exec = (command) =>
      run(
        command.argv[1] === 'config'
          ? {
              ...command,
              argv: ['buildah', 'config', '--domainname', 'x', '--label', 'more=1', ...command.argv.slice(2)],
            }
          : command,
      );
    await expect(engine(exec).build(one, sampleTarget(directory))).rejects.toThrow(
      'cannot build the image: this version of buildah wrote an unexpected config',
    );
    expect(storage.content()).toEqual(foreign);
    expect(readdirSync(directory)).toEqual([]);
  });

  it('does not let the environment change the image', async () => {
    const built = await engine().build(one, sampleTarget(directory));
    const environment = {
      ...storage.environment,
      BUILDAH_HISTORY: 'true',
      SOURCE_DATE_EPOCH: '5',
      BUILDAH_FORMAT: 'docker',
    };
    const again = createBuildahEngine({ exec: run, environment });
    expect(await again.build(one, sampleTarget(directory))).toEqual(built);
  });
});

describe('buildahUsable', () => {
  it.skipIf(!canBuild)('finds the buildah of this machine', async () => {
    const found = await buildahUsable({ exec: run, environment: process.env });
    expect(found).toEqual({ usable: true, version: expect.stringMatching(/^1\.\d+\.\d+$/) as unknown });
  });

  it('says when there is none', async () => {
    expect(await buildahUsable({ exec: run, environment: { PATH: '/nowhere' } })).toMatchObject({
      usable: false,
      reason: 'cannot run buildah: it is not installed',
    });
  });

  it.each([
    ['buildah version 1.19.6 (image-spec 1.0.1-dev, runtime-spec 1.0.2-dev)', false],
    ['buildah version 0.99.0', false],
    ['something else', false],
    ['buildah version 1.28.0 (image-spec 1.1.0-rc2, runtime-spec 1.0.2-dev)', true],
    ['buildah version 1.41.3-dev (image-spec 1.1.1, runtime-spec 1.2.1)', true],
    ['buildah version 2.0.0', true],
  ])('reads the version of %j', async (stdout, usable) => {
    const exec: Exec = ({ argv }) =>
      Promise.resolve({
        stdout: argv[1] === 'unshare' ? '0 1 1\n1 2 65536\n0 1 1\n1 2 65536\n' : stdout,
        stderr: '',
      });
    expect((await buildahUsable({ exec, environment: {} })).usable).toBe(usable);
  });

  it.skipIf(!canBuild)('says when the storage does not open', async () => {
    const environment = { ...process.env, CONTAINERS_STORAGE_CONF: '/dev/null/none' };
    const found = await buildahUsable({ exec: run, environment });
    expect(found).toMatchObject({
      usable: false,
      reason: expect.stringContaining('/dev/null/none') as unknown,
    });
  });
});
