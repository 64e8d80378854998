import { spawn } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  realpathSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { expect } from 'vitest';

/** dist/cli.js, which global-setup.ts has compiled. */
export const program = fileURLToPath(new URL('../../dist/cli.js', import.meta.url));

/** How a run of the program ended, and what it wrote. */
export interface Outcome {
  /** Null when a signal ended it. */
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunOptions {
  /** Default: the place's directory. */
  readonly cwd?: string;
  /** Set, or with undefined taken away from, the place's environment. */
  readonly environment?: Readonly<Record<string, string | undefined>>;
  /** Program and arguments to run it with, such as `['setpriv', '--reuid=65534']`. */
  readonly under?: readonly string[];
  /** Sent one after the other when the promise is fulfilled, if the program runs still. */
  readonly interrupt?: { readonly signals: readonly NodeJS.Signals[]; readonly when: Promise<unknown> };
}

/** A directory of its own for one user: files, cache and apt configuration. Nothing of the host's reaches the program. */
export class Place {
  readonly directory = realpathSync(mkdtempSync(join(tmpdir(), 'cli-')));
  readonly cache = join(this.directory, 'cache', 'dhcpd-scratch');
  readonly out = join(this.directory, 'out');
  readonly environment: Readonly<Record<string, string>>;

  /** @param files by name, to be written into the directory */
  constructor(files: Readonly<Record<string, string>> = {}) {
    for (const [name, text] of Object.entries(files)) this.write(name, text);
    mkdirSync(join(this.directory, 'apt'));
    this.write('apt.conf', `Dir::Etc "${this.directory}/apt";\nDir::State "${this.directory}/apt";\n`);
    this.environment = {
      PATH: process.env['PATH'] ?? '/usr/bin:/bin',
      HOME: this.directory,
      XDG_CACHE_HOME: join(this.directory, 'cache'),
      APT_CONFIG: join(this.directory, 'apt.conf'),
      TMPDIR: tmpdir(),
    };
  }

  path(name: string): string {
    return join(this.directory, name);
  }

  write(name: string, text: string | Buffer): string {
    writeFileSync(this.path(name), text);
    return this.path(name);
  }

  async run(args: readonly string[], options: RunOptions = {}): Promise<Outcome> {
    const { cwd = this.directory, environment = {}, under = [], interrupt } = options;
    const [command = '', ...rest] = [...under, process.execPath, program, ...args];
    const child = spawn(command, rest, {
      cwd,
      env: Object.fromEntries(
        Object.entries({ ...this.environment, ...environment }).filter(([, value]) => value !== undefined),
      ),
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    void interrupt?.when.then(async () => {
      for (const signal of interrupt.signals) {
        child.kill(signal);
        await sleep(100);
      }
    });
    const output = { stdout: '', stderr: '' };
    for (const name of ['stdout', 'stderr'] as const) {
      child[name].setEncoding('utf8').on('data', (chunk: string) => (output[name] += chunk));
    }
    return new Promise((resolve, reject) => {
      child.once('error', reject);
      child.once('close', (code, signal) => {
        resolve({ code, signal, ...output });
      });
    });
  }

  /** Runs it and expects success. Gives what it printed. */
  async ok(args: readonly string[], options?: RunOptions): Promise<string> {
    const outcome = await this.run(args, options);
    expect(outcome, outcome.stderr).toMatchObject({ code: 0, signal: null });
    return outcome.stdout;
  }

  /** Everything below a name, sorted, directories with a slash; nothing when it is not there. */
  list(name = '.'): readonly string[] {
    const path = this.path(name);
    if (!existsSync(path)) return [];
    return readdirSync(path, { recursive: true, withFileTypes: true })
      .map((entry) => `${join(entry.parentPath, entry.name)}${entry.isDirectory() ? '/' : ''}`)
      .map((found) => found.slice(path.length + 1))
      .sort();
  }

  remove(): void {
    rmSync(this.directory, { recursive: true, force: true });
  }
}

/** Names of half-made things: what a run that ends, however it ends, must not leave for good. */
export function temporaryNames(names: readonly string[]): readonly string[] {
  return names.filter((name) => /\.(?:tmp|old)\/?$/.test(name));
}

/** The lines of what has just failed, each checked to be what users are promised: plain, and no stack trace. */
export function errorLines(outcome: Outcome): readonly string[] {
  expect(outcome.stdout).toBe('');
  expect(outcome.stderr).toMatch(/\n$/);
  expect(outcome.stderr).not.toMatch(/^ +at |node:internal|internal error|\.js:\d/m);
  return outcome.stderr.slice(0, -1).split('\n');
}
