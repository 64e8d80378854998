import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openDeb } from '../../../build/package/deb.js';
import { decompressFile } from '../../../build/package/decompress.js';
import { hostRelease, readAptConfiguration } from '../../../build/repository/debian/apt-config.js';
import { openArchive, type DebianArchive } from '../../../build/repository/debian/archive.js';
import { debianArchitecture, debianLoader } from '../../../build/repository/debian/layout.js';
import { chooseSources } from '../../../build/repository/debian/suites.js';
import { createFetcher, type Fetcher } from '../../../build/repository/fetch.js';
import { openCache } from '../../../build/support/cache.js';
import { run } from '../../../build/support/exec.js';
import { silentLog, type Log } from '../../../build/support/log.js';
import type { PackageContents } from '../../../build/package/contents.js';
import { hostArchitecture } from '../../support/host.js';
import { requireThat, requireTools } from '../../support/tools.js';

const environment = { PATH: process.env['PATH'] ?? '/usr/bin:/bin', LC_ALL: 'C' };
const log: Log =
  process.env['TIMING'] === undefined
    ? silentLog
    : { ...silentLog, debug: console.error, info: console.error, warn: console.error };

const tools = requireTools('apt-config', 'apt-cache');
const known = tools
  ? await run({ argv: ['apt-cache', 'show', 'isc-dhcp-server'], environment }).then(
      ({ stdout }) => stdout,
      () => '',
    )
  : '';

/** The archive the host itself uses: read like a user's first build, compared with what apt says about it. */
describe.skipIf(!requireThat(known !== '', 'the lists of apt (apt-get update)'))("the host's archive", () => {
  let directory: string;
  let archive: DebianArchive;
  let fetcher: Fetcher;
  const opened: PackageContents[] = [];

  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), 'host-archive-'));
    const cache = await openCache(directory);
    const apt = await readAptConfiguration({ exec: run, environment: process.env, log });
    const chosen = await chooseSources(
      { apt, hostRelease: await hostRelease(), suite: undefined, mirrors: [], keyring: undefined },
      log,
    );
    fetcher = createFetcher({
      log,
      cache,
      offline: false,
      signal: new AbortController().signal,
      environment: { ...process.env, ...apt?.proxyEnvironment },
    });
    archive = await openArchive({
      ...chosen,
      architecture: hostArchitecture,
      fetcher,
      cache,
      offline: false,
      decompressFile,
      openPackage: async (path, sha256) => {
        const contents = await openDeb(path, sha256, cache);
        opened.push(contents);
        return contents;
      },
      now: new Date(),
      log,
    });
  }, 60_000);
  afterAll(async () => {
    await Promise.all(opened.map((contents) => contents.close()));
    await fetcher.close();
    await rm(directory, { recursive: true, force: true });
  });

  it('names the same packages as apt', async () => {
    // Real packages of every release and architecture that the tests run on.
    const names = [
      'isc-dhcp-server',
      'libc6',
      'base-files',
      'zlib1g',
      'openssl',
      'bind9',
      `linux-image-${debianArchitecture(hostArchitecture)}`,
    ];
    const { stdout } = await run({ argv: ['apt-cache', '--no-all-versions', 'show', ...names], environment });
    const stanzas = stdout.trim().split('\n\n');
    expect(stanzas).toHaveLength(names.length);
    for (const stanza of stanzas) {
      const field = (wanted: string): string => new RegExp(`^${wanted}: (.*)$`, 'm').exec(stanza)?.[1] ?? '';
      expect(archive.find(field('Package'))).toMatchObject({
        version: field('Version'),
        path: field('Filename'),
        sha256: field('SHA256'),
        size: Number(field('Size')),
      });
    }
  });

  it('finds the C library by walking from dhcpd', async () => {
    const directories = debianLoader(hostArchitecture).builtIn.map((path) => path.slice(1));
    const request = {
      soname: 'libc.so.6',
      neededBy: 'isc-dhcp-server',
      root: 'isc-dhcp-server',
      directories,
    };
    const provider = await archive.provider(request);
    expect(provider?.record.name).toBe('libc6');
    expect(provider?.explanation).toBe('libc6 is a dependency of isc-dhcp-server');
  });

  it('names near misses', () => {
    expect(archive.find('dhcp-server')).toBeUndefined();
    expect(archive.similar('dhcp-server')).toContain('isc-dhcp-server');
    expect(archive.similar('isc-dhcp-servr')[0]).toBe('isc-dhcp-server');
  });
});
