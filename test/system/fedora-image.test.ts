import { mkdir, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';

import { afterAll, beforeAll, describe, expect, it } from 'vitest';

import { loadDefinition } from '../../build/definition/load.js';
import { buildOnBase, type BuiltOnBase } from '../../build/image/on-base.js';
import { run } from '../../build/support/exec.js';
import { silentLog } from '../../build/support/log.js';
import { baseReference } from '../support/base-image.js';
import { privateStorage, type PrivateStorage } from '../support/buildah.js';
import { listNames } from '../support/extract.js';
import { fedoraRegistryTools, startFedoraRegistry, type FedoraRegistry } from '../support/fedora-registry.js';
import { fedoraStandIn } from '../support/fedora-stand-in.js';
import { hostArchitecture } from '../support/host.js';
import { leaseByDhclient, leaseByUdhcpc } from '../support/lab-client.js';
import { checkout } from '../support/lab-image.js';
import { openPodman } from '../support/lab-podman.js';
import { openLab, serverAddress } from '../support/lab.js';
import { serverConfig } from '../support/on-base.js';
import { requireThat, requireTools } from '../support/tools.js';

const standIn = await fedoraStandIn();
const ready =
  standIn !== undefined &&
  requireThat(process.getuid?.() === 0, 'root, for network namespaces') &&
  requireTools(...fedoraRegistryTools) &&
  requireTools('ip', 'ethtool', 'podman', 'runc', 'udhcpc', 'dhclient');

describe.skipIf(!ready)('dhcpd on a base of Fedora', { timeout: 240_000 }, () => {
  let scratch: string;
  let storage: PrivateStorage;
  let registry: FedoraRegistry;
  let built: BuiltOnBase;

  beforeAll(async () => {
    if (standIn === undefined) return;
    scratch = await mkdtemp(join(tmpdir(), 'fedora-image-'));
    registry = await startFedoraRegistry(standIn, scratch);
    storage = privateStorage(join(scratch, 'storage'));

    const definition = await loadDefinition(join(checkout, 'images/fedora/dhcpd.yaml'));
    expect(definition.base).toBe(baseReference);
    const fedora = definition.packages.fedora;
    if (fedora === undefined) throw new Error('the definition names no package of Fedora');
    const server = await standIn.serve();
    const repositories = (['fedora', 'updates-released'] as const).map((id) => ({
      id,
      urls: [server.baseUrl(id, hostArchitecture === 'aarch64' ? 'aarch64' : 'x86_64')],
    }));
    const directory = join(scratch, 'out');
    await mkdir(directory);
    built = await buildOnBase(
      [
        {
          definition,
          architecture: hostArchitecture,
          base: { reference: baseReference, digest: undefined },
          package: fedora.package,
          release: fedora.release,
          signers: [standIn.fingerprint],
          state: fedora.state,
          sources: { repositories, keys: await readFile(standIn.keyFile, 'utf8') },
          compression: 'gzip',
          epoch: undefined,
        },
      ],
      {
        exec: run,
        environment: { ...storage.environment, CONTAINERS_REGISTRIES_CONF: registry.configuration },
        log: silentLog,
      },
      { name: 'dhcpd', reference: 'localhost/dhcpd:latest', directory, signal: new AbortController().signal },
    );
    await server.close();
  }, 400_000);
  afterAll(async () => {
    if (!ready) return;
    storage.remove();
    await registry.close();
    await rm(scratch, { recursive: true, force: true });
  });

  const layersOf = (image: string): readonly string[] =>
    (
      JSON.parse(storage.buildah('inspect', '--type', 'image', image)) as {
        OCIv1: { rootfs: { diff_ids: readonly string[] } };
      }
    ).OCIv1.rootfs.diff_ids;

  it('adds one layer to those of the base', () => {
    const own = built.image.manifests[0]?.diffId ?? '';
    expect(layersOf('localhost/dhcpd:latest')).toEqual([...registry.baseLayers, own]);
  });

  it('holds the newest dhcp-server with what it requires, and nothing beside the packages', () => {
    const [manifest] = built.manifests;
    const before = new Set(manifest?.before.map(({ name }) => name));
    const added = manifest?.after.map(({ name }) => name).filter((name) => !before.has(name)) ?? [];
    expect(added).toEqual(expect.arrayContaining(['dhcp-common', 'dhcp-server', 'krb5-libs', 'openldap']));
    expect(manifest?.version).toBe('12:4.4.3-27.fc45');
    expect(manifest?.program).toBe('/usr/bin/dhcpd');

    const container = storage.buildah('from', '--pull=false', 'localhost/dhcpd:latest');
    const owned = new Set(
      storage.buildah('run', '--user', '0', container, '--', 'rpm', '-ql', ...added).split('\n'),
    );
    storage.buildah('rm', container);
    const blob = (built.image.manifests[0]?.layerDigest ?? '').replace('sha256:', '');
    const names = listNames(join(built.image.layout, 'blobs/sha256', blob));
    // Merged directories: a package may name a file by a way over a link.
    const merged = (path: string): string => path.replace(/^\/(s?bin|lib|lib64)\//, '/usr/$1/');
    const known = new Set([...owned].map(merged));
    const files = names.filter((path) => !path.endsWith('/')).map((path) => `/${path}`);
    const rest = files.filter((path) => !known.has(path) && !basename(path).startsWith('.wh.'));
    expect(rest.filter((path) => !path.startsWith('/usr/lib/sysimage/rpm/')).sort()).toEqual([
      '/etc/group',
      '/etc/ld.so.cache',
      '/etc/passwd',
    ]);
    const unwanted = /^\/(?:usr\/share\/(?:doc|man)|var\/cache|var\/log|tmp|run|\.dhcpd-scratch)\/./;
    expect(files.filter((path) => unwanted.test(path) && !basename(path).startsWith('.wh.'))).toEqual([]);
  });

  it('leases as uid 177 with two capabilities', async (context) => {
    const lab = await openLab(run);
    context.onTestFinished(() => lab.close());
    const podman = await openPodman(run, lab);
    const server = await podman.serve({
      image: await podman.load(built.image.archive),
      name: 'dhcpd',
      capabilities: ['NET_RAW', 'NET_BIND_SERVICE'],
      command: [lab.server.interface],
      config: { from: await serverConfig(lab), to: '/etc/dhcp' },
      state: { volume: 'leases', to: '/var/lib/dhcpd' },
    });
    await server.waitFor('Server starting service\\.');
    const processes = await server.processes();
    expect(processes.map(({ command }) => command)).toEqual([
      expect.stringMatching(/\/usr\/bin\/dhcpd -4 -f -d --no-pid lan0$/),
    ]);
    for (const { status } of processes) {
      expect(status.get('Uid')).toBe('177\t177\t177\t177');
      expect(status.get('Gid')).toBe('177\t177\t177\t177');
      // CAP_NET_BIND_SERVICE and CAP_NET_RAW of capabilities(7).
      expect(BigInt(`0x${status.get('CapEff') ?? ''}`)).toBe((1n << 10n) | (1n << 13n));
    }
    const lease = await leaseByUdhcpc(run, lab, 'web1');
    expect(lease.address).toMatch(/^192\.0\.2\.(5[0-9]|60)$/);
    expect(lease.server).toBe(serverAddress);
    await server.waitFor(`DHCPACK on ${lease.address} to ${lab.client.mac}`);
    expect(await readFile(join(await podman.volume('leases'), 'dhcpd.leases'), 'utf8')).toContain(
      `lease ${lease.address} {`,
    );
    expect((await leaseByDhclient(run, lab)).server).toBe(serverAddress);
  });
});
