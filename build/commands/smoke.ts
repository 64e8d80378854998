import { existsSync, statSync } from 'node:fs';
import { join, resolve } from 'node:path';

import type { Context } from './context.js';
import { architecturesOf, definitionFile } from './request.js';
import { loadDefinition } from '../definition/load.js';
import { allChecks } from '../smoke/checks/all.js';
import type { Check } from '../smoke/check.js';
import { runSmoke, type CheckResult, type SmokeEvent, type SmokeReport } from '../smoke/smoke.js';
import { inUserNamespace } from '../smoke/user-namespace.js';
import { parseArchitecture } from '../support/architecture.js';
import { cannot, reasonOf, ToolError } from '../support/errors.js';
import { run } from '../support/exec.js';
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
  const source = sourceOf(options.image ?? `out/${declared.name}.oci.tar`, context);
  if (process.geteuid?.() !== 0) {
    await asRootOfNamespace(context);
    return;
  }
  const width = Math.max(...checks.map(({ name }) => name.length));
  const many = architectures.length > 1;
  let place = '';
  const reports = await runSmoke(
    { definition: declared, architectures, source, checks },
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
  context.print(options.json === true ? documentOf(source, reports) : summaryOf(results));
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

/** A file or directory is an oci-archive or an OCI layout; what has a transport is left as it is; the rest is a reference. */
function sourceOf(image: string, { cwd }: Context): string {
  const path = resolve(cwd, image);
  if (existsSync(path)) return `${statSync(path).isDirectory() ? 'oci' : 'oci-archive'}:${path}`;
  if (/\.tar$|^\.{0,2}\//.test(image)) {
    throw cannot('read', image, 'there is no such file', {
      hint: 'build the image first, or name one with --image',
      exitCode: 2,
    });
  }
  return image;
}

/** The same command line again, where this user is root. */
async function asRootOfNamespace(context: Context): Promise<void> {
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
      environment,
      signal: context.signal,
      inherit: true,
    });
  } catch (error) {
    context.signal.throwIfAborted();
    const code = exitCodeOf(error);
    if (code === undefined) throw error;
    process.exitCode = code;
  }
}

function definedIn(environment: Context['environment']): Record<string, string> {
  return Object.fromEntries(
    Object.entries(environment).filter((entry): entry is [string, string] => entry[1] !== undefined),
  );
}

/** Undefined when the program has not run at all. */
function exitCodeOf(error: unknown): number | undefined {
  const cause: unknown = error instanceof ToolError ? error.cause : undefined;
  if (typeof cause !== 'object' || cause === null || !('exitCode' in cause)) return undefined;
  return typeof cause.exitCode === 'number' ? cause.exitCode : undefined;
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
