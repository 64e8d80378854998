import { mkdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { $ } from 'zx';
import { consoleOf, kernelOf, processorOf, type Accelerator } from './accelerator.js';
import { Agent, type GuestResult } from './agent.js';
import { agentPort, type VmImage } from './description.js';
import { Disk } from './disk.js';
import type { Unflushed } from './write-log.js';

/** What one machine has of its own. */
export interface MachineOptions {
  readonly image: VmImage;
  readonly accelerator: Accelerator;
  /** Existing private directory with a short path: of its disk, its console and its socket. */
  readonly directory: string;
  /** Raw image of a file system that the guest mounts at /payload, read-only. */
  readonly payload: string;
  /** Where its network is: a TAP interface, and the network namespace that holds it. Without it, nobody is there. */
  readonly tap: { readonly name: string; readonly namespace: string } | undefined;
  /** Words of the kernel's command line beside those that every machine has. */
  readonly kernelArguments?: string;
  /** 0 to 1: decides what of its write cache the disk still writes when the power is cut. */
  readonly random: () => number;
}

/** A running guest. */
export interface Guest {
  /** Random, another one for each boot. */
  readonly bootId: string;
  /** From the start of the emulator until the guest took commands. */
  readonly bootSeconds: number;
  /**
   * Runs a script of the POSIX shell as root.
   * @param seconds after which it is ended; default 60
   * @throws Error with its output when it fails
   */
  run(script: string, seconds?: number): Promise<string>;
  /** The same; a failure is a result. */
  try(script: string, seconds?: number): Promise<GuestResult>;
}

/** How long a guest may take to boot, in seconds: ten times what it takes in software. */
const bootPatience = 300;

/**
 * A virtual machine with a disk of its own. Starting it again after a power cut or a reboot boots from that disk as it
 * was left.
 */
export class Machine {
  readonly #options: MachineOptions;
  readonly #disk: Disk;
  #emulator: { readonly pid: number; readonly ended: Promise<unknown> } | undefined;
  #agent: Agent | undefined;
  readonly #onExit = (): void => {
    this.#kill();
  };

  private constructor(options: MachineOptions, disk: Disk) {
    this.#options = options;
    this.#disk = disk;
    process.on('exit', this.#onExit);
  }

  /** Makes the disk; the machine is off. */
  static async create(options: MachineOptions): Promise<Machine> {
    await mkdir(options.directory, { recursive: true });
    return new Machine(options, await Disk.copy(options.image.disk, options.directory, options.random));
  }

  get image(): VmImage {
    return this.#options.image;
  }

  /** Switches it on and waits until it takes commands. @throws Error with the end of the console */
  async start(): Promise<Guest> {
    const { directory, image, accelerator, kernelArguments = '' } = this.#options;
    const began = Date.now();
    const socket = join(directory, 'agent');
    await rm(socket, { force: true });
    const argv = [
      ...['setpriv', '--pdeathsig', 'KILL', ...enterNamespace(this.#options)],
      ...processorOf(image, accelerator),
      ...kernelOf(image, `quiet panic=-1 systemd.getty_auto=no ${kernelArguments}`),
      ...(await this.#disk.attach()),
      ...devicesOf(this.#options),
      ...['-chardev', `socket,id=agent,path=${socket},server=on,wait=off`],
      ...[
        '-chardev',
        `file,id=console,path=${join(directory, 'console')},append=on`,
        '-serial',
        'chardev:console',
      ],
      ...['-display', 'none', '-monitor', 'none', '-no-reboot'],
    ];
    const started = $({ quiet: true, nothrow: true })`exec ${argv}`;
    const ended = (async (): Promise<string> => (await started).stderr)();
    const { pid } = started;
    if (pid === undefined) throw new Error('the emulator did not start');
    this.#emulator = { pid, ended };
    try {
      const agent = await Promise.race([Agent.open(socket, 10_000), this.#goneBefore(ended)]);
      this.#agent = agent;
      const stop = new AbortController();
      const late = sleep(bootPatience * 1000, undefined, { signal: stop.signal }).then(() => {
        throw new Error(`the guest did not come up within ${bootPatience} s`);
      });
      late.catch(() => undefined);
      const bootId = await Promise.race([agent.ready, this.#goneBefore(ended), late]);
      stop.abort();
      return { bootId, bootSeconds: (Date.now() - began) / 1000, ...commandsOf(agent) };
    } catch (error) {
      await this.cutPower();
      throw new Error(`cannot boot the guest: ${String(error)}\n${await this.consoleEnd()}`, {
        cause: error,
      });
    }
  }

  /** Switches it on with a shell of root on this terminal, and waits until it is off. */
  async startOnTerminal(): Promise<void> {
    const { image, accelerator } = this.#options;
    const argv = [
      ...processorOf(image, accelerator),
      ...kernelOf(image, `systemd.getty_auto=no systemd.debug_shell=${consoleOf(image)}`),
      ...(await this.#disk.attach()),
      ...devicesOf(this.#options),
      ...['-chardev', 'null,id=agent', '-nographic', '-serial', 'mon:stdio', '-no-reboot'],
    ];
    await $({ stdio: 'inherit', nothrow: true })`exec ${argv}`;
  }

  /**
   * The emulator is killed in the middle of whatever it does. What the guest's kernel still had in memory is lost, and
   * so is a part of what it had handed to the disk without a flush. Nothing happens when the machine is off.
   */
  async cutPower(): Promise<Unflushed> {
    const emulator = this.#emulator;
    this.#kill();
    this.#agent?.close();
    this.#agent = undefined;
    this.#emulator = undefined;
    if (emulator === undefined) return { written: 0, dropped: 0 };
    await emulator.ended;
    return this.#disk.settle();
  }

  /** Lets the guest stop its services; it is off then. */
  async shutDown(seconds = 90): Promise<void> {
    const emulator = this.#emulator;
    if (emulator === undefined || this.#agent === undefined) return;
    await this.#agent.run('systemctl --no-block reboot', 10).catch(() => undefined);
    const stop = new AbortController();
    const late = sleep(seconds * 1000, 'late', { signal: stop.signal }).catch(() => undefined);
    const how = await Promise.race([emulator.ended, late]);
    stop.abort();
    await this.cutPower();
    if (how === 'late')
      throw new Error(`the guest did not shut down within ${seconds} s\n${await this.consoleEnd()}`);
  }

  /** Last lines of everything that came over the serial line. */
  async consoleEnd(): Promise<string> {
    const text = await readFile(join(this.#options.directory, 'console'), 'utf8').catch(() => '');
    return text.split('\n').slice(-60).join('\n');
  }

  /** Off, and nothing of it stays but its directory. */
  async close(): Promise<void> {
    await this.cutPower();
    process.off('exit', this.#onExit);
  }

  #kill(): void {
    try {
      if (this.#emulator !== undefined) process.kill(this.#emulator.pid, 'SIGKILL');
    } catch {
      // It has ended by itself.
    }
  }

  async #goneBefore(ended: Promise<string>): Promise<never> {
    throw new Error(`the emulator ended: ${(await ended).trim()}`);
  }
}

function commandsOf(agent: Agent): Pick<Guest, 'run' | 'try'> {
  return {
    run: async (script, seconds = 60) => {
      const { code, stdout, stderr } = await agent.run(script, seconds);
      if (code === 0) return stdout;
      throw new Error(`exit code ${code} in the guest: ${script}\n${stdout}${stderr}`);
    },
    try: (script, seconds = 60) => agent.run(script, seconds),
  };
}

function enterNamespace({ tap }: MachineOptions): readonly string[] {
  return tap === undefined ? [] : ['ip', 'netns', 'exec', tap.namespace];
}

/** The payload's disk, the network and the agent's port. */
function devicesOf(options: MachineOptions): readonly string[] {
  const { payload, tap } = options;
  return [
    ...['-drive', `if=none,id=payload,format=raw,readonly=on,file=${payload}`],
    ...['-device', 'virtio-blk-pci,drive=payload'],
    ...(tap === undefined
      ? ['-netdev', 'user,id=lan,restrict=on']
      : ['-netdev', `tap,id=lan,ifname=${tap.name},script=no,downscript=no`]),
    // Checksums are complete in every packet that leaves the guest.
    ...['-device', 'virtio-net-pci,netdev=lan,mac=02:00:00:00:01:01,csum=off,guest_csum=off,romfile='],
    ...['-device', 'virtio-serial-pci', '-device', `virtserialport,chardev=agent,name=${agentPort}`],
    ...['-device', 'virtio-rng-pci'],
  ];
}
