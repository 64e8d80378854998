import { mkdir, readFile, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';

import { finishFile, giveUp, takePlaces, type Finished } from '../support/atomic.js';
import { cannot, hintOf, reasonOf, ToolError } from '../support/errors.js';
import { marker, type UnitFile } from '../units/unit-text.js';

export interface GeneratedState {
  readonly path: string;
  /** With `check`, `missing` and `other` say what is there. `left`: an earlier run has written it, this one would not. */
  readonly state: 'written' | 'unchanged' | 'missing' | 'other' | 'left';
}

/**
 * Writes generated files below a directory, or only looks whether they are as they would be written.
 *
 * @throws ToolError when a file of that name is there that no generator has written; then none is written
 */
export async function writeGenerated(
  directory: string,
  files: readonly UnitFile[],
  checkOnly: boolean,
): Promise<readonly GeneratedState[]> {
  const before = await Promise.all(files.map(({ path }) => readIfThere(join(directory, path))));
  if (checkOnly) {
    return files.map(({ path, text }, index) => ({
      path,
      state: before[index] === undefined ? 'missing' : before[index] === text ? 'unchanged' : 'other',
    }));
  }
  const foreign = files.find((_, index) => !isGenerated(before[index]));
  if (foreign !== undefined) {
    throw cannot(
      'write',
      join(directory, foreign.path),
      'a file of this name is there that was not generated',
      {
        hint: 'move it away, or choose another --name or --output',
      },
    );
  }
  const changed = files.filter(({ text }, index) => before[index] !== text);
  const finished: Finished[] = [];
  try {
    for (const { path, text } of changed) {
      const target = join(directory, path);
      await makeDirectory(dirname(target));
      finished.push(await finishFile(target, text));
    }
  } catch (error) {
    await giveUp(finished);
    throw error;
  }
  await takePlaces(finished);
  return files.map((file) => ({ path: file.path, state: changed.includes(file) ? 'written' : 'unchanged' }));
}

/** In an Ignition config the marker may be a part of a URL. */
function isGenerated(text: string | undefined): boolean {
  return text === undefined || text.includes(marker) || text.includes(encodeURIComponent(marker));
}

/** Those of the paths that an earlier run has written. They stay: what runs from them may be wanted still. */
export async function findLeft(
  directory: string,
  paths: readonly string[],
): Promise<readonly GeneratedState[]> {
  const texts = await Promise.all(paths.map((path) => readIfThere(join(directory, path))));
  return paths
    .filter((_, index) => texts[index]?.includes(marker) === true)
    .map((path) => ({ path, state: 'left' }));
}

async function makeDirectory(path: string): Promise<void> {
  try {
    // Node's own way to make several says ENOENT of a file system that is read-only.
    await mkdir(path).catch(async (error: unknown) => {
      if (codeOf(error) !== 'ENOENT' || dirname(path) === path) throw error;
      await makeDirectory(dirname(path));
      await mkdir(path);
    });
  } catch (error) {
    if (codeOf(error) === 'EEXIST' && (await isDirectory(path))) return;
    if (error instanceof ToolError) throw error;
    const hint = hintOf(error);
    throw cannot('make', `directory ${path}`, reasonOf(error), {
      cause: error,
      ...(hint === undefined ? {} : { hint }),
    });
  }
}

function codeOf(error: unknown): unknown {
  return error instanceof Error && 'code' in error ? error.code : undefined;
}

async function isDirectory(path: string): Promise<boolean> {
  return stat(path).then(
    (found) => found.isDirectory(),
    () => false,
  );
}

async function readIfThere(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    const code = codeOf(error);
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined;
    throw cannot('read', path, reasonOf(error), { cause: error });
  }
}
