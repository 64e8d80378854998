import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { measureOffers, type OfferMachine, type ServerImage } from '../../build/smoke/first-offer.js';
import { ToolError } from '../../build/support/errors.js';
import { run } from '../../build/support/exec.js';
import { hostArchitecture, otherArchitecture } from '../support/host.js';
import { checkout } from '../support/lab-image.js';
import { canRun } from '../support/lab-podman.js';
import { requireThat, requireTools } from '../support/tools.js';
import { digestOf, imageStore, layer, writeArchive } from '../compare/store-builder.js';

const ready =
  requireThat(process.getuid?.() === 0, 'root, for network namespaces') &&
  requireTools('ip', 'podman', 'runc');
const goName = hostArchitecture === 'aarch64' ? 'arm64' : 'amd64';

let work = '';
beforeAll(() => {
  work = mkdtempSync(join(tmpdir(), 'offer-'));
});
afterAll(() => {
  rmSync(work, { recursive: true });
});

function machine(more: Partial<OfferMachine> = {}): OfferMachine {
  return {
    exec: run,
    environment: process.env,
    signal: new AbortController().signal,
    architecture: hostArchitecture,
    discover: join(checkout, 'dist/smoke/discover.js'),
    log: () => undefined,
    ...more,
  };
}

/** An image that holds this one script and nothing to run it with. */
function image(more: Partial<ServerImage> = {}): ServerImage {
  const layers = [layer('bin/', 'bin/dhcpd #!/bin/nothing')];
  let configDigest = '';
  const files = imageStore({
    layers,
    architecture: goName,
    config: { Entrypoint: ['/bin/dhcpd'] },
    changeManifest: (manifest) => {
      configDigest = (manifest['config'] as { digest: string }).digest;
    },
  });
  const archive = writeArchive(
    join(work, `${digestOf(layers[0] ?? Buffer.alloc(0)).slice(7, 20)}.tar`),
    files,
  );
  return {
    name: 'it.tar',
    source: `oci-archive:${archive}`,
    configDigest,
    architecture: hostArchitecture,
    entrypoint: ['/bin/dhcpd'],
    volumes: ['/var/lib/dhcp'],
    capabilities: undefined,
    hasDirectory: () => false,
    ...more,
  };
}

async function reasonFor(one: ServerImage, on: OfferMachine = machine()): Promise<string> {
  const { times } = await measureOffers([one], 1, on);
  const [time] = times;
  return time === undefined || time.milliseconds !== undefined ? 'it was measured' : time.reason;
}

describe('what cannot be measured', () => {
  it.skipIf(!ready)('has no program for it', async () => {
    expect(await reasonFor(image(), machine({ environment: { PATH: '/nowhere' } }))).toBe(
      'ip is not installed',
    );
  });

  it.skipIf(!ready)(
    'says why, image by image',
    async () => {
      const reasons: readonly (readonly [ServerImage, RegExp])[] = [
        [
          image({ entrypoint: ['/bin/httpd'] }),
          /^its entrypoint is \/bin\/httpd, and only dhcpd and dnsmasq are known$/,
        ],
        [image({ entrypoint: [] }), /^its entrypoint is empty, and only/],
        [image({ volumes: [] }), /^it has no volume for its leases$/],
        [
          image({ configDigest: digestOf(Buffer.alloc(1)) }),
          /^podman has taken another image: [0-9a-f]{64}$/,
        ],
        [
          image({ source: 'oci-archive:/nowhere.tar' }),
          /^cannot load oci-archive:\/nowhere\.tar: .*nowhere\.tar: no such file or directory$/,
        ],
        [image(), /^cannot (measure dhcpd: it has ended: |run podman .*)/],
      ];
      const before = leftovers();
      const { times } = await measureOffers(
        reasons.map(([one]) => one),
        1,
        machine(),
      );
      expect(times).toHaveLength(reasons.length);
      times.forEach((time, index) => {
        expect(time.milliseconds).toBeUndefined();
        if (time.milliseconds === undefined) expect(time.reason).toMatch(reasons[index]?.[1] ?? /never/);
      });
      expect(leftovers()).toEqual(before);
    },
    60_000,
  );

  it.skipIf(!ready || canRun(otherArchitecture))('is for another machine', async () => {
    expect(await reasonFor(image({ architecture: otherArchitecture }))).toBe(
      `this machine runs no programs for ${otherArchitecture}`,
    );
  });

  it.skipIf(!ready)('was interrupted, and leaves nothing behind', async () => {
    const before = leftovers();
    const abort = new AbortController();
    const stopped = new ToolError('stopped by SIGINT');
    const on = machine({
      signal: abort.signal,
      log: () => {
        abort.abort(stopped);
      },
    });
    await expect(measureOffers([image()], 1, on)).rejects.toBe(stopped);
    expect(leftovers()).toEqual(before);
  });
});

/** What labs of this process have left on the machine. */
function leftovers(): readonly string[] {
  const namespaces = existsSync('/run/netns') ? readdirSync('/run/netns') : [];
  return [...namespaces, ...readdirSync(tmpdir())].filter((name) =>
    name.startsWith(`dhcpd-lab-${process.pid}-`),
  );
}
