import { existsSync } from 'node:fs';
import { chmod, cp, mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { run } from '../../build/support/exec.js';
import { coreosUserTools, openCoreosUser } from '../docs/coreos-user.js';
import { errorLines, Place, program, type Outcome } from '../support/cli.js';
import { hostArchitecture, otherArchitecture } from '../support/host.js';
import { buildImage } from '../support/lab-image.js';
import { canRun } from '../support/lab-podman.js';
import { startRegistry, type Registry } from '../support/registry.js';
import { requireThat, requireTools } from '../support/tools.js';

const ready =
  requireThat(process.getuid?.() === 0, 'root, for network namespaces') &&
  requireTools('ip', 'ethtool', 'podman', 'runc', 'skopeo', 'docker-registry', 'find', 'sha256sum');
const emulated = ready && requireThat(canRun(otherArchitecture), 'an emulator for the other architecture');
const both = emulated ? [hostArchitecture, otherArchitecture] : [hostArchitecture];
const goNames = { x86_64: 'amd64', aarch64: 'arm64' } as Readonly<Record<string, string>>;

describe.skipIf(!ready)('the image of the smoke lab', () => {
  let work = '';
  let place: Place;
  let registry: Registry;
  let archive = '';
  let layout = '';
  let podmanFiles: Readonly<Record<string, string>> = {};
  /** ID of each architecture’s image. */
  const ids = new Map<string, string>();

  const command = async (...argv: [string, ...string[]]): Promise<string> => {
    const environment = { ...place.environment, ...podmanFiles };
    return (await run({ argv, environment, timeout: 60_000 })).stdout.trim();
  };
  const podman = (...args: readonly string[]): Promise<string> => command('podman', ...args);

  beforeAll(async () => {
    work = await mkdtemp(join(tmpdir(), 'smoke-image-'));
    await chmod(work, 0o755);
    place = new Place();
    const directory = join(work, 'built');
    await mkdir(directory);
    const arch = `${hostArchitecture},${otherArchitecture}`;
    const built = await buildImage(run, directory, join(work, 'cache'), [
      ...['images/scratch/dhcpd.yaml', '--engine', 'oci', '--arch', arch],
    ] as [string, ...string[]]);
    [archive, layout] = [built.archive, join(directory, 'dhcpd.oci')];

    // A Podman of a user who has set it up in another way than this machine has.
    await writeFile(
      join(work, 'containers.conf'),
      `[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "none"\nruntime = "runc"\ntmp_dir = "${work}/tmp"\n`,
    );
    await writeFile(
      join(work, 'storage.conf'),
      `[storage]\ndriver = "vfs"\ngraphroot = "${work}/storage"\nrunroot = "${work}/run"\n`,
    );
    registry = await startRegistry(join(work, 'registry'));
    await writeFile(
      join(work, 'registries.conf'),
      `[[registry]]\nlocation = "${registry.host}"\ninsecure = true\n`,
    );
    podmanFiles = {
      CONTAINERS_CONF: join(work, 'containers.conf'),
      CONTAINERS_STORAGE_CONF: join(work, 'storage.conf'),
      CONTAINERS_REGISTRIES_CONF: join(work, 'registries.conf'),
    };
    await command(
      ...['skopeo', 'copy', '--quiet', '--all', '--dest-tls-verify=false'],
      ...([`oci:${layout}`, `docker://${registry.host}/lan/dhcpd:1`] as const),
    );
    const pull = async (name: string): Promise<void> => {
      const one = ['--override-arch', goNames[name] ?? '', `oci:${layout}`];
      await command('skopeo', 'copy', '--quiet', ...one, `oci-archive:${join(work, `${name}.tar`)}`);
      ids.set(name, await podman('pull', '--quiet', `oci-archive:${join(work, `${name}.tar`)}`));
    };
    await podman('manifest', 'create', 'localhost/both:latest');
    for (const name of [hostArchitecture, otherArchitecture]) {
      await pull(name);
      await podman('tag', ids.get(name) ?? '', `localhost/${name}:latest`);
      await podman('manifest', 'add', 'localhost/both:latest', `containers-storage:localhost/${name}:latest`);
    }
    await podman('tag', ids.get(hostArchitecture) ?? '', 'localhost/dhcpd:latest');
    await podman('save', '--quiet', '--output', join(work, 'docker.tar'), 'localhost/dhcpd:latest');
    // The same server, and nobody has said where it keeps its leases.
    const bare = await podman('create', '--quiet', '--network', 'none', 'localhost/dhcpd');
    await podman('export', '--output', join(work, 'files.tar'), bare);
    await podman('rm', bare);
    await podman('import', '--quiet', join(work, 'files.tar'), 'localhost/bare:latest');
  }, 240_000);
  afterAll(async () => {
    place.remove();
    await registry.close();
    await rm(work, { recursive: true, force: true });
  });

  const smoke = (image: string, ...args: readonly string[]): Promise<Outcome> =>
    place.run(['smoke', '--image', image, '--only', 'fixed-address', '--json', ...args], {
      environment: podmanFiles,
    });
  /** Everything that the user's storage holds, and what is in it; without the files that only tell that it was opened. */
  const stored = async (): Promise<string> => {
    const listed = await podman('images', '--all', '--digests', '--no-trunc', '--format', 'json');
    const files = await command(
      ...['find', join(work, 'storage'), '-type', 'f', '!', '-name', '*.lock'],
      ...(['-exec', 'sha256sum', '{}', '+'] as const),
    );
    return [listed, ...files.split('\n').sort()].join('\n');
  };
  interface Document {
    readonly source: string;
    readonly ok: boolean;
    readonly runs: readonly { readonly architecture: string; readonly image: string }[];
  }
  const mustBeGood = ({ code, stdout, stderr }: Outcome, architectures: readonly string[]): string => {
    expect(code, stderr).toBe(0);
    const { source, ok, runs } = JSON.parse(stdout) as Document;
    expect(ok).toBe(true);
    expect(runs.map(({ architecture, image }) => [architecture, image])).toEqual(
      architectures.map((name) => [name, ids.get(name)]),
    );
    return source;
  };

  it.each<[string, () => string, readonly string[], () => string]>([
    ['a layout of several', () => layout, both, () => `oci:${layout}`],
    [
      'an oci-archive of one',
      () => join(work, `${hostArchitecture}.tar`),
      [hostArchitecture],
      () => `oci-archive:${join(work, `${hostArchitecture}.tar`)}`,
    ],
    [
      'one image of an oci-archive',
      () => `oci-archive:${archive}:localhost/dhcpd:latest`,
      [hostArchitecture],
      () => `oci-archive:${archive}:localhost/dhcpd:latest`,
    ],
    [
      'a docker-archive with its transport',
      () => `docker-archive:${join(work, 'docker.tar')}`,
      [hostArchitecture],
      () => `docker-archive:${join(work, 'docker.tar')}`,
    ],
    [
      'a name in the user’s Podman',
      () => 'localhost/dhcpd:latest',
      [hostArchitecture],
      () => 'containers-storage:localhost/dhcpd:latest',
    ],
    [
      'a manifest list in the user’s Podman',
      () => 'containers-storage:localhost/both:latest',
      both,
      () => 'containers-storage:localhost/both:latest',
    ],
    [
      'an ID',
      () => ids.get(hostArchitecture)?.slice(0, 12) ?? '',
      [hostArchitecture],
      () => `containers-storage:${ids.get(hostArchitecture)?.slice(0, 12) ?? ''}`,
    ],
    [
      'a name in a registry',
      () => `docker://${registry.host}/lan/dhcpd:1`,
      both,
      () => `docker://${registry.host}/lan/dhcpd:1`,
    ],
    [
      'the same without its transport',
      () => `${registry.host}/lan/dhcpd:1`,
      [hostArchitecture],
      () => `docker://${registry.host}/lan/dhcpd:1`,
    ],
  ])('may be %s', { timeout: 60_000 }, async (_what, image, architectures, source) => {
    const before = await stored();
    const outcome = await smoke(image(), '--arch', architectures.join(','));
    expect(mustBeGood(outcome, architectures)).toBe(source());
    expect(await stored()).toBe(before);
  });

  it.each<[string, () => readonly string[], number, RegExp]>([
    [
      'an archive for another architecture',
      () => [join(work, `${hostArchitecture}.tar`), '--arch', otherArchitecture],
      2,
      new RegExp(
        `^error: cannot read .*: it holds no image for ${otherArchitecture}, only for ${hostArchitecture};`,
      ),
    ],
    [
      'an image of the user for another architecture',
      () => ['localhost/dhcpd', '--arch', otherArchitecture],
      2,
      new RegExp(`^error: cannot read localhost/dhcpd: it holds no image for ${otherArchitecture}`),
    ],
    [
      'an index without the architecture',
      () => [`docker://${registry.host}/lan/dhcpd:1`, '--arch', 's390x'],
      2,
      /^error: cannot get image docker:.*no image found .*s390x/,
    ],
    [
      'an image without the volume',
      () => ['localhost/bare'],
      1,
      /^error: cannot test the image: none of its volumes is one that .*dhcpd\.yaml declares: it has none$/,
    ],
    [
      'a name that only the user’s Podman could have',
      () => ['localhost/nothing:latest'],
      2,
      /^error: cannot find image localhost\/nothing:latest: it is not in this user’s Podman storage; see `podman images`/,
    ],
    [
      'a name that the registry does not have',
      () => [`${registry.host}/lan/nothing:1`],
      1,
      /^error: cannot get image .*manifest unknown/,
    ],
    ['a registry that is not there', () => ['docker://127.0.0.1:1/x'], 1, /^error: cannot get .*refused/],
    [
      'no name',
      () => ['what is this'],
      2,
      /^error: cannot find image what is this: invalid reference format/,
    ],
    [
      'a file that is not there',
      () => ['oci-archive:x.tar'],
      2,
      /^error: cannot read .*: there is no such file/,
    ],
    [
      'a docker-archive',
      () => [join(work, 'docker.tar')],
      1,
      /^error: cannot read .*: it is a docker-archive/,
    ],
  ])('may not be %s', { timeout: 60_000 }, async (_what, args, code, message) => {
    const before = await stored();
    const [image = '', ...more] = args();
    const outcome = await smoke(image, ...more);
    const lines = errorLines(outcome).filter((line) => !/^(?:getting|testing) the image /.test(line));
    expect([outcome.code, ...lines]).toEqual([code, expect.stringMatching(message)]);
    expect(await stored()).toBe(before);
    expect(await leftovers()).toEqual([]);
  });

  it(
    'may not come from a registry without TLS, unless the user has said so',
    { timeout: 60_000 },
    async () => {
      const outcome = await place.run(['smoke', '--image', `docker://${registry.host}/lan/dhcpd:1`]);
      expect(outcome.code).toBe(1);
      expect(errorLines(outcome).at(-1)).toMatch(
        /^error: cannot get image .*; a registry without TLS must be `insecure` in registries\.conf$/,
      );
    },
  );

  it(
    'may be one of a user without any right, or come from a registry',
    { timeout: 240_000 },
    async (context) => {
      if (!requireTools(...coreosUserTools, 'unshare')) return;
      const user = await openCoreosUser();
      context.onTestFinished(() => user.close());
      await user.configure({
        containers: '[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "none"\nruntime = "runc"\n',
        storage: '[storage]\ndriver = "overlay"\n',
      });
      await cp(join(work, `${hostArchitecture}.tar`), join(user.home, 'dhcpd.tar'));
      await mkdir(join(user.home, '.config/containers'), { recursive: true });
      await cp(join(work, 'registries.conf'), join(user.home, '.config/containers/registries.conf'));
      await user.own();
      const listed = `podman images --all --digests --no-trunc --format json; find ~/.local/share/containers/storage -type f ! -name '*.lock' 2>/dev/null -exec sha256sum {} + | sort`;
      await user.run('podman tag "$(podman pull --quiet oci-archive:dhcpd.tar)" localhost/dhcpd:latest');
      const before = await user.run(listed);
      expect(before).toContain(ids.get(hostArchitecture));
      const tested = async (image: string): Promise<Outcome> => ({
        ...{ code: 0, signal: null, stderr: '' },
        stdout: await user.run(
          `TMPDIR=$HOME '${process.execPath}' '${program}' smoke --image '${image}' --only fixed-address --json 2>said || cat said >&2`,
        ),
      });
      for (const image of ['localhost/dhcpd:latest', `docker://${registry.host}/lan/dhcpd:1`]) {
        mustBeGood(await tested(image), [hostArchitecture]);
        expect(await user.run(listed)).toBe(before);
      }
      const { stdout } = await tested('localhost/nothing');
      expect(stdout).toMatch(
        /^error: cannot find image localhost\/nothing: it is not in this user’s Podman/m,
      );
      expect((await readdir(user.home)).filter((name) => name.startsWith('dhcpd-lab-'))).toEqual([]);
    },
  );
});

/** Directories of labs whose process has ended. */
async function leftovers(): Promise<readonly string[]> {
  return [...(await readdir(tmpdir())), ...(await readdir('/run'))].filter((line) => {
    const owner = /^dhcpd-lab-(\d+)-/.exec(line)?.[1];
    return owner !== undefined && !existsSync(`/proc/${owner}`);
  });
}
