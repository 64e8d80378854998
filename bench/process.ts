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
  /** The kernel's account of the process and its children; undefined without time(1). */
  readonly usage: Usage | undefined;
  readonly stdout: string;
}

export interface Usage {
  /** Largest resident set of any of the processes, bytes. */
  readonly memory: number;
  /** Processor time of all of them together, seconds: what the other work of a busy machine changes little. */
  readonly processor: number;
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
 * @param time path of GNU time(1), which asks the kernel
 * @throws Error with the command's last lines on stderr when it fails
 */
export async function measure(command: Command, time: string | undefined): Promise<Run> {
  const report = join(command.cwd, '.usage');
  const [program, ...parameters] =
    time === undefined
      ? command.argv
      : ([time, '--quiet', '--format=%M %U %S', `--output=${report}`, ...command.argv] as const);
  const begin = process.hrtime.bigint();
  const { code, stdout, stderr } = await finished(program, parameters, command);
  const seconds = Number(process.hrtime.bigint() - begin) / 1e9;
  if (code !== 0) {
    const said = stderr.trim().split('\n').slice(-3).join('; ');
    throw new Error(`${command.argv.join(' ')} failed with exit code ${code ?? 'none'}: ${said}`);
  }
  return {
    seconds,
    usage: time === undefined ? undefined : parseUsage(await readFile(report, 'utf8')),
    stdout,
  };
}

function parseUsage(report: string): Usage {
  const [kilobytes = NaN, user = NaN, system = NaN] = report.trim().split(' ').map(Number);
  return { memory: kilobytes * 1024, processor: user + system };
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
