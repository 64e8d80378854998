import { isUtf8 } from 'node:buffer';
import type { Stats } from 'node:fs';
import { lstat, readdir, readFile, stat } from 'node:fs/promises';
import { join, relative } from 'node:path';

import { cannot, reasonOf } from '../support/errors.js';
import { compareBytes } from '../support/order.js';
import type { ConfigFile } from '../units/butane.js';

/**
 * The files of a directory and those below it, for a machine that is to have them, without what editors and git keep
 * there. A link is taken for what it leads to, because the machine has nothing else.
 *
 * @throws ToolError
 */
export async function readConfigFiles(directory: string): Promise<readonly ConfigFile[]> {
  const paths = (await filesIn(directory)).toSorted(compareBytes);
  if (paths.length === 0) throw cannot('use', directory, 'no file is in it', { exitCode: 2 });
  return Promise.all(
    paths.map(async (path) => ({ path: relative(directory, path), text: await readText(path) })),
  );
}

/** The same are no change of the configuration to quadlet/dhcpd-scratch/check. */
const isLeftover = (name: string): boolean => /^\.|~$|^#.*#$|^4913$/.test(name);

async function filesIn(directory: string): Promise<readonly string[]> {
  let names;
  try {
    names = await readdir(directory);
  } catch (error) {
    throw cannot('read', directory, reasonOf(error), { cause: error, exitCode: 2 });
  }
  const found = await Promise.all(
    names
      .filter((name) => !isLeftover(name))
      .map(async (name): Promise<readonly string[]> => {
        const path = join(directory, name);
        const [own, target] = await Promise.all([lstat(path), statOf(path)]);
        if (target.isDirectory() && own.isSymbolicLink()) {
          throw cannot('use', path, 'it is a link to a directory', {
            hint: 'put the files themselves there',
            exitCode: 2,
          });
        }
        return target.isDirectory() ? filesIn(path) : target.isFile() ? [path] : [];
      }),
  );
  return found.flat();
}

async function statOf(path: string): Promise<Stats> {
  try {
    return await stat(path);
  } catch (error) {
    throw cannot('read', path, reasonOf(error), { cause: error, exitCode: 2 });
  }
}

export async function readText(path: string): Promise<string> {
  let bytes: Buffer;
  try {
    bytes = await readFile(path);
  } catch (error) {
    throw cannot('read', path, reasonOf(error), { cause: error });
  }
  if (!isUtf8(bytes)) throw cannot('use', path, 'it is no UTF-8 text', { exitCode: 2 });
  return bytes.toString();
}
