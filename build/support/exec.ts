import { constants } from 'node:fs';
import { access, stat } from 'node:fs/promises';
import { delimiter, isAbsolute, join } from 'node:path';

import { cannot, reasonOf, ToolError } from './errors.js';

/** One command to run: an argv array, never a shell line. */
export interface Command {
  readonly argv: readonly [string, ...string[]];
  readonly cwd?: string;
  /** The whole environment of the child; nothing is inherited. See `baseEnvironment`. */
  readonly environment: Readonly<Record<string, string>>;
  /** What the child reads from stdin; without it stdin is empty. */
  readonly input?: string | Buffer;
  /** Ends the child and everything it started: SIGTERM, and after five seconds SIGKILL. */
  readonly signal?: AbortSignal;
  /** Milliseconds; default none. */
  readonly timeout?: number;
  /** What it writes goes where this process writes, and not into the result. */
  readonly inherit?: true;
}

/** UTF-8 text as the command wrote it, final newline included. */
export interface CommandResult {
  readonly stdout: string;
  readonly stderr: string;
}

/** The same of one that has failed; without exit code, a signal has ended it. */
export interface FailedCommand extends CommandResult {
  readonly exitCode: number | undefined;
}

const failures = new WeakMap<ToolError, FailedCommand>();

/** Runs a command and waits for it. A failure is a ToolError that holds the pasteable command, its exit code and its stderr. */
export type Exec = (command: Command) => Promise<CommandResult>;

/** Bytes a command may write to stdout or stderr before it is ended. */
const outputLimit = 16 * 1024 ** 2;
const patience = 5000;
const shownLines = 5;

/** Process groups of running commands, ended with this process. */
const running = new Set<number>();
process.once('exit', () => {
  for (const group of running) signalGroup(group, 'SIGTERM');
});

/**
 * The one command runner.
 *
 * @throws ToolError `cannot run COMMAND: reason`; the abort signal's own reason when that is a ToolError
 */
export const run: Exec = async (command) => {
  stopIfAborted(command);
  // Loading execa takes tens of milliseconds, which a build that runs no command need not spend.
  const { execa } = await import('execa');
  stopIfAborted(command);
  const [program, ...argv] = command.argv;
  if (command.argv.some((word) => word.includes('\0'))) {
    throw cannot('run', quoteCommand(command.argv), 'no argument can hold a null byte');
  }
  const child = execa(program, argv, {
    ...(command.cwd === undefined ? {} : { cwd: command.cwd }),
    ...(command.input === undefined ? { stdin: 'ignore' as const } : { input: command.input }),
    ...(command.inherit === true ? { stdout: 'inherit' as const, stderr: 'inherit' as const } : {}),
    env: command.environment,
    extendEnv: false,
    shell: false,
    stripFinalNewline: false,
    maxBuffer: outputLimit,
    // Its own process group, so that its children end with it. The terminal's Ctrl-C reaches it through `signal`.
    detached: true,
    reject: false,
  });
  const ended = endGroupWhen(child.pid, command);
  const result = await child;
  const why = ended.finish(result.isMaxBuffer);
  if (!result.failed) return { stdout: result.stdout ?? '', stderr: result.stderr ?? '' };
  if (why === 'aborted') stopIfAborted(command);
  const shown = quoteCommand(command.argv);
  if (result.code === 'ENOENT') throw await notFound(command, result);
  const cause: unknown = result;
  // It could not even be started: there is no output either.
  if (result.exitCode === undefined && result.signal === undefined) {
    const reason = result.code === 'E2BIG' ? 'the arguments are too long' : reasonOf(result.cause ?? result);
    throw cannot('run', shown, reason, { cause });
  }
  const reason =
    why === 'timeout'
      ? `it did not end within ${(command.timeout ?? 0) / 1000} s`
      : result.isMaxBuffer
        ? `it wrote more than ${outputLimit / 1024 ** 2} MiB`
        : result.exitCode === undefined
          ? `ended by ${result.signal ?? 'a signal'}`
          : `exit code ${result.exitCode}`;
  const said = lastLines(result.stderr ?? '');
  const error = cannot('run', shown, said === '' ? reason : `${reason}: ${said}`, { cause });
  failures.set(error, {
    stdout: result.stdout ?? '',
    stderr: result.stderr ?? '',
    exitCode: result.exitCode,
  });
  throw error;
};

/** What a command that has run and failed has left; undefined for every other error, also one that only tells of such. */
export function failedCommand(error: unknown): FailedCommand | undefined {
  return error instanceof ToolError ? failures.get(error) : undefined;
}

/**
 * What of the caller's environment a command may see: where programs and the user's own directories are. The
 * language and time zone are fixed, because the output is parsed.
 */
export function baseEnvironment(
  environment: Readonly<Record<string, string | undefined>>,
): Record<string, string> {
  const picked: Record<string, string> = { PATH: '/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin' };
  for (const [name, value] of Object.entries(environment)) {
    if (value === undefined) continue;
    if (['PATH', 'HOME', 'TMPDIR'].includes(name) || name.startsWith('XDG_')) picked[name] = value;
  }
  return { ...picked, LC_ALL: 'C.UTF-8', TZ: 'UTC' };
}

/**
 * Where a program is on the search path, without running it. Relative directories of the path do not count.
 *
 * @param path value of PATH
 */
export async function findProgram(name: string, path: string | undefined): Promise<string | undefined> {
  const candidates = name.includes('/')
    ? [name]
    : (path ?? '')
        .split(delimiter)
        .filter((directory) => isAbsolute(directory))
        .map((directory) => join(directory, name));
  for (const candidate of candidates) {
    const usable = await access(candidate, constants.X_OK).then(
      async () => (await stat(candidate)).isFile(),
      () => false,
    );
    if (usable) return candidate;
  }
  return undefined;
}

/** The command as one line to paste into a shell (bash, zsh, ksh, and POSIX 2024 for control characters). */
export function quoteCommand(argv: readonly string[]): string {
  return argv.map(quoteWord).join(' ');
}

function quoteWord(word: string): string {
  if (/^[A-Za-z0-9_@%+:,./-][A-Za-z0-9_@%+=:,./-]*$/.test(word)) return word;
  // eslint-disable-next-line no-control-regex -- control characters are what needs this form
  if (!/[\u0000-\u001f\u007f-\u009f\u2028\u2029]/.test(word)) return `'${word.replaceAll("'", `'\\''`)}'`;
  const escaped = word
    .replace(/[\\']/g, '\\$&')
    // eslint-disable-next-line no-control-regex -- the same
    .replace(/[\u0000-\u001f\u007f-\u009f\u2028\u2029]/g, (character) =>
      [...Buffer.from(character)].map((byte) => `\\${byte.toString(8).padStart(3, '0')}`).join(''),
    );
  return `$'${escaped}'`;
}

type Ending = 'aborted' | 'timeout' | undefined;

/** Ends the whole process group on abort or timeout. `finish` gives back what it holds and says what happened. */
function endGroupWhen(
  group: number | undefined,
  command: Command,
): { finish: (overflowed: boolean) => Ending } {
  if (group === undefined) return { finish: () => undefined }; // it never started
  running.add(group);
  let ending: Ending;
  let kill: NodeJS.Timeout | undefined;
  const end = (why: Ending): void => {
    if (ending !== undefined) return;
    ending = why;
    signalGroup(group, 'SIGTERM');
    kill = setTimeout(() => {
      signalGroup(group, 'SIGKILL');
    }, patience);
  };
  const abort = (): void => {
    end('aborted');
  };
  command.signal?.addEventListener('abort', abort, { once: true });
  const timer =
    command.timeout === undefined
      ? undefined
      : setTimeout(() => {
          end('timeout');
        }, command.timeout);
  return {
    finish: (overflowed) => {
      running.delete(group);
      clearTimeout(timer);
      clearTimeout(kill);
      command.signal?.removeEventListener('abort', abort);
      // The leader has gone; what it started and did not take along goes now.
      if (ending !== undefined || overflowed) signalGroup(group, 'SIGKILL');
      return ending;
    },
  };
}

function signalGroup(group: number, signal: NodeJS.Signals): void {
  try {
    process.kill(-group, signal);
  } catch {
    // It has ended by itself.
  }
}

function stopIfAborted(command: Command): void {
  if (command.signal?.aborted !== true) return;
  const reason: unknown = command.signal.reason;
  if (reason instanceof ToolError) throw reason;
  throw cannot('run', quoteCommand(command.argv), 'it was interrupted', { cause: reason });
}

async function notFound(command: Command, cause: unknown): Promise<ToolError> {
  if (command.cwd !== undefined) {
    const directory = await stat(command.cwd).catch(() => undefined);
    if (directory?.isDirectory() !== true) {
      return cannot('run', quoteCommand(command.argv), `there is no directory ${command.cwd}`, { cause });
    }
  }
  return cannot('run', command.argv[0], 'it is not installed', {
    hint: 'install it, or add the directory that holds it to PATH',
    cause,
  });
}

function lastLines(text: string): string {
  const lines = text.split(/[\r\n]+/).filter((line) => line.trim() !== '');
  return lines
    .slice(-shownLines)
    .map((line) => line.trim().slice(-500))
    .join(' | ');
}
