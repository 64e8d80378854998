import { existsSync } from 'node:fs';
import { copyFile, mkdir, mkdtemp, readdir, rm, stat, symlink } from 'node:fs/promises';
import { availableParallelism, loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { baseEnvironment, run } from '../../build/support/exec.js';
import { buildEnvironment, checkout } from '../support/lab-image.js';
import { findTool, requireTools } from '../support/tools.js';

/**
 * What somebody does who has just found the project: clone, install, build, without root and on a machine that has
 * Node.js and nothing else. Then a second person, whose machine differs in everything that must not matter.
 */
const ready = requireTools('git', 'npm', 'npx', 'apt-config', 'tar', 'cp', 'chown', 'setpriv', 'faketime');

/**
 * All that is on the search path. npm runs its scripts with a shell; apt-config, which is on every Debian, says where
 * the host's packages come from.
 */
const programs = [
  ...['node', 'npm', 'npx', 'apt-config'],
  ...['sh', 'env', 'cat', 'cp', 'ls', 'mkdir', 'mv', 'rm', 'uname', 'readlink'],
];
/** The user and group `nobody`, who runs everything when the tests are run by root. */
const nobody = '65534';
const lockFile = 'images/scratch/dhcpd.lock.yaml';

/** A directory of its own for one person. */
interface Place {
  readonly directory: string;
  /** Runs a program there without any right and gives what it writes to stdout. */
  run(program: string, ...args: readonly string[]): Promise<string>;
}

describe.skipIf(!ready)('first use', () => {
  let work = '';
  let first: Place;

  beforeAll(async () => {
    work = await mkdtemp(join(tmpdir(), 'dhcpd-first-use-'));
    await mkdir(join(work, 'bin'));
    for (const name of programs) await symlink(toolPath(name), join(work, 'bin', name));
    await packWorkingTree(join(work, 'tree.tar'));
    await copyPackageCache(join(work, 'npm'));
    await giveAway(work);
    first = await clone('first', '022', {});
  }, 300_000);
  afterAll(async () => {
    await rm(work, { recursive: true, force: true });
  });

  it('builds an image with one command and no tool, twice the same', async () => {
    const report = await first.run('npm', 'run', 'build:scratch');
    expect(report).toMatch(/^digest +sha256:[0-9a-f]{64}$/m);
    expect(report).toMatch(/ compressed, [0-9.]+ \S+ in [1-9][0-9]* files from [1-9][0-9]* packages/);
    const archive = /^archive +(\S+)$/m.exec(report)?.[1] ?? '';
    expect((await stat(join(first.directory, archive))).size).toBeGreaterThan(1_000_000);
    expect(digestOf(await first.run('npm', 'run', 'build:scratch'))).toBe(digestOf(report));
  }, 180_000);

  it('builds the same image in another directory, umask, language, time zone, year and cache', async () => {
    const digest = digestOf(await first.run('npm', 'run', 'build:scratch'));
    const second = await clone('second clone', '077', {
      LC_ALL: 'tr_TR.UTF-8',
      LANG: 'tr_TR.UTF-8',
      TZ: 'Pacific/Chatham',
    });
    await copyFile(join(first.directory, lockFile), join(second.directory, lockFile));
    expect(digestOf(await second.run('npm', 'run', 'build:scratch'))).toBe(digest);

    // By then the archive's signed index has expired: the lock file and the cache have to do.
    const build = ['dist/cli.js', 'build', 'images/scratch/dhcpd.yaml', '--locked', '--offline'];
    expect(digestOf(await second.run(toolPath('faketime'), '-f', '+400d', 'node', ...build))).toBe(digest);
  }, 300_000);

  it('works as an installed package', async () => {
    await first.run('npm', 'pack', '--pack-destination', work);
    const archive = (await readdir(work)).find((name) => name.endsWith('.tgz')) ?? '';
    const user = await openPlace('installed', '022', {});
    await user.run('npm', 'init', '--yes');
    await user.run('npm', 'install', '--prefer-offline', join(work, archive));
    expect(await user.run('npx', 'dhcpd-scratch', '--version')).toMatch(/^[0-9]+\.[0-9]+\.[0-9]+\n$/);
    const lock = ['--lock-file', join(first.directory, lockFile)];
    expect(digestOf(await user.run('npx', 'dhcpd-scratch', 'build', ...lock))).toBe(
      digestOf(await first.run('npm', 'run', 'build:scratch')),
    );
  }, 300_000);

  it('shows its help within a quarter of a second', { retry: 2 }, async () => {
    expect(await timeOf('--help')).toBeLessThan(250);
  });

  it('builds again within a second', { retry: 2, timeout: 120_000 }, async () => {
    const build = ['build', 'images/scratch/dhcpd.yaml'] as const;
    await first.run('node', 'dist/cli.js', ...build);
    expect(await timeOf(...build)).toBeLessThan(1000);
  });

  /** Milliseconds that the program takes, the median of five runs. */
  async function timeOf(...args: readonly string[]): Promise<number> {
    const runs: { readonly elapsed: number; readonly computed: number }[] = [];
    for (let count = 0; count < 5; count += 1) {
      const begin = performance.now();
      // `times` prints user and system time of the children in its second line: 0m0.070000s 0m0.010000s
      const script = '"$@" >/dev/null && times';
      const report = await first.run('sh', '-c', script, 'sh', 'node', 'dist/cli.js', ...args);
      const elapsed = performance.now() - begin;
      const seconds = [...(report.split('\n')[1] ?? '').matchAll(/([0-9]+)m([0-9.]+)s/g)].map(
        ([, minutes, rest]) => Number(minutes) * 60 + Number(rest),
      );
      expect(seconds).toHaveLength(2);
      runs.push({ elapsed, computed: seconds.reduce((sum, one) => sum + one * 1000, 0) });
    }
    // On a machine that is busy with other things, only the processor's time says something about the program.
    const busy = (loadavg()[0] ?? 0) > availableParallelism();
    process.stdout.write(`${args.join(' ')}: ${JSON.stringify(runs)}${busy ? ', on a busy machine' : ''}\n`);
    return runs.map((one) => (busy ? one.computed : one.elapsed)).sort((a, b) => a - b)[2] ?? Infinity;
  }

  /** The working tree as a fresh clone, with its dependencies installed. */
  async function clone(name: string, umask: string, environment: Record<string, string>): Promise<Place> {
    const place = await openPlace(name, umask, environment);
    await place.run(toolPath('tar'), '--extract', '--file', join(work, 'tree.tar'));
    await place.run('npm', 'ci', '--prefer-offline');
    return place;
  }

  async function openPlace(name: string, umask: string, environment: Record<string, string>): Promise<Place> {
    const [directory, home] = [join(work, name), join(work, `home of ${name}`)];
    for (const path of [directory, home]) {
      await mkdir(path);
      await giveAway(path);
    }
    return {
      directory,
      run: async (program, ...args) => {
        const { stdout } = await run({
          argv: [
            ...withoutRights(),
            toolPath('sh'),
            '-c',
            `umask ${umask} && exec "$@"`,
            'sh',
            program,
            ...args,
          ],
          cwd: directory,
          environment: {
            ...buildEnvironment(),
            ...environment,
            HOME: home,
            PATH: join(work, 'bin'),
            XDG_CACHE_HOME: join(home, 'cache'),
            npm_config_cache: join(work, 'npm'),
            npm_config_update_notifier: 'false',
          },
          timeout: 200_000,
        });
        return stdout;
      },
    };
  }
});

/** What git has or would add: a clone of the next commit. */
async function packWorkingTree(archive: string): Promise<void> {
  const environment = baseEnvironment(process.env);
  const git = ['git', '-c', `safe.directory=${checkout.replace(/\/$/, '')}`] as const;
  const listed = await run({
    argv: [...git, 'ls-files', '-z', '--cached', '--others', '--exclude-standard', '--deduplicate'],
    cwd: checkout,
    environment,
  });
  await run({
    argv: ['tar', '--create', '--file', archive, '--null', '--verbatim-files-from', '--files-from=-'],
    cwd: checkout,
    environment,
    // git still lists what has been removed since the last commit.
    input: listed.stdout.replace(/[^\0]+\0/g, (entry) =>
      existsSync(join(checkout, entry.slice(0, -1))) ? entry : '',
    ),
  });
}

/** What npm has downloaded before, so that the test needs the registry only for what is new. */
async function copyPackageCache(to: string): Promise<void> {
  const environment = baseEnvironment(process.env);
  const { stdout } = await run({ argv: ['npm', 'config', 'get', 'cache'], environment });
  await mkdir(to);
  const cached = await readdir(stdout.trim()).catch((): string[] => []);
  if (!cached.includes('_cacache')) return;
  await run({ argv: ['cp', '-r', join(stdout.trim(), '_cacache'), to], environment });
}

function withoutRights(): [string, ...string[]] {
  const keep: [string, ...string[]] = [toolPath('setpriv'), '--no-new-privs'];
  return process.getuid?.() === 0
    ? [...keep, `--reuid=${nobody}`, `--regid=${nobody}`, '--clear-groups', '--inh-caps=-all']
    : keep;
}

async function giveAway(path: string): Promise<void> {
  if (process.getuid?.() !== 0) return;
  await run({
    argv: ['chown', '--recursive', '--no-dereference', `${nobody}:${nobody}`, path],
    environment: baseEnvironment(process.env),
  });
}

function toolPath(name: string): string {
  const path = findTool(name);
  if (path === undefined) throw new Error(`${name} is not on PATH`);
  return path;
}

function digestOf(report: string): string {
  const digest = /^digest +(sha256:[0-9a-f]{64})$/m.exec(report)?.[1];
  if (digest === undefined) throw new Error(`there is no digest in ${report}`);
  return digest;
}
