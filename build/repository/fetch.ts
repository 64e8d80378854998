import { setTimeout as sleep } from 'node:timers/promises';

import type { Cache, PartialBlob } from '../support/cache.js';
import { cannot, hintOf, reasonOf, ToolError } from '../support/errors.js';
import type { Log, Task } from '../support/log.js';
import { Semaphore } from '../support/semaphore.js';
import { shownUrl } from '../support/url.js';
import { Transfer } from './transfer.js';
import { type Answer, isLocal, networkFailure, parseUrl, Transport, TransportFailure } from './transport.js';

/** How the program reaches the network: http, https and file URLs, proxies, retries, resumption. */
export interface Fetcher {
  /**
   * Fetches a small document whole into memory.
   * @param limit bytes; a larger answer is refused
   * @returns undefined when the server says that there is none (404, 410, missing file)
   * @throws ToolError `cannot fetch URL: reason` after the last retry
   */
  document(url: string, limit: number): Promise<Buffer | undefined>;
  /**
   * Fetches a file of known hash and size into the cache, from the cache if it is there. Interrupted
   * transfers resume. Several URLs are mirrors of the same bytes, tried in order.
   * @returns path of the verified blob
   */
  blob(urls: readonly string[], expected: ExpectedBlob): Promise<string>;
  /** Ends all connections, so that the process can exit at once. */
  close(): Promise<void>;
}

export interface ExpectedBlob {
  readonly sha256: string;
  /** Bytes. */
  readonly size: number;
  /** Shown in the progress display, such as `libc6 2.36-9`. */
  readonly label: string;
  /** What to do when the servers have other bytes than these, or none. */
  readonly hint?: string;
}

export interface FetcherOptions {
  readonly log: Log;
  /** Refuse every request that the cache cannot answer. Files of this machine can still be read. */
  readonly offline: boolean;
  readonly signal: AbortSignal;
  /** http_proxy, https_proxy, all_proxy, no_proxy are read from here; see `proxyFor`. */
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** Transfers at the same time; default 6. */
  readonly parallel?: number;
  /** Attempts per URL without progress; default 4, with exponential backoff. */
  readonly attempts?: number;
  /** First backoff pause in milliseconds; default 250. */
  readonly pause?: number;
  /** Milliseconds to wait for a connection, an answer, or further data; default 30000. */
  readonly timeout?: number;
}

/** Longest pause a server may ask for, in milliseconds. */
const longestPause = 60_000;
/** An attempt that brought this many bytes was progress: the attempts count anew. */
const progressBytes = 1024 ** 2;

export function createFetcher(options: FetcherOptions & { readonly cache: Cache }): Fetcher {
  return new CachingFetcher(options);
}

class CachingFetcher implements Fetcher {
  readonly #options: FetcherOptions & { readonly cache: Cache };
  readonly #transport: Transport;
  readonly #slots: Semaphore;
  readonly #timeout: number;
  /** Blobs on their way, by hash: who asks again waits for the same transfer. */
  readonly #running = new Map<string, Promise<string>>();

  constructor(options: FetcherOptions & { readonly cache: Cache }) {
    const { environment, signal, timeout = 30_000 } = options;
    this.#options = options;
    this.#timeout = timeout;
    this.#transport = new Transport({ environment, signal, timeout });
    this.#slots = new Semaphore(options.parallel ?? 6);
  }

  async document(url: string, limit: number): Promise<Buffer | undefined> {
    const shown = shownUrl(url);
    this.#stopIfAborted(shown);
    if (this.#options.offline && !isLocal(parseUrl(url))) throw offline(shown);
    try {
      return await this.#slots.run(
        async () => await this.#retrying(url, async () => await this.#readDocument(url, limit)),
      );
    } catch (error) {
      throw this.#fetchError(shown, error);
    }
  }

  async blob(urls: readonly string[], expected: ExpectedBlob): Promise<string> {
    const running = this.#running.get(expected.sha256);
    if (running !== undefined) return await running;
    const begun = this.#cachedOrFetched(urls, expected).finally(() => {
      this.#running.delete(expected.sha256);
    });
    this.#running.set(expected.sha256, begun);
    return await begun;
  }

  async close(): Promise<void> {
    await this.#transport.close();
  }

  async #cachedOrFetched(urls: readonly string[], expected: ExpectedBlob): Promise<string> {
    const { cache } = this.#options;
    this.#stopIfAborted(expected.label);
    const cached = await cache.find(expected.sha256);
    if (cached !== undefined) return cached;
    const usable = this.#options.offline ? urls.filter((url) => isLocal(parseUrl(url))) : urls;
    if (this.#options.offline && usable.length === 0) throw offline(expected.label);
    const task = this.#options.log.task(expected.label, expected.size);
    try {
      const path = await this.#slots.run(async () => {
        this.#stopIfAborted(expected.label);
        const partial = await cache.partial(expected.sha256);
        return await this.#fromMirrors(usable, expected, partial, task).finally(() => partial.release());
      });
      task.done();
      return path;
    } catch (error) {
      task.fail();
      throw error;
    }
  }

  async #fromMirrors(
    urls: readonly string[],
    expected: ExpectedBlob,
    partial: PartialBlob,
    task: Task,
  ): Promise<string> {
    for (const [index, url] of urls.entries()) {
      const shown = shownUrl(url);
      try {
        return await this.#fromMirror(url, new Transfer(partial, expected, task, this.#timeout));
      } catch (thrown) {
        const error = this.#fetchError(shown, thrown);
        // What went wrong on this machine goes wrong with every mirror.
        const isLocalFault = thrown instanceof ToolError;
        const next = urls[index + 1];
        if (isLocalFault || this.#options.signal.aborted || next === undefined) throw error;
        const { log } = this.#options;
        // Not every archive has every file, nor every file by its hash.
        const isMissing = thrown instanceof TransportFailure && thrown.missing;
        const message = `${error.message}; trying ${shownUrl(next)}`;
        if (isMissing) log.debug(message);
        else log.warn(message);
      }
    }
    throw cannot('fetch', expected.label, 'no mirror is known for it');
  }

  async #fromMirror(url: string, transfer: Transfer): Promise<string> {
    const work = async (headers: Readonly<Record<string, string>>): Promise<void> => {
      await this.#retrying(url, async () => {
        await this.#transfer(url, transfer, headers);
      });
    };
    await work({});
    const first = await transfer.keep();
    if (typeof first === 'string') return first;
    // The beginning may be another file's, or a cache between us and the mirror may be stale: once more, from nothing.
    this.#options.log.debug(`${shownUrl(url)}: ${first.message}; fetching it anew`);
    await transfer.startAgain();
    await work({ 'cache-control': 'no-cache' });
    const second = await transfer.keep();
    if (typeof second === 'string') return second;
    throw new TransportFailure(second.message, {
      retry: false,
      cause: second,
      hint: transfer.expected.hint,
    });
  }

  /** One request; afterwards all bytes are there. */
  async #transfer(url: string, transfer: Transfer, headers: Readonly<Record<string, string>>): Promise<void> {
    if (await transfer.isComplete()) return;
    const answer = await this.#open(url, { ...headers, ...transfer.rangeHeaders(url) });
    if (answer.status === 404 || answer.status === 410) {
      await answer.discard();
      throw new TransportFailure('the server does not have it', {
        retry: false,
        missing: true,
        hint: transfer.expected.hint,
      });
    }
    try {
      await transfer.accept(url, answer);
      await transfer.write(answer.bytes());
    } catch (error) {
      answer.giveUp();
      throw error;
    }
  }

  async #readDocument(url: string, limit: number): Promise<Buffer | undefined> {
    const answer = await this.#open(url, {});
    if (answer.status === 404 || answer.status === 410) {
      await answer.discard();
      return undefined;
    }
    const tooLarge = new TransportFailure(`it is larger than ${limit} bytes`, { retry: false });
    const announced = Number(answer.header('content-length') ?? 0);
    const chunks: Uint8Array[] = [];
    let size = 0;
    try {
      if (announced > limit) throw tooLarge;
      for await (const chunk of answer.bytes()) {
        size += chunk.length;
        if (size > limit) throw tooLarge;
        chunks.push(chunk);
      }
    } catch (error) {
      answer.giveUp();
      throw error;
    }
    return Buffer.concat(chunks);
  }

  /** Opens a URL; every status but success, a missing file and 416 is a failure. */
  async #open(url: string, headers: Readonly<Record<string, string>>): Promise<Answer> {
    const answer = await this.#transport.open(url, headers);
    this.#options.log.debug(`${shownUrl(url)}: ${answer.status}`);
    if ([200, 206, 404, 410, 416].includes(answer.status)) return answer;
    await answer.discard();
    throw new TransportFailure(`the server answers ${answer.status}`, {
      retry: mayPass(answer.status),
      pause: retryAfter(answer.header('retry-after')),
    });
  }

  async #retrying<T>(url: string, work: () => Promise<T>): Promise<T> {
    const { attempts = 4, pause = 250, signal, log } = this.#options;
    for (let attempt = 1; ; attempt += 1) {
      try {
        return await work();
      } catch (error) {
        if (error instanceof ToolError || signal.aborted) throw error;
        const failure = networkFailure(error, this.#timeout);
        if (failure.received >= progressBytes) attempt = 1;
        if (!failure.retry || attempt >= attempts) throw failure;
        const wait = Math.min(failure.pause ?? pause * 2 ** (attempt - 1), longestPause);
        log.debug(`${shownUrl(url)}: ${failure.message}; again in ${wait} ms`);
        await sleep(wait, undefined, { signal });
      }
    }
  }

  #fetchError(what: string, error: unknown): ToolError {
    this.#stopIfAborted(what);
    if (error instanceof ToolError) return error;
    const hint =
      (error instanceof TransportFailure ? error.hint : hintOf(error)) ??
      'try again later, or use another mirror with --mirror URL';
    return cannot('fetch', what, reasonOf(error), { cause: error, hint });
  }

  #stopIfAborted(what: string): void {
    if (!this.#options.signal.aborted) return;
    const reason: unknown = this.#options.signal.reason;
    throw reason instanceof ToolError
      ? reason
      : cannot('fetch', what, 'it was interrupted', { cause: reason });
  }
}

/** Whether the same request may be answered in a moment: time-outs, too many requests, a server in trouble. */
function mayPass(status: number): boolean {
  return status === 408 || status === 429 || (status >= 500 && status !== 501 && status !== 505);
}

/** Milliseconds of a Retry-After header (RFC 9110, 10.2.3): seconds or a date. */
function retryAfter(value: string | undefined): number | undefined {
  if (value === undefined) return undefined;
  if (/^[0-9]{1,9}$/.test(value)) return Number(value) * 1000;
  const date = Date.parse(value);
  return Number.isNaN(date) ? undefined : Math.max(0, date - Date.now());
}

function offline(what: string): ToolError {
  return cannot('fetch', what, '--offline is given and the cache does not have it', {
    hint: 'run it once without --offline, which fills the cache',
  });
}
