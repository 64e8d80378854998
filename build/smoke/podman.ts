import { accessSync, readFileSync } from 'node:fs';
import { mkdir, rm, statfs, symlink } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import type { Service } from '../units/service.js';
import { runArguments } from '../units/run-arguments.js';
import { ociPlatform } from '../image/config.js';
import type { Architecture } from '../support/architecture.js';
import { cannot } from '../support/errors.js';
import { findProgram } from '../support/exec.js';
import { podmanFailure } from './image-fetch.js';
import { privateStorage, removeContainers, type Lab, type LabMachine } from './lab.js';
import { isInUserNamespace } from './user-namespace.js';

/** What Podman must be told on this host before a container runs. On most hosts it is nothing but `--init`. */
export interface PodmanSettings {
  /** Before the verb. */
  readonly global: readonly string[];
  /** After `run`. */
  readonly run: readonly string[];
  /** Why, one line each. */
  readonly notes: readonly string[];
}

/** Podman with a storage of its own in the lab. */
export interface LabPodman {
  readonly settings: PodmanSettings;
  /** The program and what it must be told before the verb. */
  readonly argv: readonly string[];
  /** Loads the archive as a user does; Podman chooses this host's architecture from an index. Gives the image's ID. */
  load(archive: string): Promise<string>;
  /**
   * Takes one architecture of an index: `podman load` has no choice to offer, `podman pull` has.
   * Gives the image's ID.
   *
   * @param source in the words of containers-transports(5), such as `oci-archive:PATH:REFERENCE`
   */
  pull(source: string, architecture: Architecture): Promise<string>;
  inspectImage(image: string, format: string): Promise<string>;
  /** An image that differs from another one in a label alone, and so in its ID. Gives the ID. */
  relabel(image: string, label: string): Promise<string>;
  /** Where the image's files are to be seen; until the lab is closed. */
  mount(image: string): Promise<string>;
  /** Starts a server on the lab's server host as the image's own user, with no right but the capabilities. */
  serve(server: ServerOptions): Promise<LabContainer>;
  /** Starts a service on the lab's server host as its unit does. */
  run(service: Service, name: string): Promise<LabContainer>;
  /** Directory of a named volume on the host. */
  volume(name: string): Promise<string>;
}

export interface ServerOptions {
  /** ID of the image. */
  readonly image: string;
  readonly name: string;
  /** Without the CAP_ prefix. */
  readonly capabilities: readonly string[];
  /** The image's command, which follows its entrypoint. */
  readonly command: readonly string[];
  /** Mounted read-only: host's directory and the image's. */
  readonly config: { readonly from: string; readonly to: string };
  /** Named volume, made empty at the first start, and where it is mounted. */
  readonly state: { readonly volume: string; readonly to: string };
}

export interface LabContainer {
  /** When `podman run` was called: nanoseconds of CLOCK_MONOTONIC, which all processes of the machine share. */
  readonly begun: bigint;
  /** What the server has written to stdout and stderr. */
  log(): Promise<string>;
  /** Waits until the log has the text. @throws Error with the log when it has not within the time, in milliseconds */
  waitFor(text: string | RegExp, timeout?: number): Promise<void>;
  isRunning(): Promise<boolean>;
  /** Starts it again after it has ended. */
  start(): Promise<void>;
  /** Ends it as a power cut would: SIGKILL. */
  kill(): Promise<void>;
  /** Changes of its files against the image's, as `podman diff` has them. */
  changes(): Promise<readonly string[]>;
  /** The host's numbers of the server's own processes, without the init. */
  processes(): Promise<readonly ServerProcess[]>;
  /**
   * Stops it with the image's own signal and gives the time that took, in milliseconds.
   *
   * @param patience seconds after which Podman sends SIGKILL, from when the exit code is 137; default 10
   */
  stop(patience?: number): Promise<{ readonly exitCode: number; readonly milliseconds: number }>;
  remove(): Promise<void>;
}

export interface ServerProcess {
  readonly pid: number;
  readonly command: string;
  /** Fields of /proc/PID/status, such as `CapEff`; see proc_pid_status(5). */
  readonly status: ReadonlyMap<string, string>;
}

export async function openPodman({ exec, signal }: LabMachine, lab: Lab): Promise<LabPodman> {
  await mkdir(join(lab.directory, 'tmp'), { recursive: true });
  const settings = await adaptToHost(lab);
  const argv = ['podman', ...privateStorage(lab.directory), ...settings.global] as const;
  const podman: Podman = (...args) => podmanIn(undefined, ...args);
  const podmanIn = async (cwd: string | undefined, ...args: readonly string[]): Promise<string> => {
    const { stdout } = await exec({
      argv: [...argv, ...args],
      ...(cwd === undefined ? {} : { cwd }),
      environment: lab.environment,
      timeout: 60_000,
      ...(signal === undefined ? {} : { signal }),
    });
    return stdout.trim();
  };
  lab.onClose(() => removeContainers(exec, lab.environment, lab.directory));
  const inspectImage = (image: string, format: string): Promise<string> =>
    podman('image', 'inspect', '--format', format, image);

  return {
    settings,
    argv,
    inspectImage,
    load: async (archive) => {
      const said = await podman('load', '--quiet', '--input', archive);
      const reference = /^Loaded image: *(\S+)$/m.exec(said)?.[1];
      if (reference === undefined) throw cannot('load', archive, `podman names no image: ${said}`);
      return inspectImage(reference, '{{.Id}}');
    },
    pull: async (source, architecture) => {
      const wanted = ociPlatform(architecture).architecture;
      // Podman 4.3 takes the path of a layout for a name, which may have neither capitals nor spaces.
      const [, layout, reference = ''] = /^oci:([^:]+)(:.*)?$/.exec(source) ?? [];
      const link = join(lab.directory, 'layout');
      if (layout !== undefined) {
        await rm(link, { force: true });
        await symlink(resolve(layout), link);
      }
      const place = layout === undefined ? source : `oci:layout${reference}`;
      const id = await podmanIn(lab.directory, 'pull', '--quiet', '--arch', wanted, place).catch(
        podmanFailure('load', source, signal),
      );
      // An image that is no index is taken whatever it is for: Podman only warns.
      const found = await inspectImage(id, '{{.Architecture}}');
      if (found === wanted) return id;
      throw cannot('run', source, `it is for ${found}, not for ${wanted}`, { exitCode: 2 });
    },
    relabel: async (image, label) => {
      const container = await podman('create', ...settings.run, '--network', 'none', image);
      const id = await podman('commit', '--quiet', '--change', `LABEL ${label}`, container);
      await podman('rm', container);
      return id;
    },
    mount: (image) => podman('image', 'mount', image),
    run: async (service, name) => {
      const { options, command } = runArguments(service);
      const architecture = await inspectImage(service.image, '{{.Architecture}}');
      const begun = process.hrtime.bigint();
      await podman(
        ...['run', '--detach', '--pull=never', '--name', name, ...settings.run, ...options],
        ...['--network', `ns:/run/netns/${lab.server.namespace}`, '--log-driver', 'k8s-file'],
        ...['--arch', architecture, service.image, ...command],
      );
      return containerOf(podman, name, begun);
    },
    volume: (name) => podman('volume', 'inspect', '--format', '{{.Mountpoint}}', name),
    serve: async (server) => {
      const architecture = await inspectImage(server.image, '{{.Architecture}}');
      const begun = process.hrtime.bigint();
      await podman(
        ...['run', '--detach', '--name', server.name, ...settings.run],
        ...['--network', `ns:/run/netns/${lab.server.namespace}`],
        ...['--read-only', '--security-opt', 'no-new-privileges', '--log-driver', 'k8s-file'],
        ...['--cap-drop', 'all', ...server.capabilities.flatMap((name) => ['--cap-add', name])],
        ...['--volume', `${server.config.from}:${server.config.to}:ro`],
        ...['--volume', `${server.state.volume}:${server.state.to}`],
        ...['--arch', architecture, server.image, ...server.command],
      );
      return containerOf(podman, server.name, begun);
    },
  };
}

type Podman = (...args: readonly string[]) => Promise<string>;

function containerOf(podman: Podman, name: string, begun: bigint): LabContainer {
  const inspect = (format: string): Promise<string> =>
    podman('container', 'inspect', '--format', format, name);
  // conmon writes both streams of the container into this one file; `podman logs` would split them again.
  const log = async (): Promise<string> =>
    unpackLog(readFileSync(await inspect('{{.HostConfig.LogConfig.Path}}'), 'utf8'));
  const isRunning = async (): Promise<boolean> => (await inspect('{{.State.Running}}')) === 'true';
  return {
    begun,
    log,
    isRunning,
    waitFor: async (text, timeout = 30_000) => {
      const end = Date.now() + timeout;
      while (!new RegExp(text).test(await log())) {
        const running = await isRunning();
        if (!running || Date.now() > end) {
          throw new Error(
            `${name} ${running ? 'runs' : 'has ended'} without saying ${String(text)}:\n${await log()}`,
          );
        }
        await sleep(50);
      }
    },
    processes: async () => {
      const first = Number(await inspect('{{.State.Pid}}'));
      return [first, ...childrenOf(first)]
        .map(readProcess)
        .filter((found) => !/^\S*init --/.test(found.command));
    },
    start: async () => {
      await podman('start', name);
    },
    kill: async () => {
      await podman('kill', '--signal', 'KILL', name);
      await podman('wait', name);
    },
    changes: async () => (await podman('diff', name)).split('\n').filter(Boolean).sort(),
    stop: async (patience = 10) => {
      const begin = performance.now();
      await podman('stop', '--time', String(patience), name);
      const milliseconds = performance.now() - begin;
      return { exitCode: Number(await inspect('{{.State.ExitCode}}')), milliseconds };
    },
    remove: async () => {
      await podman('rm', '--force', '--time', '0', name);
    },
  };
}

/** Each line is `TIME STREAM TAG TEXT`; the tag P says that the text goes on in the next line, F that it ends. */
function unpackLog(file: string): string {
  return file.replace(/^\S+ (?:stdout|stderr) ([PF]) (.*)\n/gm, (_line, tag: string, text: string) =>
    tag === 'P' ? text : `${text}\n`,
  );
}

function childrenOf(pid: number): readonly number[] {
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8')
    .split(' ')
    .filter(Boolean)
    .map(Number);
  return children.flatMap((child) => [child, ...childrenOf(child)]);
}

function readProcess(pid: number): ServerProcess {
  const lines = readFileSync(`/proc/${pid}/status`, 'utf8').trim().split('\n');
  return {
    pid,
    command: readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').join(' ').trim(),
    status: new Map(
      lines.map((line): [string, string] => {
        const colon = line.indexOf(':');
        return [line.slice(0, colon), line.slice(colon + 1).trim()];
      }),
    ),
  };
}

const capSysResource = 24n;
const overlayMagic = 0x794c7630;
const initPaths = [
  '/usr/libexec/podman/catatonit',
  '/usr/libexec/catatonit/catatonit',
  '/usr/lib/podman/catatonit',
];

async function adaptToHost({ directory, environment }: Lab): Promise<PodmanSettings> {
  const global: string[] = [];
  const run: string[] = [];
  const notes: string[] = [];
  const has = async (program: string): Promise<boolean> =>
    (await findProgram(program, environment['PATH'])) !== undefined;

  if (isHybrid(readFileSync('/proc/self/mounts', 'utf8')) && (await has('runc'))) {
    global.push('--runtime', 'runc');
    notes.push('cgroups v1 and v2 are both mounted, which crun refuses: runc runs the containers');
  }
  if (!exists('/run/systemd/system') || isInUserNamespace()) {
    global.push('--cgroup-manager', 'cgroupfs');
    notes.push('systemd does not run: Podman makes its own control groups');
  }
  if ((await statfs(directory)).type === overlayMagic) {
    global.push('--storage-driver', 'vfs');
    notes.push(
      'the temporary directory is itself an overlay, on which no overlay can be mounted: vfs storage',
    );
  }
  if (!hasCapability(capSysResource)) {
    const limits = readFileSync('/proc/self/limits', 'utf8');
    // Podman asks for more than this process may have, and lowers its own process limit to kernel.pid_max first.
    const [files, processes] = [/^Max open files +\S+ +(\d+)/m, /^Max processes +\S+ +(\d+)/m].map((line) =>
      Math.min(Number(line.exec(limits)?.[1] ?? Infinity), 1024),
    );
    run.push('--ulimit', `nofile=${files}:${files}`, '--ulimit', `nproc=${processes}:${processes}`);
    notes.push('CAP_SYS_RESOURCE is missing, so no limit can be raised: small limits are set explicitly');
  }
  if (initPaths.some(exists) || (await has('catatonit'))) run.push('--init');
  else
    notes.push('catatonit is not installed: the server is process 1 and podman stop waits for its timeout');
  return { global, run, notes };
}

/** Whether control groups of version 1 are mounted beside version 2: cgroups(7), "hybrid" in systemd's words. */
function isHybrid(mounts: string): boolean {
  const types = new Set(mounts.split('\n').map((line) => line.split(' ')[2]));
  return types.has('cgroup') && types.has('cgroup2');
}

/** Whether this process has the capability, by its number in capabilities(7). */
function hasCapability(number: bigint): boolean {
  const effective = /^CapEff:\s*([0-9a-f]+)$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? '0';
  return ((BigInt(`0x${effective}`) >> number) & 1n) === 1n;
}

function exists(path: string): boolean {
  try {
    accessSync(path);
    return true;
  } catch {
    return false;
  }
}
