import { execFile } from 'node:child_process';
import { chmod, mkdir, mkdtemp, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { privateStorage, type Lab } from '../../build/smoke/lab.js';
import type { LabPodman } from '../../build/smoke/podman.js';
import { checkCommand } from '../../build/units/check-command.js';
import type { Service } from '../../build/units/service.js';
import { checkout } from './lab-image.js';
import { findTool } from './tools.js';

/** A shell with its awk, and everything else that the script runs, as one kind of system has them. */
export const systems = [
  { name: 'dash and mawk', shell: ['dash'], awk: 'mawk', tools: 'host' },
  { name: 'bash and gawk', shell: ['bash', '--posix'], awk: 'gawk', tools: 'host' },
  { name: 'busybox', shell: ['busybox', 'sh'], awk: 'busybox', tools: 'busybox' },
] as const;
export type System = (typeof systems)[number];

/** What the script runs of a system's own tools. */
const tools =
  'cat chmod chown cmp cp dd df find ln ls mkdir mv readlink rm sed sha256sum sleep sort stat sync tr truncate'.split(
    ' ',
  );

export interface Outcome {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** The script of the units in the network of a lab's server, with the lab's Podman. */
export interface CheckLab {
  run(
    mode: 'start' | 'ready' | 'reload' | 'reserve' | 'leases' | 'config' | 'subnets',
    service: Service,
    more?: readonly string[],
  ): Promise<Outcome>;
  /** Directory in which the script notes what it has accepted. */
  readonly notes: string;
  /** What the script has told systemctl, line by line; that is a stand-in which only writes it down. */
  readonly systemctlLog: string;
  /** File whose text the stand-in gives for the state of a unit. */
  readonly unitState: string;
}

export async function openCheckLab(lab: Lab, podman: LabPodman, system: System): Promise<CheckLab> {
  const directory = await mkdtemp(join(lab.directory, `check-${system.awk}-`));
  const bin = join(directory, 'bin');
  await mkdir(bin, { recursive: true });
  const write = async (name: string, text: string): Promise<void> => {
    await writeFile(join(bin, name), `#!/bin/sh\n${text}`);
    await chmod(join(bin, name), 0o755);
  };
  const quote = (words: readonly string[]): string => words.map((word) => `'${word}'`).join(' ');
  const own = quote([...privateStorage(lab.directory), ...podman.settings.global]);
  const real = findTool('podman') ?? 'podman';
  await write(
    'podman',
    `if [ "$1" = run ]; then shift; exec '${real}' ${own} run ${quote(podman.settings.run)} "$@"; fi\nexec '${real}' ${own} "$@"\n`,
  );
  const systemctlLog = join(directory, 'systemctl.log');
  const unitState = join(directory, 'state');
  await writeFile(systemctlLog, '');
  await writeFile(unitState, 'active\n');
  await write(
    'systemctl',
    `if [ "$1" = show ]; then cat '${unitState}'; else echo "$*" >>'${systemctlLog}'; fi\n`,
  );
  const link = (name: string, target: string): Promise<void> =>
    symlink(findTool(target) ?? target, join(bin, name));
  await link('awk', system.awk);
  await link('ip', 'ip');
  // busybox has one that cannot keep the size.
  await link('fallocate', 'fallocate');
  await link('chattr', 'chattr');
  for (const tool of tools) await link(tool, system.tools === 'busybox' ? 'busybox' : tool);
  const notes = join(directory, 'run');
  const script = join(checkout, 'quadlet/dhcpd-scratch/check');
  return {
    notes,
    systemctlLog,
    unitState,
    run: (mode, service, more = []) => {
      // Modes for which no unit has a command line take that of another.
      const like = mode === 'subnets' ? 'config' : mode === 'leases' ? 'reserve' : mode;
      const [, , , ...rest] = checkCommand(like, service, { pull: false });
      const [program, ...shell] = system.shell;
      const argv = [
        ...[`--net=/run/netns/${lab.server.namespace}`, findTool(program) ?? program, ...shell],
        ...[script, mode, '--run', notes, ...more, ...rest],
      ];
      return new Promise((resolve) => {
        execFile(
          findTool('nsenter') ?? 'nsenter',
          argv,
          // Podman finds its helpers itself; the script gets nothing but these.
          { env: { ...lab.environment, PATH: bin }, timeout: 60_000 },
          (error, stdout, stderr) => {
            const code = error === null ? 0 : typeof error.code === 'number' ? error.code : -1;
            resolve({ code, stdout, stderr });
          },
        );
      });
    },
  };
}
