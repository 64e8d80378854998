import { readFileSync } from 'node:fs';
import type { Architecture } from './architecture.js';

/** Whether this host runs programs of the architecture: its own, or one that binfmt_misc gives to an emulator. */
export function canRun(architecture: Architecture, host: Architecture): boolean {
  if (architecture === host) return true;
  try {
    const registration = `/proc/sys/fs/binfmt_misc/qemu-${emulatorNames.get(architecture) ?? architecture}`;
    return readFileSync(registration, 'utf8').startsWith('enabled');
  } catch {
    return false;
  }
}

/** Where QEMU has a name of its own. */
const emulatorNames: ReadonlyMap<Architecture, string> = new Map([
  ['i686', 'i386'],
  ['armv7l', 'arm'],
]);
