import { readFile } from 'node:fs/promises';
import { join } from 'node:path';

/** Architectures that a machine can be made for. */
export const vmArchitectures = ['x86_64', 'aarch64'] as const;
export type VmArchitecture = (typeof vmArchitectures)[number];

/** A machine as it lies in the cache, before it is started. */
export interface VmImage {
  /** Directory of all of it. */
  readonly root: string;
  readonly architecture: VmArchitecture;
  /** Raw disk with an ext4 file system. Never started itself: every machine writes to an overlay. */
  readonly disk: string;
  readonly kernel: string;
  readonly initrd: string;
  /** Versions of what the tests are about, such as `podman 5.4.2+ds1-2`. */
  readonly packages: readonly string[];
}

const packagesName = 'packages';

/** The image that was built in this directory, as far as it is complete. */
export async function readImage(root: string, architecture: VmArchitecture): Promise<VmImage | undefined> {
  // Written last, and the directory appears as a whole.
  const text = await readFile(join(root, packagesName), 'utf8').catch(() => undefined);
  if (text === undefined) return undefined;
  return {
    root,
    architecture,
    disk: join(root, 'disk'),
    kernel: join(root, 'kernel'),
    initrd: join(root, 'initrd'),
    packages: text.split('\n').filter(Boolean),
  };
}

/** Name of the virtio-serial port between the guest's agent and the host. */
export const agentPort = 'dhcpd-scratch.agent';

/**
 * The kernel's name of the guest's interface (net.ifnames=0), and its address in a network that has
 * room for many clients (RFC 2544, 198.18.0.0/16).
 */
export const guestInterface = 'eth0';
export const guestAddress = '198.18.0.1';
export const prefixLength = 16;
