import { accessSync, constants, statSync } from 'node:fs';
import { join } from 'node:path';

/**
 * Whether every named program is on PATH. In CI a missing one is an error; elsewhere it prints one line
 * and the caller skips: `describe.skipIf(!requireTools('readelf'))`.
 */
export function requireTools(...names: readonly string[]): boolean {
  const missing = names.filter((name) => findTool(name) === undefined);
  return requireThat(
    missing.length === 0,
    `${missing.join(', ')} on PATH (npm run host:tools installs the tools)`,
  );
}

/** The same for any other need of a test. @param need completes the line `skipped: the test needs ...` */
export function requireThat(met: boolean, need: string): boolean {
  if (met) return true;
  if (process.env['CI'] !== undefined) throw new Error(`the test needs ${need}`);
  process.stderr.write(`skipped: the test needs ${need}\n`);
  return false;
}

/** Absolute path of an executable file on PATH. */
export function findTool(name: string): string | undefined {
  return (process.env['PATH'] ?? '')
    .split(':')
    .filter((directory) => directory !== '')
    .map((directory) => join(directory, name))
    .find(isExecutable);
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return statSync(path).isFile();
  } catch {
    return false;
  }
}
