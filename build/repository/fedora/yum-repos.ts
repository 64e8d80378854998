import { constants } from 'node:fs';
import { open, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Architecture } from '../../support/architecture.js';
import { isCode } from '../../support/atomic.js';
import { reasonOf } from '../../support/errors.js';
import type { Log } from '../../support/log.js';
import { compareBytes } from '../../support/order.js';
import { shownUrl } from '../../support/url.js';
import { parseIni, type IniSection } from './ini.js';
import { baseArchitecture, packageArchitectures } from './layout.js';
import { repositoryBase } from './location.js';
import { plainSource, type RpmSource } from './source.js';

export interface YumReposOptions {
  /** Directory that stands for `/`. */
  readonly root: string;
  /** What `$releasever` stands for, such as `45`. */
  readonly release: string;
  readonly architecture: Architecture;
  readonly log: Log;
}

const reposDirectory = 'etc/yum.repos.d';
const mainFile = 'etc/dnf/dnf.conf';
/** The later one wins. */
const variableDirectories = ['etc/yum/vars', 'etc/dnf/vars'];
/** Bytes; the largest real file has a fiftieth of it. */
const largestFile = 1024 ** 2;
const mostUrls = 100;

/** Options that make a repository another one than we would see, or keep us from seeing it. */
const unsupported = [
  ...['includepkgs', 'proxy', 'username', 'password', 'sslcacert', 'sslclientcert', 'sslclientkey'],
];

/**
 * Reads the enabled repositories of a host: /etc/yum.repos.d/*.repo, as dnf.conf(5) and dnf(8) describe them, with the
 * variables of /etc/dnf/vars and /etc/yum/vars, and what dnf.conf says for all of them. What cannot be read or made
 * sense of is left out with a warning.
 *
 * @returns in the order of file names and sections; empty on a host without dnf
 */
export async function readYumRepositories(options: YumReposOptions): Promise<readonly RpmSource[]> {
  const { root, log } = options;
  const variables = await readVariables(options);
  const main = (await readSections(join(root, mainFile), log)).find(({ name }) => name === 'main')?.options;
  const directory = join(root, reposDirectory);
  const sources = new Map<string, RpmSource>();
  for (const file of await listFiles(directory, log)) {
    if (!file.endsWith('.repo')) continue;
    const path = join(directory, file);
    for (const section of await readSections(path, log)) {
      if (section.name === 'main') continue;
      const id = substitute(section.name, variables);
      const where = `${path} [${id}]`;
      const settings = new Settings(section.options, main, variables, where, log);
      if (!settings.truth('enabled', true)) continue;
      if (sources.has(id)) {
        log.warn(`${where}: left out, there is another repository of that name`);
        continue;
      }
      const source = sourceOf(id, settings);
      if (source !== undefined) sources.set(id, source);
    }
  }
  return [...sources.values()];
}

function sourceOf(id: string, settings: Settings): RpmSource | undefined {
  const { where, log } = settings;
  if (!/^[0-9A-Za-z_.:-]{1,200}$/.test(id)) {
    log.warn(`${where}: left out, its name has characters that dnf does not allow`);
    return undefined;
  }
  for (const name of unsupported) {
    if ((settings.own(name) ?? '') !== '') log.warn(`${where}: the option ${name} is not followed`);
  }
  if (!settings.truth('gpgcheck', true)) {
    log.warn(`${where}: gpgcheck=0 is not followed, packages need a signature here all the same`);
  }
  const bases = settings.list('baseurl').flatMap((written) => {
    const base = repositoryBase(written);
    if (base === undefined)
      log.warn(`${where}: left out, ${shownUrl(written)} is no http, https or file URL`);
    return base ?? [];
  });
  const metalink = settings.url('metalink');
  const mirrorlist = settings.url('mirrorlist');
  if (bases.length === 0 && metalink === undefined && mirrorlist === undefined) {
    log.warn(`${where}: left out, it has none of baseurl, metalink and mirrorlist`);
    return undefined;
  }
  return {
    id,
    bases: bases.slice(0, mostUrls),
    metalink,
    mirrorlist,
    gpgKeys: settings.list('gpgkey').slice(0, mostUrls),
    repoGpgCheck: settings.truth('repo_gpgcheck', plainSource.repoGpgCheck),
    excludes: [...settings.list('excludepkgs'), ...settings.list('exclude')],
    priority: settings.number('priority', plainSource.priority),
    cost: settings.number('cost', plainSource.cost),
    moduleHotfixes: settings.truth('module_hotfixes', plainSource.moduleHotfixes),
    configuredAt: where,
  };
}

/** Options that dnf.conf gives to every repository that has none of its own; the others are added to its own. */
const inherited = ['gpgcheck', 'repo_gpgcheck'];
const added = ['excludepkgs', 'exclude'];

/** The options of one section, variables put in. */
class Settings {
  readonly #own: ReadonlyMap<string, string>;
  readonly #main: ReadonlyMap<string, string> | undefined;
  readonly #variables: ReadonlyMap<string, string>;

  constructor(
    own: ReadonlyMap<string, string>,
    main: ReadonlyMap<string, string> | undefined,
    variables: ReadonlyMap<string, string>,
    readonly where: string,
    readonly log: Log,
  ) {
    this.#own = own;
    this.#main = main;
    this.#variables = variables;
  }

  own(name: string): string | undefined {
    const value = this.#own.get(name);
    return value === undefined ? undefined : substitute(value, this.#variables);
  }

  list(name: string): readonly string[] {
    const others = added.includes(name) ? (this.#main?.get(name) ?? '') : '';
    const all = `${this.own(name) ?? ''}\n${substitute(others, this.#variables)}`;
    return all.split(/[\s,]+/).filter((word) => word !== '');
  }

  url(name: string): string | undefined {
    const value = this.own(name)?.trim() ?? '';
    if (value === '') return undefined;
    if (repositoryBase(value) !== undefined) return value;
    this.log.warn(`${this.where}: ${name} is ${shownUrl(value)}, no http, https or file URL`);
    return undefined;
  }

  truth(name: string, otherwise: boolean): boolean {
    const value = (this.own(name) ?? (inherited.includes(name) ? this.#main?.get(name) : undefined))
      ?.trim()
      .toLowerCase();
    if (value === undefined || value === '') return otherwise;
    if (['1', 'yes', 'true', 'on', 'enabled', 'always'].includes(value)) return true;
    if (['0', 'no', 'false', 'off', 'disabled', 'never'].includes(value)) return false;
    this.log.warn(`${this.where}: ${name} is ${JSON.stringify(value)}, neither yes nor no`);
    return otherwise;
  }

  number(name: string, otherwise: number): number {
    const value = this.own(name)?.trim() ?? '';
    if (value === '') return otherwise;
    if (/^-?[0-9]{1,9}$/.test(value)) return Number(value);
    this.log.warn(`${this.where}: ${name} is ${JSON.stringify(value)}, no number`);
    return otherwise;
  }
}

async function readVariables({
  root,
  release,
  architecture,
  log,
}: YumReposOptions): Promise<Map<string, string>> {
  const [major = '', minor = ''] = release.split('.');
  const variables = new Map<string, string>();
  for (const directory of variableDirectories) {
    for (const name of await listFiles(join(root, directory), log)) {
      if (!/^[0-9A-Za-z_]{1,100}$/.test(name)) continue;
      const text = await readText(join(root, directory, name), log);
      if (text !== undefined) variables.set(name.toLowerCase(), text.split('\n')[0]?.trim() ?? '');
    }
  }
  variables.set('releasever', release);
  variables.set('releasever_major', major);
  variables.set('releasever_minor', minor);
  variables.set('basearch', baseArchitecture(architecture));
  variables.set('arch', packageArchitectures(architecture)[0] ?? '');
  return variables;
}

/** `$name`, `${name}`, and dnf 5's `${name:-otherwise}` and `${name:+instead}`; what is not known stays as it is. */
function substitute(text: string, variables: ReadonlyMap<string, string>): string {
  return text.replace(
    /\$(?:([0-9A-Za-z_]+)|\{([0-9A-Za-z_]+)(?::([-+])([^{}]*))?\})/g,
    (
      written: string,
      plain: string | undefined,
      braced: string | undefined,
      mark?: string,
      word: string = '',
    ) => {
      const value = variables.get((plain ?? braced ?? '').toLowerCase());
      if (mark === '-') return value === undefined || value === '' ? word : value;
      if (mark === '+') return value === undefined || value === '' ? '' : word;
      return value ?? written;
    },
  );
}

async function readSections(path: string, log: Log): Promise<readonly IniSection[]> {
  const text = await readText(path, log);
  if (text === undefined) return [];
  return parseIni(text, (line) => {
    log.warn(`${path}:${line}: the line is left out, it is not of the form NAME=VALUE`);
  });
}

/** @returns undefined for a missing file, and after a warning for one that cannot be read */
async function readText(path: string, log: Log): Promise<string | undefined> {
  try {
    // A FIFO must not make us wait for its writer.
    const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
    try {
      const stats = await file.stat();
      if (!stats.isFile()) throw new Error('it is not a regular file');
      if (stats.size > largestFile) throw new Error(`it is larger than ${largestFile} bytes`);
      const text = await file.readFile('utf8');
      if (text.includes('\0')) throw new Error('it holds a NUL byte');
      return text;
    } finally {
      await file.close();
    }
  } catch (error) {
    if (!isCode(error, 'ENOENT', 'ENOTDIR')) log.warn(`${path} is left out: ${reasonOf(error)}`);
    return undefined;
  }
}

/** Names in a directory, sorted by bytes. */
async function listFiles(directory: string, log: Log): Promise<readonly string[]> {
  try {
    return (await readdir(directory)).sort(compareBytes);
  } catch (error) {
    if (!isCode(error, 'ENOENT', 'ENOTDIR')) log.warn(`${directory} is left out: ${reasonOf(error)}`);
    return [];
  }
}
