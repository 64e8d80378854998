import { chmod, mkdir, stat } from 'node:fs/promises';
import { dirname } from 'node:path';

import { isCode } from './atomic.js';

/**
 * `mkdir -p`. Node's own never returns where the kernel denies that an existing parent exists, as in /proc.
 *
 * @param mode of what is made, whatever the umask; without it the umask decides
 * @throws the operating system's error
 */
export async function makeDirectories(path: string, mode?: number): Promise<void> {
  try {
    await makeDirectory(path, mode);
  } catch (error) {
    if (!isCode(error, 'ENOENT') || dirname(path) === path) throw error;
    await makeDirectories(dirname(path), mode);
    await makeDirectory(path, mode);
  }
}

/** Makes a directory that may exist already. @param mode as for `makeDirectories` */
export async function makeDirectory(path: string, mode?: number): Promise<void> {
  try {
    await mkdir(path, mode);
    if (mode !== undefined) await chmod(path, mode);
  } catch (error) {
    if (!isCode(error, 'EEXIST') || !(await stat(path)).isDirectory()) throw error;
  }
}
