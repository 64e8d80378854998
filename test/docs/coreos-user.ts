import { chmod, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { run } from '../../build/support/exec.js';
import { buildEnvironment } from '../support/lab-image.js';

/** The programs that this module runs. */
export const coreosUserTools: readonly string[] = [
  ...['bash', 'chown', 'newuidmap', 'podman', 'setpriv', 'useradd', 'userdel'],
];

/** An account like CoreOS's `core`: without any right, with subordinate IDs, and with a Podman storage of its own. */
export interface CoreosUser {
  readonly home: string;
  /** Runs a script of bash in the home directory, and gives its output: stdout, then stderr. */
  run(script: string): Promise<string>;
  /** Gives everything in the home directory to the user. */
  own(): Promise<void>;
  /** Writes the user's containers.conf(5) and containers-storage.conf(5). */
  configure(files: { readonly containers: string; readonly storage: string }): Promise<void>;
  close(): Promise<void>;
}

const prefix = 'dhcpd-core';

/** The account is made on this machine, and removed again; one that a killed test left is removed by the next. */
export async function openCoreosUser(): Promise<CoreosUser> {
  await sweep();
  const name = `${prefix}-${process.pid}`;
  const home = await mkdtemp(join(tmpdir(), `${name}-`));
  await asRoot('useradd', '--home-dir', home, '--no-create-home', '--shell', '/bin/sh', name);
  await chmod(home, 0o755);
  const runtime = join(home, 'run');
  await mkdir(runtime, { mode: 0o700 });
  const own = (): Promise<unknown> => asRoot('chown', '--recursive', `${name}:`, home);
  await own();
  const environment = {
    // What is in the caller's own directories is not for this user.
    ...Object.fromEntries(
      Object.entries(buildEnvironment()).filter(([variable]) => !/^(?:XDG_|TMPDIR$)/.test(variable)),
    ),
    HOME: home,
    XDG_RUNTIME_DIR: runtime,
    CONTAINERS_CONF: join(home, 'containers.conf'),
    CONTAINERS_STORAGE_CONF: join(home, 'storage.conf'),
  };
  const shell = async (script: string): Promise<string> => {
    const { stdout, stderr } = await run({
      argv: [
        ...(['setpriv', `--reuid=${name}`, `--regid=${name}`, '--init-groups'] as const),
        ...['bash', '-e', '-o', 'pipefail', '-c', script],
      ],
      cwd: home,
      environment,
      timeout: 280_000,
    });
    return `${stdout}${stderr}`;
  };
  return {
    home,
    run: shell,
    own: async () => {
      await own();
    },
    configure: async ({ containers, storage }) => {
      await writeFile(environment.CONTAINERS_CONF, containers);
      await writeFile(environment.CONTAINERS_STORAGE_CONF, storage);
    },
    close: async () => {
      try {
        // Ends the process that holds the user's namespaces between two calls of Podman.
        await shell('podman system migrate');
      } finally {
        await asRoot('userdel', '--force', name);
        await rm(home, { recursive: true, force: true });
      }
    },
  };
}

async function sweep(): Promise<void> {
  const accounts = (await readFile('/etc/passwd', 'utf8'))
    .split('\n')
    .map((line) => line.split(':')[0] ?? '');
  for (const name of accounts.filter(isAbandoned)) await asRoot('userdel', '--force', name);
  for (const name of (await readdir(tmpdir())).filter(isAbandoned)) {
    await rm(join(tmpdir(), name), { recursive: true, force: true });
  }
}

function isAbandoned(name: string): boolean {
  const owner = new RegExp(`^${prefix}-([0-9]+)(?:-|$)`).exec(name)?.[1];
  if (owner === undefined) return false;
  try {
    process.kill(Number(owner), 0);
    return false;
  } catch (error) {
    return error instanceof Error && 'code' in error && error.code === 'ESRCH';
  }
}

function asRoot(program: string, ...args: readonly string[]): Promise<unknown> {
  return run({ argv: [program, ...args], environment: buildEnvironment() });
}
