import type { Log } from '../support/log.js';

/** What the program was started with. Read once, in cli.ts; no stage looks at the process itself. */
export interface Context {
  readonly log: Log;
  /** Writes to stdout: the result, and nothing else. */
  readonly print: (text: string) => void;
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly cwd: string;
  /** Architecture of this machine, in any spelling that `parseArchitecture` takes. */
  readonly hostArchitecture: string;
  /** Directory of the installed package: holds images/ and schema/. */
  readonly packageDirectory: string;
  /** Aborted on SIGHUP, SIGINT and SIGTERM. */
  readonly signal: AbortSignal;
  readonly now: Date;
}
