import { chmod, copyFile, mkdir, mkdtemp, realpath, rm, symlink } from 'node:fs/promises';
import { existsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { baseEnvironment, run } from '../../build/support/exec.js';
import { buildEnvironment } from '../support/lab-image.js';
import { project } from './commands.js';

/** A clone of the repository by somebody who has nothing else of it: no cache, no configuration. */
export interface FreshCopy {
  readonly directory: string;
  /** An empty directory beside it. */
  readonly empty: string;
  readonly environment: Readonly<Record<string, string>>;
  remove(): Promise<void>;
}

/**
 * Copies what git has or would add. Dependencies are those of the checkout, because test/system/first-use.test.ts
 * installs them as a user does; the program is compiled with the documented command, and on the search path under its
 * own name, as `npm install --global` has it.
 */
export async function openFreshCopy(): Promise<FreshCopy> {
  const work = await realpath(await mkdtemp(join(tmpdir(), 'dhcpd-docs-')));
  const [directory, empty, bin] = [join(work, 'dhcpd-scratch'), join(work, 'empty'), join(work, 'bin')];
  const environment = {
    ...buildEnvironment(),
    HOME: join(work, 'home'),
    XDG_CACHE_HOME: join(work, 'home', 'cache'),
    PATH: `${bin}:${baseEnvironment(process.env)['PATH'] ?? ''}`,
    npm_config_update_notifier: 'false',
  };
  try {
    for (const path of [directory, empty, bin, environment.HOME]) await mkdir(path);
    for (const path of await trackedFiles()) {
      await mkdir(dirname(join(directory, path)), { recursive: true });
      await copyFile(join(project, path), join(directory, path));
    }
    await symlink(join(project, 'node_modules'), join(directory, 'node_modules'));
    await run({ argv: ['npm', 'run', 'compile'], cwd: directory, environment, timeout: 120_000 });
    await chmod(join(directory, 'dist/cli.js'), 0o755);
    await symlink(join(directory, 'dist/cli.js'), join(bin, 'dhcpd-scratch'));
  } catch (error) {
    await rm(work, { recursive: true, force: true });
    throw error;
  }
  return { directory, empty, environment, remove: () => rm(work, { recursive: true, force: true }) };
}

async function trackedFiles(): Promise<readonly string[]> {
  const { stdout } = await run({
    argv: [
      ...(['git', '-c', `safe.directory=${project.replace(/\/$/, '')}`] as const),
      ...['ls-files', '-z', '--cached', '--others', '--exclude-standard', '--deduplicate'],
    ],
    cwd: project,
    environment: baseEnvironment(process.env),
  });
  // A file that has been removed stays on git's list until the removal is staged.
  return stdout.split('\0').filter((path) => path !== '' && existsSync(join(project, path)));
}
