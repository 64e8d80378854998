import { cannot, ToolError } from '../support/errors.js';
import type { LoaderConfig, LoaderFile, LoaderView, ProviderLookup } from './closure.js';
import { checkMachine, elfMachine, sameMachine } from './machine.js';
import { checkLibrary, checkOsAbi, type ParsedFiles, parseFile } from './object-file.js';
import type { Dependency, ElfFile } from './parse.js';
import {
  expandTokens,
  type FoundThrough,
  type ObjectSearchPath,
  objectSearchPath,
  searchStages,
} from './search-path.js';

/** An object in the memory of a process (glibc's link map). */
export interface LoadedObject<Owner> {
  readonly kind: 'loaded';
  readonly file: LoaderFile<Owner>;
  /** Path the loader opens. */
  readonly path: string;
  /** Further paths over which the loader opens the same file. */
  readonly otherPaths: Set<string>;
  readonly elf: ElfFile;
  readonly role: 'root' | 'interpreter' | 'library' | 'dlopen';
  /** Whose DT_RPATH counts after its own: the object that first asked for it; none for what dlopen loads. */
  readonly loader: LoadedObject<Owner> | undefined;
  readonly search: ObjectSearchPath;
  readonly origin: string;
  readonly through: FoundThrough | undefined;
  readonly neededAs: string | undefined;
  readonly chain: readonly string[];
}

/** A name that nothing in the view satisfies. */
export interface MissingLibrary<Owner> {
  readonly kind: 'missing';
  readonly name: string;
  readonly neededBy: LoadedObject<Owner>;
  readonly error: ToolError;
}

export type ProcessEntry<Owner> = LoadedObject<Owner> | MissingLibrary<Owner>;

export interface LoaderContext<Owner> {
  readonly view: LoaderView<Owner>;
  readonly provide: ProviderLookup<Owner>;
  readonly config: LoaderConfig;
  readonly parsed: ParsedFiles;
  /** Names that `provide` has been asked for. */
  readonly asked: Set<string>;
}

/** Opened files one process may look for, hits and misses together: no closure needs nearly as many. */
const maximumLookups = 200_000;
const maximumObjects = 4096;

interface Place<Owner> {
  readonly file: LoaderFile<Owner>;
  readonly path: string;
  readonly through: FoundThrough;
}

interface Node<Owner> {
  entry: ProcessEntry<Owner>;
  done: boolean;
}

/**
 * One process as glibc's loader would build it from a program and what it needs (elf/dl-load.c,
 * elf/dl-deps.c, ld.so(8)). Nothing is run.
 */
export class LoadedProcess<Owner> {
  readonly program: LoadedObject<Owner>;
  /** Missing names and versions, in the order found. */
  readonly problems: ToolError[] = [];
  /** Paths of the names that were found in a configured directory. */
  readonly cached = new Map<string, string>();
  readonly #context: LoaderContext<Owner>;
  readonly #nodes: Node<Owner>[] = [];
  readonly #byName = new Map<string, ProcessEntry<Owner>>();
  readonly #byRealPath = new Map<string, LoadedObject<Owner>>();
  #lookups = 0;

  private constructor(context: LoaderContext<Owner>, program: LoadedObject<Owner>) {
    this.#context = context;
    this.program = program;
    this.#nodes.push({ entry: program, done: false });
    this.#register(program);
  }

  /**
   * Loads a program, or a library as if it were one, with everything it needs.
   *
   * @param path absolute
   * @throws ToolError when the program or a file found for it cannot be loaded; what is missing is in `problems`
   */
  static async start<Owner>(context: LoaderContext<Owner>, path: string): Promise<LoadedProcess<Owner>> {
    const file = context.view.lookup(path);
    if (file === undefined) throw cannot('load', path, 'no such file');
    const { header, elf } = await parseFile(context.parsed, file);
    checkMachine(header, context.config.architecture, path);
    if (elf instanceof ToolError) throw elf;
    checkOsAbi(header, path);
    // The kernel's word for the program: its origin is its real path.
    const origin = directoryOf(file.path);
    const program: LoadedObject<Owner> = {
      kind: 'loaded',
      file,
      path,
      otherPaths: new Set(),
      elf,
      role: 'root',
      loader: undefined,
      search: objectSearchPath(elf.dynamic, tokens(origin, context.config)),
      origin,
      through: undefined,
      neededAs: undefined,
      chain: [path],
    };
    const process = new LoadedProcess(context, program);
    await process.#loadInterpreter();
    await process.#loadDependencies(0);
    const interpreter = process.#interpreter;
    if (interpreter !== undefined && !process.entries.includes(interpreter)) {
      process.#nodes.push({ entry: interpreter, done: true });
    }
    process.#checkVersions(process.objects);
    return process;
  }

  #interpreter: LoadedObject<Owner> | undefined;

  /** In load order, the program first. The loader itself stands where a DT_NEEDED first names it, else last. */
  get entries(): readonly ProcessEntry<Owner>[] {
    return this.#nodes.map(({ entry }) => entry);
  }

  get objects(): readonly LoadedObject<Owner>[] {
    return this.entries.filter((entry) => entry.kind === 'loaded');
  }

  /**
   * Loads what `by` loads with dlopen(name), and everything that needs.
   *
   * @throws ToolError when a file found cannot be loaded; what is missing is in `problems`
   */
  async dlopen(name: string, by: LoadedObject<Owner>): Promise<void> {
    const entry = await this.#map({ kind: 'needed', name }, by, 'dlopen');
    if (entry === undefined || this.entries.includes(entry)) return;
    const from = this.#nodes.push({ entry, done: entry.kind === 'missing' }) - 1;
    await this.#loadDependencies(from);
    this.#checkVersions(
      this.#nodes.slice(from).flatMap((node) => (node.entry.kind === 'loaded' ? [node.entry] : [])),
    );
  }

  async #loadInterpreter(): Promise<void> {
    const path = this.program.elf.interpreter;
    if (path === undefined) return;
    const find = (): LoaderFile<Owner> | undefined =>
      path.startsWith('/') ? this.#context.view.lookup(path) : undefined;
    let file = find();
    if (file === undefined && (await this.#ask(path, this.program))) file = find();
    if (file === undefined) {
      this.problems.push(
        cannot('load', path, `it is the loader of ${this.program.path}, and there is no such file`, {
          hint: 'add the package that ships the loader, usually the C library',
        }),
      );
      return;
    }
    const { header, elf } = await parseFile(this.#context.parsed, file);
    checkMachine(header, this.#context.config.architecture, path);
    if (elf instanceof ToolError) throw elf;
    const object = this.#load({ file, path, through: 'path' }, elf, path, this.program, 'interpreter');
    this.#interpreter = object;
  }

  /**
   * Breadth first from a node on. DT_FILTER and DT_AUXILIARY objects stand before the object that names them, and
   * what they need comes first (elf/dl-deps.c).
   */
  async #loadDependencies(from: number): Promise<void> {
    for (let index = from; index < this.#nodes.length;) {
      const node = this.#nodes[index];
      if (node === undefined || node.done) {
        index += 1;
        continue;
      }
      node.done = true;
      if (node.entry.kind === 'missing') continue;
      let place = index;
      for (const dependency of node.entry.elf.dynamic?.dependencies ?? []) {
        const entry = await this.#map(dependency, node.entry, 'library');
        if (entry === undefined) continue;
        const known = this.#nodes.findIndex((other) => other.entry === entry);
        if (dependency.kind === 'needed') {
          if (known < 0) this.#nodes.push({ entry, done: false });
        } else if (known < 0) {
          this.#nodes.splice(place, 0, { entry, done: false });
          place += 1;
        } else if (known > place) {
          this.#nodes.splice(place, 0, ...this.#nodes.splice(known, 1));
          place += 1;
        }
      }
    }
  }

  /** Finds or loads the object of one dependency. @returns undefined for an auxiliary object that is not there */
  async #map(
    dependency: Dependency,
    by: LoadedObject<Owner>,
    role: 'library' | 'dlopen',
  ): Promise<ProcessEntry<Owner> | undefined> {
    const name = expandTokens(dependency.name, tokens(by.origin, this.#context.config));
    if (name === undefined || name === '') {
      return this.#miss(dependency.name, by, 'its name has a token without a value', [], []);
    }
    const loaded = this.#byName.get(name);
    // A missing name is searched again: another object has another search path.
    if (loaded?.kind === 'loaded') return loaded;

    const strangers: string[] = [];
    let place = await this.#find(name, by, strangers);
    if (place === undefined && dependency.kind !== 'auxiliary' && (await this.#ask(name, by))) {
      place = await this.#find(name, by, strangers);
    }
    if (place === undefined) {
      if (dependency.kind === 'auxiliary') return undefined;
      const directories = name.includes('/')
        ? []
        : searchStages(name, by, this.program, this.#context.config).flatMap((stage) => stage.directories);
      return this.#miss(name, by, undefined, [...new Set(directories)], strangers);
    }
    const same = this.#byRealPath.get(place.file.path);
    if (same !== undefined) {
      this.#byName.set(name, same);
      if (place.path !== same.path) same.otherPaths.add(place.path);
      return same;
    }
    const { header, elf } = await parseFile(this.#context.parsed, place.file);
    if (elf instanceof ToolError) throw elf;
    checkLibrary(header, elf, place.path, by.path, role);
    return this.#load(place, elf, name, by, role);
  }

  #load(
    place: Place<Owner>,
    elf: ElfFile,
    name: string,
    by: LoadedObject<Owner>,
    role: LoadedObject<Owner>['role'],
  ): LoadedObject<Owner> {
    if (this.#byRealPath.size >= maximumObjects) {
      throw cannot('load', this.program.path, `it needs more than ${maximumObjects} libraries`);
    }
    const origin = directoryOf(place.path);
    const object: LoadedObject<Owner> = {
      kind: 'loaded',
      file: place.file,
      path: place.path,
      otherPaths: new Set(),
      elf,
      role,
      // What dlopen loads has no loader: only its own and the program's DT_RPATH count for it.
      loader: role === 'library' ? by : undefined,
      search: objectSearchPath(elf.dynamic, tokens(origin, this.#context.config)),
      origin,
      through: place.through,
      neededAs: name,
      chain: [...by.chain, place.path],
    };
    this.#byRealPath.set(place.file.path, object);
    this.#byName.set(name, object);
    this.#register(object);
    return object;
  }

  /** The names under which an object satisfies later requests: its path and its soname, unless another has them. */
  #register(object: LoadedObject<Owner>): void {
    for (const name of [object.path, object.elf.dynamic?.soname]) {
      if (name !== undefined && this.#byName.get(name)?.kind !== 'loaded') this.#byName.set(name, object);
    }
  }

  /** @param strangers takes the paths of files that are for another machine */
  async #find(name: string, by: LoadedObject<Owner>, strangers: string[]): Promise<Place<Owner> | undefined> {
    if (name.includes('/')) {
      // A relative path depends on the working directory: nothing an image can promise.
      const file = name.startsWith('/') ? await this.#open(name, strangers) : undefined;
      return file && { file, path: name, through: 'path' };
    }
    for (const stage of searchStages(name, by, this.program, this.#context.config)) {
      for (const path of stage.paths) {
        const file = await this.#open(path, strangers);
        if (file === undefined) continue;
        // DF_1_NODEFLIB also shuts out what the cache holds below the built-in directories.
        const shut =
          stage.through === 'configured' &&
          by.elf.dynamic?.noDefaultDirectories === true &&
          this.#context.config.builtIn.some((directory) => path.startsWith(`${directory}/`));
        if (shut) break;
        if (stage.through === 'configured') this.cached.set(name, path);
        return { file, path, through: stage.through };
      }
    }
    return undefined;
  }

  /** Another class, byte order or machine is passed over; anything else that is wrong with a candidate ends the search. */
  async #open(path: string, strangers: string[]): Promise<LoaderFile<Owner> | undefined> {
    this.#lookups += 1;
    if (this.#lookups > maximumLookups) {
      throw cannot('load', this.program.path, 'its search paths are absurdly long');
    }
    const file = this.#context.view.lookup(path);
    if (file === undefined) return undefined;
    const { header } = await parseFile(this.#context.parsed, file);
    if (!sameMachine(header, elfMachine(this.#context.config.architecture))) {
      strangers.push(path);
      return undefined;
    }
    checkOsAbi(header, path);
    return file;
  }

  async #ask(name: string, by: LoadedObject<Owner>): Promise<boolean> {
    if (this.#context.asked.has(name)) return false;
    this.#context.asked.add(name);
    return this.#context.provide(name, by.file);
  }

  #miss(
    name: string,
    by: LoadedObject<Owner>,
    why: string | undefined,
    directories: readonly string[],
    strangers: readonly string[],
  ): MissingLibrary<Owner> {
    const hwcaps = elfMachine(this.#context.config.architecture).hwcaps;
    const optimised = directories
      .flatMap((directory) => hwcaps.map((cap) => `${directory}/glibc-hwcaps/${cap}/${name}`))
      .find((path) => this.#context.view.lookup(path) !== undefined);
    const reason = [
      why ?? (name.includes('/') ? 'there is no such file' : 'no directory of the search path holds it'),
      `needed by ${by.path}${by.chain.length > 1 ? ` (${by.chain.join(' -> ')})` : ''}`,
      ...(directories.length > 0 ? [`searched ${directories.join(', ')}`] : []),
      ...strangers.map((path) => `${path} is for another machine`),
      ...(optimised === undefined ? [] : [`${optimised} does not run on every processor`]),
    ].join('; ');
    const error = cannot('load', name, reason, {
      hint: 'no package provides it: check that the package and the release fit together',
    });
    this.problems.push(error);
    const missing: MissingLibrary<Owner> = { kind: 'missing', name, neededBy: by, error };
    if (!this.#byName.has(name)) this.#byName.set(name, missing);
    return missing;
  }

  /** Every version an object needs is defined by the file loaded for it (elf/dl-version.c). */
  #checkVersions(objects: readonly LoadedObject<Owner>[]): void {
    for (const { path, elf } of objects) {
      for (const { file, versions } of elf.dynamic?.neededVersions ?? []) {
        const provider = this.#byName.get(file);
        if (provider?.kind === 'missing') continue;
        if (provider === undefined) {
          this.problems.push(cannot('link', path, `it needs versions of ${file}, which it does not load`));
          continue;
        }
        const defined = provider.elf.dynamic?.definedVersions;
        if (defined === undefined) continue;
        for (const { name, weak } of versions) {
          if (weak || defined.has(name)) continue;
          this.problems.push(
            cannot('link', path, `version ${name} not found in ${provider.path} (needed by ${path})`, {
              hint: 'the packages are not of one release: lock them again',
            }),
          );
        }
      }
    }
  }
}

function tokens(
  origin: string,
  config: LoaderConfig,
): { origin: string; lib: string; platform: string | undefined } {
  return { origin, lib: config.lib, platform: config.platform };
}

function directoryOf(path: string): string {
  return path.slice(0, Math.max(1, path.lastIndexOf('/')));
}
