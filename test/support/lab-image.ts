import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { BuiltImage } from '../../build/image/engine.js';
import { baseEnvironment, type Exec } from '../../build/support/exec.js';

/** The checkout that the tests belong to. */
export const checkout = fileURLToPath(new URL('../..', import.meta.url));

/**
 * Builds an image with the compiled program, as a user does, and reads its JSON document.
 *
 * @param directory existing directory, receives the results and the lock file
 * @param cache the program's cache home, which several builds can share
 */
export async function buildImage(
  exec: Exec,
  directory: string,
  cache: string,
  args: readonly [definition: string, ...options: string[]],
): Promise<BuiltImage> {
  const { stdout } = await exec({
    argv: [
      process.execPath,
      ...[compiledProgram(), 'build', ...args],
      ...['--output', directory, '--lock-file', join(directory, 'lock.yaml'), '--json'],
    ],
    cwd: checkout,
    environment: { ...buildEnvironment(), XDG_CACHE_HOME: cache },
    timeout: 120_000,
  });
  // The program's own promise of what it prints.
  return JSON.parse(stdout) as BuiltImage;
}

/** What a build needs of the environment: programs, and the way to the network. */
export function buildEnvironment(): Record<string, string> {
  const network = /^(https?_proxy|no_proxy|NODE_EXTRA_CA_CERTS|SSL_CERT_FILE)$/i;
  const inherited = Object.entries(process.env).flatMap(([name, value]): [string, string][] =>
    value !== undefined && network.test(name) ? [[name, value]] : [],
  );
  return { ...baseEnvironment(process.env), ...Object.fromEntries(inherited) };
}

/** Path of dist/cli.js. @throws Error when it is older than its sources, because a test of it would prove nothing */
function compiledProgram(): string {
  const program = join(checkout, 'dist/cli.js');
  const compiled = statSync(program, { throwIfNoEntry: false })?.mtimeMs ?? 0;
  const sources = readdirSync(join(checkout, 'build'), { recursive: true, encoding: 'utf8' });
  const newer = sources.find(
    (path) => path.endsWith('.ts') && statSync(join(checkout, 'build', path)).mtimeMs > compiled,
  );
  if (newer !== undefined)
    throw new Error(`build/${newer} is newer than dist/cli.js: run npm run compile first`);
  return program;
}
