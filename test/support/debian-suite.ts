import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { cacheHome, locked } from '../../build/host/cached.js';
import { run } from '../../build/support/exec.js';
import { readOsRelease } from '../../build/repository/os-release.js';
import { buildEnvironment } from './lab-image.js';
import { requireThat, requireTools } from './tools.js';

/** Programs of another Debian than the host's, unpacked and run through their own loader. Nothing is installed. */
export interface DebianSuite {
  readonly name: string;
  /** Where its packages are unpacked. */
  readonly root: string;
  /** Argv that runs one of its programs, such as `usr/libexec/podman/quadlet`. */
  command(program: string, ...args: readonly string[]): [string, ...string[]];
}

/** Packages that tests use. `systemd` comes with the libraries that it needs, the others need the C library alone. */
const alone = ['podman', 'ignition', 'libc6'];
const whole = ['systemd'];

/**
 * Gets the packages of a suite from the archive that the host's apt uses, and keeps them in the user's cache. A test
 * that cannot have them is skipped with a line, and fails in CI.
 */
export async function debianSuite(suite: string): Promise<DebianSuite | undefined> {
  if (!requireTools('apt-get', 'dpkg-deb', 'flock')) return undefined;
  const cache = join(cacheHome(), 'dhcpd-scratch-suites');
  const root = join(cache, suite);
  await mkdir(cache, { recursive: true });
  try {
    await locked(join(cache, `.${suite}.lock`), async () => {
      if (!existsSync(root)) await unpackSuite(suite, root);
    });
    return await openSuite(suite, root);
  } catch (error) {
    requireThat(false, `packages of Debian ${suite}: ${String(error)}`);
    return undefined;
  }
}

async function openSuite(name: string, root: string): Promise<DebianSuite> {
  const [triplet] = (await readdir(join(root, 'usr/lib'))).filter((entry) => entry.endsWith('-linux-gnu'));
  const libraries = join(root, 'usr/lib', triplet ?? '');
  const [loader] = (await readdir(libraries)).filter((entry) => /^ld-linux-.*\.so\.[0-9]+$/.test(entry));
  if (loader === undefined) throw new Error(`there is no dynamic loader in ${libraries}`);
  return {
    name,
    root,
    command: (program, ...args) => [
      join(libraries, loader),
      ...['--library-path', `${libraries}:${join(libraries, 'systemd')}`, join(root, program), ...args],
    ],
  };
}

async function unpackSuite(suite: string, root: string): Promise<void> {
  const work = await mkdtemp(join(tmpdir(), 'suite-'));
  const aside = `${root}.${process.pid}.tmp`;
  const environment = buildEnvironment();
  try {
    for (const name of ['state/lists/partial', 'cache/archives/partial', 'debs'])
      await mkdir(join(work, name), { recursive: true });
    await writeFile(join(work, 'status'), '');
    await writeFile(join(work, 'suite.list'), await sourceOf(suite));
    const options = [
      `Dir::Etc::sourcelist=${join(work, 'suite.list')}`,
      'Dir::Etc::sourceparts=-',
      `Dir::State=${join(work, 'state')}`,
      `Dir::State::status=${join(work, 'status')}`,
      `Dir::Cache=${join(work, 'cache')}`,
      'APT::Sandbox::User=',
      'Acquire::Languages=none',
      'APT::Get::List-Cleanup=0',
    ].flatMap((option) => ['-o', option]);
    const apt = (...args: readonly string[]): Promise<unknown> =>
      run({
        argv: ['apt-get', '--quiet', ...options, ...args],
        cwd: join(work, 'debs'),
        environment,
        timeout: 240_000,
      });
    await apt('update', '--error-on=any');
    await apt('download', ...alone);
    await apt('install', '--yes', '--download-only', '--no-install-recommends', ...whole);
    for (const directory of [join(work, 'debs'), join(work, 'cache/archives')]) {
      for (const name of (await readdir(directory)).filter((entry) => entry.endsWith('.deb')))
        await run({ argv: ['dpkg-deb', '--extract', join(directory, name), aside], environment });
    }
    await rename(aside, root);
  } finally {
    await rm(work, { recursive: true, force: true });
    await rm(aside, { recursive: true, force: true });
  }
}

/** The host's own source with another suite: same archive, same keys. */
async function sourceOf(suite: string): Promise<string> {
  const codename = (await readOsRelease()).get('VERSION_CODENAME');
  const { stdout } = await run({
    argv: [
      ...(['apt-get', 'indextargets', '--format', '$(REPO_URI) $(RELEASE) $(COMPONENT)'] as const),
      'Created-By: Packages',
    ],
    environment: buildEnvironment(),
  });
  const source = stdout
    .split('\n')
    .map((line) => line.split(' '))
    .find(([, release, component]) => release === codename && component === 'main');
  const [uri] = source ?? [];
  if (uri === undefined) throw new Error(`apt has no source of Debian ${codename ?? ''}`);
  const keys = ['gpg', 'pgp']
    .map((ending) => `/usr/share/keyrings/debian-archive-keyring.${ending}`)
    .find((path) => existsSync(path));
  return `deb ${keys === undefined ? '' : `[signed-by=${keys}] `}${uri} ${suite} main\n`;
}
