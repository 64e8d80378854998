import { chmod, lstat, mkdir, open, readdir, rename, rm, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';

import { cannot, hintOf, reasonOf, ToolError } from './errors.js';
import { isLeftover, removeLeftovers, temporaryFor, temporaryPath } from './temporary.js';

export interface AtomicOptions {
  /** Permission bits, whatever the umask says; default 0o644 for files and 0o755 for directories. */
  readonly mode?: number;
}

/** Something complete under a temporary name beside its own, durable, and not seen yet. */
export interface Finished {
  /** Its temporary name, until it has taken its place. */
  readonly aside: string;
  /** Takes its place by rename. What had the name before goes away with `settle`. */
  takePlace(): Promise<void>;
  /** Makes the rename durable, and removes what is left under temporary names, whether it has taken its place or not. */
  settle(): Promise<void>;
}

/**
 * Writes a file whole or not at all: temporary name in the same directory, fsync, rename, fsync of the directory.
 * What dead processes left of earlier attempts goes away.
 *
 * @throws ToolError `cannot write PATH: reason`; a ToolError of the source passes unchanged
 */
export async function writeFileAtomically(
  path: string,
  data: string | Uint8Array | AsyncIterable<Uint8Array>,
  options: AtomicOptions = {},
): Promise<void> {
  await takePlaces([await finishFile(path, data, options)]);
}

/**
 * Gives several finished things their names, one rename right after the other. A kill between two of them is all that
 * can part them.
 *
 * @throws ToolError
 */
export async function takePlaces(finished: readonly Finished[]): Promise<void> {
  try {
    for (const one of finished) await one.takePlace();
  } catch (error) {
    await giveUp(finished);
    throw error;
  }
  for (const one of finished) await one.settle();
}

/** Removes what shall not take its place after all. */
export async function giveUp(finished: readonly Finished[]): Promise<void> {
  for (const one of finished) await one.settle().catch(() => undefined);
}

/** The first half of `writeFileAtomically`. @throws ToolError like it */
export async function finishFile(
  path: string,
  data: string | Uint8Array | AsyncIterable<Uint8Array>,
  options: AtomicOptions = {},
): Promise<Finished> {
  const aside = temporaryPath(path);
  const remove = (): Promise<void> => rm(aside, { force: true }).catch(() => undefined);
  try {
    await removeLeftovers(dirname(path), basename(path));
    const file = await open(aside, 'wx', 0o600);
    try {
      await writeFile(file, data);
      await file.chmod(options.mode ?? 0o644);
      await file.sync();
    } finally {
      await file.close();
    }
  } catch (error) {
    await remove();
    throw cannotWrite(path, error);
  }
  let isThere = false;
  return {
    aside,
    takePlace: async () => {
      await writing(path, rename(aside, path));
      isThere = true;
    },
    settle: async () => {
      if (!isThere) await remove();
      await writing(path, syncDirectory(dirname(path)));
    },
  };
}

/**
 * Builds a directory aside, to replace the one of this name as a whole: then the old one goes away, the new one takes
 * its name, and the old one is removed. A run that dies in between leaves the old one for the next run to restore.
 *
 * @param fill gets the absolute or relative path of an empty directory beside `path`
 * @throws ToolError `cannot write PATH: reason`; a ToolError of `fill` passes unchanged
 */
export async function finishDirectory(
  path: string,
  fill: (aside: string) => Promise<void>,
  options: AtomicOptions = {},
): Promise<Finished> {
  const aside = temporaryPath(path);
  const remove = (): Promise<void> => rm(aside, { recursive: true, force: true }).catch(() => undefined);
  try {
    await recoverDirectory(path);
    await mkdir(aside);
    await chmod(aside, options.mode ?? 0o755);
    await fill(aside);
    await syncTree(aside);
  } catch (error) {
    await remove();
    throw cannotWrite(path, error);
  }
  let isThere = false;
  let old: string | undefined;
  return {
    aside,
    takePlace: async () => {
      old = await writing(path, exchange(aside, path));
      isThere = true;
    },
    settle: async () => {
      if (!isThere) await remove();
      await writing(path, syncDirectory(dirname(path)));
      if (old !== undefined) await writing(path, rm(old, { recursive: true, force: true }));
    },
  };
}

async function writing<Result>(path: string, step: Promise<Result>): Promise<Result> {
  try {
    return await step;
  } catch (error) {
    throw cannotWrite(path, error);
  }
}

/** Makes the names in a directory durable. */
async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, 'r');
  try {
    await directory.sync();
  } catch (error) {
    // Some file systems (9p, some network ones) cannot sync a directory; the rename itself still happened whole.
    if (!isCode(error, 'EINVAL', 'ENOTSUP')) throw error;
  } finally {
    await directory.close();
  }
}

/** Whether a thrown value carries one of these operating system codes. */
export function isCode(error: unknown, ...codes: readonly string[]): boolean {
  return (
    error instanceof Error && 'code' in error && typeof error.code === 'string' && codes.includes(error.code)
  );
}

/** The ToolError for a failed write: `cannot write PATH: reason`, with the hint that fits. A ToolError passes. */
export function cannotWrite(path: string, error: unknown): ToolError {
  if (error instanceof ToolError) return error;
  const hint = hintOf(error);
  return cannot('write', path, reasonOf(error), { cause: error, ...(hint === undefined ? {} : { hint }) });
}

/** @returns where the old directory is now */
async function exchange(aside: string, path: string): Promise<string | undefined> {
  // Another process may put its own result there between two steps; the last one wins, and each is whole.
  for (let attempt = 0; ; attempt += 1) {
    const old = await moveAway(path);
    try {
      await rename(aside, path);
      return old;
    } catch (error) {
      const isTaken = isCode(error, 'ENOTEMPTY', 'EEXIST');
      if (old !== undefined) {
        const isBack = await rename(old, path).then(
          () => true,
          () => false,
        );
        // The other's result is newer than what was there before: nobody else knows of that any more.
        if (!isBack && isTaken) await rm(old, { recursive: true, force: true });
      }
      if (attempt < 100 && isTaken) continue;
      throw error;
    }
  }
}

async function moveAway(path: string): Promise<string | undefined> {
  const old = temporaryPath(path, 'old');
  try {
    const stats = await lstat(path);
    if (!stats.isDirectory()) {
      throw cannot('write', path, 'something that is not a directory has this name', {
        hint: 'move it away, or choose another place with --output',
      });
    }
    await rename(path, old);
    return old;
  } catch (error) {
    if (isCode(error, 'ENOENT')) return undefined;
    throw error;
  }
}

/** Restores what a dead process moved away and never replaced, and removes the rest of what it left. */
async function recoverDirectory(path: string): Promise<void> {
  const parent = dirname(path);
  for (const name of await readdir(parent)) {
    if (temporaryFor(name) !== basename(path)) continue;
    const leftover = join(parent, name);
    const stats = await lstat(leftover).catch(() => undefined);
    if (stats === undefined || !isLeftover(name, stats)) continue;
    const missing = await lstat(path).then(
      () => false,
      (error: unknown) => isCode(error, 'ENOENT'),
    );
    if (name.endsWith('.old') && missing) await rename(leftover, path);
    else await rm(leftover, { recursive: true, force: true });
  }
}

async function syncTree(directory: string): Promise<void> {
  for (const entry of await readdir(directory, { withFileTypes: true })) {
    const path = join(directory, entry.name);
    if (entry.isDirectory()) await syncTree(path);
    else if (entry.isFile()) {
      const file = await open(path, 'r');
      try {
        await file.sync();
      } finally {
        await file.close();
      }
    }
  }
  await syncDirectory(directory);
}
