import { chmod, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { findProgram, quoteCommand } from '../support/exec.js';
import { checkCommand } from '../units/check-command.js';
import type { Service } from '../units/service.js';
import type { Site } from './bench.js';

/** The script that the units run before a start, after it and on a change, on the lab's server host. */
export interface HostScript {
  /** What the unit runs. @throws ToolError with what the script has said */
  run(mode: 'start' | 'reload' | 'config', service: Service): Promise<string>;
  /** Makes a lease file in this directory one that the server can read. */
  mend(service: Service, state: string): Promise<string>;
  /** Keeps room for leases on the disk. @param bytes of room */
  reserve(service: Service, state: string, bytes: number): Promise<string>;
}

/**
 * Podman is the lab's own for the script. There is no systemd in the lab: in its place, a restart stops the container, runs
 * what the unit runs before a start, and starts the container again.
 */
export async function openHostScript({
  exec,
  lab,
  podman,
  package: directory,
}: Omit<Site, 'script'>): Promise<HostScript> {
  const programs = join(lab.directory, 'bin');
  await mkdir(programs);
  const program = async (name: string, text: string): Promise<void> => {
    await writeFile(join(programs, name), `#!/bin/sh\n${text}\n`);
    await chmod(join(programs, name), 0o755);
  };
  const installed = (await findProgram('podman', lab.environment['PATH'])) ?? 'podman';
  // Podman compares the network of a container with its own, which is not the lab's.
  const outside = ['nsenter', `--net=/proc/${process.pid}/ns/net`];
  const own = quoteCommand([...outside, installed, ...podman.argv.slice(1)]);
  const run = quoteCommand(podman.settings.run.filter((word) => word !== '--init'));
  await program(
    'podman',
    `verb=$1; shift\n[ "$verb" = run ] && set -- ${run} "$@"\nexec ${own} "$verb" "$@"`,
  );
  await program(
    'systemctl',
    `unit=\${2%.service} bin=\${0%/*}
case $1 in
  show) echo active ;;
  restart) "$bin/podman" stop --time 2 "$unit" && "$bin/start-$unit" && exec "$bin/podman" start "$unit" ;;
  *) exit 1 ;;
esac`,
  );
  const script = join(directory, 'quadlet/dhcpd-scratch/check');
  const start = async (args: readonly string[]): Promise<string> => {
    const { stderr } = await exec({
      // Unlike `ip netns exec`, this leaves /sys as it is, with the control groups that Podman needs.
      argv: ['nsenter', `--net=/run/netns/${lab.server.namespace}`, '/bin/sh', script, ...args],
      environment: { ...lab.environment, PATH: `${programs}:${lab.environment['PATH'] ?? ''}` },
      timeout: 60_000,
    });
    return stderr;
  };
  const place = ({ name, account }: Service, state: string): readonly string[] => [
    ...['--name', name, '--account', String(account), '--state', state],
  ];
  const noted = ['--run', join(lab.directory, 'noted')];
  return {
    run: async (mode, service) => {
      const [, , , ...options] = checkCommand(mode, service, { pull: false });
      const args = [mode, ...noted, ...options];
      if (mode === 'start') {
        await program(`start-${service.name}`, `exec ${quoteCommand(['/bin/sh', script, ...args])}`);
      }
      return start(args);
    },
    mend: (service, state) => start(['leases', ...place(service, state)]),
    reserve: (service, state, bytes) =>
      start(['reserve', ...place(service, state), '--reserve', String(bytes)]),
  };
}
