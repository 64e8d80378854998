import { once } from 'node:events';
import { createReadStream } from 'node:fs';
import { copyFile, mkdir } from 'node:fs/promises';
import { createServer } from 'node:http';
import { isAbsolute, join } from 'node:path';
import { run } from '../../build/support/exec.js';
import type { StandIn } from '../support/fedora-stand-in.js';
import { buildEnvironment } from '../support/lab-image.js';
import type { Lab } from '../support/lab.js';
import { nodeImage } from '../support/node-image.js';
import { project } from './commands.js';
import { openKeptDownloads } from './coreos-downloads.js';
import { openCoreosUser } from './coreos-user.js';
import { openReadmeLab } from './readme-lab.js';

/**
 * The host that docs/coreos.md speaks of, as far as this machine can be one: an account like `core` whose Podman needs
 * no root, root's own Podman with a storage of its own, and an interface eth0. SELinux is not there.
 */
export interface CoreosHost {
  readonly lab: Lab;
  /** Runs a line in the one shell that the document is typed into, and gives its output: stdout, then stderr. */
  shell(line: string): Promise<string>;
  /** Directory that the document's reader has made. */
  readonly checkout: string;
  /** How many packages the stand-in of Fedora's mirrors has been asked for. */
  downloads(): number;
  /** Keeps what npm has downloaded for the next run of the tests. */
  keepDownloads(): Promise<void>;
  close(): Promise<void>;
}

/** The addresses that the document leaves to its reader. */
const repository = 'https://git.example.org/dhcpd-scratch.git';
const archive = 'https://git.example.org/dhcpd-scratch/archive/main.tar.gz';

/** Where the containers see what is mounted into each of them. */
const inContainer = { repository: '/srv/repository', key: '/srv/fedora-key', npm: '/cache/npm' } as const;

export async function openCoreosHost(fedora: StandIn): Promise<CoreosHost> {
  const machine = await openReadmeLab();
  const undo: (() => Promise<void>)[] = [() => machine.close()];
  const close = async (): Promise<void> => {
    const step = undo.pop();
    if (step === undefined) return;
    try {
      await step();
    } finally {
      await close();
    }
  };
  try {
    const user = await openCoreosUser();
    undo.push(() => user.close());
    const mirror = await fedora.serve();
    undo.push(() => mirror.close());

    const directory = join(user.home, 'host');
    const podman = join(directory, 'podman');
    const npm = join(directory, 'npm');
    const key = join(directory, 'key');
    for (const path of [directory, podman, join(podman, 'tmp')]) await mkdir(path);
    const downloads = await openKeptDownloads();
    await downloads.give(npm);
    await copyFile(fedora.keyFile, key);
    const source = await commitWorkingTree(directory);
    const server = await serveFile(source.archive);
    undo.push(server.close);
    const root = await nodeImage(directory);

    const ofRoot = async (file: string): Promise<string> =>
      (await machine.shell(`cat "$${file}"`, '/')).replaceAll(machine.lab.directory, podman);
    const volumes = [
      `${source.repository}:${inContainer.repository}:ro`,
      `${key}:${inContainer.key}:ro`,
      `${npm}:${inContainer.npm}`,
    ];
    await user.configure({
      containers: await withNetworkOfHost(await ofRoot('CONTAINERS_CONF'), volumes),
      storage: await ofRoot('CONTAINERS_STORAGE_CONF'),
    });
    await user.own();
    await user.run(`podman import --quiet ${root} docker.io/library/node:22`);

    const elsewhere: readonly (readonly [string, string])[] = [
      [repository, inContainer.repository],
      [archive, server.url],
      // The Podman of this machine may be older than Quadlet; CoreOS's is not.
      [`"$(podman version --format '{{.Client.Version}}')"`, '5.6.0'],
      [
        'build:scratch -- --distro fedora',
        `build:scratch -- --distro fedora --mirror ${mirror.url}/metalink --keyring ${inContainer.key}`,
      ],
    ];
    // Each line has a process of its own: what a shell remembers is said to it again.
    const remembered: string[] = [];
    return {
      lab: machine.lab,
      checkout: join(user.home, 'dhcpd-scratch'),
      downloads: () => mirror.requests.filter(({ url }) => url.endsWith('.rpm')).length,
      keepDownloads: () => downloads.take(npm),
      close,
      shell: async (line) => {
        const here = elsewhere.reduce((text, [from, to]) => text.replaceAll(from, to), line);
        if (/\bsudo /.test(here)) {
          return machine.shell([...remembered, 'sudo() { "$@"; }', here].join('\n'), user.home);
        }
        const said = await user.run([...remembered, here].join('\n'));
        if (/^(?:cd |\w+=)/.test(here)) remembered.push(here);
        return said;
      },
    };
  } catch (error) {
    await close();
    throw error;
  }
}

/**
 * Says in containers.conf(5) what lets a container of this machine reach npm's registry and the stand-in of Fedora's
 * mirror, so that the documented command line needs no change. Proxies are handed on by Podman itself.
 */
async function withNetworkOfHost(settings: string, mounted: readonly string[]): Promise<string> {
  const environment = new Map([
    ['PATH', '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'],
    ['npm_config_registry', await configurationOfNpm('registry')],
    ['npm_config_update_notifier', 'false'],
    ['npm_config_prefer_offline', 'true'],
  ]);
  const certificates: readonly (readonly [string, string | undefined])[] = [
    ['npm_config_cafile', await configurationOfNpm('cafile')],
    ['NODE_EXTRA_CA_CERTS', process.env['NODE_EXTRA_CA_CERTS']],
  ];
  const volumes = new Set(mounted);
  for (const [name, file] of certificates) {
    // npm says `null` for a setting that is not there.
    if (file === undefined || !isAbsolute(file)) continue;
    environment.set(name, file);
    volumes.add(`${file}:${file}:ro`);
  }
  const lines = [
    '[containers]',
    'netns = "host"',
    `env = ${JSON.stringify([...environment].map(([name, value]) => `${name}=${value}`))}`,
    `volumes = ${JSON.stringify([...volumes])}`,
  ];
  return settings.replace('[containers]', lines.join('\n'));
}

async function configurationOfNpm(key: string): Promise<string> {
  const { stdout } = await run({ argv: ['npm', 'config', 'get', key], environment: buildEnvironment() });
  return stdout.trim();
}

/** What git has or would add of this checkout, as a repository and as the archive that a forge makes of one. */
async function commitWorkingTree(
  directory: string,
): Promise<{ readonly repository: string; readonly archive: string }> {
  const [repository, archive] = [join(directory, 'repository'), join(directory, 'main.tar.gz')];
  const identity = ['-c', 'user.name=Nobody', '-c', 'user.email=nobody@example.org'];
  const git = (...argv: readonly string[]): Promise<unknown> =>
    run({
      argv: ['git', ...argv],
      cwd: repository,
      environment: { ...buildEnvironment(), HOME: directory },
    });
  await mkdir(repository);
  await git('init', '--quiet', '--initial-branch', 'main');
  // The checkout's own index is neither asked nor changed.
  await git('--work-tree', project, 'add', '--all');
  await git(...identity, 'commit', '--quiet', '--message', 'The working tree');
  await git('archive', '--prefix', 'dhcpd-scratch-main/', '--output', archive, 'HEAD');
  return { repository, archive };
}

async function serveFile(
  file: string,
): Promise<{ readonly url: string; readonly close: () => Promise<void> }> {
  const server = createServer((_request, response) => {
    createReadStream(file).pipe(response);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('the server has no port');
  return {
    url: `http://127.0.0.1:${address.port}/main.tar.gz`,
    close: async () => {
      server.close();
      server.closeAllConnections();
      await once(server, 'close');
    },
  };
}
