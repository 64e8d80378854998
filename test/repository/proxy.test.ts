import { createHash } from 'node:crypto';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { createServer, request as httpRequest, type Server } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { connect, type AddressInfo, type Server as NetServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';

import { createFetcher, type Fetcher, type FetcherOptions } from '../../build/repository/fetch.js';
import { proxyFor } from '../../build/repository/proxy.js';
import { openCache } from '../../build/support/cache.js';
import { baseEnvironment, run } from '../../build/support/exec.js';
import { silentLog } from '../../build/support/log.js';
import { requireTools } from '../support/tools.js';

let directory: string;
const servers: (Server | NetServer)[] = [];
const fetchers: Fetcher[] = [];

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'proxy-'));
});
afterEach(async () => {
  for (const fetcher of fetchers.splice(0)) await fetcher.close();
  for (const server of servers.splice(0)) server.close();
});
afterAll(async () => {
  await rm(directory, { recursive: true, force: true });
});

async function listen(server: Server | NetServer): Promise<number> {
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return (server.address() as AddressInfo).port;
}

/** A proxy for requests and tunnels, as RFC 9110 (7.6, 9.3.6) has it. Tunnels may lead to names that do not exist. */
async function proxy(target: number): Promise<{ port: number; log: string[]; authorization: Set<string> }> {
  const log: string[] = [];
  const authorization = new Set<string>();
  const server = createServer((incoming, outgoing) => {
    log.push(`${incoming.method ?? ''} ${incoming.url ?? ''}`);
    authorization.add(incoming.headers['proxy-authorization'] ?? '');
    const { pathname } = new URL(incoming.url ?? '');
    httpRequest({ port: target, host: '127.0.0.1', path: pathname }, (answer) => {
      outgoing.writeHead(answer.statusCode ?? 500, answer.headers);
      answer.pipe(outgoing);
    }).end();
  });
  server.on('connect', (incoming, socket) => {
    log.push(`CONNECT ${incoming.url ?? ''}`);
    authorization.add(incoming.headers['proxy-authorization'] ?? '');
    const tunnel = connect(target, '127.0.0.1', () => {
      socket.write('HTTP/1.1 200 Connection established\r\n\r\n');
      tunnel.pipe(socket);
      socket.pipe(tunnel);
    });
    for (const end of [socket, tunnel]) end.on('error', () => socket.destroy());
  });
  return { port: await listen(server), log, authorization };
}

async function fetcherWith(options: Partial<FetcherOptions>): Promise<Fetcher> {
  const fetcher = createFetcher({
    log: silentLog,
    offline: false,
    signal: new AbortController().signal,
    environment: {},
    pause: 5,
    timeout: 3000,
    cache: await openCache(join(directory, 'cache')),
    ...options,
  });
  fetchers.push(fetcher);
  return fetcher;
}

describe('a forward proxy', () => {
  it('gets plain requests for hosts that only it knows', async () => {
    const target = await listen(createServer((request, response) => response.end(`at ${request.url ?? ''}`)));
    const { port, log, authorization } = await proxy(target);
    const environment = { http_proxy: `http://me%3a:pa%20ss@127.0.0.1:${port}` };
    const fetcher = await fetcherWith({ environment });
    expect((await fetcher.document('http://mirror.invalid/debian/x', 100))?.toString()).toBe('at /debian/x');
    expect(log).toEqual(['GET http://mirror.invalid/debian/x']);
    expect([...authorization]).toEqual([`Basic ${Buffer.from('me::pa ss').toString('base64')}`]);
  });

  it('carries blobs too', async () => {
    const bytes = Buffer.alloc(200_000, 'x');
    const target = await listen(createServer((_, response) => response.end(bytes)));
    const { port, log } = await proxy(target);
    const fetcher = await fetcherWith({ environment: { http_proxy: `http://127.0.0.1:${port}/` } });
    const sha256 = createHash('sha256').update(bytes).digest('hex');
    await fetcher.blob(['http://mirror.invalid/a'], { sha256, size: bytes.length, label: 'a' });
    expect(log).toEqual(['GET http://mirror.invalid/a']);
  });

  it('is named when it does not answer', async () => {
    const server = createServer((_, response) => response.writeHead(407).end());
    const port = await listen(server);
    const fetcher = await fetcherWith({ environment: { http_proxy: `127.0.0.1:${port}` } });
    await expect(fetcher.document('http://mirror.invalid/x', 100)).rejects.toThrow(
      'cannot fetch http://mirror.invalid/x: Proxy Authentication Required (407)',
    );
  });
});

describe.skipIf(!requireTools('openssl'))('https', () => {
  let key: string;
  let certificate: string;
  let tls: { readonly key: string; readonly cert: string };
  beforeAll(async () => {
    key = join(directory, 'key.pem');
    certificate = join(directory, 'certificate.pem');
    const subject = [
      '-subj',
      '/CN=mirror.invalid',
      '-addext',
      'subjectAltName=DNS:mirror.invalid,IP:127.0.0.1',
    ];
    await run({
      argv: [
        'openssl',
        'req',
        '-x509',
        '-newkey',
        'ec',
        '-pkeyopt',
        'ec_paramgen_curve:prime256v1',
        '-nodes',
        '-days',
        '2',
        '-keyout',
        key,
        '-out',
        certificate,
        ...subject,
      ],
      environment: baseEnvironment(process.env),
    });
    tls = { key: await readFile(key, 'utf8'), cert: await readFile(certificate, 'utf8') };
  });

  it('refuses a certificate that nobody vouches for, and says how to trust it', async () => {
    let requests = 0;
    const server = createTlsServer(tls, (_, response) => {
      requests += 1;
      response.end('x');
    });
    const port = await listen(server);
    const fetcher = await fetcherWith({});
    const error: unknown = await fetcher
      .document(`https://127.0.0.1:${port}/a`, 100)
      .catch((it: unknown) => it);
    expect(error).toMatchObject({
      message: `cannot fetch https://127.0.0.1:${port}/a: self-signed certificate`,
      hint: 'for a private authority set NODE_EXTRA_CA_CERTS to its certificate',
    });
    expect(requests).toBe(0);
  });

  /** Fetches in a process of its own, because Node reads NODE_EXTRA_CA_CERTS once, when it starts. */
  async function fetchInChild(url: string, variables: Record<string, string>): Promise<string> {
    const script = `
      const dist = ${JSON.stringify(new URL('../../dist/', import.meta.url).href)};
      const { createFetcher } = await import(dist + 'repository/fetch.js');
      const { openCache } = await import(dist + 'support/cache.js');
      const { silentLog } = await import(dist + 'support/log.js');
      const fetcher = createFetcher({
        log: silentLog, offline: false, signal: new AbortController().signal, environment: process.env,
        attempts: 1, cache: await openCache(${JSON.stringify(join(directory, 'cache'))}),
      });
      const bytes = await fetcher.document(${JSON.stringify(url)}, 1000).catch((error) => error.message);
      await fetcher.close();
      process.stdout.write(String(bytes));`;
    const { stdout } = await run({
      argv: [process.execPath, '--input-type=module', '-e', script],
      environment: { ...baseEnvironment(process.env), NODE_EXTRA_CA_CERTS: certificate, ...variables },
    });
    return stdout;
  }

  it('trusts NODE_EXTRA_CA_CERTS, directly and through a tunnel', async () => {
    const port = await listen(createTlsServer(tls, (_, response) => response.end('hidden')));
    expect(await fetchInChild(`https://127.0.0.1:${port}/a`, {})).toBe('hidden');
    const tunnel = await proxy(port);
    const https_proxy = `http://me:secret@127.0.0.1:${tunnel.port}`;
    expect(await fetchInChild('https://mirror.invalid/a', { https_proxy })).toBe('hidden');
    expect(tunnel.log).toEqual(['CONNECT mirror.invalid:443']);
    expect([...tunnel.authorization]).toEqual([`Basic ${Buffer.from('me:secret').toString('base64')}`]);
  });

  it('never goes on without encryption', async () => {
    const port = await listen(
      createTlsServer(tls, (_, response) =>
        response.writeHead(302, { location: 'http://127.0.0.1:1/' }).end(),
      ),
    );
    expect(await fetchInChild(`https://127.0.0.1:${port}/a`, {})).toBe(
      `cannot fetch https://127.0.0.1:${port}/a: a redirect from https to http`,
    );
  });
});

describe('proxyFor', () => {
  const http = new URL('http://ftp.example.org/debian');
  const https = new URL('https://ftp.example.org/debian');
  const shown = (url: URL | undefined): string => url?.href ?? 'direct';

  it.each([
    [{}, 'direct', 'direct'],
    [{ http_proxy: 'http://p:1' }, 'http://p:1/', 'direct'],
    [{ http_proxy: '', HTTP_PROXY: 'http://P:1' }, 'http://p:1/', 'direct'],
    [{ http_proxy: 'http://p:1', HTTP_PROXY: 'http://q:1' }, 'http://p:1/', 'direct'],
    [{ https_proxy: 'p:1' }, 'direct', 'http://p:1/'],
    [{ all_proxy: 'http://p:1', https_proxy: 'https://q' }, 'http://p:1/', 'https://q/'],
    [{ http_proxy: 'DIRECT', all_proxy: 'http://p:1' }, 'direct', 'http://p:1/'],
    [{ https_proxy: 'http://a:1', no_proxy: 'example.org' }, 'direct', 'direct'],
  ])('%o', (environment, forHttp, forHttps) => {
    expect(shown(proxyFor(http, environment))).toBe(forHttp);
    expect(shown(proxyFor(https, environment))).toBe(forHttps);
  });

  it.each([
    ['http://ftp.example.org/', 'ftp.example.org', true],
    ['http://ftp.example.org/', 'example.org', true],
    ['http://ftp.example.org/', '.example.org', true],
    ['http://ftp.example.org/', '*.EXAMPLE.org', true],
    ['http://ftp.example.org/', 'a, b *', true],
    ['http://ftp.example.org/', 'ample.org', false],
    ['http://ftp.example.org/', 'example.org:8080', false],
    ['http://ftp.example.org:8080/', 'x example.org:8080', true],
    ['https://ftp.example.org/', 'example.org:443', true],
    ['http://127.0.0.1/', '127.0.0.1', true],
    ['http://[::1]/', '::1', true],
    ['http://[::1]:81/', '[::1]:81', true],
    ['http://[::1]/', '[::1]:81', false],
    ['http://[fe80::2]/', '::1', false],
    ['http://ftp.example.org/', ' , ,', false],
  ])('%s with no_proxy=%s', (url, no_proxy, direct) => {
    const proxy = proxyFor(new URL(url), { all_proxy: 'http://p:1', no_proxy });
    expect(proxy === undefined).toBe(direct);
  });

  it('refuses other kinds of proxy, without showing a password', () => {
    expect(() => proxyFor(http, { all_proxy: 'socks5h://me:secret@p:1' })).toThrow(
      'cannot use the proxy socks5h://p:1: only http and https proxies are supported',
    );
    expect(() => proxyFor(http, { http_proxy: 'http://me:secret@' })).toThrow(
      'cannot use the proxy: its address is not a URL',
    );
  });
});
