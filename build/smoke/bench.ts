import { chmod, chown, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import type { Family, ImageDefinition } from '../definition/definition.js';
import type { Architecture } from '../support/architecture.js';
import { cannot } from '../support/errors.js';
import type { Exec } from '../support/exec.js';
import { serviceOf, type Service } from '../units/service.js';
import { Failure, must } from './check.js';
import type { HostScript } from './host-script.js';
import type { Lab, LabHost, LabNetwork } from './lab.js';
import { runClients, type ClientEvent } from './many-clients.js';
import type { LabContainer, LabPodman } from './podman.js';
import { leaseByUdhcpc, type Lease } from './real-clients.js';
import type { LanConfig, ServerKind } from './server-kind.js';

/** One image on one architecture in a lab; what all checks share. */
export interface Site {
  readonly exec: Exec;
  readonly signal: AbortSignal;
  readonly lab: Lab;
  readonly podman: LabPodman;
  readonly definition: ImageDefinition;
  readonly family: Family;
  readonly kind: ServerKind;
  /** ID. */
  readonly image: string;
  readonly architecture: Architecture;
  /** Whether an emulator runs the server. */
  readonly emulated: boolean;
  /** Where the real clients are: beside the lab's own client, which the many clients use. */
  readonly phone: LabHost;
  readonly second: LabNetwork;
  readonly script: HostScript;
  /** Path of the compiled clients.js. */
  readonly clients: string;
  /** Directory of the program's package: its examples, and what the units run. */
  readonly package: string;
}

export interface ServerStart {
  /** Default: ten addresses for ten minutes. */
  readonly config?: LanConfig | string;
  /** Host's directory for the state; default: a named volume of the check's own. */
  readonly directory?: string;
  /** ID; default the site's. */
  readonly image?: string;
  readonly interfaces?: readonly [string, ...string[]];
  /** Have the unit's script prepare the start. */
  readonly prepared?: true;
}

/** A server of one check. */
export interface Server {
  readonly service: Service;
  readonly container: LabContainer;
  /** Host's directory of the configuration. */
  readonly config: string;
  /** Host's path of a file in the directory of the state. */
  state(file: string): Promise<string>;
  /** Text of the file of leases. */
  leases(): Promise<string>;
  /** Waits until it serves, after it has been started again. */
  ready(): Promise<void>;
}

/** What one check works with; everything it has started goes away at its end. */
export interface Bench {
  readonly site: Site;
  /** Private directory of the check, empty at first. */
  readonly directory: string;
  /** A server that serves, from a container of its own. */
  serve(start?: ServerStart): Promise<Server>;
  /** The service as `serve` would run it, and its configuration in place. */
  service(start?: ServerStart): Promise<Service>;
  /** The client that asks first in most checks. @throws ToolError when it gets no address */
  lease(): Promise<Lease>;
  many(...args: readonly string[]): Promise<readonly ClientEvent[]>;
  /** An address for the client number K of clients.js. @throws Failure when it gets none */
  leaseOf(number: number, ...args: readonly string[]): Promise<string>;
  /** An empty directory that belongs to the service's account. */
  stateDirectory(): Promise<string>;
  /** Runs at the end of the check, last registered first. */
  defer(undo: () => Promise<unknown>): void;
}

const usual: LanConfig = { pool: [50, 59], seconds: 600 };

/** @param name of the check */
export async function openBench(site: Site, name: string): Promise<Bench & { close(): Promise<void> }> {
  const { lab, podman, definition, kind, exec, signal } = site;
  const directory = join(lab.directory, name);
  await mkdir(directory);
  await chmod(directory, 0o755);
  const undo: (() => Promise<unknown>)[] = [];
  let count = 0;

  const service = async (start: ServerStart = {}): Promise<Service> => {
    const { config = usual, image = site.image, interfaces = [lab.server.interface] } = start;
    const own = join(directory, 'config');
    await writeConfig(own, kind.file, typeof config === 'string' ? config : kind.config(config));
    return serviceOf(definition, {
      name,
      image,
      interfaces,
      family: site.family,
      config: own,
      state: start.directory,
    });
  };
  const many: Bench['many'] = (...args) => runClients({ exec, program: site.clients, lab, signal }, ...args);

  return {
    site,
    directory,
    service,
    many,
    lease: () => leaseByUdhcpc(exec, lab, 'phone', site.phone),
    leaseOf: async (number, ...args) => {
      const [event] = await many('lease', '--first', String(number), '--timeout', '15000', ...args);
      must(event?.event === 'ack', `client ${number} got no address`);
      return event.address ?? '';
    },
    serve: async (start) => {
      const own = await service(start);
      if (start?.prepared === true) await site.script.run('start', own);
      // Named as the unit does it. The one before has been removed by then.
      const container = await podman.run(own, own.name);
      undo.push(() => container.remove());
      const server = serverOf(own, container, site);
      await server.ready();
      return server;
    },
    stateDirectory: async () => {
      const state = join(directory, `state-${(count += 1)}`);
      await mkdir(state, { mode: 0o700 });
      await chown(state, definition.user.id, definition.user.id);
      return state;
    },
    defer: (step) => undo.push(step),
    close: async () => {
      for (let step = undo.pop(); step !== undefined; step = undo.pop()) await step().catch(() => undefined);
    },
  };
}

function serverOf(service: Service, container: LabContainer, { podman, kind }: Site): Server {
  const state = async (file: string): Promise<string> => {
    if (service.state === undefined) throw cannot('find', 'the state', 'the definition declares none');
    const { from } = service.state;
    return join('volume' in from ? await podman.volume(from.volume) : from.directory, file);
  };
  let starts = 0;
  return {
    service,
    container,
    config: service.config?.host ?? '',
    state,
    leases: async () => readFile(await state(kind.leases), 'utf8'),
    ready: async () => {
      starts += 1;
      // The log goes on over a restart: each start says it once more.
      const said = async (): Promise<number> =>
        [...(await container.log()).matchAll(new RegExp(kind.ready, 'gm'))].length;
      const end = Date.now() + 30_000;
      while ((await said()) < starts) {
        const running = await container.isRunning();
        if (!running || Date.now() > end) {
          const log = await container.log();
          throw new Failure(
            `the server ${running ? 'is not ready after 30 s' : `has ended: ${lastLine(log)}`}`,
            log,
          );
        }
        await sleep(20);
      }
    },
  };
}

/** What a server has said last, without the paragraph in which dhcpd then says where to report its faults. */
function lastLine(log: string): string {
  const [said = ''] = log.split('\nIf you think you have received this message');
  return said.trim().split('\n').at(-1) ?? '';
}

/** Readable for whoever the server runs as. */
export async function writeConfig(directory: string, file: string, text: string): Promise<void> {
  await mkdir(directory, { recursive: true });
  await writeFile(join(directory, file), text);
  await chmod(directory, 0o755);
  await chmod(join(directory, file), 0o644);
}
