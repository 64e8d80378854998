import { once } from 'node:events';
import { readdir, rm, stat, utimes } from 'node:fs/promises';
import { homedir } from 'node:os';
import { isAbsolute, join } from 'node:path';
import { $ } from 'zx';

/** What the user's cache holds that nobody asked for in this time goes away. Milliseconds. */
const idleTime = 7 * 24 * 60 * 60 * 1000;

/** Runs the work while no other process that asks for the same lock does. The kernel ends the lock with this process. */
export async function locked<T>(path: string, work: () => Promise<T>): Promise<T> {
  const holder = $({ quiet: true, nothrow: true })`exec flock ${path} sh -c ${'echo locked; exec cat'}`;
  const ended = new Promise<never>((_, reject) => {
    holder.then((output) => {
      reject(new Error(`flock ended: ${output.stderr}`));
    }, reject);
  });
  ended.catch(() => undefined);
  await Promise.race([once(holder.stdout, 'data'), ended]);
  try {
    return await work();
  } finally {
    holder.stdin.end();
    await holder;
  }
}

/** Marks an entry of a cache as used, and removes those that nobody has used for long. */
export async function forgetIdle(cache: string, used: string): Promise<void> {
  const now = new Date();
  await utimes(used, now, now);
  for (const name of await readdir(cache)) {
    const path = join(cache, name);
    const stats = await stat(path).catch(() => undefined);
    if (stats !== undefined && now.getTime() - stats.mtimeMs > idleTime)
      await rm(path, { recursive: true, force: true });
  }
}

/** Where the user's caches are (XDG Base Directory Specification). */
export function cacheHome(): string {
  const home = process.env['XDG_CACHE_HOME'];
  return home !== undefined && isAbsolute(home) ? home : join(homedir(), '.cache');
}
