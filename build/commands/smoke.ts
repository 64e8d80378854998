import { existsSync, statSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join, resolve } from 'node:path';

import type { Context } from './context.js';
import { architecturesOf, definitionFile } from './request.js';
import { openImageStore } from '../compare/image-store.js';
import { readOciImage } from '../compare/oci-image.js';
import { loadDefinition } from '../definition/load.js';
import { allChecks } from '../smoke/checks/all.js';
import type { Check } from '../smoke/check.js';
import { fetchImage } from '../smoke/image-fetch.js';
import { makeLabDirectory } from '../smoke/lab.js';
import {
  runSmoke,
  type CheckResult,
  type SmokeEvent,
  type SmokeReport,
  type SmokeRequest,
} from '../smoke/smoke.js';
import { inUserNamespace } from '../smoke/user-namespace.js';
import { parseArchitecture, type Architecture } from '../support/architecture.js';
import { cannot, reasonOf } from '../support/errors.js';
import { failedCommand, run } from '../support/exec.js';
import { nearest } from '../support/nearest.js';

export interface SmokeOptions {
  readonly arch?: string;
  readonly image?: string;
  readonly only?: string;
  readonly list?: boolean;
  readonly json?: boolean;
  readonly debug?: boolean;
}

/** `smoke`: runs the image in a lab with real clients, and checks what it must do and must never do. */
export async function smoke(definition: string, options: SmokeOptions, context: Context): Promise<void> {
  const checks = chosen(options.only);
  if (options.list === true) {
    context.print(options.json === true ? listDocument(checks) : listText(checks));
    return;
  }
  const host = parseArchitecture(context.hostArchitecture);
  const architectures = options.arch === undefined ? [host] : architecturesOf(options.arch);
  const declared = await loadDefinition(definitionFile(definition, context));
  const work = (image: TestedImage): Promise<void> =>
    testImage(image, { definition: declared, architectures, checks }, options, context);
  const handed = context.environment[handedOver];
  if (handed !== undefined) {
    await work(JSON.parse(handed) as TestedImage);
    return;
  }
  const image = options.image ?? `out/${declared.name}.oci.tar`;
  const use = process.geteuid?.() === 0 ? work : (found: TestedImage) => asRootOfNamespace(found, context);
  await withImage(image, architectures, context, use);
}

/** What stands ready for the lab. */
interface TestedImage {
  /** In the words of containers-transports(5). */
  readonly name: string;
  /** OCI layout or oci-archive of each architecture, in the same words. */
  readonly sources: Readonly<Partial<Record<Architecture, string>>>;
}

/** Variable in which the same program in a namespace finds it, as JSON: there it sees neither the user's Podman nor a network. */
const handedOver = 'DHCPD_SCRATCH_TESTED_IMAGE';

async function testImage(
  image: TestedImage,
  { definition, architectures, checks }: Omit<SmokeRequest, 'source'>,
  options: SmokeOptions,
  context: Context,
): Promise<void> {
  const host = parseArchitecture(context.hostArchitecture);
  const width = Math.max(...checks.map(({ name }) => name.length));
  const many = architectures.length > 1;
  let place = '';
  const reports = await runSmoke(
    { definition, architectures, source: (architecture) => image.sources[architecture] ?? '', checks },
    {
      exec: run,
      environment: context.environment,
      signal: context.signal,
      architecture: host,
      clients: join(context.packageDirectory, 'dist/smoke/clients.js'),
      package: context.packageDirectory,
      on: (event: SmokeEvent) => {
        if (event.kind === 'image') {
          place = event.architecture;
          context.log.info(`testing the image ${event.image.slice(0, 12)} on ${place}`);
          if (many && options.json !== true) context.print(`${place}\n`);
        } else if (event.kind === 'note') context.log.debug(event.text);
        else {
          // Each line as soon as it is known: the whole takes a minute or two.
          if (options.json !== true) context.print(lineOf(event.result, width));
          if (event.result.log !== undefined) context.log.debug(event.result.log);
        }
      },
    },
  );
  const results = reports.flatMap((report) => report.checks);
  context.print(options.json === true ? documentOf(image.name, reports) : summaryOf(results));
  if (results.some(({ state }) => state === 'failed')) process.exitCode = 1;
}

/** @throws ToolError with exit code 2 for a name that is none */
function chosen(only: string | undefined): readonly Check[] {
  if (only === undefined) return allChecks;
  const names = only.split(',').map((name) => name.trim());
  for (const name of names) {
    if (allChecks.some((check) => check.name === name)) continue;
    const near = nearest(
      name,
      allChecks.map((check) => check.name),
    );
    throw cannot('find', `check ${name}`, 'there is none of that name', {
      hint: near === undefined ? 'see `npm run smoke -- --list`' : `did you mean ${near}?`,
      exitCode: 2,
    });
  }
  return allChecks.filter(({ name }) => names.includes(name));
}

/**
 * Has the image in hand while `use` runs. A file is an oci-archive and a directory an OCI layout; the rest is fetched.
 *
 * @throws ToolError with exit code 2 when it is not there, or not for one of the architectures
 */
async function withImage(
  image: string,
  architectures: readonly Architecture[],
  context: Context,
  use: (image: TestedImage) => Promise<void>,
): Promise<void> {
  const ready = async (name: string, pathOf: (architecture: Architecture) => string): Promise<void> => {
    const sources: Partial<Record<Architecture, string>> = {};
    for (const architecture of architectures) {
      const path = pathOf(architecture);
      await mustHave(path, architecture, image);
      sources[architecture] = transportOf(path);
    }
    await use({ name, sources });
  };
  const place = placeOf(image, context);
  if (place?.name !== undefined) {
    const source = `${transportOf(place.path)}:${place.name}`;
    await use({ name: source, sources: Object.fromEntries(architectures.map((one) => [one, source])) });
    return;
  }
  if (place !== undefined) {
    await ready(transportOf(place.path), () => place.path);
    return;
  }
  context.log.info(`getting the image ${image}`);
  const directory = await makeLabDirectory('image');
  try {
    const fetched = await fetchImage(image, architectures, {
      ...{ exec: run, environment: definedIn(context.environment), signal: context.signal },
      ...{ uid: process.geteuid?.() ?? 0, directory },
    });
    await ready(fetched.name, (architecture) => fetched.archives.get(architecture) ?? '');
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

/** An OCI layout or an oci-archive, and the name of one image in it; undefined for an image that is to be fetched. */
function placeOf(
  image: string,
  { cwd }: Context,
): { readonly path: string; readonly name: string | undefined } | undefined {
  const [, transport, place = image] = /^(oci|oci-archive|docker-archive|dir):(.*)$/.exec(image) ?? [];
  const isLayout = (path: string): boolean =>
    !statSync(path).isDirectory() || existsSync(join(path, 'oci-layout'));
  const ends = transport === undefined ? [] : [...place.matchAll(/:/g)].map(({ index }) => index);
  const end = [place.length, ...ends].find((one) => existsSync(resolve(cwd, place.slice(0, one))));
  if (end !== undefined) {
    const path = resolve(cwd, place.slice(0, end));
    if (transport === undefined ? !isPath(image) && !isLayout(path) : !transport.startsWith('oci')) return;
    return { path, name: end === place.length ? undefined : place.slice(end + 1) };
  }
  if (transport === undefined && !isPath(image)) return;
  throw cannot('read', image, 'there is no such file', {
    hint: 'build the image first, or name one with --image',
    exitCode: 2,
  });
}

function isPath(image: string): boolean {
  return /\.tar$|^\.{0,2}\//.test(image);
}

function transportOf(path: string): string {
  return `${statSync(path).isDirectory() ? 'oci' : 'oci-archive'}:${path}`;
}

/** @throws ToolError with exit code 2 */
async function mustHave(path: string, architecture: Architecture, name: string): Promise<void> {
  const store = await openImageStore(path, name);
  try {
    await readOciImage(store, architecture);
  } finally {
    await store.close();
  }
}

/** The same command line again, where this user is root. */
async function asRootOfNamespace(image: TestedImage, context: Context): Promise<void> {
  context.log.info('not root: running in a user namespace');
  const environment = definedIn(context.environment);
  try {
    await run({ argv: inUserNamespace(['true']), environment, signal: context.signal, timeout: 30_000 });
  } catch (error) {
    context.signal.throwIfAborted();
    throw cannot('open', 'a lab', `this user may have no namespaces of its own: ${reasonOf(error)}`, {
      hint: 'run it as root, or give the user subordinate IDs (usermod --add-subuids, --add-subgids)',
      cause: error,
    });
  }
  try {
    await run({
      argv: inUserNamespace([process.execPath, ...process.argv.slice(1)]),
      cwd: context.cwd,
      environment: { ...environment, [handedOver]: JSON.stringify(image) },
      signal: context.signal,
      inherit: true,
    });
  } catch (error) {
    context.signal.throwIfAborted();
    const code = failedCommand(error)?.exitCode;
    if (code === undefined) throw error;
    process.exitCode = code;
  }
}

function definedIn(environment: Context['environment']): Record<string, string> {
  return Object.fromEntries(
    Object.entries(environment).filter((entry): entry is [string, string] => entry[1] !== undefined),
  );
}

const words = { ok: 'ok', failed: 'FAIL', skipped: 'skip' } as const;

function lineOf({ name, state, seconds, reason }: CheckResult, width: number): string {
  const time = `${seconds.toFixed(2).padStart(6)} s`;
  const line = `${words[state].padEnd(4)}  ${name.padEnd(width)}  ${time}`;
  return `${reason === undefined ? line : `${line}  ${reason}`}\n`;
}

function summaryOf(results: readonly CheckResult[]): string {
  const count = (state: CheckResult['state']): number => results.filter((one) => one.state === state).length;
  const seconds = results.reduce((sum, one) => sum + one.seconds, 0);
  return `${count('ok')} ok, ${count('failed')} failed, ${count('skipped')} skipped in ${seconds.toFixed(0)} s\n`;
}

function listText(checks: readonly Check[]): string {
  const width = Math.max(...checks.map(({ name }) => name.length));
  return checks.map(({ name, promise }) => `${name.padEnd(width)}  ${promise}\n`).join('');
}

function listDocument(checks: readonly Check[]): string {
  const list = checks.map(({ name, promise, only }) => ({ name, promise, only: only ?? null }));
  return `${JSON.stringify({ checks: list }, undefined, 2)}\n`;
}

/** Every key is always there; `null` stands for nothing. */
function documentOf(source: string, reports: readonly SmokeReport[]): string {
  const document = {
    source,
    ok: reports.every(({ checks }) => checks.every(({ state }) => state !== 'failed')),
    runs: reports.map(({ architecture, image, emulated, notes, checks }) => ({
      architecture,
      image,
      emulated,
      notes,
      checks: checks.map(({ name, state, seconds, reason }) => ({
        name,
        state,
        seconds,
        reason: reason ?? null,
      })),
    })),
  };
  return `${JSON.stringify(document, undefined, 2)}\n`;
}
