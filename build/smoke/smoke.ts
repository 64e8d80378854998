import { canRun } from '../support/emulation.js';
import { cannot, reasonOf, ToolError } from '../support/errors.js';
import type { Architecture } from '../support/architecture.js';
import { findProgram } from '../support/exec.js';
import { tmpdir } from 'node:os';
import { basename } from 'node:path';
import { families, type Family, type ImageDefinition } from '../definition/definition.js';
import { openBench, type Site } from './bench.js';
import { Failure, Skip, type Check } from './check.js';
import { openHostScript } from './host-script.js';
import { openLab, type LabMachine } from './lab.js';
import { openPodman } from './podman.js';
import { serverKinds } from './server-kind.js';

export interface SmokeRequest {
  readonly definition: ImageDefinition;
  readonly architectures: readonly Architecture[];
  /** In the words of containers-transports(5), such as `oci-archive:PATH`. */
  readonly source: (architecture: Architecture) => string;
  /** In the order in which they run. */
  readonly checks: readonly Check[];
}

export interface SmokeMachine extends LabMachine {
  readonly signal: AbortSignal;
  /** Of the machine. */
  readonly architecture: Architecture;
  /** Path of the compiled clients.js. */
  readonly clients: string;
  /** Directory of the program's package. */
  readonly package: string;
  readonly on: (event: SmokeEvent) => void;
}

export type SmokeEvent =
  | { readonly kind: 'note'; readonly text: string }
  | { readonly kind: 'image'; readonly architecture: Architecture; readonly image: string }
  | { readonly kind: 'ends'; readonly result: CheckResult };

export interface CheckResult {
  readonly name: string;
  readonly state: 'ok' | 'failed' | 'skipped';
  /** To a hundredth. */
  readonly seconds: number;
  /** Of what is not ok. */
  readonly reason: string | undefined;
  /** What the server has said, for a failure. */
  readonly log: string | undefined;
}

export interface SmokeReport {
  readonly architecture: Architecture;
  /** ID of the image, which is the digest of its configuration without its algorithm. */
  readonly image: string;
  readonly emulated: boolean;
  /** What on this machine is not as it usually is, one line each. */
  readonly notes: readonly string[];
  readonly checks: readonly CheckResult[];
}

/**
 * Runs the checks in a lab of their own for each architecture. Neither the host's network nor the user's images are
 * touched.
 *
 * @throws ToolError when the lab cannot be set up, the image cannot be had, or it was interrupted
 */
export async function runSmoke(
  request: SmokeRequest,
  machine: SmokeMachine,
): Promise<readonly SmokeReport[]> {
  const emulates = request.architectures.some((one) => one !== machine.architecture);
  for (const program of ['ip', 'podman', 'setpriv', 'nsenter', ...(emulates ? ['ethtool'] : [])]) {
    if ((await findProgram(program, machine.environment['PATH'])) === undefined) {
      throw cannot('run', program, 'it is not installed', {
        hint: 'install podman, catatonit, iproute2, ethtool and util-linux',
      });
    }
  }
  const foreign = request.architectures.find((one) => !canRun(one, machine.architecture));
  if (foreign !== undefined) {
    throw cannot('run', `a server for ${foreign}`, 'this machine runs no programs of that architecture', {
      hint: 'install qemu-user-static, which registers an emulator with the kernel',
    });
  }
  const reports: SmokeReport[] = [];
  for (const architecture of request.architectures) reports.push(await runOn(architecture, request, machine));
  return reports;
}

async function runOn(
  architecture: Architecture,
  request: SmokeRequest,
  machine: SmokeMachine,
): Promise<SmokeReport> {
  const lab = await openLab(machine, { switched: true }).catch(notSetUp);
  try {
    const podman = await openPodman(machine, lab);
    const emulated = architecture !== machine.architecture;
    await lab.addressClient();
    const [phone, second] = [await lab.addClient(), await lab.addNetwork()];
    if (emulated) await lab.completeChecksums();
    const image = await podman.pull(request.source(architecture), architecture);
    const { definition } = request;
    const facts = {
      ...{ exec: machine.exec, signal: machine.signal, lab, podman, definition, image, architecture },
      ...{ emulated, phone, second, clients: machine.clients, package: machine.package },
      kind: kindOf(definition),
      family: await familyOf(definition, (format) => podman.inspectImage(image, format)),
    };
    const site: Site = { ...facts, script: await openHostScript(facts) };
    machine.on({ kind: 'image', architecture, image });
    for (const text of podman.settings.notes) machine.on({ kind: 'note', text });
    const checks: CheckResult[] = [];
    for (const check of request.checks) {
      machine.signal.throwIfAborted();
      const result = await runCheck(check, site);
      machine.signal.throwIfAborted();
      machine.on({ kind: 'ends', result });
      checks.push(result);
    }
    return { architecture, image, emulated, notes: podman.settings.notes, checks };
  } catch (error) {
    return notSetUp(error);
  } finally {
    await lab.close();
  }
}

/** What this program could not write below the temporary directory. */
function notSetUp(error: unknown): never {
  if (error instanceof ToolError || !(error instanceof Error && 'syscall' in error)) throw error;
  throw cannot('set up', `a lab in ${tmpdir()}`, reasonOf(error), {
    hint: 'set TMPDIR to a directory with more room',
    cause: error,
  });
}

async function runCheck({ name, only, run }: Check, site: Site): Promise<CheckResult> {
  const begin = performance.now();
  const result = (state: CheckResult['state'], reason?: string, log?: string): CheckResult => {
    const seconds = Math.round((performance.now() - begin) / 10) / 100;
    return { name, state, seconds, reason, log };
  };
  if (only !== undefined && only !== site.kind.name) return result('skipped', `only for ${only}`);
  const bench = await openBench(site, name);
  try {
    await run(bench);
    return result('ok');
  } catch (error) {
    if (error instanceof Skip) return result('skipped', error.message);
    return result('failed', reasonOf(error), error instanceof Failure ? error.log : undefined);
  } finally {
    await bench.close();
  }
}

function kindOf(definition: ImageDefinition): Site['kind'] {
  const [program] = definition.roots;
  const kind = serverKinds.get(basename(program));
  if (kind !== undefined) return kind;
  throw cannot('test', program, `only ${[...serverKinds.keys()].join(' and ')} are known to the smoke lab`, {
    exitCode: 2,
  });
}

/** Whose packages are in the image: told by the directory that it keeps its state in. */
async function familyOf(
  definition: ImageDefinition,
  inspect: (format: string) => Promise<string>,
): Promise<Family> {
  const volumes = await inspect('{{range $path, $_ := .Config.Volumes}}{{$path}} {{end}}');
  const declared = families.filter((family) => definition.packages[family] !== undefined);
  const found = declared.find((family) =>
    volumes.split(' ').includes(definition.packages[family]?.state ?? ''),
  );
  const [first] = declared;
  if (found !== undefined) return found;
  if (definition.state === undefined && first !== undefined) return first;
  throw cannot(
    'test',
    'the image',
    `none of its volumes is one that ${definition.file} declares: ${volumes || 'it has none'}`,
  );
}
