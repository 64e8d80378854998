import { spawn } from 'node:child_process';
import { constants } from 'node:fs';
import { access, readFile } from 'node:fs/promises';
import { delimiter, join } from 'node:path';

export interface Command {
  readonly argv: readonly [string, ...string[]];
  readonly cwd: string;
  /** Added to the environment of this process. */
  readonly environment?: Readonly<Record<string, string>>;
}

/** One whole process, from before its start to after its end. */
export interface Run {
  readonly seconds: number;
  /** Largest resident set of the process and of each of its children, bytes; undefined without time(1). */
  readonly memory: number | undefined;
  readonly stdout: string;
}

/** The path of a program on PATH, or undefined. */
export async function findProgram(name: string): Promise<string | undefined> {
  for (const directory of (process.env['PATH'] ?? '').split(delimiter)) {
    const path = join(directory, name);
    const runs = await access(path, constants.X_OK).then(
      () => true,
      () => false,
    );
    if (runs) return path;
  }
  return undefined;
}

/**
 * Runs a command and measures it.
 *
 * @param time path of GNU time(1), which reads the kernel's own account of the memory
 * @throws Error with the command's last lines on stderr when it fails
 */
export async function measure(command: Command, time: string | undefined): Promise<Run> {
  const report = join(command.cwd, '.memory');
  const [program, ...parameters] =
    time === undefined
      ? command.argv
      : ([time, '--quiet', '--format=%M', `--output=${report}`, ...command.argv] as const);
  const begin = process.hrtime.bigint();
  const { code, stdout, stderr } = await finished(program, parameters, command);
  const seconds = Number(process.hrtime.bigint() - begin) / 1e9;
  if (code !== 0) {
    const said = stderr.trim().split('\n').slice(-3).join('; ');
    throw new Error(`${command.argv.join(' ')} failed with exit code ${code ?? 'none'}: ${said}`);
  }
  const kilobytes = time === undefined ? undefined : Number(await readFile(report, 'utf8'));
  return { seconds, memory: kilobytes === undefined ? undefined : kilobytes * 1024, stdout };
}

function finished(
  program: string,
  parameters: readonly string[],
  { cwd, environment }: Command,
): Promise<{ readonly code: number | null; readonly stdout: string; readonly stderr: string }> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, parameters, {
      cwd,
      env: { ...process.env, ...environment },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const stdout: Buffer[] = [];
    const stderr: Buffer[] = [];
    child.stdout.on('data', (chunk: Buffer) => stdout.push(chunk));
    child.stderr.on('data', (chunk: Buffer) => stderr.push(chunk));
    child.once('error', reject);
    child.once('close', (code) => {
      resolve({
        code,
        stdout: Buffer.concat(stdout).toString('utf8'),
        stderr: Buffer.concat(stderr).toString('utf8'),
      });
    });
  });
}
