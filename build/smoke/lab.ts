import { lstat, mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { baseEnvironment, type Exec } from '../support/exec.js';

/**
 * A network of two hosts on one wire: two network namespaces joined by a veth pair (ip-netns(8), veth(4)).
 * Nothing of the host's own network is touched. Needs root and `ip`.
 */
export interface Lab {
  /** Private directory, removed by `close`. */
  readonly directory: string;
  /** Of every program in the lab: what messages and times look like does not depend on the user. */
  readonly environment: Readonly<Record<string, string>>;
  readonly server: LabHost;
  readonly client: LabHost;
  /** Gives the client an address and the way to everybody on the wire; it starts without. */
  addressClient(): Promise<void>;
  /**
   * Has the client's packets carry their real checksums, which two namespaces leave to each other otherwise. A server
   * learns from PACKET_AUXDATA (packet(7)) that a checksum is not there yet, and QEMU's user mode does not hand that on.
   */
  completeChecksums(): Promise<void>;
  /** Runs before the namespaces are removed, last registered first. What it throws is not seen. */
  onClose(undo: () => Promise<void>): void;
  close(): Promise<void>;
}

export interface LabHost {
  /** Name of the namespace; `/run/netns/<namespace>` is its file. */
  readonly namespace: string;
  /** Name of the one interface that is not loopback. */
  readonly interface: string;
  readonly mac: string;
}

/** What the lab needs of this machine. */
export interface LabMachine {
  readonly exec: Exec;
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** Ends the commands that set the lab up, and those that run in it; not those that take it away. */
  readonly signal?: AbortSignal;
}

/** TEST-NET-1 of RFC 5737: the server's address, and the client's when it is given one. */
export const serverAddress = '192.0.2.1';
const clientAddress = '192.0.2.2';
const prefixLength = 24;

const prefix = 'dhcpd-lab';
const patience = 10_000;
let count = 0;

/** Sets the two hosts up. When this throws, nothing is left behind. What killed processes have left goes away. */
export async function openLab(machine: LabMachine): Promise<Lab> {
  const environment = labEnvironment(machine.environment);
  // Taking away goes on when the work has been interrupted.
  const tidy: Ip = (...args) => machine.exec({ argv: ['ip', ...args], environment, timeout: patience });
  const ip: Ip = (...args) =>
    machine.exec({
      argv: ['ip', ...args],
      environment,
      timeout: patience,
      ...(machine.signal === undefined ? {} : { signal: machine.signal }),
    });
  await sweep(machine.exec, environment, tidy);
  const id = `${prefix}-${process.pid}-${(count += 1)}`;
  const directory = await mkdtemp(join(tmpdir(), `${id}-`));
  const server: LabHost = { namespace: `${id}-server`, interface: 'lan0', mac: '02:00:00:00:00:01' };
  const client: LabHost = { namespace: `${id}-client`, interface: 'lan0', mac: '02:00:00:00:00:02' };

  const undo: (() => Promise<void>)[] = [];
  const close = async (): Promise<void> => {
    for (let step = undo.pop(); step !== undefined; step = undo.pop()) await step().catch(() => undefined);
    await rm(directory, { recursive: true, force: true });
  };
  try {
    for (const host of [server, client]) {
      undo.push(() => removeNamespace(tidy, host.namespace));
      await ip('netns', 'add', host.namespace);
      await ip('-n', host.namespace, 'link', 'set', 'lo', 'up');
    }
    // Both ends are born inside their namespaces, so their names cannot clash with the host's.
    await ip(
      ...['-n', server.namespace, 'link', 'add', server.interface, 'address', server.mac, 'type', 'veth'],
      ...['peer', 'name', client.interface, 'address', client.mac, 'netns', client.namespace],
    );
    const address = `${serverAddress}/${prefixLength}`;
    await ip('-n', server.namespace, 'address', 'add', address, 'dev', server.interface);
    for (const host of [server, client]) await ip('-n', host.namespace, 'link', 'set', host.interface, 'up');
  } catch (error) {
    await close();
    throw error;
  }
  return {
    directory,
    environment,
    server,
    client,
    addressClient: async () => {
      const own = ['-n', client.namespace];
      await ip(...own, 'address', 'add', `${clientAddress}/${prefixLength}`, 'dev', client.interface);
      await ip(...own, 'route', 'add', '255.255.255.255/32', 'dev', client.interface);
    },
    completeChecksums: async () => {
      await ip('netns', 'exec', client.namespace, 'ethtool', '--offload', client.interface, 'tx', 'off');
    },
    onClose: (step) => undo.push(step),
    close,
  };
}

type Ip = (...args: readonly string[]) => Promise<{ readonly stdout: string }>;

/** The user's own configuration and time zone are not seen in the lab. */
export function labEnvironment(environment: LabMachine['environment']): Record<string, string> {
  const { PATH = '/usr/sbin:/usr/bin:/sbin:/bin', LC_ALL = '', TZ = '' } = baseEnvironment(environment);
  return { PATH, LC_ALL, TZ, HOME: tmpdir() };
}

/** Removes what a killed process left: its namespaces, and its directories with the containers in them. */
async function sweep(exec: Exec, environment: Record<string, string>, ip: Ip): Promise<void> {
  for (const name of await namesIn(tmpdir())) {
    const directory = join(tmpdir(), name);
    // What another user has put there must not lead anything of ours elsewhere.
    if (!isAbandoned(name) || !(await isOwn(directory))) continue;
    await removeContainers(exec, environment, directory);
    await rm(directory, { recursive: true, force: true });
  }
  for (const name of await namesIn('/run/netns')) {
    if (isAbandoned(name)) await removeNamespace(ip, name).catch(() => undefined);
  }
}

/** Ends the programs that still run in the namespace, such as a client in the background; then it goes for good. */
async function removeNamespace(ip: Ip, name: string): Promise<void> {
  const pids = await ip('netns', 'pids', name).catch(() => ({ stdout: '' }));
  for (const pid of pids.stdout.split('\n').filter(Boolean)) {
    try {
      process.kill(Number(pid), 'SIGKILL');
    } catch {
      // It has ended by itself.
    }
  }
  await ip('netns', 'delete', name);
}

function isAbandoned(name: string): boolean {
  const owner = new RegExp(`^${prefix}-([0-9]+)-`).exec(name)?.[1];
  if (owner === undefined) return false;
  try {
    process.kill(Number(owner), 0);
    return false;
  } catch (error) {
    return error instanceof Error && 'code' in error && error.code === 'ESRCH';
  }
}

async function isOwn(path: string): Promise<boolean> {
  const stats = await lstat(path).catch(() => undefined);
  return stats?.isDirectory() === true && stats.uid === process.geteuid?.();
}

async function namesIn(directory: string): Promise<readonly string[]> {
  try {
    return await readdir(directory);
  } catch {
    return [];
  }
}

/** Arguments that give Podman its own storage below the lab's directory: the user's images and containers are not seen. */
export function privateStorage(directory: string): readonly string[] {
  return [
    ...['--root', join(directory, 'storage'), '--runroot', join(directory, 'run')],
    ...['--tmpdir', join(directory, 'tmp'), '--events-backend', 'none'],
  ];
}

/** Kills and removes every container that Podman has in the private storage, and takes off what it has mounted. */
export async function removeContainers(
  exec: Exec,
  environment: Readonly<Record<string, string>>,
  directory: string,
): Promise<void> {
  for (const step of [
    ['rm', '--force', '--all', '--time', '0'],
    ['unmount', '--all', '--force'],
  ]) {
    await exec({
      argv: ['podman', ...privateStorage(directory), ...step],
      environment,
      timeout: 60_000,
    }).catch(() => undefined);
  }
}
