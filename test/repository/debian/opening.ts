import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { PackageContents } from '../../../build/package/contents.js';
import { openDeb } from '../../../build/package/deb.js';
import { decompressFile } from '../../../build/package/decompress.js';
import { plainDefaults } from '../../../build/repository/debian/apt-config.js';
import {
  openArchive,
  type ArchiveOptions,
  type DebianArchive,
} from '../../../build/repository/debian/archive.js';
import type { Source } from '../../../build/repository/debian/sources.js';
import { createFetcher, type Fetcher } from '../../../build/repository/fetch.js';
import { openCache } from '../../../build/support/cache.js';
import { silentLog, type Log } from '../../../build/support/log.js';

/** A source as chooseSources would give it; tests change what they are about. */
export function sourceOf(uri: string, suite: string, keyring: string, changes: Partial<Source> = {}): Source {
  return {
    uri,
    suite,
    components: suite.endsWith('/') ? [] : ['main'],
    architectures: undefined,
    keyring: { files: [keyring], blocks: [], fingerprints: [] },
    trusted: undefined,
    checks: plainDefaults.checks,
    byHash: 'yes',
    optional: false,
    configuredAt: `test source ${suite}`,
    ...changes,
  };
}

export interface Opening {
  /** Opens an archive with a cache of its own that lives as long as the opening. */
  open(sources: readonly Source[], changes?: Partial<ArchiveOptions>): Promise<DebianArchive>;
  /** Messages in their order: `warn: ...`. */
  readonly said: string[];
  /** Files of packages that were opened, in their order. */
  readonly opened: string[];
  close(): Promise<void>;
}

export async function makeOpening(): Promise<Opening> {
  const directory = await mkdtemp(join(tmpdir(), 'opening-'));
  const cache = await openCache(directory);
  const said: string[] = [];
  const opened: string[] = [];
  const contents: PackageContents[] = [];
  const fetchers: Fetcher[] = [];
  const note =
    (kind: string) =>
    (message: string): void => {
      said.push(`${kind}: ${message}`);
    };
  const log: Log = { ...silentLog, info: note('info'), warn: note('warn'), debug: note('debug') };
  return {
    said,
    opened,
    open: (sources, changes = {}) => {
      const fetcher = createFetcher({
        log,
        cache,
        offline: changes.offline ?? false,
        signal: new AbortController().signal,
        environment: {},
        attempts: 1,
      });
      fetchers.push(fetcher);
      return openArchive({
        sources,
        release: 'test',
        architecture: 'x86_64',
        fetcher,
        cache,
        offline: false,
        decompressFile,
        openPackage: async (path, sha256) => {
          const one = await openDeb(path, sha256, cache);
          opened.push(one.name);
          contents.push(one);
          return one;
        },
        now: new Date(),
        log,
        ...changes,
      });
    },
    close: async () => {
      await Promise.all(contents.map((one) => one.close()));
      await Promise.all(fetchers.map((fetcher) => fetcher.close()));
      await rm(directory, { recursive: true, force: true });
    },
  };
}
