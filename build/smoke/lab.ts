import { readFileSync } from 'node:fs';
import { chmod, lstat, mkdtemp, readdir, realpath, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';

import { cannot, reasonOf } from '../support/errors.js';
import { baseEnvironment, type Exec } from '../support/exec.js';
import { rootlessEnvironment } from './user-namespace.js';

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
  /** A further client beside the first one. Only on a wire with a switch. */
  addClient(): Promise<LabHost>;
  /** A further interface of the server, with an address of its own and a client at the other end of its wire. */
  addNetwork(): Promise<LabNetwork>;
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

export interface LabNetwork {
  /** Interface of the server. */
  readonly interface: string;
  readonly client: LabHost;
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
/** TEST-NET-2: the same on the second network. */
export const secondServerAddress = '198.51.100.1';
const secondClientAddress = '198.51.100.2';
const prefixLength = 24;

const prefix = 'dhcpd-lab';
const patience = 10_000;
let count = 0;

export interface LabWiring {
  /** A bridge between the hosts in place of one wire, so that there can be more of them: bridge(8). */
  readonly switched?: boolean;
}

/** A private directory below the temporary one. When this process is killed, the next lab removes it. */
export async function makeLabDirectory(kind: string): Promise<string> {
  try {
    return await mkdtemp(join(tmpdir(), `${prefix}-${process.pid}-${kind}-`));
  } catch (error) {
    throw cannot('make', `a directory in ${tmpdir()}`, reasonOf(error), {
      hint: 'set TMPDIR to a place where there is room',
      cause: error,
    });
  }
}

/** Sets the two hosts up. When this throws, nothing is left behind. What killed processes have left goes away. */
export async function openLab(machine: LabMachine, { switched = false }: LabWiring = {}): Promise<Lab> {
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
  const directory = await makeLabDirectory(String(count));
  // Servers run as other users, and find their files below.
  await chmod(directory, 0o711);
  const server: LabHost = { namespace: `${id}-server`, interface: 'lan0', mac: '02:00:00:00:00:01' };
  const client: LabHost = { namespace: `${id}-client`, interface: 'lan0', mac: '02:00:00:00:00:02' };

  const undo: (() => Promise<void>)[] = [];
  const close = async (): Promise<void> => {
    for (let step = undo.pop(); step !== undefined; step = undo.pop()) await step().catch(() => undefined);
    await removeDirectory(machine.exec, environment, directory);
  };
  const hosts: LabHost[] = [];
  const add = async (namespace: string): Promise<void> => {
    undo.push(() => removeNamespace(tidy, namespace));
    await ip('netns', 'add', namespace);
    await ip('-n', namespace, 'link', 'set', 'lo', 'up');
  };
  /** Both ends are born inside their namespaces, so their names cannot clash with the host's. */
  const wire = (
    one: Pick<LabHost, 'namespace' | 'interface' | 'mac'>,
    other: Pick<LabHost, 'namespace' | 'interface'> & { readonly mac?: string },
  ): Promise<unknown> =>
    ip(
      ...['-n', one.namespace, 'link', 'add', one.interface, 'address', one.mac, 'type', 'veth'],
      ...['peer', 'name', other.interface],
      ...(other.mac === undefined ? [] : ['address', other.mac]),
      ...['netns', other.namespace],
    );
  const up = (host: Pick<LabHost, 'namespace' | 'interface'>): Promise<unknown> =>
    ip('-n', host.namespace, 'link', 'set', host.interface, 'up');
  const bridge = { namespace: `${id}-switch`, interface: 'switch' };
  const plug = async (host: LabHost): Promise<void> => {
    const port = { namespace: bridge.namespace, interface: `port${hosts.length}` };
    await wire(host, port);
    await ip('-n', bridge.namespace, 'link', 'set', port.interface, 'master', bridge.interface);
    await up(port);
    await up(host);
    hosts.push(host);
  };
  const address = async ({ namespace, interface: own }: LabHost, text: string): Promise<void> => {
    await ip('-n', namespace, 'address', 'add', `${text}/${prefixLength}`, 'dev', own);
    await ip('-n', namespace, 'route', 'add', '255.255.255.255/32', 'dev', own);
  };
  let complete = false;
  const completeOf = async ({ namespace, interface: own }: LabHost): Promise<void> => {
    await ip('netns', 'exec', namespace, 'ethtool', '--offload', own, 'tx', 'off');
  };
  const freshHost = async (): Promise<LabHost> => {
    const number = hosts.length;
    const host = { namespace: `${id}-client${number}`, interface: 'lan0', mac: `02:00:00:00:00:2${number}` };
    await add(host.namespace);
    return host;
  };
  try {
    await mustRunPrograms(machine.exec, environment, directory);
    for (const host of [server, client]) await add(host.namespace);
    if (switched) {
      await add(bridge.namespace);
      await ip('-n', bridge.namespace, 'link', 'add', bridge.interface, 'type', 'bridge');
      await up(bridge);
      for (const host of [server, client]) await plug(host);
    } else {
      await wire(server, client);
      for (const host of [server, client]) await up(host);
      hosts.push(server, client);
    }
    await ip(
      ...['-n', server.namespace, 'address', 'add', `${serverAddress}/${prefixLength}`],
      ...['dev', server.interface],
    );
  } catch (error) {
    await close();
    throw error;
  }
  return {
    directory,
    // What programs leave in their user's home, or beside it, goes away with the lab.
    environment: { ...environment, HOME: directory, TMPDIR: directory },
    server,
    client,
    addClient: async () => {
      const host = await freshHost();
      await plug(host);
      if (complete) await completeOf(host);
      return host;
    },
    addNetwork: async () => {
      const host = await freshHost();
      const end = { ...server, interface: 'lan1', mac: '02:00:00:00:01:01' };
      await wire(end, host);
      hosts.push(host);
      for (const one of [end, host]) await up(one);
      await ip(
        ...['-n', server.namespace, 'address', 'add', `${secondServerAddress}/${prefixLength}`],
        ...['dev', end.interface],
      );
      await address(host, secondClientAddress);
      if (complete) await completeOf(host);
      return { interface: end.interface, client: host };
    },
    addressClient: () => address(client, clientAddress),
    completeChecksums: async () => {
      complete = true;
      for (const host of hosts) if (host !== server) await completeOf(host);
    },
    onClose: (step) => undo.push(step),
    close,
  };
}

/** The clients' hooks and the image's files are in the directory. */
async function mustRunPrograms(
  exec: Exec,
  environment: Readonly<Record<string, string>>,
  directory: string,
): Promise<void> {
  const program = join(directory, 'program');
  await writeFile(program, '#!/bin/sh\n', { mode: 0o755 });
  await exec({ argv: [program], environment, timeout: patience }).catch((error: unknown) => {
    throw cannot('open', `a lab in ${tmpdir()}`, 'no program may be started there (is it mounted noexec?)', {
      hint: 'set TMPDIR to another directory',
      cause: error,
    });
  });
  await rm(program);
}

type Ip = (...args: readonly string[]) => Promise<{ readonly stdout: string }>;

/** The user's own configuration and time zone are not seen in the lab. */
export function labEnvironment(environment: LabMachine['environment']): Record<string, string> {
  const { PATH = '/usr/sbin:/usr/bin:/sbin:/bin', LC_ALL = '', TZ = '' } = baseEnvironment(environment);
  return { PATH, LC_ALL, TZ, HOME: tmpdir(), ...rootlessEnvironment() };
}

/**
 * Removes what a killed process left: its namespaces, and its directories with the containers in them. Another lab may be
 * doing the same: what cannot be removed is left to the next one, and is in nobody's way.
 */
async function sweep(exec: Exec, environment: Record<string, string>, ip: Ip): Promise<void> {
  const namespaces = (await namesIn('/run/netns')).filter(isAbandoned);
  for (const name of namespaces) await killPrograms(ip, name);
  for (const name of await namesIn(tmpdir())) {
    const directory = join(tmpdir(), name);
    // What another user has put there must not lead anything of ours elsewhere.
    if (!isAbandoned(name) || !(await isOwn(directory))) continue;
    await removeContainers(exec, environment, directory);
    await removeDirectory(exec, environment, directory).catch(() => undefined);
  }
  for (const name of namespaces) await removeNamespace(ip, name).catch(() => undefined);
}

/** Takes off whatever is mounted in the directory, last first; then it goes. */
async function removeDirectory(
  exec: Exec,
  environment: Record<string, string>,
  directory: string,
): Promise<void> {
  const real = await realpath(directory).catch(() => directory);
  const mounted = readFileSync('/proc/self/mounts', 'utf8')
    .split('\n')
    // A space is written as `\040`.
    .map((line) =>
      (line.split(' ')[1] ?? '').replace(/\\([0-7]{3})/g, (_, code: string) =>
        String.fromCharCode(parseInt(code, 8)),
      ),
    )
    .filter((path) => path.startsWith(`${real}/`) || path.startsWith(`${runningDirectory(directory)}/`));
  for (const path of mounted.reverse()) {
    await exec({ argv: ['umount', '--lazy', path], environment, timeout: patience }).catch(() => undefined);
  }
  for (const path of [runningDirectory(directory), directory])
    await rm(path, { recursive: true, force: true });
}

/** Ends the programs that still run in the namespace, such as a client in the background; then it goes for good. */
async function removeNamespace(ip: Ip, name: string): Promise<void> {
  await killPrograms(ip, name);
  await ip('netns', 'delete', name);
}

async function killPrograms(ip: Ip, name: string): Promise<void> {
  const pids = await ip('netns', 'pids', name).catch(() => ({ stdout: '' }));
  for (const pid of pids.stdout.split('\n').filter(Boolean)) {
    try {
      process.kill(Number(pid), 'SIGKILL');
    } catch {
      // It has ended by itself.
    }
  }
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

/**
 * What Podman calls the run root: it takes no more than 50 characters for it, and TMPDIR may be long. A user in a
 * namespace has a /run of its own.
 *
 * @param directory whose name is like nobody else's; the run root goes away with it
 */
export function runningDirectory(directory: string): string {
  return join('/run', basename(directory));
}

/** Arguments that give Podman its own storage below the lab's directory: the user's images and containers are not seen. */
export function privateStorage(directory: string): readonly string[] {
  return [
    ...['--root', join(directory, 'storage'), '--runroot', runningDirectory(directory)],
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
    ['image', 'unmount', '--all', '--force'],
  ]) {
    await exec({
      argv: ['podman', ...privateStorage(directory), ...step],
      environment,
      timeout: 60_000,
    }).catch(() => undefined);
  }
}
