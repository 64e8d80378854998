import { resolve } from 'node:path';
import type { Context } from './context.js';
import { definitionFile, mirrorOf } from './request.js';
import { servicesOf } from './services.js';
import { surveyRepositories } from '../pipeline.js';
import type { FamilyChoice } from '../family.js';
import { buildahUsable } from '../image/buildah-usable.js';
import { architectures, parseArchitecture } from '../support/architecture.js';
import { baseEnvironment, findProgram, run } from '../support/exec.js';
import { canRun } from '../support/emulation.js';
import { hintOf, reasonOf } from '../support/errors.js';

export interface DoctorOptions {
  readonly distro: FamilyChoice;
  readonly mirror?: readonly string[];
  readonly suite?: string;
  readonly keyring?: string;
  readonly offline?: boolean;
  readonly json?: boolean;
}

interface Finding {
  readonly about: string;
  /** `missing` keeps something optional from working; `broken` keeps `build` from working. */
  readonly state: 'ok' | 'missing' | 'broken';
  readonly found: string;
  /** Where that comes from, one line each. */
  readonly details?: readonly string[];
  /** What to do for more. */
  readonly advice: string | null;
}

/** `doctor`: what this host can do. Its exit code is 1 when `build` cannot work here. */
export async function doctor(options: DoctorOptions, context: Context): Promise<void> {
  const findings = await Promise.all([
    cacheFinding(context),
    archiveFindings(options, context),
    buildahFinding(context),
    podmanFinding(context),
  ]);
  const all: readonly Finding[] = [
    { about: 'node', state: 'ok', found: `${process.version} on ${context.hostArchitecture}`, advice: null },
    {
      about: 'embedded engine',
      state: 'ok',
      found: `used by --engine auto; builds for ${architectures.join(', ')}`,
      advice: null,
    },
    ...findings.flat(),
    emulationFinding(context),
  ];
  context.print(options.json === true ? `${JSON.stringify({ findings: all }, undefined, 2)}\n` : textOf(all));
  if (all.some(({ state }) => state === 'broken')) process.exitCode = 1;
}

function textOf(findings: readonly Finding[]): string {
  const width = Math.max(...findings.map(({ about }) => about.length));
  return findings
    .map(({ about, state, found, details = [], advice }) => {
      const more = [...details, ...(advice === null ? [] : [`-> ${advice}`])];
      const indent = ' '.repeat(width + 11);
      return [
        `${state.padEnd(7)}  ${about.padEnd(width)}  ${found}`,
        ...more.map((line) => indent + line),
        '',
      ].join('\n');
    })
    .join('');
}

async function cacheFinding(context: Context): Promise<Finding> {
  const about = 'cache';
  try {
    const { cache } = await servicesOf(context);
    await (await cache.temporary()).discard();
    return { about, state: 'ok', found: cache.directory, advice: null };
  } catch (error) {
    return { about, state: 'broken', found: reasonOf(error), advice: hintOf(error) ?? null };
  }
}

/** One finding a suite, or what is wrong with one of them. */
async function archiveFindings(options: DoctorOptions, context: Context): Promise<readonly Finding[]> {
  try {
    const { family, repositories } = await surveyRepositories(
      {
        definition: definitionFile('dhcpd', context),
        hostArchitecture: parseArchitecture(context.hostArchitecture),
        distro: options.distro,
        mirrors: (options.mirror ?? []).map(mirrorOf),
        suite: options.suite,
        keyring: options.keyring === undefined ? undefined : resolve(context.cwd, options.keyring),
        offline: options.offline === true,
      },
      await servicesOf(context),
    );
    return repositories.map(({ url, suite, date, architectures: names, keyring, configuredAt }) => ({
      about: family === 'debian' ? 'Debian archive' : 'Fedora repository',
      state: 'ok',
      found: `${url} ${suite} of ${date}`,
      details: [`for ${names.join(', ')}`, `from ${configuredAt}, ${keyring}`],
      advice: null,
    }));
  } catch (error) {
    return [{ about: 'packages', state: 'broken', found: reasonOf(error), advice: hintOf(error) ?? null }];
  }
}

async function buildahFinding({ environment }: Context): Promise<Finding> {
  const about = 'buildah engine';
  const usable = await buildahUsable({ exec: run, environment });
  return usable.usable
    ? { about, state: 'ok', found: `buildah ${usable.version}`, advice: null }
    : { about, state: 'missing', found: usable.reason, advice: usable.hint };
}

async function podmanFinding({ environment }: Context): Promise<Finding> {
  const about = 'podman';
  const path = await findProgram('podman', environment['PATH']);
  return path === undefined
    ? {
        about,
        state: 'missing',
        found: 'not installed: images can be built, not run',
        advice: 'install podman',
      }
    : { about, state: 'ok', found: await versionOf(path, environment), advice: null };
}

/** What a program says of itself, such as `podman version 4.3.1`; its path when it does not. */
async function versionOf(path: string, environment: Context['environment']): Promise<string> {
  try {
    const { stdout } = await run({
      argv: [path, '--version'],
      environment: baseEnvironment(environment),
      timeout: 10_000,
    });
    return stdout.trim() || path;
  } catch {
    return path;
  }
}

/** Which foreign architectures the kernel can run through binfmt_misc; building needs none of it. */
function emulationFinding(context: Context): Finding {
  const about = 'running foreign images';
  const host = parseArchitecture(context.hostArchitecture);
  const names = architectures.filter((architecture) => architecture !== host && canRun(architecture, host));
  return names.length > 0
    ? { about, state: 'ok', found: names.join(', '), advice: null }
    : {
        about,
        state: 'missing',
        found: `only ${host}; building needs no emulation`,
        advice: 'install qemu-user-static',
      };
}
