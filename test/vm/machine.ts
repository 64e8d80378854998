import { chooseAccelerator } from '../../build/host/test-vm/accelerator.js';
import { vmArchitecture } from '../../build/host/test-vm/build.js';
import { readImage, type VmImage } from '../../build/host/test-vm/description.js';
import { Machine, type Guest } from '../../build/host/test-vm/machine.js';
import { run } from '../../build/support/exec.js';
import { join } from 'node:path';
import { buildEnvironment, checkout } from '../support/lab-image.js';
import type { VmNetwork } from './network.js';

/** What making and running a machine takes, beside root. */
export const vmTools = (architecture: string): readonly string[] => [
  ...['apt-config', 'flock', 'ip', 'mke2fs', 'mmdebstrap', 'qemu-img', 'setpriv'],
  `qemu-system-${architecture}`,
];

/**
 * The machine, as `npm run host:vm` makes it: once, which takes a minute, or ten under an emulator, and then taken from the
 * user's cache.
 */
export async function openVmImage(name: string): Promise<VmImage> {
  const architecture = vmArchitecture(name);
  const { stdout } = await run({
    argv: [
      process.execPath,
      ...[join(checkout, 'dist/host/test-vm.js'), '--arch', architecture, '--no-boot'],
    ],
    cwd: checkout,
    environment: buildEnvironment(),
    timeout: 1_800_000,
  });
  const image = await readImage(stdout.trim(), architecture);
  if (image === undefined) throw new Error(`${stdout} holds no machine`);
  return image;
}

/**
 * The machine on its network, switched off.
 * @param kernelArguments beside those that every machine has
 */
export async function plugIn(
  image: VmImage,
  network: VmNetwork,
  payload: string,
  random: () => number,
  kernelArguments = '',
): Promise<Machine> {
  const { lab, tap } = network;
  const accelerator = await chooseAccelerator(image);
  const machine = await Machine.create({
    ...{ image, accelerator, payload, tap, random, kernelArguments },
    directory: join(lab.directory, 'vm'),
  });
  lab.onClose(() => machine.close());
  return machine;
}

/** Waits until the service runs, which systemd says only when its check of readiness has passed. */
export async function waitForService(guest: Guest, seconds = 180): Promise<void> {
  const { code, stdout } = await guest.try(
    `until systemctl --quiet is-active dhcpd.service; do sleep 0.5; done`,
    seconds,
  );
  if (code !== 0) throw new Error(`dhcpd.service is not active\n${stdout}${await journal(guest)}`);
}

/** Last lines of this boot's journal. */
export async function journal(guest: Guest): Promise<string> {
  const show =
    'systemctl --no-pager status dhcpd.service; journalctl --no-pager --boot --lines 80 --output short-monotonic';
  return (await guest.try(show, 60)).stdout;
}
