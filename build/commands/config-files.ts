import { readdir, readFile } from 'node:fs/promises';
import { isUtf8 } from 'node:buffer';
import { join, relative } from 'node:path';

import { cannot, reasonOf } from '../support/errors.js';
import { compareBytes } from '../support/order.js';
import type { ConfigFile } from '../units/butane.js';

/** The files of a directory and those below it, for a machine that is to have them. @throws ToolError */
export async function readConfigFiles(directory: string): Promise<readonly ConfigFile[]> {
  let entries;
  try {
    entries = await readdir(directory, { recursive: true, withFileTypes: true });
  } catch (error) {
    throw cannot('read', directory, reasonOf(error), { cause: error, exitCode: 2 });
  }
  const paths = entries
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .sort(compareBytes);
  if (paths.length === 0) throw cannot('use', directory, 'no file is in it', { exitCode: 2 });
  return Promise.all(
    paths.map(async (path) => ({ path: relative(directory, path), text: await readText(path) })),
  );
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
