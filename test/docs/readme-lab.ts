import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, copyFile, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { run } from '../../build/support/exec.js';
import { openPodman, type PodmanSettings } from '../support/lab-podman.js';
import { labEnvironment, openLab, type Lab } from '../support/lab.js';
import { project } from './commands.js';

/**
 * The machine that the README speaks of: its interface is eth0, its configuration is in /etc/dhcp, and Podman's own
 * storage is empty. It is a network namespace, a mount namespace and Podman's configuration files; the host's
 * /etc/dhcp, interfaces, images and containers are neither seen nor changed.
 */
export interface ReadmeLab {
  readonly lab: Lab;
  /** Runs a line of shell there and gives its output: stdout, then stderr. */
  shell(line: string, cwd: string): Promise<string>;
  close(): Promise<void>;
}

export async function openReadmeLab(): Promise<ReadmeLab> {
  const lab = await openLab(run);
  try {
    await nameInterface(lab, 'eth0');
    const { settings } = await openPodman(run, lab);
    const environment = { ...labEnvironment, ...(await writePodmanConfiguration(lab.directory, settings)) };
    const holder = await holdNamespaces(lab, await copyExample(lab.directory));
    const enter = ['nsenter', '--target', String(holder), '--mount', '--net'] as const;
    // Before the lab removes the network namespace, and with it the process that holds the mounts.
    lab.onClose(async () => {
      await run({ argv: [...enter, 'podman', 'rm', '--force', '--all', '--time', '0'], environment });
    });
    return {
      lab,
      shell: async (line, cwd) => {
        const { stdout, stderr } = await run({
          argv: [...enter, 'sh', '-c', 'cd "$1" && eval "$2"', 'sh', cwd, line],
          environment,
          timeout: 60_000,
        });
        return `${stdout}${stderr}`;
      },
      close: () => lab.close(),
    };
  } catch (error) {
    await lab.close();
    throw error;
  }
}

async function nameInterface({ server }: Lab, name: string): Promise<void> {
  for (const change of [['down'], ['name', name], ['up']]) {
    await run({
      argv: [
        ...(['ip', '-n', server.namespace, 'link', 'set'] as const),
        ...[change.length === 1 && change[0] === 'up' ? name : server.interface, ...change],
      ],
      environment: labEnvironment,
    });
  }
}

/** The example as it stands: the lab's network is the one it declares. */
async function copyExample(directory: string): Promise<string> {
  const to = join(directory, 'etc-dhcp');
  await mkdir(to);
  await copyFile(join(project, 'config/dhcpd.conf.example'), join(to, 'dhcpd.conf'));
  await chmod(to, 0o755);
  await chmod(join(to, 'dhcpd.conf'), 0o644);
  return to;
}

/** A process in the server's network namespace that sees another /etc/dhcp. The lab ends it. Gives its number. */
async function holdNamespaces({ server }: Lab, configuration: string): Promise<number> {
  const child = spawn(
    'nsenter',
    [
      ...[`--net=/run/netns/${server.namespace}`, 'unshare', '--mount', '--propagation', 'private'],
      ...['sh', '-c', 'mount --bind "$1" /etc/dhcp && echo ready && exec sleep 600', 'sh', configuration],
    ],
    { env: labEnvironment, stdio: ['ignore', 'pipe', 'inherit'] },
  );
  child.unref();
  await Promise.race([
    once(child.stdout, 'data'),
    once(child, 'exit').then(([code]) => {
      throw new Error(`the mount namespace could not be made: exit code ${String(code)}`);
    }),
  ]);
  child.stdout.destroy();
  if (child.pid === undefined) throw new Error('the mount namespace could not be made');
  return child.pid;
}

/**
 * Says in containers.conf(5) and containers-storage.conf(5) what the lab says to Podman with options, so that the
 * documented command line needs no change on a host that is not a whole machine.
 */
async function writePodmanConfiguration(
  directory: string,
  settings: PodmanSettings,
): Promise<Readonly<Record<string, string>>> {
  const given = optionsOf([...settings.global, ...settings.run]);
  const engine = new Map([
    ['static_dir', join(directory, 'storage', 'libpod')],
    ['volume_path', join(directory, 'storage', 'volumes')],
    ['tmp_dir', join(directory, 'tmp')],
    ['events_logger', 'none'],
  ]);
  const containers = ['log_driver = "k8s-file"'];
  let driver = 'overlay';
  for (const [option, values] of given) {
    const [value = ''] = values;
    if (option === '--runtime') engine.set('runtime', value);
    else if (option === '--cgroup-manager') engine.set('cgroup_manager', value);
    else if (option === '--storage-driver') driver = value;
    else if (option === '--ulimit') containers.push(`default_ulimits = ${JSON.stringify(values)}`);
    else if (option !== '--init') throw new Error(`no setting of containers.conf is known for ${option}`);
  }
  const files = {
    CONTAINERS_CONF: join(directory, 'containers.conf'),
    CONTAINERS_STORAGE_CONF: join(directory, 'storage.conf'),
  };
  const engineLines = [...engine].map(([name, value]) => `${name} = ${JSON.stringify(value)}`);
  await writeFile(
    files.CONTAINERS_CONF,
    ['[containers]', ...containers, '[engine]', ...engineLines, ''].join('\n'),
  );
  const storage = { driver, graphroot: join(directory, 'storage'), runroot: join(directory, 'run') };
  const storageLines = Object.entries(storage).map(([name, value]) => `${name} = ${JSON.stringify(value)}`);
  await writeFile(files.CONTAINERS_STORAGE_CONF, ['[storage]', ...storageLines, ''].join('\n'));
  return files;
}

/** `--name value` pairs and names alone, by name. */
function optionsOf(argv: readonly string[]): ReadonlyMap<string, readonly string[]> {
  const options = new Map<string, string[]>();
  let last: string[] = [];
  for (const word of argv) {
    if (word.startsWith('--')) {
      last = options.get(word) ?? [];
      options.set(word, last);
    } else last.push(word);
  }
  return options;
}
