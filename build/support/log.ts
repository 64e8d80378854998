import { formatBytes, printable } from './format.js';
import { LiveLine, type TerminalStream, type Transferred } from './progress.js';

/** What the program reports while it works. All of it goes to stderr; stdout carries the result alone. */
export interface Log {
  /** A step that begins or a fact worth a line. */
  info(message: string): void;
  /** Something the user should look at; the work goes on. Repeated messages are shown once. */
  warn(message: string): void;
  /** Shown with --debug only. */
  debug(message: string): void;
  /** Starts counting a transfer; shown as one bar over all of them, or as a plain line when it is done. */
  task(label: string, totalBytes: number | undefined): Task;
}

export interface Task {
  /** @param bytes further bytes done since the last call; negative when the transfer starts again */
  advance(bytes: number): void;
  done(): void;
  fail(): void;
}

/** For tests and library use: says nothing. */
export const silentLog: Log = {
  info: () => undefined,
  warn: () => undefined,
  debug: () => undefined,
  task: () => ({ advance: () => undefined, done: () => undefined, fail: () => undefined }),
};

export interface LogOptions {
  /** Usually `process.stderr`. */
  readonly stream: TerminalStream;
  /** NO_COLOR, FORCE_COLOR and TERM are read from here. */
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** `quiet`: warnings alone. */
  readonly level: 'quiet' | 'normal' | 'debug';
}

/** The log for people: plain lines, and one live line for transfers when the stream is a terminal. */
export function createLog(options: LogOptions): Log {
  const { stream, environment, level } = options;
  const isTerminal = stream.isTTY === true && environment['TERM'] !== 'dumb' && stream.columns !== 0;
  const colour = wantsColour(environment, isTerminal);
  const live = isTerminal && level !== 'quiet' ? new LiveLine(stream) : undefined;
  const print = (message: string, prefix = ''): void => {
    const line = `${prefix}${printable(message)}\n`;
    if (live === undefined) stream.write(line);
    else live.print(line);
  };
  const painted = (text: string, code: number): string => (colour ? `\u001b[${code}m${text}\u001b[0m` : text);
  const warned = new Set<string>();
  return {
    info: (message) => {
      if (level !== 'quiet') print(message);
    },
    warn: (message) => {
      if (warned.has(message)) return;
      warned.add(message);
      print(message, painted('warning: ', 33));
    },
    debug: (message) => {
      if (level === 'debug') print(message, painted('debug: ', 2));
    },
    task: (label, total) => {
      if (level === 'quiet') return silentLog.task(label, total);
      const transfer: Transferred = { label: printable(label), total, bytes: 0 };
      let running = true;
      const finish = (succeeded: boolean): void => {
        if (!running) return;
        running = false;
        live?.finish(transfer, succeeded);
        if (live === undefined && succeeded) print(`fetched ${label} (${formatBytes(transfer.bytes)})`);
      };
      live?.add(transfer);
      return {
        advance: (bytes) => {
          transfer.bytes += bytes;
        },
        done: () => {
          finish(true);
        },
        fail: () => {
          finish(false);
        },
      };
    },
  };
}

/** See https://no-color.org/ and https://force-color.org/; the latter wins, as in Node itself. */
function wantsColour(
  environment: Readonly<Record<string, string | undefined>>,
  isTerminal: boolean,
): boolean {
  const { FORCE_COLOR: force, NO_COLOR: no } = environment;
  if (force !== undefined && force !== '') return force !== '0' && force !== 'false';
  return isTerminal && (no === undefined || no === '');
}
