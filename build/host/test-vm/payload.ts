import { $ } from 'zx';

/** Megabytes of the payload's disk beyond its files. */
const slack = 8;

/**
 * Makes a disk of a directory, without mounting anything (mke2fs(8), -d).
 * @param file the disk, which is made anew
 */
export async function writePayload(file: string, directory: string): Promise<void> {
  const { stdout } = await $({ quiet: true })`du -sm ${directory}`;
  const size = Math.ceil(Number.parseInt(stdout, 10) * 1.2) + slack;
  await $({
    quiet: true,
  })`mke2fs -q -F -t ext4 -O ^has_journal -E root_owner=0:0 -d ${directory} ${file} ${size}M`;
}
