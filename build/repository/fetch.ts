import type { Log } from '../support/log.js';

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
}

export interface ExpectedBlob {
  readonly sha256: string;
  /** Bytes. */
  readonly size: number;
  /** Shown in the progress display, such as `libc6 2.36-9`. */
  readonly label: string;
}

export interface FetcherOptions {
  readonly log: Log;
  /** Refuse every request that the cache cannot answer. */
  readonly offline: boolean;
  readonly signal: AbortSignal;
  /** http_proxy, https_proxy, no_proxy and their upper-case forms are read from here. */
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** Transfers at the same time; default 6. */
  readonly parallel?: number;
  /** Attempts per URL; default 4, with exponential backoff. */
  readonly attempts?: number;
  /** First backoff pause in milliseconds; default 250. */
  readonly pause?: number;
}
