import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';

import { afterAll, beforeAll, describe, expect, it } from 'vitest';

import type { BuiltImage, ImageInput } from '../../build/image/engine.js';
import { createOciEngine } from '../../build/image/oci.js';
import { ToolError } from '../../build/support/errors.js';
import { extract, listNames, planned, sha256 } from '../support/extract.js';
import { compileFor } from '../support/oci-compile.js';
import { readLayout, sampleInputs, sampleTarget } from '../support/oci.js';
import { sampleConfig, samplePlan } from '../support/plan.js';
import { requireThat, requireTools } from '../support/tools.js';

const engine = createOciEngine();
const isRoot = process.getuid?.() === 0;
const hasSkopeo = requireTools('skopeo');
const hasPodman = requireTools('podman', 'buildah') && requireThat(isRoot, 'root');

let scratch: string;
let single: BuiltImage;
let several: BuiltImage;
let inputs: readonly ImageInput[];
let program: string;
beforeAll(async () => {
  scratch = mkdtempSync(join(tmpdir(), 'oci-'));
  mkdirSync(at('single'));
  mkdirSync(at('several'));
  program = compileFor(at('compiled'));
  inputs = await sampleInputs(scratch, ['x86_64']);
  single = await engine.build(inputs, sampleTarget(at('single')));
  several = await engine.build(
    await sampleInputs(scratch, ['x86_64', 'aarch64', 'armv7l']),
    sampleTarget(at('several')),
  );
});
afterAll(() => {
  rmSync(scratch, { recursive: true });
});
const at = (name: string): string => join(scratch, name);

describe('an OCI layout of one image', () => {
  it('is whole and says what it is', () => {
    const { top, index, images } = readLayout(single.layout);
    expect(index).toBeUndefined();
    expect(top).toEqual({
      mediaType: 'application/vnd.oci.image.manifest.v1+json',
      digest: single.digest,
      size: single.manifests[0]?.size,
      platform: { architecture: 'amd64', os: 'linux' },
      annotations: {
        'io.containerd.image.name': 'localhost/dhcpd-test:latest',
        'org.opencontainers.image.ref.name': 'localhost/dhcpd-test:latest',
      },
    });
    const [image] = images;
    expect(image?.manifest.annotations).toEqual(Object.fromEntries(sampleConfig('x86_64').annotations));
    expect(image?.config.rootfs.diff_ids).toEqual([single.manifests[0]?.diffId]);
    expect(single).toEqual({
      engine: 'oci',
      digest: single.digest,
      reference: 'localhost/dhcpd-test:latest',
      layout: at('single/dhcpd.oci'),
      archive: at('single/dhcpd.oci.tar'),
      manifests: [
        {
          architecture: 'x86_64',
          digest: single.digest,
          size: top.size,
          configDigest: image?.manifest.config.digest,
          layerDigest: image?.manifest.layers[0]?.digest,
          layerSize: image?.manifest.layers[0]?.size,
          diffId: image?.config.rootfs.diff_ids[0],
        },
      ],
    });
  });

  it('can be read by everyone, whatever the umask', () => {
    const modes = readdirSync(single.layout, { recursive: true, encoding: 'utf8' }).map((name) => {
      const stats = statSync(join(single.layout, name));
      return [stats.isDirectory(), (stats.mode & 0o777).toString(8)].join();
    });
    expect(new Set(modes)).toEqual(new Set(['true,755', 'false,644']));
    expect((statSync(single.layout).mode & 0o777).toString(8)).toBe('755');
  });

  it.skipIf(!hasSkopeo)('is what skopeo reads', () => {
    const skopeo = (...argv: string[]): string => execFileSync('skopeo', argv, { encoding: 'utf8' });
    const image = `oci:${single.layout}:localhost/dhcpd-test:latest`;
    const inspected = JSON.parse(skopeo('inspect', image)) as Record<string, unknown>;
    expect(inspected).toMatchObject({
      Digest: single.digest,
      Created: '2023-11-14T22:13:20Z',
      Architecture: 'amd64',
      Os: 'linux',
      Layers: [single.manifests[0]?.layerDigest],
      Env: sampleConfig('x86_64').environment,
      Labels: Object.fromEntries(sampleConfig('x86_64').annotations),
    });
    skopeo('copy', '--quiet', `oci-archive:${single.archive}`, `dir:${at('dir')}`);
    expect(`sha256:${sha256(readFileSync(at('dir/manifest.json')))}`).toBe(single.digest);
  });

  it.skipIf(!isRoot || !requireTools('tar', 'getcap'))('holds the plan, entry by entry', async () => {
    const [image] = readLayout(single.layout).images;
    expect(extract(image?.layer ?? '')).toEqual(
      await planned(samplePlan(), 'cap_net_bind_service,cap_net_raw=ep'),
    );
  });
});

describe('an OCI layout of several images', () => {
  it('names each by its platform under one index', () => {
    const { top, index, images } = readLayout(several.layout);
    expect(top.mediaType).toBe('application/vnd.oci.image.index.v1+json');
    expect(top.digest).toBe(several.digest);
    expect(index?.manifests.map(({ platform }) => platform)).toEqual([
      { architecture: 'amd64', os: 'linux' },
      { architecture: 'arm64', os: 'linux', variant: 'v8' },
      { architecture: 'arm', os: 'linux', variant: 'v7' },
    ]);
    expect(index?.manifests.map(({ digest }) => digest)).toEqual(
      several.manifests.map(({ digest }) => digest),
    );
    // The version differs by architecture in the sample, and so is said of no more than each image.
    const common = new Map(sampleConfig('x86_64').annotations);
    common.delete('org.opencontainers.image.version');
    expect(index?.annotations).toEqual(Object.fromEntries(common));
    expect(images).toHaveLength(3);
  });

  it.skipIf(!hasSkopeo)('is copied whole by skopeo', () => {
    const source = `oci-archive:${several.archive}`;
    execFileSync('skopeo', [
      'copy',
      '--quiet',
      '--all',
      source,
      `oci:${at('copied')}:localhost/dhcpd-test:latest`,
    ]);
    expect(topDigest(at('copied'))).toEqual(several.digest);
    const arm = execFileSync('skopeo', ['--override-arch', 'arm64', 'inspect', '--config', source], {
      encoding: 'utf8',
    });
    expect(JSON.parse(arm)).toMatchObject({ architecture: 'arm64', variant: 'v8' });
  });
});

describe('the oci-archive', () => {
  it.skipIf(!requireTools('tar'))('is a sorted tar of the layout, with no trace of the machine', () => {
    const names = listNames(several.archive);
    expect(names).toEqual([...names].sort());
    const files = readdirSync(several.layout, { recursive: true, encoding: 'utf8' });
    expect(names).toEqual([...files].sort());
    const listing = execFileSync('tar', ['--numeric-owner', '--utc', '-tvf', several.archive], {
      encoding: 'utf8',
    });
    const facts = listing
      .trim()
      .split('\n')
      .map((line) =>
        line
          .replace(/ +\d+ (?=2023)/, ' ')
          .split(' ')
          .slice(0, 4)
          .join(' '),
      );
    expect(new Set(facts)).toEqual(
      new Set(['drwxr-xr-x 0/0 2023-11-14 22:13', '-rw-r--r-- 0/0 2023-11-14 22:13']),
    );
    mkdirSync(at('untarred'));
    execFileSync('tar', ['-xf', several.archive, '-C', at('untarred')]);
    expect(snapshot(at('untarred'))).toEqual(snapshot(several.layout));
  });

  it.skipIf(!hasPodman)('is what podman loads and buildah pulls', () => {
    const storage = ['--root', at('storage'), '--runroot', at('run'), '--storage-driver', 'vfs'];
    const podman = (...argv: string[]): string =>
      execFileSync('podman', [...storage, '--tmpdir', at('tmp'), ...argv], {
        encoding: 'utf8',
        stdio: 'pipe',
      });
    try {
      for (const { archive } of [several, single]) {
        podman('load', '--quiet', '--input', archive);
        const [image] = JSON.parse(podman('image', 'inspect', 'localhost/dhcpd-test:latest')) as Record<
          string,
          unknown
        >[];
        const config = sampleConfig('x86_64');
        expect(image).toMatchObject({
          Id: single.manifests[0]?.configDigest.replace('sha256:', ''),
          RepoTags: ['localhost/dhcpd-test:latest'],
          Created: '2023-11-14T22:13:20Z',
          Architecture: 'amd64',
          Os: 'linux',
          User: '177:177',
          Labels: Object.fromEntries(config.annotations),
          Annotations: Object.fromEntries(config.annotations),
          RootFS: { Type: 'layers', Layers: [single.manifests[0]?.diffId] },
          History: [{ created: '2023-11-14T22:13:20Z', created_by: 'dhcpd-scratch' }],
          Config: {
            User: '177:177',
            ExposedPorts: { '67/udp': {}, '547/udp': {}, '7911/tcp': {} },
            Env: config.environment,
            Entrypoint: config.entrypoint,
            Cmd: config.command,
            Volumes: { '/var/lib/dhcp': {}, '/etc/with space': {} },
            WorkingDir: '/var/lib/dhcp',
            StopSignal: 'SIGTERM',
          },
        });
      }
      const pulled = execFileSync(
        'buildah',
        [...storage, 'pull', '--quiet', `oci-archive:${single.archive}`],
        {
          encoding: 'utf8',
          stdio: 'pipe',
        },
      );
      expect(pulled.trim()).toBe(single.manifests[0]?.configDigest.replace('sha256:', ''));
    } finally {
      podman('rmi', '--all', '--force');
    }
  });

  it.skipIf(!hasSkopeo).each(['zstd', 'none'] as const)(
    'may hold a layer with %s compression',
    async (compression) => {
      mkdirSync(at(compression));
      const built = await engine.build(
        await sampleInputs(scratch, ['s390x'], compression),
        sampleTarget(at(compression)),
      );
      execFileSync('skopeo', [
        'copy',
        '--quiet',
        `oci-archive:${built.archive}`,
        `dir:${at(`${compression}/dir`)}`,
      ]);
      expect(built.manifests[0]?.diffId).toBe(single.manifests[0]?.diffId);
    },
  );
});

describe('the same input', () => {
  it('gives the same bytes in another process, umask, language, time zone and directory', () => {
    mkdirSync(at('elsewhere'));
    const node = process.env['DHCPD_TEST_NODE'] ?? process.execPath;
    const output = execFileSync(
      'sh',
      ['-c', 'umask 077; exec "$@"', 'sh', node, program, 'oci', at('elsewhere'), '1700000000'],
      {
        cwd: '/',
        env: { PATH: process.env['PATH'], LC_ALL: 'tr_TR.UTF-8', TZ: 'Pacific/Chatham' },
        encoding: 'utf8',
      },
    );
    expect((JSON.parse(output) as BuiltImage).digest).toBe(single.digest);
    expect(snapshot(at('elsewhere'))).toEqual(snapshot(at('single')));
  });
});

describe('a build that does not come to its end', () => {
  it('leaves the earlier result when the layer has changed', async () => {
    mkdirSync(at('damaged'));
    const own = await sampleInputs(at('damaged'), ['x86_64']);
    const target = sampleTarget(at('damaged'));
    await engine.build(own, target);
    const before = snapshot(at('damaged'));
    const layer = own[0]?.layer.path ?? '';
    appendFileSync(layer, 'x');
    await expect(engine.build(own, target)).rejects.toThrow(/^cannot write .*: the layer has changed/);
    rmSync(layer);
    await expect(engine.build(own, target)).rejects.toThrow(ToolError);
    before.delete(layer.slice(at('damaged').length + 1));
    expect(snapshot(at('damaged'))).toEqual(before);
  });

  it('writes nothing when it was interrupted before', async () => {
    mkdirSync(at('aborted'));
    await expect(engine.build(inputs, sampleTarget(at('aborted'), AbortSignal.abort()))).rejects.toThrow(
      'cannot build localhost/dhcpd-test:latest: it was interrupted',
    );
    expect(readdirSync(at('aborted'))).toEqual([]);
  });

  it('refuses to take the place of a file', async () => {
    mkdirSync(at('taken'));
    writeFileSync(at('taken/dhcpd.oci'), 'mine');
    await expect(engine.build(inputs, sampleTarget(at('taken')))).rejects.toThrow(
      /^cannot write .*dhcpd\.oci: /,
    );
    expect(readFileSync(at('taken/dhcpd.oci'), 'utf8')).toBe('mine');
  });

  it('leaves the old image or the new one when it is killed', async () => {
    mkdirSync(at('killed'));
    const digests = new Set<string>();
    for (let round = 0; round < 6; round += 1) {
      const child = spawn(
        process.execPath,
        [program, 'oci', at('killed'), '1700000000', '1600000000', 'forever'],
        {
          // A killed process leaves its temporary files, which are to go with the test's own.
          env: { ...process.env, TMPDIR: scratch },
          stdio: ['ignore', 'pipe', 'inherit'],
        },
      );
      const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
      for (let built = 0; built < 2; built += 1) digests.add(digestOf(String((await lines.next()).value)));
      await sleep(round * 5.3);
      child.kill('SIGKILL');
      await once(child, 'exit');
      if (existsSync(at('killed/dhcpd.oci'))) {
        expect(digests).toContain(readLayout(at('killed/dhcpd.oci')).top.digest);
      } else {
        // Killed between the two renames: the old one is aside, and the next build takes it back.
        expect(readdirSync(at('killed')).filter((name) => name.endsWith('.old'))).toHaveLength(1);
      }
      if (hasSkopeo) {
        const archive = `oci-archive:${at('killed/dhcpd.oci.tar')}`;
        const digest = execFileSync('skopeo', ['inspect', '--no-tags', '--format', '{{.Digest}}', archive], {
          encoding: 'utf8',
        });
        expect(digests).toContain(digest.trim());
      }
    }
    expect(digests.size).toBe(2);
    await engine.build(inputs, sampleTarget(at('killed')));
    expect(readdirSync(at('killed')).sort()).toEqual(['dhcpd.oci', 'dhcpd.oci.tar']);
  });
});

function digestOf(line: string): string {
  return (JSON.parse(line) as BuiltImage).digest;
}

function topDigest(directory: string): string {
  const index = JSON.parse(readFileSync(join(directory, 'index.json'), 'utf8')) as {
    manifests: readonly { digest: string }[];
  };
  return index.manifests[0]?.digest ?? '';
}

/** Every file below a directory by its content. */
function snapshot(root: string): Map<string, string> {
  return new Map(
    readdirSync(root, { recursive: true, encoding: 'utf8' })
      .filter((name) => statSync(join(root, name)).isFile())
      .map((name): [string, string] => [name, sha256(readFileSync(join(root, name)))]),
  );
}
