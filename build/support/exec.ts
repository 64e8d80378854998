/** One command to run: an argv array, never a shell line. */
export interface Command {
  readonly argv: readonly [string, ...string[]];
  readonly cwd?: string;
  /** The whole environment of the child; nothing is inherited. See `baseEnvironment`. */
  readonly environment: Readonly<Record<string, string>>;
  readonly input?: string | Buffer;
  readonly signal?: AbortSignal;
  /** Milliseconds; default none. */
  readonly timeout?: number;
}

export interface CommandResult {
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a command and waits for it. A failure is a ToolError that holds the pasteable command, its exit code and its stderr. */
export type Exec = (command: Command) => Promise<CommandResult>;
