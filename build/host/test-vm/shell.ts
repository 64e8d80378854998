import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { Machine } from './machine.js';
import { writePayload } from './payload.js';
import type { Accelerator } from './accelerator.js';
import type { VmImage } from './description.js';

export interface BootOptions {
  readonly image: VmImage;
  readonly accelerator: Accelerator;
  /** Existing private directory. */
  readonly directory: string;
  /** Directory whose files the guest is given. */
  readonly payload: string | undefined;
  /** Its console is the terminal, until the guest is switched off. */
  readonly shell: boolean;
  readonly say: (text: string) => void;
}

/** Boots a fresh machine without a network, and forgets it. */
export async function bootOnce(options: BootOptions): Promise<void> {
  const { image, accelerator, directory, say } = options;
  const given = options.payload ?? join(directory, 'empty');
  await mkdir(given, { recursive: true });
  const payload = join(directory, 'payload');
  await writePayload(payload, given);
  const machine = await Machine.create({
    ...{ image, accelerator, directory, payload, tap: undefined },
    random: () => 1,
  });
  try {
    if (options.shell) {
      await machine.startOnTerminal();
      return;
    }
    const guest = await machine.start();
    say(`the guest takes commands ${guest.bootSeconds.toFixed(1)} s after the start`);
    say(
      (await guest.run('systemctl is-system-running --wait || systemctl --failed --no-legend', 120)).trim(),
    );
    say(
      (await guest.run('uname -rm; podman --version; podman info --format {{.Host.NetworkBackend}}')).trim(),
    );
    say((await guest.run('systemd-analyze; systemd-analyze blame | head')).trim());
    await machine.shutDown();
  } finally {
    await machine.close();
  }
}
