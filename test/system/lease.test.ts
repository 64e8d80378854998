import { chmod, mkdir, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { BuiltImage } from '../../build/image/engine.js';
import type { Architecture } from '../../build/support/architecture.js';
import type { StandInServer } from '../../build/host/fedora-stand-in/server.js';
import { run } from '../../build/support/exec.js';
import { hostArchitecture, otherArchitecture } from '../support/host.js';
import { leaseByDhclient, leaseByUdhcpc } from '../support/lab-client.js';
import { buildImage } from '../support/lab-image.js';
import { canRun, openPodman, type LabContainer, type LabPodman } from '../support/lab-podman.js';
import { openLab, serverAddress, type Lab } from '../support/lab.js';
import { fedoraStandIn } from '../support/fedora-stand-in.js';
import { requireThat, requireTools } from '../support/tools.js';

const ready =
  requireThat(process.getuid?.() === 0, 'root, for network namespaces') &&
  requireTools('ip', 'ethtool', 'podman', 'runc', 'buildah', 'udhcpc', 'dhclient');
const engines = ['oci', 'buildah'] as const;
type Engine = (typeof engines)[number];
const both: readonly Architecture[] = [hostArchitecture, otherArchitecture];
const emulated =
  ready && requireThat(both.every(canRun), 'an emulator for the foreign architecture in binfmt_misc');

/** What every lease must say, whoever gives it and whoever asks. */
const offered = {
  mask: '255.255.255.0',
  router: '192.0.2.254',
  dns: '192.0.2.53',
  domain: 'lan.test',
  seconds: 600,
  server: serverAddress,
};
const fromPool = /^192\.0\.2\.(5[0-9]|60)$/;

const dhcpdConfig = `default-lease-time 600;
max-lease-time 600;
authoritative;
subnet 192.0.2.0 netmask 255.255.255.0 {
  range 192.0.2.50 192.0.2.60;
  option routers 192.0.2.254;
  option domain-name-servers 192.0.2.53;
  option domain-name "lan.test";
}
`;

const dnsmasqConfig = `interface=lan0
dhcp-authoritative
dhcp-range=192.0.2.50,192.0.2.60,255.255.255.0,600s
dhcp-option=option:router,192.0.2.254
dhcp-option=option:dns-server,192.0.2.53
domain=lan.test
`;

/** Numbers of capabilities(7), as bits of CapEff. */
const netBindService = 1n << 10n;
const netAdmin = 1n << 12n;
const netRaw = 1n << 13n;

let work = '';
let lab: Lab;
let podman: LabPodman;

beforeAll(async () => {
  work = await mkdtemp(join(tmpdir(), 'dhcpd-lease-'));
});
afterAll(async () => {
  await rm(work, { recursive: true, force: true });
});
beforeEach(async (context) => {
  lab = await openLab(run);
  context.onTestFinished(() => lab.close());
  podman = await openPodman(run, lab);
});

const debianState = '/var/lib/dhcp';

describe.skipIf(!ready)('ISC dhcpd from nothing', () => {
  const images = new Map<Engine, BuiltImage>();
  beforeAll(async () => {
    for (const engine of engines) images.set(engine, await build('dhcpd', engine, both));
  }, 240_000);

  it.each(engines)('leases when %s made it', (engine) =>
    expectLeasesOfDhcpd(madeBy(engine), hostArchitecture, debianState),
  );
  it.skipIf(!emulated).each(engines)('leases on the other architecture of the index of %s', (engine) =>
    expectLeasesOfDhcpd(madeBy(engine), otherArchitecture, debianState),
  );

  it('remembers a lease in the volume when the container is made anew', async () => {
    const id = await podman.load(madeBy('oci').archive);
    const first = await serveDhcpd(id, debianState);
    const before = await leaseByUdhcpc(run, lab, 'web1');
    await first.waitFor(/^DHCPACK/m);
    await first.stop();
    await first.remove();

    const second = await serveDhcpd(id, debianState);
    expect(await second.log()).toContain('Wrote 1 leases to leases file.');
    expect((await leaseByUdhcpc(run, lab, 'web1')).address).toBe(before.address);
  });

  it('does not serve without the right to open a packet socket', async () => {
    const id = await podman.load(madeBy('oci').archive);
    await expect(serveDhcpd(id, debianState, ['NET_BIND_SERVICE'])).rejects.toThrow(
      /has ended without .*Open a socket for LPF: Operation not permitted/s,
    );
  });

  function madeBy(engine: Engine): BuiltImage {
    const image = images.get(engine);
    if (image === undefined) throw new Error(`${engine} has made no image`);
    return image;
  }
});

const standIn = ready ? await fedoraStandIn() : undefined;
const fedoraState = '/var/lib/dhcpd';

describe.skipIf(standIn === undefined)('ISC dhcpd from Fedora packages', () => {
  let server: StandInServer | undefined;
  let image: BuiltImage;
  beforeAll(async () => {
    if (standIn === undefined) return;
    server = await standIn.serve();
    image = await build('dhcpd', 'oci', both, [
      ...['--distro', 'fedora', '--mirror', `${server.url}/metalink`, '--keyring', standIn.keyFile],
    ]);
  }, 240_000);
  afterAll(() => server?.close());

  it('leases on this host', () => expectLeasesOfDhcpd(image, hostArchitecture, fedoraState));
  it.skipIf(!emulated)('leases on the other architecture', () =>
    expectLeasesOfDhcpd(image, otherArchitecture, fedoraState),
  );
});

describe.skipIf(!ready)('dnsmasq from nothing', () => {
  let image: BuiltImage;
  beforeAll(async () => {
    image = await build('dnsmasq', 'oci', both);
  }, 240_000);

  it('leases on this host', () => expectLeases(hostArchitecture));
  it.skipIf(!emulated)('leases on the other architecture', () => expectLeases(otherArchitecture));

  async function expectLeases(architecture: Architecture): Promise<void> {
    const server = await podman.serve({
      image: await take(image, architecture),
      name: 'dnsmasq',
      capabilities: ['NET_ADMIN', 'NET_RAW', 'NET_BIND_SERVICE'],
      command: [],
      config: { from: await writeConfig('lan.conf', dnsmasqConfig), to: '/etc/dnsmasq.d' },
      state: { volume: 'dnsmasq-leases', to: '/var/lib/misc' },
    });
    await server.waitFor('DHCP, IP range');
    const leases = await podman.volume('dnsmasq-leases');
    await expectOwner(178, leases, join(leases, 'dnsmasq.leases'));
    await expectProcess(
      server,
      /\/dnsmasq --keep-in-foreground .*--port=0$/,
      178,
      netAdmin | netRaw | netBindService,
    );

    const lease = await leaseByUdhcpc(run, lab, 'web1');
    expectOffered(lease);
    await server.waitFor(`DHCPACK\\(lan0\\) ${lease.address} ${lab.client.mac} web1`);
    expect(await readFile(join(leases, 'dnsmasq.leases'), 'utf8')).toMatch(
      new RegExp(`^[0-9]+ ${lab.client.mac} ${lease.address} web1 `, 'm'),
    );

    const other = await leaseByDhclient(run, lab);
    expectOffered(other);
    await server.waitFor(`DHCPRELEASE\\(lan0\\) ${other.address} ${lab.client.mac}`);
    await expectStopsAtOnce(server);
  }
});

/** @param state directory in which this distribution's dhcpd keeps its leases */
async function expectLeasesOfDhcpd(
  image: BuiltImage,
  architecture: Architecture,
  state: string,
): Promise<void> {
  const id = await take(image, architecture);
  const server = await serveDhcpd(id, state);
  const leases = await podman.volume('leases');
  await expectOwner(177, leases, join(leases, 'dhcpd.leases'));
  await expectProcess(server, /\/dhcpd -4 -f -d --no-pid lan0$/, 177, netRaw | netBindService);

  const lease = await leaseByUdhcpc(run, lab, 'web1');
  expectOffered(lease);
  await server.waitFor(`DHCPACK on ${lease.address} to ${lab.client.mac} \\(web1\\) via lan0`);
  expect(await readFile(join(leases, 'dhcpd.leases'), 'utf8')).toMatch(
    new RegExp(`lease ${lease.address} {[^}]*binding state active;[^}]*hardware ethernet ${lab.client.mac};`),
  );

  const other = await leaseByDhclient(run, lab);
  expectOffered(other);
  await server.waitFor(`DHCPRELEASE of ${other.address} from ${lab.client.mac} via lan0 \\(found\\)`);
  await expectStopsAtOnce(server);
}

async function serveDhcpd(
  image: string,
  state: string,
  capabilities = ['NET_RAW', 'NET_BIND_SERVICE'],
): Promise<LabContainer> {
  const server = await podman.serve({
    image,
    name: 'dhcpd',
    capabilities,
    command: [lab.server.interface],
    config: { from: await writeConfig('dhcpd.conf', dhcpdConfig), to: '/etc/dhcp' },
    state: { volume: 'leases', to: state },
  });
  await server.waitFor('Server starting service\\.');
  return server;
}

async function build(
  name: string,
  engine: Engine,
  on: readonly Architecture[],
  from: readonly string[] = [],
): Promise<BuiltImage> {
  const directory = await mkdtemp(join(work, `${name}-`));
  const options = ['--engine', engine, '--arch', on.join(','), ...from];
  return buildImage(run, directory, join(work, 'cache'), [`images/scratch/${name}.yaml`, ...options]);
}

/** Brings one architecture of the archive into the lab's storage and gives the image's ID. */
async function take(image: BuiltImage, architecture: Architecture): Promise<string> {
  // The first is the user's command: there the host decides which architecture it takes from the index.
  const id =
    architecture === hostArchitecture
      ? await podman.load(image.archive)
      : await podman.pull(`oci-archive:${image.archive}:${image.reference}`, architecture);
  if (architecture !== hostArchitecture) await lab.completeChecksums();
  const manifest = image.manifests.find((candidate) => candidate.architecture === architecture);
  expect(`sha256:${id}`).toBe(manifest?.configDigest);
  return id;
}

async function writeConfig(name: string, text: string): Promise<string> {
  const directory = join(lab.directory, 'config');
  await mkdir(directory, { recursive: true });
  await writeFile(join(directory, name), text);
  await chmod(directory, 0o755);
  await chmod(join(directory, name), 0o644);
  return directory;
}

function expectOffered(lease: Awaited<ReturnType<typeof leaseByUdhcpc>>): void {
  const { address, ...options } = lease;
  expect(address).toMatch(fromPool);
  expect(options).toEqual(offered);
}

async function expectOwner(id: number, ...paths: readonly string[]): Promise<void> {
  for (const path of paths) {
    const { uid, gid } = await stat(path);
    expect([uid, gid], path).toEqual([id, id]);
  }
}

/** One process, as one user, with these capabilities in every set: read from the host, not from the container. */
async function expectProcess(
  server: LabContainer,
  command: RegExp,
  id: number,
  rights: bigint,
): Promise<void> {
  const processes = await server.processes();
  expect(processes.map((process) => process.command)).toEqual([expect.stringMatching(command)]);
  for (const { status } of processes) {
    expect(status.get('Uid')?.split('\t')).toEqual(Array(4).fill(String(id)));
    expect(status.get('Gid')?.split('\t')).toEqual(Array(4).fill(String(id)));
    for (const set of ['CapEff', 'CapPrm', 'CapBnd']) {
      expect(BigInt(`0x${status.get(set) ?? ''}`), set).toBe(rights);
    }
    expect(status.get('NoNewPrivs')).toBe('1');
    expect(status.get('Seccomp')).toBe('2');
  }
}

/** dhcpd ignores SIGTERM as process 1, and ends at once below an init. Podman would wait ten seconds, then kill. */
async function expectStopsAtOnce(server: LabContainer): Promise<void> {
  if (!podman.settings.run.includes('--init')) return;
  expect((await server.stop()).milliseconds).toBeLessThan(5000);
}
