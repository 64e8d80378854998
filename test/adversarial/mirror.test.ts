import { execFileSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { mirrorOf } from '../../build/commands/request.js';
import { openArchive } from '../../build/repository/debian/archive.js';
import { fetchRelease } from '../../build/repository/debian/release.js';
import { verifyClearSigned } from '../../build/repository/signature.js';
import { archiveUri, parseList } from '../../build/repository/debian/sources.js';
import { plainDefaults } from '../../build/repository/debian/apt-config.js';
import { createFetcher } from '../../build/repository/fetch.js';
import { Transport } from '../../build/repository/transport.js';
import { openCache, type Cache } from '../../build/support/cache.js';
import { silentLog } from '../../build/support/log.js';
import { shownUrl } from '../../build/support/url.js';
import { makeOpening, sourceOf } from '../repository/debian/opening.js';
import {
  debianArchiveTools,
  makeArchive,
  makeKeys,
  type ArchiveServer,
  type TestArchive,
} from '../support/debian-archive.js';
import { requireTools } from '../support/tools.js';

let directory: string;
let cache: Cache;
beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'mirror-'));
  cache = await openCache(join(directory, 'cache'));
});
afterEach(() => {
  rmSync(directory, { recursive: true });
});

describe('a mirror that breaks off every time', () => {
  let server: Server;
  afterEach(() => {
    server.closeAllConnections();
    server.close();
  });

  it('is given up, however much it sends each time', async () => {
    const bytes = randomBytes(3 * 1024 ** 2);
    let requests = 0;
    server = createServer((_, response) => {
      requests += 1;
      // It knows no ranges, so that every request begins anew.
      response.writeHead(requests > 40 ? 404 : 200, { 'content-length': bytes.length });
      response.write(bytes.subarray(0, 2 * 1024 ** 2), () => setTimeout(() => response.destroy(), 20));
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/x`;
    const fetcher = createFetcher({
      log: silentLog,
      cache,
      offline: false,
      signal: new AbortController().signal,
      environment: {},
      pause: 1,
      timeout: 2000,
    });
    const sha256 = createHash('sha256').update(bytes).digest('hex');
    await expect(fetcher.blob([url], { sha256, size: bytes.length, label: 'x' })).rejects.toThrow(
      'the connection broke',
    );
    await fetcher.close();
    expect(requests).toBeLessThanOrEqual(6);
  });
});

describe('a file of this machine', () => {
  it('does not crash the program when it is interrupted before its bytes are asked for', async () => {
    const file = join(directory, 'file');
    writeFileSync(file, 'bytes');
    const controller = new AbortController();
    const { signal } = controller;
    const transport = new Transport({ environment: {}, signal, timeout: 1000 });
    const answer = await transport.open(pathToFileURL(file).href, {});
    controller.abort(new Error('stopped'));
    const bytes = answer.bytes();
    // An error event that nobody listens to would end the process here.
    await sleep(20);
    await expect(bytes[Symbol.asyncIterator]().next()).rejects.toThrow(/abort/);
  });
});

describe('a password in the address of a mirror', () => {
  const said: string[] = [];
  const log = {
    ...silentLog,
    warn: (text: string) => said.push(text),
    info: (text: string) => said.push(text),
  };

  it.each(['htps://user:secret@host/debian', 'https://user:sec/ret@ho st/debian', 'user:secret@host'])(
    'is not shown when %s is refused',
    (address) => {
      expect(() => mirrorOf(address)).toThrow(/^cannot use mirror (?!.*(?:secret|sec\/ret))/);
    },
  );

  it.each(['https://user:secret@host/debian?x', 'https://user:secret@ho st/debian', 'user/secret@x'])(
    'is not shown when %s stands in a source',
    (address) => {
      expect(() => archiveUri(address, 'list:1', log)).toThrow(
        /^cannot read apt source list:1: (?!.*secret@)/,
      );
    },
  );

  it('is not shown when two entries of one archive differ', async () => {
    const text = ['a', 'b']
      .map((key) => `deb [signed-by=/${key}] https://user:secret@host.invalid/ test main`)
      .join('\n');
    const sources = parseList(text, 'list', plainDefaults, log);
    const opening = await makeOpening();
    try {
      await expect(opening.open(sources)).rejects.toThrow(/^cannot use https:\/\/host\.invalid\/ test: two/);
    } finally {
      await opening.close();
    }
  });

  it('is not shown by an address that is none', () => {
    expect(shownUrl('https://user:pa/ss@ho st/x?token=1')).toBe('https://ho st/x');
  });
});

describe.skipIf(!requireTools(...debianArchiveTools))('a mirror of a signed archive', () => {
  let archive: TestArchive;
  let server: ArchiveServer;
  beforeAll(async () => {
    archive = await makeArchive({
      suites: ['test', 'test-security'].map((name) => ({
        name,
        packages: [{ name: 'hello', version: '1' }],
      })),
    });
    server = await archive.serve();
  });
  afterEach(() => {
    server.intercept = undefined;
  });
  afterAll(async () => archive.remove());

  const day = 24 * 3600 * 1000;
  function context(now = new Date()) {
    const fetcher = createFetcher({
      log: silentLog,
      cache,
      offline: false,
      signal: new AbortController().signal,
      environment: {},
      attempts: 1,
    });
    return { fetcher, cache, offline: false, now, log: silentLog };
  }

  it('cannot take away a suite that has been seen', async () => {
    const optional = sourceOf(server.url, 'test-security', archive.keyring, { optional: true });
    const one = context();
    expect(await fetchRelease(optional, one)).toBeDefined();
    server.intercept = (path) => (path.startsWith('dists/test-security/') ? 404 : undefined);
    await expect(fetchRelease(optional, one)).rejects.toThrow(
      `cannot find the suite test-security: ${server.url} had it before`,
    );
    await one.fetcher.close();
  });

  it('cannot lock the user out with a date in the future where dates are not checked', async () => {
    await archive.publish({
      name: 'odd',
      packages: [{ name: 'hello', version: '1' }],
      date: new Date(Date.now() + 1000 * day),
    });
    const checks = { ...plainDefaults.checks, date: false, validUntil: false };
    const lax = sourceOf(server.url, 'odd', archive.keyring, { checks });
    const one = context();
    expect(await fetchRelease(lax, one)).toBeDefined();
    // The administrator repairs the archive, and the configuration.
    await archive.publish({ name: 'odd', packages: [{ name: 'hello', version: '1' }] });
    const strict = sourceOf(server.url, 'odd', archive.keyring);
    expect(await fetchRelease(strict, { ...one, now: new Date(Date.now() + day) })).toBeDefined();
    await one.fetcher.close();
  });

  it('cannot use a signature longer than it is meant for', async () => {
    const keys = await makeKeys();
    try {
      const key = await keys.make('short');
      const file = join(directory, 'key.gpg');
      writeFileSync(file, key.publicKey);
      const sign = (...more: readonly string[]) =>
        execFileSync(
          'gpg',
          ['--homedir', keys.home, '--batch', '-u', key.fingerprint, ...more, '--clearsign'],
          { input: 'Suite: test\n', stdio: ['pipe', 'pipe', 'ignore'] },
        );
      const verification = {
        url: 'x',
        keyring: { files: [file], blocks: [], fingerprints: [] },
        now: new Date(Date.now() + 2 * day),
        log: silentLog,
      };
      expect(await verifyClearSigned(sign(), verification)).toContain('Suite: test');
      const short = sign('--default-sig-expire', '1d');
      await expect(verifyClearSigned(short, verification)).rejects.toThrow('its signature has expired');
      expect(await verifyClearSigned(short, { ...verification, now: new Date() })).toContain('Suite');
    } finally {
      await keys.remove();
    }
  });

  it('has its password kept out of the cache', async () => {
    const uri = server.url.replace('//', '//user:secret@');
    const one = context();
    const opened = await openArchive({
      ...one,
      sources: [sourceOf(uri, 'test', archive.keyring)],
      release: 'test',
      architecture: 'x86_64',
      decompressFile: (await import('../../build/package/decompress.js')).decompressFile,
      openPackage: () => Promise.reject(new Error('nothing is opened')),
    });
    expect(opened.find('hello')).toBeDefined();
    await opened.close();
    await one.fetcher.close();
    const files = readdirSync(directory, { recursive: true, withFileTypes: true }).filter((it) =>
      it.isFile(),
    );
    expect(files.length).toBeGreaterThan(3);
    for (const it of files)
      expect(readFileSync(join(it.parentPath, it.name), 'latin1')).not.toContain('secret');
  });
});
