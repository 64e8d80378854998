/** Exit codes of the program: 2 for wrong usage or a wrong definition, 1 when the work itself failed. */
export type ExitCode = 1 | 2;

export interface ToolErrorOptions {
  readonly cause?: unknown;
  /** What the user can do next, one line, no full stop at the end. */
  readonly hint?: string;
  readonly exitCode?: ExitCode;
  /** Where one error stands for several problems: all of them, one line each. */
  readonly details?: readonly string[];
}

/** An error whose message is meant for the user: one line, `cannot <verb> <object>: <reason>`. */
export class ToolError extends Error {
  readonly hint: string | undefined;
  readonly exitCode: ExitCode;
  readonly details: readonly string[];

  constructor(message: string, options: ToolErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'ToolError';
    this.hint = options.hint === undefined ? undefined : oneLine(options.hint);
    this.exitCode = options.exitCode ?? 1;
    this.details = options.details ?? [];
  }
}

/**
 * Makes the error every stage throws: `cannot <verb> <object>: <reason>`.
 *
 * @example throw cannot('read', path, 'the file ends inside a header')
 */
export function cannot(
  verb: string,
  object: string,
  reason: string,
  options: ToolErrorOptions = {},
): ToolError {
  return new ToolError(`cannot ${verb} ${oneLine(object)}: ${oneLine(reason)}`, options);
}

/** The short reason behind any thrown value, with the operating system's codes put into words. */
export function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return oneLine(String(error));
  const code = 'code' in error && typeof error.code === 'string' ? error.code : undefined;
  const words = code === undefined ? undefined : systemReasons.get(code);
  return words ?? oneLine(error.message || error.name);
}

/** The next step that fits an operating system error, if there is one. */
export function hintOf(error: unknown): string | undefined {
  if (error instanceof ToolError) return error.hint;
  if (!(error instanceof Error) || !('code' in error) || typeof error.code !== 'string') return undefined;
  return systemHints.get(error.code);
}

const systemReasons = new Map([
  ['ENOSPC', 'no space is left on the device'],
  ['EDQUOT', 'the disk quota is used up'],
  ['EROFS', 'the file system is read-only'],
  ['EACCES', 'permission denied'],
  ['EPERM', 'operation not permitted'],
  ['ENOENT', 'no such file or directory'],
  ['ENOTDIR', 'a part of the path is not a directory'],
  ['EISDIR', 'it is a directory'],
  ['EEXIST', 'something else has this name'],
  ['EMFILE', 'too many open files'],
  ['ENAMETOOLONG', 'the name is too long'],
  ['ELOOP', 'too many symbolic links'],
]);

const systemHints = new Map([
  ['ENOSPC', 'free some space, or choose another place with --output and XDG_CACHE_HOME'],
  ['EDQUOT', 'free some space, or choose another place with --output and XDG_CACHE_HOME'],
  ['EROFS', 'choose a writable place with --output and XDG_CACHE_HOME'],
  ['EACCES', 'choose a writable place with --output and XDG_CACHE_HOME'],
  ['EEXIST', 'move it away, or choose another place with --output and XDG_CACHE_HOME'],
  ['ENOTDIR', 'choose another place with --output and XDG_CACHE_HOME'],
]);

/** Hostile input may hold control characters; a message must stay one printable line. */
function oneLine(text: string): string {
  // eslint-disable-next-line no-control-regex -- control characters are what is being removed
  return text.replace(/[\u0000-\u001f\u007f-\u009f\u2028\u2029]+/g, ' ').trim();
}
