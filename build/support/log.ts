/** What the program reports while it works. All of it goes to stderr; stdout carries the result alone. */
export interface Log {
  /** A step that begins or a fact worth a line. */
  info(message: string): void;
  /** Something the user should look at; the work goes on. Repeated messages are shown once. */
  warn(message: string): void;
  /** Shown with --debug only. */
  debug(message: string): void;
  /** Starts counting a transfer or another long step; shown as one bar over all tasks, or as plain lines. */
  task(label: string, totalBytes: number | undefined): Task;
}

export interface Task {
  /** @param bytes further bytes done since the last call */
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
