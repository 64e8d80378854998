import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach } from 'vitest';
import type { Guest, Machine } from '../../build/host/test-vm/machine.js';
import { openVmImage, plugIn } from './machine.js';
import { openVmNetwork, type VmNetwork } from './network.js';
import { makePayload } from './payload.js';

/** A machine that has booted, with the images and the units of the service in /payload. */
export interface ServiceHost {
  /** Closing its lab ends the machine as well. */
  readonly network: VmNetwork;
  readonly machine: Machine;
  readonly guest: Guest;
}

/** @param kernelArguments beside those that every machine has */
export async function openServiceHost(
  architecture: string,
  random: () => number,
  kernelArguments?: string,
): Promise<ServiceHost> {
  const image = await openVmImage(architecture);
  const network = await openVmNetwork();
  try {
    const files = join(network.lab.directory, 'payload');
    await mkdir(files);
    const payload = await makePayload(files, image.architecture);
    const machine = await plugIn(image, network, payload, random, kernelArguments);
    const guest = await machine.start();
    process.stderr.write(`the machine took ${guest.bootSeconds.toFixed(0)} s to boot\n`);
    return { network, machine, guest };
  } catch (error) {
    await network.lab.close();
    throw error;
  }
}

/**
 * For tests each of which goes on where the one before it has left the machine: the first failure ends them.
 * @param seen what is shown of the machine then
 */
export function endAtFirstFailure(seen: () => Promise<string>): void {
  let hasFailed = false;
  beforeEach(({ skip }) => {
    skip(hasFailed, 'a step before it has failed');
  });
  afterEach(async ({ task }) => {
    if (task.result?.state !== 'fail') return;
    hasFailed = true;
    const errors = (task.result.errors ?? []).map(({ stack }) => stack ?? '');
    process.stderr.write(`${[...errors, await seen().catch(String)].join('\n')}\n`);
  }, 90_000);
}
