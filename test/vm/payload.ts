import { mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import {
  guestAddress,
  guestInterface,
  prefixLength,
  type VmArchitecture,
} from '../../build/host/test-vm/description.js';
import { writePayload } from '../../build/host/test-vm/payload.js';
import { run } from '../../build/support/exec.js';
import { buildEnvironment, buildImage, checkout } from '../support/lab-image.js';

/** Images under one name, as updates of each other. */
const images = {
  first: [],
  /** Its check passes and its server runs, but on another port: it never becomes ready. */
  deaf: ['-p', '6767'],
  second: [],
} as const satisfies Readonly<Record<string, readonly string[]>>;

/** Second address of the machine, on the interface that lets it talk to its own macvlan containers. */
const shimAddress = '198.18.0.3';

/**
 * Makes the disk that the machine mounts at /payload: `NAME.tar` of every image, `units` as an administrator generates
 * them, and `macvlan`, the same with a network for containers.
 *
 * @param directory existing, private
 * @returns path of the disk
 */
export async function makePayload(directory: string, architecture: VmArchitecture): Promise<string> {
  const files = join(directory, 'files');
  await mkdir(files);
  for (const name of Object.keys(images) as (keyof typeof images)[]) {
    const work = join(directory, name);
    await mkdir(work);
    const definition = join(work, 'dhcpd.yaml');
    await writeFile(definition, await definitionOf(name));
    const { archive } = await buildImage(run, work, join(directory, 'cache'), [
      ...[definition, '--distro', 'debian', '--engine', 'oci', '--arch', architecture],
    ] as [string, ...string[]]);
    await rename(archive, join(files, `${name}.tar`));
  }
  await generate(join(files, 'units'), []);
  await generate(join(files, 'macvlan'), [
    ...['--macvlan', guestInterface, '--shim-address', `${shimAddress}/${prefixLength}`],
  ]);
  const disk = join(directory, 'payload');
  await writePayload(disk, files);
  return disk;
}

/** The definition that comes with the program; another title or another argument makes it another image. */
async function definitionOf(name: keyof typeof images): Promise<string> {
  const text = await readFile(join(checkout, 'images/scratch/dhcpd.yaml'), 'utf8');
  const more = images[name].map((word) => `  - '${word}'\n`).join('');
  const changed = text
    .replace(/^title: .*$/m, `title: DHCP server, ${name}`)
    .replace(/^ {2}- --no-pid.*\n/m, (line) => line + more);
  if (!changed.includes(`title: DHCP server, ${name}\n`) || !changed.includes(more))
    throw new Error('the definition is made in another way');
  return changed;
}

/** What `dhcpd-scratch quadlet` writes for this machine. */
async function generate(output: string, more: readonly string[]): Promise<void> {
  await run({
    argv: [
      ...([process.execPath, join(checkout, 'dist/cli.js'), 'quadlet', '--distro', 'debian'] as const),
      ...['--interface', guestInterface, '--podman-version', '5.4', ...more, '--output', output],
    ],
    cwd: checkout,
    environment: buildEnvironment(),
    timeout: 60_000,
  });
}

/**
 * Addresses for many clients; every renewal is written down.
 * @param seconds of every lease; the default outlasts the test
 */
export const dhcpdConfig = (domain: string, seconds = 86_400): string => `authoritative;
default-lease-time ${seconds};
min-lease-time ${seconds};
max-lease-time ${seconds};
ping-check false;
dhcp-cache-threshold 0;
subnet 198.18.0.0 netmask 255.255.0.0 {
  range 198.18.1.0 198.18.40.255;
  option routers ${guestAddress};
  option domain-name "${domain}";
}
`;
