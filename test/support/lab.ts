import { spawnSync } from 'node:child_process';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Exec } from '../../build/support/exec.js';

/**
 * A network of two hosts on one wire: two network namespaces joined by a veth pair (ip-netns(8), veth(4)).
 * Nothing of the host's own network is touched. Needs root and `ip`.
 */
export interface Lab {
  /** Private directory, removed by `close`. */
  readonly directory: string;
  readonly server: LabHost;
  readonly client: LabHost;
  /**
   * Has the client's packets carry their real checksums, which two namespaces leave to each other otherwise. A server
   * learns from PACKET_AUXDATA (packet(7)) that a checksum is not there yet, and QEMU's user mode does not hand that on.
   */
  completeChecksums(): Promise<void>;
  /** Runs before the namespaces are removed, last registered first. Must not throw, and must work without waiting. */
  onClose(undo: () => void): void;
  close(): Promise<void>;
}

export interface LabHost {
  /** Name of the namespace; `/run/netns/<namespace>` is its file. */
  readonly namespace: string;
  /** Name of the one interface that is not loopback. */
  readonly interface: string;
  readonly mac: string;
}

/** TEST-NET-1 of RFC 5737: the server's address with its prefix length. The client starts without an address. */
export const serverAddress = '192.0.2.1';
const serverPrefix = `${serverAddress}/24`;

const prefix = 'dhcpd-lab';
let count = 0;

/** Sets the two hosts up. When this throws, nothing is left behind. */
export async function openLab(exec: Exec): Promise<Lab> {
  await sweep();
  const id = `${prefix}-${process.pid}-${(count += 1)}`;
  const directory = await mkdtemp(join(tmpdir(), `${id}-`));
  const server: LabHost = { namespace: `${id}-server`, interface: 'lan0', mac: '02:00:00:00:00:01' };
  const client: LabHost = { namespace: `${id}-client`, interface: 'lan0', mac: '02:00:00:00:00:02' };

  const undo: (() => void)[] = [];
  const teardown = (): void => {
    for (let step = undo.pop(); step !== undefined; step = undo.pop()) step();
  };
  const leave = forgetOnClose(teardown);
  const close = async (): Promise<void> => {
    teardown();
    leave();
    await rm(directory, { recursive: true, force: true });
  };

  const ip = (...args: readonly string[]): Promise<unknown> =>
    exec({ argv: ['ip', ...args], environment: labEnvironment, timeout: 10_000 });
  try {
    for (const host of [server, client]) {
      undo.push(() => {
        removeNamespace(host.namespace);
      });
      await ip('netns', 'add', host.namespace);
      await ip('-n', host.namespace, 'link', 'set', 'lo', 'up');
    }
    // Both ends are born inside their namespaces, so their names cannot clash with the host's.
    await ip(
      ...['-n', server.namespace, 'link', 'add', server.interface, 'address', server.mac, 'type', 'veth'],
      ...['peer', 'name', client.interface, 'address', client.mac, 'netns', client.namespace],
    );
    await ip('-n', server.namespace, 'address', 'add', serverPrefix, 'dev', server.interface);
    for (const host of [server, client]) await ip('-n', host.namespace, 'link', 'set', host.interface, 'up');
  } catch (error) {
    await close();
    throw error;
  }
  return {
    directory,
    server,
    client,
    completeChecksums: async () => {
      await ip('netns', 'exec', client.namespace, 'ethtool', '--offload', client.interface, 'tx', 'off');
    },
    onClose: (step) => undo.push(step),
    close,
  };
}

/** The environment of every program in the lab: what messages and times look like does not depend on the user. */
export const labEnvironment = {
  PATH: process.env['PATH'] ?? '/usr/sbin:/usr/bin:/sbin:/bin',
  LC_ALL: 'C.UTF-8',
  TZ: 'UTC',
  HOME: tmpdir(),
};

/** Runs the teardown also when the process exits or is told to stop before `close`. */
function forgetOnClose(teardown: () => void): () => void {
  const stop = (signal: NodeJS.Signals): void => {
    teardown();
    leave();
    process.kill(process.pid, signal);
  };
  const leave = (): void => {
    process.off('exit', teardown);
    process.off('SIGINT', stop);
    process.off('SIGTERM', stop);
  };
  process.once('exit', teardown);
  process.once('SIGINT', stop);
  process.once('SIGTERM', stop);
  return leave;
}

/** Removes what a killed process left: its namespaces, and its directories with the containers in them. */
async function sweep(): Promise<void> {
  for (const name of await namesIn(tmpdir())) {
    if (!isAbandoned(name)) continue;
    removeContainers(join(tmpdir(), name));
    await rm(join(tmpdir(), name), { recursive: true, force: true });
  }
  for (const name of await namesIn('/run/netns')) {
    if (isAbandoned(name)) removeNamespace(name);
  }
}

/** Ends the programs that still run in the namespace, such as a client in the background; then it goes for good. */
function removeNamespace(name: string): void {
  const { stdout } = spawnSync('ip', ['netns', 'pids', name], { encoding: 'utf8' });
  for (const pid of stdout.split('\n').filter(Boolean)) {
    try {
      process.kill(Number(pid), 'SIGKILL');
    } catch {
      // It has ended by itself.
    }
  }
  spawnSync('ip', ['netns', 'delete', name]);
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

/** Kills and removes every container of the lab. Does not wait, so it also runs while the process exits. */
export function removeContainers(directory: string): void {
  spawnSync('podman', [...privateStorage(directory), 'rm', '--force', '--all', '--time', '0']);
  spawnSync('podman', [...privateStorage(directory), 'unmount', '--all', '--force']);
}
