import { readOsRelease } from '../os-release.js';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { cannot, reasonOf } from '../../support/errors.js';
import { baseEnvironment, type Exec } from '../../support/exec.js';
import type { Log } from '../../support/log.js';
import { compareBytes } from '../../support/order.js';
import { parseList, parseSources, truth, type Source, type SourceDefaults } from './sources.js';

/** What the host's apt knows, as far as reading archives needs it. */
export interface AptConfiguration {
  readonly defaults: SourceDefaults;
  /** Every enabled source in apt's own order. */
  readonly sources: readonly Source[];
  /** Files of apt_preferences(5), in apt's own order. */
  readonly preferences: readonly string[];
  /** Acquire::http(s)::Proxy in the words of the usual environment variables; apt lets them win over those. */
  readonly proxyEnvironment: Readonly<Record<string, string>>;
}

export interface AptHostOptions {
  readonly exec: Exec;
  /** PATH and APT_CONFIG are taken from here. */
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly log: Log;
}

/** Without a word from anybody: apt.conf(5). */
export const plainDefaults: SourceDefaults = {
  keyrings: [],
  checks: { validUntil: true, date: true, minValid: undefined, maxValid: undefined, maxFuture: 10 },
  byHash: 'yes',
};

/**
 * Reads the configuration of the host's apt: `apt-config dump`, then the sources it names.
 * @returns undefined on a host without apt
 * @throws ToolError when the configuration or a source is malformed
 */
export async function readAptConfiguration(options: AptHostOptions): Promise<AptConfiguration | undefined> {
  const dump = await dumpConfiguration(options);
  if (dump === undefined) return undefined;
  const config = parseDump(dump);
  const path = (name: string): string | undefined => findPath(config, name);
  const defaults: SourceDefaults = {
    keyrings: [
      ...(await existing(path('Dir::Etc::trusted'))),
      ...(await listFiles(path('Dir::Etc::trustedparts'), /\.(?:gpg|asc)$/)),
    ],
    checks: {
      validUntil:
        flag(config, 'Acquire::Check-Valid-Until', true) && flag(config, 'Acquire::Check-Date', true),
      date: flag(config, 'Acquire::Check-Date', true),
      minValid: seconds(config, 'Acquire::Min-ValidTime'),
      maxValid: seconds(config, 'Acquire::Max-ValidTime'),
      maxFuture: seconds(config, 'Acquire::Max-FutureTime') ?? plainDefaults.checks.maxFuture,
    },
    byHash: byHash(config.get('acquire::by-hash')),
  };
  const sources: Source[] = [];
  const files = [
    ...(await existing(path('Dir::Etc::sourcelist'))),
    ...(await listFiles(path('Dir::Etc::sourceparts'), /\.(?:list|sources)$/)),
  ];
  for (const file of files) {
    const parse = file.endsWith('.sources') ? parseSources : parseList;
    sources.push(...parse(await readText(file), file, defaults, options.log));
  }
  const preferences = [
    ...(await existing(path('Dir::Etc::preferences'))),
    ...(await listFiles(path('Dir::Etc::preferencesparts'), /^[^.]+$|\.pref$/)),
  ];
  return { defaults, sources, preferences, proxyEnvironment: proxies(config, options) };
}

async function dumpConfiguration({ exec, environment }: AptHostOptions): Promise<string | undefined> {
  const child = baseEnvironment(environment);
  if (environment['APT_CONFIG'] !== undefined) child['APT_CONFIG'] = environment['APT_CONFIG'];
  try {
    return (await exec({ argv: ['apt-config', 'dump'], environment: child })).stdout;
  } catch (error) {
    if (isMissingProgram(error)) return undefined;
    throw error;
  }
}

function isMissingProgram(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  if ('code' in error && error.code === 'ENOENT') return true;
  return isMissingProgram(error.cause);
}

/** Lines of `apt-config dump`: `Name "value";`. Names are case-insensitive, so kept in lower case; lists end in `::`. */
export function parseDump(text: string): ReadonlyMap<string, string> {
  const config = new Map<string, string>();
  for (const line of text.split('\n')) {
    const match = /^(\S+) "(.*)";$/.exec(line);
    const [, name, value] = match ?? [];
    if (name !== undefined && value !== undefined) config.set(name.toLowerCase(), value);
  }
  return config;
}

/** apt joins a relative Dir value to its parents' values, up to an absolute one (apt.conf(5), DIRECTORIES). */
function findPath(config: ReadonlyMap<string, string>, name: string): string | undefined {
  const parts: string[] = [];
  for (let tag = name.toLowerCase(); ; tag = tag.slice(0, tag.lastIndexOf('::'))) {
    const value = config.get(tag) ?? '';
    if (parts.length === 0 && value === '') return undefined;
    parts.unshift(value);
    if (value.startsWith('/') && tag !== 'dir') break;
    if (!tag.includes('::')) break;
  }
  const path = join('/', ...parts);
  if (path === '/dev/null') return undefined;
  const root = config.get('rootdir') ?? '';
  return root === '' ? path : join(root, path);
}

function flag(config: ReadonlyMap<string, string>, name: string, otherwise: boolean): boolean {
  return truth(config.get(name.toLowerCase()) ?? '') ?? otherwise;
}

function seconds(config: ReadonlyMap<string, string>, name: string): number | undefined {
  const value = config.get(name.toLowerCase()) ?? '';
  // apt takes zero for "not set".
  return /^[0-9]{1,12}$/.test(value) && Number(value) > 0 ? Number(value) : undefined;
}

function byHash(value: string | undefined): 'yes' | 'no' | 'force' {
  if (value?.toLowerCase() === 'force') return 'force';
  return truth(value ?? '') === false ? 'no' : 'yes';
}

/** The value DIRECT stands for no proxy, in the variables too. */
function proxies(
  config: ReadonlyMap<string, string>,
  { environment, log }: AptHostOptions,
): Record<string, string> {
  const variables: Record<string, string> = {};
  const direct: string[] = [];
  for (const scheme of ['http', 'https']) {
    const prefix = `acquire::${scheme}::proxy`;
    // apt-transport-https(1): what is not set for https is taken from http.
    const value = [config.get(prefix), config.get('acquire::http::proxy')].find(
      (one) => one !== undefined && one !== '',
    );
    if (value !== undefined) variables[`${scheme}_proxy`] = value === 'false' ? 'DIRECT' : value;
    for (const [name, proxy] of config) {
      const host = name.slice(prefix.length + 2);
      if (!name.startsWith(`${prefix}::`) || host === '' || proxy === '') continue;
      if (proxy.toUpperCase() === 'DIRECT') direct.push(host);
      else log.warn(`apt's own proxy for ${host} is not used; set ${scheme}_proxy if it is needed`);
    }
  }
  if (direct.length > 0) {
    const others = environment['no_proxy'] ?? environment['NO_PROXY'];
    variables['no_proxy'] = [...(others === undefined ? [] : [others]), ...new Set(direct)].join(',');
  }
  return variables;
}

async function existing(path: string | undefined): Promise<readonly string[]> {
  if (path === undefined) return [];
  try {
    await readFile(path);
    return [path];
  } catch (error) {
    if (isMissing(error)) return [];
    throw cannot('read', path, reasonOf(error), { cause: error });
  }
}

/** Names apt accepts in its directories, sorted by bytes as apt sorts them. */
async function listFiles(directory: string | undefined, wanted: RegExp): Promise<readonly string[]> {
  if (directory === undefined) return [];
  try {
    const entries = await readdir(directory, { withFileTypes: true });
    return entries
      .filter(
        (entry) => !entry.isDirectory() && /^[0-9A-Za-z_.-]+$/.test(entry.name) && wanted.test(entry.name),
      )
      .map((entry) => entry.name)
      .sort(compareBytes)
      .map((name) => join(directory, name));
  } catch (error) {
    if (isMissing(error)) return [];
    throw cannot('read', directory, reasonOf(error), { cause: error });
  }
}

async function readText(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    throw cannot('read', path, reasonOf(error), { cause: error });
  }
}

function isMissing(error: unknown): boolean {
  return error instanceof Error && 'code' in error && (error.code === 'ENOENT' || error.code === 'ENOTDIR');
}

/** VERSION_CODENAME of os-release(5): the release of the host, or undefined when it names none. */
export async function hostRelease(path?: string): Promise<string | undefined> {
  const codename = (await readOsRelease(path)).get('VERSION_CODENAME');
  return codename !== undefined && /^[0-9A-Za-z._-]+$/.test(codename) ? codename : undefined;
}
