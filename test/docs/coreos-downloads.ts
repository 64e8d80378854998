import { createHash } from 'node:crypto';
import { cp, mkdir, readdir, readFile, rename, rm } from 'node:fs/promises';
import { homedir } from 'node:os';
import { isAbsolute, join } from 'node:path';
import { isCode } from '../../build/support/atomic.js';
import { project } from './commands.js';

/** npm's downloads for one package-lock.json, kept in the user's cache from one run of the tests to the next. */
export interface KeptDownloads {
  /** Fills a directory that npm then uses as its cache. */
  give(directory: string): Promise<void>;
  /** Keeps what npm has there, unless there is something kept already. */
  take(directory: string): Promise<void>;
}

export async function openKeptDownloads(): Promise<KeptDownloads> {
  const cache = process.env['XDG_CACHE_HOME'] ?? '';
  const parent = join(isAbsolute(cache) ? cache : join(homedir(), '.cache'), 'dhcpd-scratch-tests');
  const lock = await readFile(join(project, 'package-lock.json'));
  const name = `npm-${createHash('sha256').update(lock).digest('hex').slice(0, 16)}`;
  await mkdir(parent, { recursive: true });
  const isKept = async (): Promise<boolean> => (await readdir(parent)).includes(name);
  return {
    give: async (directory) => {
      await mkdir(directory);
      if (await isKept()) await cp(join(parent, name), directory, { recursive: true });
    },
    take: async (directory) => {
      if (await isKept()) return;
      for (const old of (await readdir(parent)).filter((entry) => entry.startsWith('npm-'))) {
        await rm(join(parent, old), { recursive: true, force: true });
      }
      const whole = join(parent, `${name}.${process.pid}`);
      try {
        await cp(join(directory, '_cacache'), join(whole, '_cacache'), { recursive: true });
        await rename(whole, join(parent, name));
      } catch (error) {
        // Another run of the tests has been faster.
        if (!isCode(error, 'ENOTEMPTY') && !isCode(error, 'ENOENT')) throw error;
      } finally {
        await rm(whole, { recursive: true, force: true });
      }
    },
  };
}
