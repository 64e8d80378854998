import type { Bench } from './bench.js';

/** One thing that the server must do, or must never do. */
export interface Check {
  /** Such as `renew`: what `--only` takes. */
  readonly name: string;
  /** What holds when it is ok, one line. */
  readonly promise: string;
  /** The one program that it makes sense for; undefined for every server. */
  readonly only?: 'dhcpd';
  /** @throws Failure, or Skip, or any error: then it is not ok */
  readonly run: (bench: Bench) => Promise<void>;
}

/** What a check throws when the server does not do what it promises. */
export class Failure extends Error {
  /** What the server has said, to be shown with `--debug`. */
  readonly log: string | undefined;
  constructor(reason: string, log?: string) {
    super(reason);
    this.log = log;
  }
}

/** What a check throws when this machine cannot run it. */
export class Skip extends Error {}

/** @throws Failure with the reason, unless the condition is met */
export function must(condition: boolean, reason: string): asserts condition {
  if (!condition) throw new Failure(reason);
}

/** @throws Failure when the two differ */
export function mustEqual(found: unknown, wanted: unknown, what: string): void {
  const [a, b] = [found, wanted].map((value) => JSON.stringify(value));
  must(a === b, `${what} is ${a ?? 'nothing'} in place of ${b ?? 'nothing'}`);
}
