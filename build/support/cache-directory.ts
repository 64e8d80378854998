import { lstat, readdir, readFile, realpath, stat } from 'node:fs/promises';
import { isAbsolute, join } from 'node:path';

import { cannotWrite, writeFileAtomically } from './atomic.js';
import { makeDirectories } from './directories.js';
import { cannot } from './errors.js';
import { temporaryFor } from './temporary.js';

const tagName = 'CACHEDIR.TAG';
const tagOwner = '# This directory holds what dhcpd-scratch can fetch or compute again.';
const tag = `Signature: 8a477f597d28d172789f06886806bc55\n${tagOwner}\n# See https://bford.info/cachedir/\n`;

/**
 * Where the cache is by the XDG Base Directory Specification: a relative XDG_CACHE_HOME is ignored.
 *
 * @throws ToolError when the environment names no absolute directory
 */
export function defaultCacheDirectory(environment: Readonly<Record<string, string | undefined>>): string {
  const { XDG_CACHE_HOME: base, HOME: home } = environment;
  if (base !== undefined && isAbsolute(base)) return join(base, 'dhcpd-scratch');
  if (home !== undefined && isAbsolute(home)) return join(home, '.cache', 'dhcpd-scratch');
  throw cannot('find', 'the cache directory', 'neither XDG_CACHE_HOME nor HOME is an absolute path', {
    hint: 'set XDG_CACHE_HOME to a directory of your own',
    exitCode: 2,
  });
}

/**
 * Makes the directory with mode 0700 and its tag, or checks that it is one of ours.
 *
 * @returns its real path
 * @throws ToolError
 */
export async function prepareCacheDirectory(directory: string): Promise<string> {
  try {
    await makeDirectories(directory, 0o700);
    const path = await realpath(directory);
    const stats = await stat(path);
    // For root too: whoever owns the directory can exchange what has just been verified.
    if (stats.uid !== (process.geteuid?.() ?? 0) || (stats.mode & 0o002) !== 0) {
      throw cannot('use', `the cache ${path}`, 'other users can write to it', {
        hint: 'set XDG_CACHE_HOME to a directory of your own',
      });
    }
    const names = (await readdir(path)).filter((name) => temporaryFor(name) !== tagName);
    if (names.length === 0) await writeFileAtomically(join(path, tagName), tag);
    else await requireTag(path);
    return path;
  } catch (error) {
    throw cannotWrite(directory, error);
  }
}

/** Keeps us from filling, and above all from emptying, a directory that somebody uses for something else. */
export async function requireTag(directory: string): Promise<void> {
  const path = join(directory, tagName);
  const stats = await lstat(path).catch(() => undefined);
  const text = stats?.isFile() === true && stats.size < 4096 ? await readFile(path, 'latin1') : '';
  if (text.startsWith(tag.slice(0, 43)) && text.includes(tagOwner)) return;
  throw cannot('use', `the cache ${directory}`, `it is not empty, and no ${tagName} says that it is one`, {
    hint: 'set XDG_CACHE_HOME to another directory, or remove this one',
  });
}
