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
import { matchesGlob } from './name-patterns.js';
import { plainSource, type RpmSource } from './source.js';

export interface YumReposOptions {
  /** Directory that stands for `/`. */
  readonly root: string;
  /** What `$releasever` stands for, such as `45`. */
  readonly release: string;
  readonly architecture: Architecture;
  readonly log: Log;
}

/** As dnf5.conf(5) has them, in the order in which they are read: the first repository of a name counts. */
const reposDirectories = ['etc/yum.repos.d', 'etc/distro.repos.d', 'usr/share/dnf5/repos.d'];
/** What changes repositories that are there already. A file hides those of its name in the directories after. */
const overrideDirectories = ['etc/dnf/repos.override.d', 'usr/share/dnf5/repos.override.d'];
const mainFile = 'etc/dnf/dnf.conf';
/** What dnf.conf goes before. A file hides those of its name in the directories after. */
const mainDirectories = ['etc/dnf/libdnf5.conf.d', 'usr/share/dnf5/libdnf.conf.d'];
/** The later one wins. */
const variableDirectories = ['usr/share/dnf5/vars.d', 'etc/yum/vars', 'etc/dnf/vars'];
/** Bytes; the largest real file has a fiftieth of it. */
const largestFile = 1024 ** 2;
const mostUrls = 100;

/** Options that make a repository another one than we would see, or keep us from seeing it. */
const unsupported = [
  ...['includepkgs', 'username', 'password', 'sslcacert', 'sslclientcert', 'sslclientkey'],
];
/** Options of dnf.conf that would have us look elsewhere. */
const unsupportedInMain = ['reposdir', 'varsdir'];
const proxyIgnored = 'the option proxy is not followed, set http_proxy and https_proxy in the environment';

export interface YumRepositories {
  /** Those that are enabled, in the order of directories, file names and sections. */
  readonly sources: readonly RpmSource[];
  /** Names of all, enabled or not. */
  readonly known: ReadonlySet<string>;
}

/**
 * Reads the repositories of a host as dnf(8) and dnf5.conf(5) describe them: dnf.conf and the *.repo files of three
 * directories, the overrides of two more, and the variables of three. What cannot be read or made sense of is left out
 * with a warning.
 *
 * @returns none on a host without dnf
 */
export async function readYumRepositories(options: YumReposOptions): Promise<YumRepositories> {
  const { root, log } = options;
  const variables = await readVariables(options);
  const main = await readMainOptions(root, log);
  const sections = await readRepositorySections(options, variables);
  await applyOverrides(sections, options, variables);
  const sources = [...sections].flatMap(([id, { own, where }]) => {
    const settings = new Settings(own, main, variables, where, log);
    return settings.truth('enabled', true) ? (sourceOf(id, settings) ?? []) : [];
  });
  return { sources, known: new Set(sections.keys()) };
}

/**
 * Reads `[main]` of dnf.conf and of what goes before it, and warns of what it says that is not followed.
 *
 * @param root directory that stands for `/`
 */
export async function readMainOptions(root: string, log: Log): Promise<ReadonlyMap<string, string>> {
  const options = new Map<string, string>();
  const files = [...(await listMasking(root, mainDirectories, '.conf', log)), join(root, mainFile)];
  for (const path of files) {
    const found = (await readSections(path, log)).filter(({ name }) => name === 'main');
    const own = new Map(found.flatMap((section) => [...section.options]));
    if (isProxy(own.get('proxy'))) log.warn(`${path} [main]: ${proxyIgnored}`);
    for (const name of unsupportedInMain) {
      if ((own.get(name) ?? '') !== '') log.warn(`${path} [main]: the option ${name} is not followed`);
    }
    for (const [name, value] of own) options.set(name, value);
  }
  return options;
}

/** A repository's section, with what overrides make of it. */
interface RepositorySection {
  readonly own: Map<string, string>;
  readonly where: string;
  readonly directory: string;
}

async function readRepositorySections(
  { root, log }: YumReposOptions,
  variables: ReadonlyMap<string, string>,
): Promise<ReadonlyMap<string, RepositorySection>> {
  const found = new Map<string, RepositorySection>();
  const files = [{ directory: '', path: join(root, mainFile) }];
  for (const directory of reposDirectories) {
    const names = (await listFiles(join(root, directory), log)).filter((name) => name.endsWith('.repo'));
    files.push(...names.map((name) => ({ directory, path: join(root, directory, name) })));
  }
  for (const { directory, path } of files) {
    for (const { name, options } of await readSections(path, log)) {
      if (name === 'main') continue;
      const id = substitute(name, variables);
      const where = `${path} [${id}]`;
      const first = found.get(id);
      if (first === undefined) found.set(id, { own: new Map(options), where, directory });
      // That an administrator's file goes before the distribution's is what the directories are for.
      else if (first.directory !== directory) log.debug(`${where}: ${first.where} counts instead`);
      else log.warn(`${where}: left out, there is another repository of that name`);
    }
  }
  return found;
}

/** Overrides make no repository; names of their sections are shell patterns. */
async function applyOverrides(
  sections: ReadonlyMap<string, RepositorySection>,
  { root, log }: YumReposOptions,
  variables: ReadonlyMap<string, string>,
): Promise<void> {
  for (const path of await listMasking(root, overrideDirectories, '.repo', log)) {
    for (const { name, options } of await readSections(path, log)) {
      const pattern = substitute(name, variables);
      for (const [id, { own }] of sections) {
        if (!matchesGlob(pattern, id)) continue;
        for (const [option, value] of options) {
          const before = added.includes(option) ? `${own.get(option) ?? ''}\n` : '';
          own.set(option, `${before}${value}`);
        }
      }
    }
  }
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
  if (isProxy(settings.own('proxy'))) log.warn(`${where}: ${proxyIgnored}`);
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
    skipIfUnavailable: settings.truth('skip_if_unavailable', plainSource.skipIfUnavailable),
    isOfHost: true,
    configuredAt: where,
  };
}

/** dnf's word for none is there to undo what dnf.conf says for all. */
function isProxy(value: string | undefined): boolean {
  return value !== undefined && !['', '_none_'].includes(value.trim());
}

/** Options that dnf.conf gives to every repository that has none of its own; the others are added to its own. */
const inherited = ['gpgcheck', 'repo_gpgcheck', 'skip_if_unavailable'];
const added = ['excludepkgs', 'exclude'];

/** The options of one section, variables put in. */
class Settings {
  readonly #own: ReadonlyMap<string, string>;
  readonly #main: ReadonlyMap<string, string>;
  readonly #variables: ReadonlyMap<string, string>;

  constructor(
    own: ReadonlyMap<string, string>,
    main: ReadonlyMap<string, string>,
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
    const others = added.includes(name) ? (this.#main.get(name) ?? '') : '';
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
    const value = (this.own(name) ?? (inherited.includes(name) ? this.#main.get(name) : undefined))
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

/** Paths of the files of some directories, by name; of equal names that of the directory that comes first. */
async function listMasking(
  root: string,
  directories: readonly string[],
  suffix: string,
  log: Log,
): Promise<readonly string[]> {
  const paths = new Map<string, string>();
  for (const directory of directories) {
    for (const name of await listFiles(join(root, directory), log)) {
      if (name.endsWith(suffix) && !paths.has(name)) paths.set(name, join(root, directory, name));
    }
  }
  return [...paths].sort(([a], [b]) => compareBytes(a, b)).map(([, path]) => path);
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
