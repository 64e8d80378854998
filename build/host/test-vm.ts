import { rmSync } from 'node:fs';
import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { chooseAccelerator } from './test-vm/accelerator.js';
import { openImage, vmArchitecture } from './test-vm/build.js';
import { bootOnce } from './test-vm/shell.js';
import { runScript } from './script.js';

/**
 * Makes the virtual machine of the tests, a small Debian with systemd and Podman, and boots it for a maintainer to look
 * around in. Needs root.
 */

const usage = `npm run host:vm -- [--arch x86_64|aarch64] [--payload DIR] [--shell | --no-boot]

--arch     of the machine (default: this host's); another one is built and run by emulation
--payload  directory that the machine finds at /payload
--shell    boot it with a shell of root here (Ctrl-A X switches it off)
--no-boot  only make it; its directory goes to standard output
           Without either the machine is booted, says what it is, and is shut down.
`;

await runScript(main);

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      arch: { type: 'string', default: process.arch === 'arm64' ? 'aarch64' : 'x86_64' },
      payload: { type: 'string' },
      shell: { type: 'boolean', default: false },
      'no-boot': { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) {
    process.stdout.write(usage);
    return;
  }
  const began = Date.now();
  const seconds = (): string => `${((Date.now() - began) / 1000).toFixed(0)} s`;
  const image = await openImage(vmArchitecture(values.arch), say);
  if (values['no-boot']) {
    process.stdout.write(`${image.root}\n`);
    return;
  }
  for (const line of image.packages) say(line);
  const accelerator = await chooseAccelerator(image);
  say(`disk ready after ${seconds()}; ${accelerator}`);
  const directory = await mkdtemp(join(tmpdir(), 'test-vm-'));
  process.once('exit', () => {
    rmSync(directory, { recursive: true, force: true });
  });
  await bootOnce({ image, accelerator, directory, payload: values.payload, shell: values.shell, say });
  say(`done after ${seconds()}`);
}

function say(text: string): void {
  process.stderr.write(`test vm: ${text}\n`);
}
