import { execFile } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { mkdtemp, readdir, readFile, rm, stat, utimes, writeFile } from 'node:fs/promises';
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import {
  createFetcher,
  type ExpectedBlob,
  type Fetcher,
  type FetcherOptions,
} from '../../build/repository/fetch.js';
import { openCache, type Cache } from '../../build/support/cache.js';
import { ToolError } from '../../build/support/errors.js';
import { silentLog } from '../../build/support/log.js';

type Handler = (request: IncomingMessage, response: ServerResponse, count: number) => void;

let directory: string;
let cache: Cache;
const servers: Server[] = [];
const fetchers: Fetcher[] = [];

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'fetch-'));
  cache = await openCache(join(directory, 'cache'));
});
afterEach(async () => {
  for (const fetcher of fetchers.splice(0)) await fetcher.close();
  for (const server of servers.splice(0)) {
    server.closeAllConnections();
    server.close();
  }
  await rm(directory, { recursive: true, force: true });
});

/** Serves on loopback; `log` holds the request lines with their Range. */
async function serve(handler: Handler): Promise<{ url: string; log: string[]; requests: IncomingMessage[] }> {
  const log: string[] = [];
  const requests: IncomingMessage[] = [];
  const server = createServer((request, response) => {
    const { range } = request.headers;
    log.push([request.method, request.url, ...(range === undefined ? [] : [range])].join(' '));
    requests.push(request);
    handler(request, response, log.length);
  });
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, log, requests };
}

function fetcherWith(options: Partial<FetcherOptions & { readonly cache: Cache }> = {}): Fetcher {
  const fetcher = createFetcher({
    log: silentLog,
    offline: false,
    signal: new AbortController().signal,
    environment: {},
    pause: 5,
    timeout: 2000,
    cache,
    ...options,
  });
  fetchers.push(fetcher);
  return fetcher;
}

function expectedOf(bytes: Buffer, label = 'thing 1.0'): ExpectedBlob {
  return { sha256: createHash('sha256').update(bytes).digest('hex'), size: bytes.length, label };
}

async function failure(work: Promise<unknown>): Promise<ToolError> {
  const error: unknown = await work.then(
    () => new Error('it succeeded'),
    (thrown: unknown) => thrown,
  );
  if (error instanceof ToolError) return error;
  throw error;
}

/** An honest server of one file, with ranges. */
function file(bytes: Buffer, etag: string): Handler {
  return (request, response) => {
    const from = /^bytes=([0-9]+)-$/.exec(request.headers.range ?? '')?.[1];
    const valid = request.headers['if-range'] === undefined || request.headers['if-range'] === etag;
    if (from === undefined || !valid) {
      response.writeHead(200, { 'content-length': bytes.length, etag }).end(bytes);
      return;
    }
    const rest = bytes.subarray(Number(from));
    response.writeHead(206, {
      'content-length': rest.length,
      'content-range': `bytes ${from}-${bytes.length - 1}/${bytes.length}`,
      etag,
    });
    response.end(rest);
  };
}

/** Sends the head for all bytes and a part of them, then cuts the connection. */
function cut(response: ServerResponse, bytes: Buffer, count: number, etag = '"1"'): void {
  response.writeHead(200, { 'content-length': bytes.length, etag });
  response.write(bytes.subarray(0, count), () => setTimeout(() => response.destroy(), 20));
}

const bytes = randomBytes(300_000);
const expected = expectedOf(bytes);

describe('blob', () => {
  it('fetches once, then answers from the cache', async () => {
    const { url, log } = await serve(file(bytes, '"1"'));
    const path = await fetcherWith().blob([`${url}/a.deb`], expected);
    expect(bytes.equals(await readFile(path))).toBe(true);
    expect(await fetcherWith({ offline: true }).blob([`${url}/a.deb`], expected)).toBe(path);
    expect(log).toEqual(['GET /a.deb']);
    expect(await readdir(join(cache.directory, 'partial'))).toEqual([]);
  });

  it('asks for what it needs as it is, unpacked by nobody', async () => {
    const { url, requests } = await serve(file(bytes, '"1"'));
    await fetcherWith().blob([`${url}/a.deb`], expected);
    expect(requests[0]?.headers['accept-encoding']).toBe('identity');
    expect(requests[0]?.headers['user-agent']).toBe('dhcpd-scratch');
  });

  it('runs one transfer for several who ask', async () => {
    const { url, log } = await serve(file(bytes, '"1"'));
    const fetcher = fetcherWith();
    const paths = await Promise.all([1, 2, 3].map(() => fetcher.blob([`${url}/a`], expected)));
    expect(new Set(paths).size).toBe(1);
    expect(log).toHaveLength(1);
  });

  it('keeps to the limit of transfers at the same time', async () => {
    let now = 0;
    let most = 0;
    const contents = Array.from({ length: 8 }, (_, index) => Buffer.from(`content ${index}`));
    const { url } = await serve((request, response) => {
      most = Math.max(most, (now += 1));
      setTimeout(() => {
        now -= 1;
        response.end(contents[Number(request.url?.slice(1))]);
      }, 30);
    });
    const fetcher = fetcherWith({ parallel: 3 });
    await Promise.all(
      contents.map((content, index) => fetcher.blob([`${url}/${index}`], expectedOf(content))),
    );
    expect(most).toBe(3);
  });

  it('goes on after a cut with Range and If-Range', async () => {
    const honest = file(bytes, '"1"');
    const { url, log, requests } = await serve((request, response, count) => {
      if (count === 1) cut(response, bytes, 100_000);
      else honest(request, response, count);
    });
    await fetcherWith().blob([`${url}/a`], expected);
    expect(log).toEqual(['GET /a', 'GET /a bytes=100000-']);
    expect(requests[1]?.headers['if-range']).toBe('"1"');
  });

  it('starts again when the file has changed meanwhile', async () => {
    const honest = file(bytes, '"2"');
    const { url, requests } = await serve((request, response, count) => {
      if (count === 1) cut(response, randomBytes(bytes.length), 100_000);
      else honest(request, response, count);
    });
    const path = await fetcherWith().blob([`${url}/a`], expected);
    expect(bytes.equals(await readFile(path))).toBe(true);
    expect(requests).toHaveLength(2);
  });

  it('never sends a weak validator', async () => {
    const honest = file(bytes, 'Wed, 21 Oct 2015 07:28:00 GMT');
    const { url, requests } = await serve((request, response, count) => {
      response.setHeader('last-modified', 'Wed, 21 Oct 2015 07:28:00 GMT');
      if (count === 1) cut(response, bytes, 1000, 'W/"1"');
      else honest(request, response, count);
    });
    await fetcherWith().blob([`${url}/a`], expected);
    expect(requests[1]?.headers['if-range']).toBe('Wed, 21 Oct 2015 07:28:00 GMT');
  });

  it('goes on with what an earlier run left', async () => {
    const { url, log } = await serve((_, response) => {
      cut(response, bytes, 123_456);
    });
    const error = await failure(fetcherWith({ attempts: 1 }).blob([`${url}/a`], expected));
    expect(error.message).toBe(`cannot fetch ${url}/a: the connection broke after 123456 of 300000 bytes`);
    expect((await stat(join(cache.directory, 'partial', expected.sha256))).size).toBe(123_456);
    const second = await serve(file(bytes, '"1"'));
    await fetcherWith().blob([`${second.url}/a`], expected);
    expect(log).toEqual(['GET /a']);
    expect(second.log).toEqual(['GET /a bytes=123456-']);
  });

  it('starts again when the server does not know ranges', async () => {
    const { url } = await serve((_, response, count) => {
      if (count === 1) cut(response, bytes, 100_000);
      else response.writeHead(200).end(bytes);
    });
    expect(bytes.equals(await readFile(await fetcherWith().blob([`${url}/a`], expected)))).toBe(true);
  });

  it.each([
    ['a wrong beginning', 'bytes 99999-299999/300000'],
    ['a wrong end', 'bytes 100000-299998/300000'],
    ['a wrong length', 'bytes 100000-299999/300001'],
    ['nonsense', 'bytes */300000'],
  ])('starts again after %s in Content-Range', async (_, range) => {
    const { url, log } = await serve((request, response, count) => {
      if (count === 1) cut(response, bytes, 100_000);
      else if (request.headers.range !== undefined) {
        response.writeHead(206, { 'content-range': range }).end(bytes.subarray(100_000));
      } else response.end(bytes);
    });
    expect(bytes.equals(await readFile(await fetcherWith().blob([`${url}/a`], expected)))).toBe(true);
    expect(log).toEqual(['GET /a', 'GET /a bytes=100000-', 'GET /a']);
  });

  it('starts again after 416', async () => {
    const { url, log } = await serve((request, response, count) => {
      if (count === 1) cut(response, bytes, 100_000);
      else if (request.headers.range !== undefined) response.writeHead(416).end();
      else response.end(bytes);
    });
    await fetcherWith().blob([`${url}/a`], expected);
    expect(log).toHaveLength(3);
  });

  it('throws away an earlier part that does not fit', async () => {
    await writeFile(join(cache.directory, 'partial', expected.sha256), randomBytes(50_000)).catch(
      async () => {
        await (await cache.partial(expected.sha256)).release();
        await writeFile(join(cache.directory, 'partial', expected.sha256), randomBytes(50_000));
      },
    );
    const { url, log, requests } = await serve(file(bytes, '"1"'));
    expect(bytes.equals(await readFile(await fetcherWith().blob([`${url}/a`], expected)))).toBe(true);
    expect(log).toEqual(['GET /a bytes=50000-', 'GET /a']);
    expect(requests[1]?.headers['cache-control']).toBe('no-cache');
  });

  it('takes over the part of a killed process, and leaves that of a living one', async () => {
    const partial = await cache.partial(expected.sha256);
    await writeFile(partial.path, bytes.subarray(0, 70_000));
    const { url, log } = await serve(file(bytes, '"1"'));
    const other = expectedOf(Buffer.from('other'));
    const living = await serve(file(Buffer.from('other'), '"1"'));
    const dead = join(cache.directory, 'partial', `.${other.sha256}.00000000-1-000000000000.tmp`);
    await writeFile(dead, 'oth');
    await utimes(dead, 1e9, 1e9);
    await fetcherWith().blob([`${url}/a`], expected);
    await fetcherWith().blob([`${living.url}/b`], other);
    expect(log).toEqual(['GET /a']);
    expect(living.log).toEqual(['GET /b bytes=3-']);
    await partial.discard();
  });

  it('goes on where a killed process stopped', async () => {
    const kill = new AbortController();
    const { url, log } = await serve((request, response, count) => {
      if (count > 1) {
        file(bytes, '"1"')(request, response, count);
        return;
      }
      response.writeHead(200, { 'content-length': bytes.length });
      response.write(bytes.subarray(0, 150_000), () =>
        setTimeout(() => {
          kill.abort();
        }, 300),
      );
    });
    const script = `
      const dist = ${JSON.stringify(new URL('../../dist/', import.meta.url).href)};
      const { createFetcher } = await import(dist + 'repository/fetch.js');
      const { openCache } = await import(dist + 'support/cache.js');
      const { silentLog } = await import(dist + 'support/log.js');
      const fetcher = createFetcher({
        log: silentLog, offline: false, signal: new AbortController().signal, environment: {},
        cache: await openCache(${JSON.stringify(cache.directory)}),
      });
      await fetcher.blob([${JSON.stringify(`${url}/a`)}], ${JSON.stringify(expected)});`;
    const killed = execFile(process.execPath, ['--input-type=module', '-e', script]);
    kill.signal.addEventListener('abort', () => killed.kill('SIGKILL'));
    await new Promise((resolve) => killed.on('close', resolve));
    expect(killed.signalCode).toBe('SIGKILL');
    expect(bytes.equals(await readFile(await fetcherWith().blob([`${url}/a`], expected)))).toBe(true);
    expect(log).toEqual(['GET /a', 'GET /a bytes=150000-']);
    expect(await readdir(join(cache.directory, 'partial'))).toEqual([]);
  });

  it('does not get in the way of another process that fetches the same', async () => {
    const { url, log } = await serve((_, response) => {
      response.writeHead(200, { 'content-length': bytes.length });
      response.write(bytes.subarray(0, 150_000), () =>
        setTimeout(() => response.end(bytes.subarray(150_000)), 50),
      );
    });
    const other = fetcherWith({ cache: await openCache(cache.directory) });
    const paths = await Promise.all([
      fetcherWith().blob([`${url}/a`], expected),
      other.blob([`${url}/a`], expected),
    ]);
    expect(new Set(paths).size).toBe(1);
    expect(log).toEqual(['GET /a', 'GET /a']);
    expect(await readdir(join(cache.directory, 'partial'))).toEqual([]);
  });

  it('tries the next mirror, once the first has sent something else twice', async () => {
    const bad = await serve((_, response) => response.end(Buffer.alloc(bytes.length)));
    const missing = await serve((_, response) => response.writeHead(404).end('no'));
    const good = await serve(file(bytes, '"1"'));
    const warnings: string[] = [];
    const details: string[] = [];
    const log = {
      ...silentLog,
      warn: (text: string) => warnings.push(text),
      debug: (text: string) => details.push(text),
    };
    await fetcherWith({ log }).blob(
      [bad, missing, good].map(({ url }) => `${url}/x`),
      expected,
    );
    expect(bad.log).toHaveLength(2);
    expect(missing.log).toHaveLength(1);
    const zeros = createHash('sha256').update(Buffer.alloc(bytes.length)).digest('hex');
    expect(warnings).toEqual([
      `cannot fetch ${bad.url}/x: expected sha256 ${expected.sha256}, got ${zeros}; trying ${missing.url}/x`,
    ]);
    expect(details).toContain(
      `cannot fetch ${missing.url}/x: the server does not have it; trying ${good.url}/x`,
    );
  });

  it('says what was expected and what came, and keeps nothing', async () => {
    const { url, log } = await serve((_, response) => response.end(Buffer.alloc(bytes.length)));
    const error = await failure(fetcherWith().blob([`${url}/a`], expected));
    expect(error.message).toMatch(
      new RegExp(`^cannot fetch ${url}/a: expected sha256 ${expected.sha256}, got [0-9a-f]{64}$`),
    );
    expect(log).toHaveLength(2);
    expect(await cache.find(expected.sha256)).toBeUndefined();
    expect(await readdir(join(cache.directory, 'partial'))).toEqual([]);
  });

  it('refuses a wrong size by the head alone', async () => {
    const { url } = await serve((_, response) => {
      response.writeHead(200, { 'content-length': 10 ** 12 });
      response.write('x');
    });
    const error = await failure(fetcherWith().blob([`${url}/a`], expected));
    expect(error.message).toBe(`cannot fetch ${url}/a: expected 300000 bytes, got 1000000000000`);
  });

  it('stops an endless answer', async () => {
    let sent = 0;
    const { url } = await serve((_, response) => {
      const more = (): void => {
        if (response.destroyed) return;
        sent += 65536;
        response.write(Buffer.alloc(65536), () => setImmediate(more));
      };
      more();
    });
    const error = await failure(fetcherWith().blob([`${url}/a`], expected));
    expect(error.message).toBe(`cannot fetch ${url}/a: it is longer than the expected 300000 bytes`);
    expect(sent).toBeLessThan(50_000_000);
  });

  it('notices a transfer that ends early without saying so', async () => {
    const { url, log } = await serve((_, response) => {
      response.writeHead(200, { 'transfer-encoding': 'chunked' });
      response.end(bytes.subarray(0, 100_000));
    });
    const error = await failure(fetcherWith({ attempts: 2 }).blob([`${url}/a`], expected));
    expect(error.message).toBe(`cannot fetch ${url}/a: the transfer ended after 100000 of 300000 bytes`);
    expect(log).toHaveLength(2);
  });

  it('counts attempts anew while a bad line makes progress', async () => {
    const big = randomBytes(7 * 1024 ** 2);
    const { url, log } = await serve((request, response) => {
      const from = Number(/[0-9]+/.exec(request.headers.range ?? '0')?.[0]);
      const head = { 'content-length': big.length - from };
      const range = `bytes ${from}-${big.length - 1}/${big.length}`;
      response.writeHead(from > 0 ? 206 : 200, from > 0 ? { ...head, 'content-range': range } : head);
      response.write(big.subarray(from, from + 1_200_000), () => setTimeout(() => response.destroy(), 30));
    });
    await fetcherWith({ attempts: 2 }).blob([`${url}/a`], expectedOf(big));
    expect(log.length).toBeGreaterThan(5);
  });

  it('reports progress that adds up, whatever happens', async () => {
    const honest = file(bytes, '"2"');
    const { url } = await serve((request, response, count) => {
      if (count === 1) cut(response, bytes, 100_000);
      else honest(request, response, count);
    });
    let counted = 0;
    const ends: string[] = [];
    const log = {
      ...silentLog,
      task: (label: string, total: number | undefined) => ({
        advance: (count: number) => {
          counted += count;
        },
        done: () => ends.push(`done ${label} ${total ?? 0}`),
        fail: () => ends.push('fail'),
      }),
    };
    await fetcherWith({ log }).blob([`${url}/a`], expected);
    expect(counted).toBe(bytes.length);
    expect(ends).toEqual(['done thing 1.0 300000']);
  });

  it('says that there is no mirror', async () => {
    expect((await failure(fetcherWith().blob([], expected))).message).toBe(
      'cannot fetch thing 1.0: no mirror is known for it',
    );
  });
});

describe('offline', () => {
  it('refuses what the cache does not have', async () => {
    const { url, log } = await serve(file(bytes, '"1"'));
    const fetcher = fetcherWith({ offline: true });
    const error = await failure(fetcher.blob([`${url}/a`], { ...expected, label: 'libc6 2.36' }));
    expect(error.message).toBe('cannot fetch libc6 2.36: --offline is given and the cache does not have it');
    expect(error.hint).toContain('without --offline');
    expect((await failure(fetcher.document(`${url}/InRelease`, 1000))).message).toBe(
      `cannot fetch ${url}/InRelease: --offline is given and the cache does not have it`,
    );
    expect(log).toEqual([]);
  });

  it('still reads files of this machine', async () => {
    await writeFile(join(directory, 'a.deb'), bytes);
    await fetcherWith({ offline: true }).blob([`file://${directory}/a.deb`], expected);
  });
});

describe('document', () => {
  it('reads it whole, or says that there is none', async () => {
    const { url } = await serve((request, response) => {
      if (request.url === '/there') response.end('text');
      else response.writeHead(request.url === '/gone' ? 410 : 404).end('x'.repeat(500_000));
    });
    const fetcher = fetcherWith();
    expect((await fetcher.document(`${url}/there`, 4))?.toString()).toBe('text');
    expect(await fetcher.document(`${url}/none`, 4)).toBeUndefined();
    expect(await fetcher.document(`${url}/gone`, 4)).toBeUndefined();
  });

  it.each(['announced', 'not announced'])('refuses a larger one, %s', async (kind) => {
    const { url, log } = await serve((_, response) => {
      if (kind === 'announced') response.setHeader('content-length', 5);
      response.write('12');
      response.end('345');
    });
    const error = await failure(fetcherWith().document(`${url}/a`, 4));
    expect(error.message).toBe(`cannot fetch ${url}/a: it is larger than 4 bytes`);
    expect(log).toHaveLength(1);
  });

  it('retries what may pass, and gives up on what does not', async () => {
    const { url, log } = await serve((request, response, count) => {
      if (request.url === '/forbidden') response.writeHead(403).end();
      else if (request.url === '/broken') response.writeHead(500).end();
      else if (count === 1) response.writeHead(503).end();
      else if (count === 2) response.destroy();
      else response.end('at last');
    });
    const fetcher = fetcherWith();
    expect((await fetcher.document(`${url}/a`, 100))?.toString()).toBe('at last');
    expect(log.splice(0)).toHaveLength(3);
    expect((await failure(fetcher.document(`${url}/forbidden`, 100))).message).toBe(
      `cannot fetch ${url}/forbidden: the server answers 403`,
    );
    expect(log.splice(0)).toHaveLength(1);
    expect((await failure(fetcher.document(`${url}/broken`, 100))).message).toBe(
      `cannot fetch ${url}/broken: the server answers 500`,
    );
    expect(log).toHaveLength(4);
  });

  it('waits as long as Retry-After says', async () => {
    const times: number[] = [];
    const { url } = await serve((_, response, count) => {
      times.push(performance.now());
      if (count === 1) response.writeHead(429, { 'retry-after': '1' }).end();
      else response.end('ok');
    });
    await fetcherWith().document(`${url}/a`, 100);
    expect((times[1] ?? 0) - (times[0] ?? 0)).toBeGreaterThan(950);
  });

  it('doubles the pause', async () => {
    const times: number[] = [];
    const { url } = await serve((_, response) => {
      times.push(performance.now());
      response.writeHead(502).end();
    });
    await failure(fetcherWith({ pause: 40 }).document(`${url}/a`, 100));
    const pauses = times.slice(1).map((time, index) => time - (times[index] ?? 0));
    expect(pauses).toHaveLength(3);
    for (const [index, pause] of pauses.entries()) expect(pause).toBeGreaterThan(40 * 2 ** index - 2);
  });

  it.each([
    ['an answer', 'no answer within 0.3 s', undefined],
    ['further data', 'no data for 0.3 s', 'some'],
  ])('does not wait for %s without end', async (_, reason, begin) => {
    const { url } = await serve((_request, response) => {
      if (begin !== undefined) response.write(begin);
    });
    const error = await failure(fetcherWith({ timeout: 300, attempts: 1 }).document(`${url}/a`, 100));
    expect(error.message).toBe(`cannot fetch ${url}/a: ${reason}`);
  });

  it('says when nobody answers', async () => {
    const { url } = await serve(() => undefined);
    const server = servers.pop();
    await new Promise((resolve) => server?.close(resolve));
    const error = await failure(fetcherWith({ attempts: 1 }).document(`${url}/a`, 100));
    expect(error.message).toBe(`cannot fetch ${url}/a: the connection was refused`);
  });

  it('says when a host name is not known, without asking again', async () => {
    const error = await failure(fetcherWith().document('http://no-such-host.invalid/a', 100));
    expect(error.message).toMatch(
      /^cannot fetch http:\/\/no-such-host.invalid\/a: the (host name is not known|name server)/,
    );
  });

  it.each([
    ['ftp://host/x', 'the scheme ftp is not supported'],
    ['no url', 'this is not a URL'],
    ['http://', 'this is not a URL'],
    ['data:,x', 'the scheme data is not supported'],
  ])('refuses %s', async (address, reason) => {
    expect((await failure(fetcherWith().document(address, 100))).message).toContain(`: ${reason}`);
  });
});

describe('redirects', () => {
  it('follows them, also to another server', async () => {
    const target = await serve((_, response) => response.end('moved'));
    const { url, log } = await serve((request, response) => {
      const to = request.url === '/a' ? 'b?x=1' : `${target.url}/c`;
      response.writeHead(302, { location: to }).end();
    });
    expect((await fetcherWith().document(`${url}/a`, 100))?.toString()).toBe('moved');
    expect(log).toEqual(['GET /a', 'GET /b?x=1']);
    expect(target.log).toEqual(['GET /c']);
  });

  it('stops in a loop', async () => {
    const { url, log } = await serve((_, response) => response.writeHead(301, { location: '/a' }).end());
    const error = await failure(fetcherWith().document(`${url}/a`, 100));
    expect(error.message).toBe(`cannot fetch ${url}/a: more than 10 redirects`);
    expect(log).toHaveLength(11);
  });

  it.each([
    ['file:///etc/passwd', 'a redirect from http to file'],
    ['http://[', 'a redirect leads nowhere'],
  ])('refuses %s', async (location, reason) => {
    const { url } = await serve((_, response) => response.writeHead(302, { location }).end());
    const error = await failure(fetcherWith().document(`${url}/a`, 100));
    expect(error.message).toBe(`cannot fetch ${url}/a: ${reason}`);
  });

  it('sends a password to its own server alone, and shows it nowhere', async () => {
    const target = await serve((_, response) => response.writeHead(403).end());
    const { url, requests } = await serve((_, response) =>
      response.writeHead(307, { location: `${target.url}/c?token=secret2` }).end(),
    );
    const shown: string[] = [];
    const log = { ...silentLog, debug: (text: string) => shown.push(text) };
    const address = `${url.replace('//', '//us%40er:secret1@')}/a?token=secret3`;
    const error = await failure(fetcherWith({ log }).document(address, 100));
    expect(requests[0]?.headers.authorization).toBe(
      `Basic ${Buffer.from('us@er:secret1').toString('base64')}`,
    );
    expect(target.requests[0]?.headers.authorization).toBeUndefined();
    expect(error.message).toBe(`cannot fetch ${url}/a: the server answers 403`);
    expect(shown.length).toBeGreaterThan(0);
    expect(shown.join()).not.toContain('secret');
  });
});

describe('files', () => {
  it('reads file: and copy: URLs', async () => {
    await writeFile(join(directory, 'a b+c.deb'), bytes);
    const fetcher = fetcherWith();
    await fetcher.blob([`copy:${directory}/a%20b+c.deb`], expected);
    expect((await fetcher.document(`file:${directory}/a%20b+c.deb`, 300_000))?.equals(bytes)).toBe(true);
    expect(await fetcher.document(`file://${directory}/none`, 10)).toBeUndefined();
  });

  it('refuses what is not a regular file, and one that is too large', async () => {
    await writeFile(join(directory, 'large'), bytes);
    const fetcher = fetcherWith();
    expect((await failure(fetcher.document(`file://${directory}`, 10))).message).toBe(
      `cannot fetch file://${directory}: it is not a regular file`,
    );
    expect((await failure(fetcher.document(`file://${directory}/large`, 10))).message).toContain(
      'larger than 10',
    );
    expect((await failure(fetcher.blob([`file:${directory}/large`], { ...expected, size: 5 }))).message).toBe(
      `cannot fetch file://${directory}/large: expected 5 bytes, got 300000`,
    );
  });
});

describe('abort', () => {
  it.each(['before', 'waiting for an answer', 'in the middle', 'between attempts', 'in the queue'])(
    'stops at once: %s',
    async (when) => {
      const { url } = await serve((_, response) => {
        if (when === 'in the middle') {
          response.writeHead(200, { 'content-length': bytes.length });
          response.write(bytes.subarray(0, 1000));
        }
        if (when === 'between attempts') response.writeHead(503).end();
      });
      const controller = new AbortController();
      const reason = new ToolError('stopped by SIGINT');
      if (when === 'before') controller.abort(reason);
      const fetcher = fetcherWith({ signal: controller.signal, pause: 20_000, timeout: 20_000, parallel: 1 });
      const work = [failure(fetcher.blob([`${url}/a`, `${url}/b`], expected))];
      if (when === 'in the queue')
        work.push(failure(fetcher.blob([`${url}/c`], expectedOf(Buffer.from('x')))));
      await sleep(100);
      const begin = performance.now();
      controller.abort(reason);
      for (const error of await Promise.all(work)) expect(error).toBe(reason);
      expect(performance.now() - begin).toBeLessThan(1000);
      if (when === 'in the middle') {
        expect((await stat(join(cache.directory, 'partial', expected.sha256))).size).toBe(1000);
      }
    },
  );
});
