import { $ } from 'zx';
import { ToolError } from '../support/errors.js';

/** What SIGINT and SIGTERM do while a script runs: what is to be undone is undone when the process exits. */
export const interrupt = (): never => process.exit(130);

/** Runs a maintainers' script: its commands are not echoed, and what goes wrong is printed, with exit code 1. */
export async function runScript(main: () => Promise<void>): Promise<void> {
  $.verbose = false;
  // Bash takes the socket that Node gives it as standard input for a remote login and reads .bashrc, which may be slow
  // or print something, unless another shell has started it (bash(1), INVOCATION).
  process.env['SHLVL'] = '1';
  process.once('SIGINT', interrupt).once('SIGTERM', interrupt);

  try {
    await main();
  } catch (error) {
    const reason =
      error instanceof ToolError || !(error instanceof Error)
        ? String(error)
        : (error.stack ?? error.message);
    process.stderr.write(`${reason.replace(/^ToolError: /, '')}\n`);
    process.exitCode = 1;
  }
}
