import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { Readable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import type * as Undici from 'undici';

import { isCode } from '../support/atomic.js';
import { cannot, reasonOf } from '../support/errors.js';
import { shownUrl, tryUrl } from '../support/url.js';
import { proxyFor } from './proxy.js';

/** The head of an answer. Its body is to be read, discarded or given up. */
export interface Answer {
  readonly status: number;
  /** @param name lower case */
  header(name: string): string | undefined;
  /** @throws the connection's error, see `networkFailure` */
  bytes(): AsyncIterable<Uint8Array>;
  /** Reads a short rest, so that the connection can be used again. */
  discard(): Promise<void>;
  /** Ends the connection. */
  giveUp(): void;
}

interface FailureOptions {
  readonly retry: boolean;
  readonly cause?: unknown;
  readonly hint?: string | undefined;
  readonly pause?: number | undefined;
  readonly received?: number;
  readonly missing?: boolean;
}

/** One failed request. `retry` says whether asking again can help. */
export class TransportFailure extends Error {
  readonly retry: boolean;
  readonly hint: string | undefined;
  /** Milliseconds the server asked to wait. */
  readonly pause: number | undefined;
  /** Bytes that came before it failed, and that no attempt before had brought. */
  readonly received: number;
  /** The server has nothing of that name. */
  readonly missing: boolean;

  constructor(message: string, options: FailureOptions) {
    super(message, { cause: options.cause });
    this.name = 'TransportFailure';
    this.retry = options.retry;
    this.hint = options.hint;
    this.pause = options.pause;
    this.received = options.received ?? 0;
    this.missing = options.missing ?? false;
  }
}

export interface TransportOptions {
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly signal: AbortSignal;
  /** Milliseconds without an answer or any data. */
  readonly timeout: number;
}

const redirectLimit = 10;

/** Requests over http, https and the local file system; follows redirects; keeps connections until `close`. */
export class Transport {
  readonly #options: TransportOptions;
  /** By proxy URL; the empty string stands for a direct connection. */
  readonly #dispatchers = new Map<string, Undici.Dispatcher>();

  constructor(options: TransportOptions) {
    this.#options = options;
  }

  /**
   * @param headers further request headers, lower-case names
   * @returns any answer that is not a redirect; status 404 for a missing local file
   * @throws TransportFailure, or ToolError for a URL or proxy that cannot be used
   */
  async open(address: string, headers: Readonly<Record<string, string>>): Promise<Answer> {
    let url = parseUrl(address);
    if (isLocal(url)) return await openFile(url, this.#options.signal);
    const origin = url.origin;
    let authorization = credentials(url);
    for (let hop = 0; hop <= redirectLimit; hop += 1) {
      const answer = await this.#request(url, { ...headers, ...authorization });
      if (![301, 302, 303, 307, 308].includes(answer.status)) return answer;
      await answer.discard();
      url = redirectTarget(url, answer.header('location'));
      // Who is asked next need not know the password.
      authorization = { ...(url.origin === origin ? authorization : {}), ...credentials(url) };
    }
    throw new TransportFailure(`more than ${redirectLimit} redirects`, { retry: false });
  }

  async close(): Promise<void> {
    const dispatchers = [...this.#dispatchers.values()];
    this.#dispatchers.clear();
    await Promise.all(dispatchers.map(async (dispatcher) => dispatcher.destroy()));
  }

  async #request(url: URL, headers: Readonly<Record<string, string>>): Promise<Answer> {
    const { signal, timeout } = this.#options;
    // Loaded here, because a build from a warm cache never needs it and it takes tens of milliseconds.
    const undici = await import('undici');
    const dispatcher = this.#dispatcher(undici, proxyFor(url, this.#options.environment));
    try {
      const response = await undici.request(new URL(url.pathname + url.search, url.origin), {
        dispatcher,
        signal,
        headersTimeout: timeout,
        bodyTimeout: timeout,
        headers: { 'user-agent': 'dhcpd-scratch', 'accept-encoding': 'identity', ...headers },
      });
      const body = response.body;
      // A body given up half-way reports that as an error, which then nobody waits for.
      body.on('error', () => undefined);
      return {
        status: response.statusCode,
        header: (name) => {
          const value = response.headers[name];
          return Array.isArray(value) ? value.join(', ') : value;
        },
        bytes: () => chunksOf(body),
        discard: async () => {
          await body.dump({ limit: 64 * 1024 }).catch(() => undefined);
        },
        giveUp: () => {
          body.destroy();
        },
      };
    } catch (error) {
      throw networkFailure(error, timeout);
    }
  }

  #dispatcher(
    undici: Pick<typeof Undici, 'Agent' | 'ProxyAgent'>,
    proxy: URL | undefined,
  ): Undici.Dispatcher {
    const key = proxy?.href ?? '';
    const known = this.#dispatchers.get(key);
    if (known !== undefined) return known;
    const { timeout } = this.#options;
    const made =
      proxy === undefined
        ? new undici.Agent({ connect: { timeout } })
        : new undici.ProxyAgent({
            uri: proxy.origin,
            ...(proxy.username === '' ? {} : { token: basic(proxy) }),
            // Plain http goes through the proxy as a request of its own; many proxies open no tunnel to port 80.
            proxyTunnel: false,
            proxyTls: { timeout },
            requestTls: { timeout },
          });
    this.#dispatchers.set(key, made);
    return made;
  }
}

/** Whether a URL names a file of this machine: `file:` and apt's `copy:`. */
export function isLocal(url: URL): boolean {
  return url.protocol === 'file:' || url.protocol === 'copy:';
}

/** @throws ToolError when it is no URL, or of a scheme that is not supported */
export function parseUrl(address: string): URL {
  const url = tryUrl(address);
  if (url === undefined) throw cannot('fetch', shownUrl(address), 'this is not a URL');
  if (isLocal(url) || ((url.protocol === 'http:' || url.protocol === 'https:') && url.hostname !== ''))
    return url;
  throw cannot('fetch', shownUrl(address), `the scheme ${url.protocol.slice(0, -1)} is not supported`, {
    hint: 'use a mirror with an http, https or file URL',
  });
}

/** The failure behind an error of a connection or of a body that is being read. */
export function networkFailure(error: unknown, timeout: number): TransportFailure {
  if (error instanceof TransportFailure) return error;
  const code =
    error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : 'unknown';
  const seconds = `${timeout / 1000} s`;
  const words = new Map([
    ['UND_ERR_CONNECT_TIMEOUT', `no connection within ${seconds}`],
    ['UND_ERR_HEADERS_TIMEOUT', `no answer within ${seconds}`],
    ['UND_ERR_BODY_TIMEOUT', `no data for ${seconds}`],
    ['UND_ERR_SOCKET', 'the connection broke'],
    ['UND_ERR_RES_CONTENT_LENGTH_MISMATCH', 'the transfer is shorter or longer than announced'],
    ['ECONNREFUSED', 'the connection was refused'],
    ['ECONNRESET', 'the connection broke'],
    ['EPIPE', 'the connection broke'],
    ['ETIMEDOUT', `no connection within ${seconds}`],
    ['EHOSTUNREACH', 'the host cannot be reached'],
    ['ENETUNREACH', 'the network cannot be reached'],
    ['ENOTFOUND', 'the host name is not known'],
    ['EAI_AGAIN', 'the name server does not answer'],
  ]).get(code);
  const certificate = /CERT|VERIFY_LEAF|ISSUER|SELF_SIGNED/.test(code);
  const hopeless = certificate || ['ENOTFOUND', 'UND_ERR_INVALID_ARG', 'UND_ERR_ABORTED'].includes(code);
  return new TransportFailure(words ?? reasonOf(error), {
    retry: !hopeless,
    cause: error,
    ...(certificate ? { hint: 'for a private authority set NODE_EXTRA_CA_CERTS to its certificate' } : {}),
    ...(code === 'ENOTFOUND' ? { hint: 'check the mirror, the network and the proxy settings' } : {}),
  });
}

function redirectTarget(from: URL, location: string | undefined): URL {
  const to = location === undefined ? undefined : tryUrl(location, from.href);
  if (to === undefined) throw new TransportFailure('a redirect leads nowhere', { retry: false });
  if (to.protocol === 'https:' || (to.protocol === 'http:' && from.protocol === 'http:')) return to;
  throw new TransportFailure(`a redirect from ${from.protocol.slice(0, -1)} to ${to.protocol.slice(0, -1)}`, {
    retry: false,
  });
}

function credentials(url: URL): Record<string, string> {
  return url.username === '' && url.password === '' ? {} : { authorization: basic(url) };
}

function basic(url: URL): string {
  const text = [url.username, url.password].map(decodeOrKeep).join(':');
  return `Basic ${Buffer.from(text).toString('base64')}`;
}

function decodeOrKeep(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** The chunks of a stream of bytes. */
async function* chunksOf(stream: Readable): AsyncIterable<Uint8Array> {
  for await (const chunk of stream) {
    if (chunk instanceof Uint8Array) yield chunk;
  }
}

/** Opens the file when the first chunk is asked for: before, nobody would listen to an error of the stream. */
async function* fileChunks(path: string, signal: AbortSignal): AsyncIterable<Uint8Array> {
  yield* chunksOf(createReadStream(path, { signal }));
}

async function openFile(url: URL, signal: AbortSignal): Promise<Answer> {
  try {
    const path = localPath(url);
    const stats = await stat(path);
    // Opening a FIFO would wait for its writer.
    if (!stats.isFile()) throw new TransportFailure('it is not a regular file', { retry: false });
    return fileAnswer(200, stats.size, () => fileChunks(path, signal));
  } catch (error) {
    if (error instanceof TransportFailure) throw error;
    if (isCode(error, 'ENOENT', 'ENOTDIR')) return fileAnswer(404, 0, () => chunksOf(Readable.from([])));
    throw new TransportFailure(reasonOf(error), { retry: false, cause: error });
  }
}

function fileAnswer(status: number, size: number, bytes: () => AsyncIterable<Uint8Array>): Answer {
  return {
    status,
    header: (name) => (name === 'content-length' ? String(size) : undefined),
    bytes,
    discard: () => Promise.resolve(),
    giveUp: () => undefined, // leaving the iteration closes the file
  };
}

function localPath(url: URL): string {
  // `copy:` is apt's own; its path has the same form.
  const file = tryUrl(`file:${url.href.slice(url.protocol.length)}`);
  if (file === undefined) throw new TransportFailure('this is not a path', { retry: false });
  return fileURLToPath(file);
}
