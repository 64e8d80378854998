import { access, chmod, mkdir, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import type { Architecture } from '../support/architecture.js';
import { canRun } from '../support/emulation.js';
import { cannot, reasonOf } from '../support/errors.js';
import { findProgram } from '../support/exec.js';
import { printable } from '../support/format.js';
import { openLab, serverAddress, type Lab, type LabMachine } from './lab.js';
import { openPodman, type LabContainer, type LabPodman } from './podman.js';

/** An image whose server is to be started. */
export interface ServerImage {
  /** As the user calls it. */
  readonly name: string;
  /** In the words of containers-transports(5), such as `oci-archive:PATH:REFERENCE`. */
  readonly source: string;
  /** Digest of the configuration: what Podman has taken must be this. */
  readonly configDigest: string;
  readonly architecture: Architecture;
  /** As the image has it. */
  readonly entrypoint: readonly string[];
  /** Absolute paths. */
  readonly volumes: readonly string[];
  /** What the image says it needs, without the CAP_ prefix; undefined when it says nothing. */
  readonly capabilities: readonly string[] | undefined;
  readonly hasDirectory: (path: string) => boolean;
}

/** Milliseconds from `podman run` to the first DHCPOFFER, or why there are none. */
export type OfferTimes =
  | { readonly milliseconds: readonly number[]; readonly median: number }
  | { readonly milliseconds: undefined; readonly reason: string };

export interface OfferMachine extends LabMachine {
  readonly signal: AbortSignal;
  readonly architecture: Architecture;
  /** Path of the compiled discover.js. */
  readonly discover: string;
  /** Told what is being done, one line each. */
  readonly log: (message: string) => void;
}

export interface OfferMeasurement {
  /** One for each image, in their order. */
  readonly times: readonly OfferTimes[];
  /** What on this machine is not as it usually is, one line each. */
  readonly notes: readonly string[];
}

/** How a kind of server is run: as units run it, with the configuration of the lab's network. */
interface ServerKind {
  readonly file: string;
  readonly text: string;
  /** Where its configuration is mounted. */
  readonly config: string;
  /** Where it keeps its leases, when the image declares no volume. */
  readonly state: readonly string[];
  readonly capabilities: readonly string[];
  /** @param lan the interface to serve */
  command(lan: string): readonly string[];
}

const kinds = new Map<string, ServerKind>([
  [
    'dhcpd',
    {
      file: 'dhcpd.conf',
      // Without the check, which takes a second, because it is the server's start that is measured.
      text: `authoritative;
ping-check false;
subnet 192.0.2.0 netmask 255.255.255.0 {
  range 192.0.2.50 192.0.2.200;
}
`,
      config: '/etc/dhcp',
      state: ['/var/lib/dhcpd', '/var/lib/dhcp'],
      capabilities: ['NET_RAW', 'NET_BIND_SERVICE'],
      command: (lan) => [lan],
    },
  ],
  [
    'dnsmasq',
    {
      file: 'lan.conf',
      text: `interface=lan0
dhcp-authoritative
no-ping
dhcp-range=192.0.2.50,192.0.2.200,255.255.255.0,600s
`,
      config: '/etc/dnsmasq.d',
      state: ['/var/lib/misc'],
      capabilities: ['NET_ADMIN', 'NET_RAW', 'NET_BIND_SERVICE'],
      command: () => [],
    },
  ],
]);

/** Milliseconds that a server has to offer an address. */
const patience = 20_000;

/**
 * Starts each image's server several times in a lab of its own, in turns, and takes the time until a client that asks
 * every 20 ms is offered an address. Each start has a new container and a new volume. Neither the host's network nor
 * the user's images are touched. Where that is not possible, the reason is in the result.
 *
 * @throws ToolError only when it was interrupted
 */
export async function measureOffers(
  images: readonly ServerImage[],
  rounds: number,
  machine: OfferMachine,
): Promise<OfferMeasurement> {
  const missing = await missingHere(machine);
  if (missing !== undefined) return { times: images.map(() => unmeasured(missing)), notes: [] };
  try {
    const lab = await openLab(machine);
    try {
      return await measureIn(lab, images, rounds, machine);
    } finally {
      await lab.close();
    }
  } catch (error) {
    machine.signal.throwIfAborted();
    return { times: images.map(() => unmeasured(reasonOf(error))), notes: [] };
  }
}

async function missingHere({ environment }: OfferMachine): Promise<string | undefined> {
  if (process.geteuid?.() !== 0) return 'it needs root, for network namespaces';
  for (const program of ['ip', 'podman']) {
    if ((await findProgram(program, environment['PATH'])) === undefined) return `${program} is not installed`;
  }
  return undefined;
}

function unmeasured(reason: string): OfferTimes {
  return { milliseconds: undefined, reason: printable(reason) };
}

async function measureIn(
  lab: Lab,
  images: readonly ServerImage[],
  rounds: number,
  machine: OfferMachine,
): Promise<OfferMeasurement> {
  const podman = await openPodman(machine, lab);
  await lab.addressClient();
  if (images.some(({ architecture }) => architecture !== machine.architecture)) await lab.completeChecksums();
  const runs: Run[] = [];
  for (const [index, image] of images.entries()) {
    runs.push({ milliseconds: [], ...(await prepare(lab, podman, image, index, machine)) });
  }
  for (let round = 1; round <= rounds; round += 1) {
    for (const [index, run] of runs.entries()) {
      if (run.start === undefined || run.reason !== undefined) continue;
      machine.log(`starting ${run.start.of}: ${round} of ${rounds}`);
      try {
        run.milliseconds.push(await timeOffer(lab, podman, run.start, `${index}-${round}`, machine));
      } catch (error) {
        machine.signal.throwIfAborted();
        run.reason = reasonOf(error);
      }
    }
  }
  return { times: runs.map(timesOf), notes: podman.settings.notes };
}

interface Run {
  readonly milliseconds: number[];
  readonly start?: Start;
  reason?: string;
}

/** A server that only needs a name to be started. */
interface Start {
  /** The image as the user calls it. */
  readonly of: string;
  /** The program. */
  readonly name: string;
  readonly image: string;
  readonly kind: ServerKind;
  readonly capabilities: readonly string[];
  readonly config: string;
  readonly state: string;
}

async function prepare(
  lab: Lab,
  podman: LabPodman,
  image: ServerImage,
  index: number,
  machine: OfferMachine,
): Promise<Pick<Run, 'start' | 'reason'>> {
  if (!canRun(image.architecture, machine.architecture)) {
    return { reason: `this machine runs no programs for ${image.architecture}` };
  }
  const [program] = image.entrypoint;
  const name = program === undefined ? '' : basename(program);
  const kind = kinds.get(name);
  if (kind === undefined) {
    const known = [...kinds.keys()].join(' and ');
    return { reason: `its entrypoint is ${program ?? 'empty'}, and only ${known} are known` };
  }
  const state = image.volumes[0] ?? kind.state.find((path) => image.hasDirectory(path));
  if (state === undefined) return { reason: 'it has no volume for its leases' };
  try {
    machine.log(`loading ${image.name}`);
    const id = await podman.pull(image.source, image.architecture);
    if (`sha256:${id}` !== image.configDigest) return { reason: `podman has taken another image: ${id}` };
    const config = join(lab.directory, `config-${index}`);
    await mkdir(config);
    await writeFile(join(config, kind.file), kind.text);
    // Whoever the server runs as.
    await chmod(config, 0o755);
    await chmod(join(config, kind.file), 0o644);
    const capabilities = image.capabilities ?? kind.capabilities;
    return { start: { of: image.name, name, image: id, kind, capabilities, config, state } };
  } catch (error) {
    machine.signal.throwIfAborted();
    return { reason: reasonOf(error) };
  }
}

function timesOf({ milliseconds, reason }: Run): OfferTimes {
  if (reason !== undefined) return unmeasured(reason);
  return { milliseconds, median: medianOf(milliseconds) };
}

function medianOf(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length / 2;
  return ((sorted[Math.ceil(middle) - 1] ?? 0) + (sorted[Math.floor(middle)] ?? 0)) / 2;
}

/** Milliseconds, to a tenth. */
async function timeOffer(
  lab: Lab,
  podman: LabPodman,
  start: Start,
  run: string,
  machine: OfferMachine,
): Promise<number> {
  const stop = new AbortController();
  const ready = join(lab.directory, `ready-${run}`);
  let container: LabContainer | undefined;
  const client = askForOffer(lab, ready, machine, AbortSignal.any([machine.signal, stop.signal]));
  // It is looked at below; until then its failure is nobody's.
  client.catch(() => undefined);
  try {
    await Promise.race([untilThere(ready), client]);
    container = await podman.serve({
      image: start.image,
      name: `${start.name}-${run}`,
      capabilities: start.capabilities,
      command: start.kind.command(lab.server.interface),
      config: { from: start.config, to: start.kind.config },
      state: { volume: `leases-${run}`, to: start.state },
    });
    const offered = await Promise.race([client, untilEnded(container, stop.signal)]);
    if (offered === undefined) throw await noOffer(container, start);
    return Math.round(Number(offered - container.begun) / 1e5) / 10;
  } finally {
    stop.abort();
    await client.catch(() => undefined);
    await container?.remove().catch(() => undefined);
  }
}

/** When the first offer came: nanoseconds of CLOCK_MONOTONIC; undefined when none came in time. */
async function askForOffer(
  { client, environment }: Lab,
  ready: string,
  { exec, discover }: OfferMachine,
  signal: AbortSignal,
): Promise<bigint | undefined> {
  const { stdout } = await exec({
    argv: [
      ...(['ip', 'netns', 'exec', client.namespace, process.execPath] as const),
      ...[discover, client.mac, String(patience), ready],
    ],
    environment,
    signal,
    timeout: patience + 10_000,
  });
  const match = /^\{"at":"([0-9]+)","address":"[0-9.]+","server":"([0-9.]+)"\}$/.exec(stdout.trim());
  if (match?.[1] === undefined) return undefined;
  if (match[2] !== serverAddress) throw cannot('measure', 'the server', `${match[2] ?? ''} has answered`);
  return BigInt(match[1]);
}

async function untilThere(path: string): Promise<void> {
  const end = Date.now() + patience;
  let there = false;
  while (!there && Date.now() < end) {
    await sleep(5);
    there = await access(path).then(
      () => true,
      () => false,
    );
  }
}

/** So that a server which has given up is not waited for. Asks late and seldom, because asking takes time from it. */
async function untilEnded(container: LabContainer, signal: AbortSignal): Promise<undefined> {
  try {
    do await sleep(2000, undefined, { signal });
    while (await container.isRunning());
  } catch {
    // Nobody waits any more, or Podman does not know it any more.
  }
  return undefined;
}

async function noOffer(container: LabContainer, { name }: Start): Promise<Error> {
  const running = await container.isRunning().catch(() => false);
  const said = (await container.log().catch(() => '')).trim().split('\n').at(-1) ?? '';
  const what = running ? `it has offered nothing within ${patience / 1000} s` : 'it has ended';
  return cannot('measure', name, said === '' ? what : `${what}: ${said.slice(0, 300)}`);
}
