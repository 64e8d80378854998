import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { decompressFile } from '../../../build/package/decompress.js';
import {
  openRpmRepository,
  type RpmRepository,
  type RpmRepositoryOptions,
} from '../../../build/repository/fedora/repository.js';
import { plainSource, type RpmSource } from '../../../build/repository/fedora/source.js';
import { createFetcher, type Fetcher } from '../../../build/repository/fetch.js';
import { openCache } from '../../../build/support/cache.js';
import { silentLog, type Log } from '../../../build/support/log.js';

/** A source as a `.repo` file would give it; tests change what they are about. */
export function sourceOf(base: string | readonly string[], changes: Partial<RpmSource> = {}): RpmSource {
  return {
    ...plainSource,
    id: 'test',
    bases: typeof base === 'string' ? [base] : base,
    metalink: undefined,
    mirrorlist: undefined,
    configuredAt: 'test.repo [test]',
    ...changes,
  };
}

export interface Opening {
  /** Opens a repository with a cache that lives as long as the opening. */
  open(source: RpmSource, changes?: Partial<RpmRepositoryOptions>): Promise<RpmRepository>;
  /** Messages in their order: `warn: ...`. */
  readonly said: string[];
  /** Files that were unpacked, by the format. */
  readonly unpacked: string[];
  close(): Promise<void>;
}

export async function makeOpening(): Promise<Opening> {
  const directory = await mkdtemp(join(tmpdir(), 'rpm-opening-'));
  const cache = await openCache(directory);
  const said: string[] = [];
  const unpacked: string[] = [];
  const repositories: RpmRepository[] = [];
  const fetchers: Fetcher[] = [];
  const note =
    (kind: string) =>
    (message: string): void => {
      said.push(`${kind}: ${message}`);
    };
  const log: Log = { ...silentLog, info: note('info'), warn: note('warn'), debug: note('debug') };
  return {
    said,
    unpacked,
    open: async (source, changes = {}) => {
      const { signal } = new AbortController();
      const offline = changes.offline ?? false;
      const fetcher = createFetcher({
        log,
        cache,
        offline,
        signal,
        environment: {},
        attempts: 1,
        timeout: 2000,
      });
      fetchers.push(fetcher);
      const repository = await openRpmRepository(source, {
        architecture: 'x86_64',
        fetcher,
        cache,
        offline,
        now: new Date(),
        log,
        signal,
        decompressFile: (path, format, limit) => {
          unpacked.push(format);
          return decompressFile(path, format, limit);
        },
        ...changes,
      });
      repositories.push(repository);
      return repository;
    },
    close: async () => {
      for (const repository of repositories) repository.close();
      await Promise.all(fetchers.map((fetcher) => fetcher.close()));
      await rm(directory, { recursive: true, force: true });
    },
  };
}
