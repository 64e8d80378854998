import type { DeclaredDlopen } from '../definition/definition.js';
import type { Architecture } from '../support/architecture.js';
import { cannot, ToolError } from '../support/errors.js';
import { nearest } from '../support/nearest.js';
import type { DlopenNote } from './dlopen-note.js';
import { type LoadedObject, LoadedProcess, type LoaderContext } from './loader.js';
import { elfMachine } from './machine.js';
import type { FoundThrough } from './search-path.js';

/** A regular file found by the loader's view of the file system. `Owner` is opaque to this stage. */
export interface LoaderFile<Owner> {
  /** Real path, absolute, no link in any component. */
  readonly path: string;
  readonly owner: Owner;
  read(): Promise<Buffer>;
}

/** The file system as the loader will see it. */
export interface LoaderView<Owner> {
  /**
   * @param path absolute, as the loader would open it: it may hold `.`, `..` and doubled slashes, which the view
   * walks like the kernel; links are followed by the view
   */
  lookup(path: string): LoaderFile<Owner> | undefined;
}

/**
 * Asked once for each soname that no directory of the view holds, and for the path of a loader (PT_INTERP) or of
 * a library needed by path; the loader of a program comes before its libraries. Adds its provider to the view and
 * returns true, or returns false.
 */
export type ProviderLookup<Owner> = (soname: string, neededBy: LoaderFile<Owner>) => Promise<boolean>;

export interface LoaderConfig {
  readonly architecture: Architecture;
  /**
   * Directories of ld.so.conf in their order, absolute. The loader finds libraries in them through
   * /etc/ld.so.cache alone: leave this empty for an image that has no such file. Asked for at every search: what
   * `provide` adds may bring further directories.
   */
  readonly configured: readonly string[];
  /** The loader's built-in directories in their order, absolute. */
  readonly builtIn: readonly string[];
  /** What $LIB stands for, such as `lib/x86_64-linux-gnu`. */
  readonly lib: string;
  /**
   * What $PLATFORM stands for. It names the processor of the host, so an image has none: search path elements
   * that use it are passed over.
   */
  readonly platform?: string;
  /**
   * Subdirectories that are searched before each directory itself, the preferred first, such as
   * `glibc-hwcaps/x86-64-v3`. None for an image: it must run on every processor of its architecture, so what
   * counts is the file in the directory itself.
   */
  readonly hwcaps?: readonly string[];
}

export interface ClosureObject<Owner> {
  readonly file: LoaderFile<Owner>;
  /**
   * Path the loader opens, absolute; may run over links to `file.path`, and through `..` after $ORIGIN. For roots
   * the path asked for.
   */
  readonly path: string;
  /** Further paths over which the loader opens the same file. Each must exist where `path` must. */
  readonly otherPaths: readonly string[];
  readonly soname: string | undefined;
  readonly role: 'root' | 'interpreter' | 'library' | 'dlopen';
  /** How the loader found it first. Undefined for a root. */
  readonly through: FoundThrough | undefined;
  /** Shortest chain from a root to this object: root path first, this object's path last. */
  readonly chain: readonly string[];
  /** The DT_NEEDED name (or PT_INTERP path) that asked for it first; undefined for a root. */
  readonly neededAs: string | undefined;
  readonly dlopenNotes: readonly DlopenNote[];
  /** Imports dlopen or dlmopen. */
  readonly callsDlopen: boolean;
  /** Variants for newer processors that lie beside it in `glibc-hwcaps` directories: not part of the closure. */
  readonly hwcapsVariants: readonly LoaderFile<Owner>[];
}

export interface LibraryClosure<Owner> {
  /** In load order: roots, then breadth first for each root in turn; one entry per real path. */
  readonly objects: readonly ClosureObject<Owner>[];
  /**
   * What the loader finds through /etc/ld.so.cache alone, each name once: one object may be asked for by several
   * names, and be found in another way by another program.
   */
  readonly cached: readonly { readonly soname: string; readonly path: string }[];
  readonly warnings: readonly string[];
}

export interface ClosureRequest<Owner> {
  /** Programs (or libraries) that must load, absolute paths. Each one is a process of its own. */
  readonly roots: readonly string[];
  /** What is loaded at run time and no DT_NEEDED names. */
  readonly dlopen: readonly DeclaredDlopen[];
  readonly view: LoaderView<Owner>;
  readonly provide: ProviderLookup<Owner>;
  readonly config: LoaderConfig;
}

/** Two are the rule; a package can call for another one only where it hides or reveals a library. */
const maximumPasses = 64;

/**
 * Finds every object that the dynamic loader would load for some programs, without running anything: PT_INTERP,
 * then DT_NEEDED, DT_FILTER and DT_AUXILIARY breadth first as glibc's ld.so(8) searches them, then what the
 * definition declares for dlopen, with the search path of the object that calls it. A static program is alone.
 *
 * @throws ToolError when a root is no ELF program of the architecture, a needed library or symbol version is
 * missing, a file found is damaged, or (exit code 2) a `by` that is declared to load something matches no object
 */
export async function closeLibraries<Owner>(request: ClosureRequest<Owner>): Promise<LibraryClosure<Owner>> {
  const processes = await loadWithProviders(request);
  const found = new Map<string, LoadedObject<Owner>[]>();
  const programs = processes.map(({ program }) => program);
  for (const object of [...programs, ...processes.flatMap(({ objects }) => objects)]) {
    const same = found.get(object.file.path);
    if (same === undefined) found.set(object.file.path, [object]);
    else same.push(object);
  }
  const groups = [...found.values()];
  return {
    objects: groups.map((group) => mergeObjects(group, request)),
    cached: [...new Map(processes.flatMap(({ cached }) => [...cached]))].map(([soname, path]) => ({
      soname,
      path,
    })),
    warnings: [...new Set(groups.flatMap((group) => warningsAbout(group, found, request.dlopen)))],
  };
}

/**
 * Loads everything anew until a pass adds nothing to the view: what a provider brings besides the library it was
 * asked for, such as a directory of ld.so.conf, may change what was found, or missed, before it came.
 */
async function loadWithProviders<Owner>(
  request: ClosureRequest<Owner>,
): Promise<readonly LoadedProcess<Owner>[]> {
  const { view, config } = request;
  let additions = 0;
  const providerErrors = new Set<unknown>();
  const context: LoaderContext<Owner> = {
    view,
    config,
    parsed: new Map(),
    asked: new Set(),
    provide: async (soname, neededBy) => {
      try {
        const added = await request.provide(soname, neededBy);
        if (added) additions += 1;
        return added;
      } catch (error) {
        providerErrors.add(error);
        throw error;
      }
    },
  };
  for (let pass = 1; pass <= maximumPasses; pass += 1) {
    const before = additions;
    try {
      const processes: LoadedProcess<Owner>[] = [];
      for (const root of request.roots) processes.push(await LoadedProcess.start(context, root));
      processes.forEach(orThrow);
      await loadDeclared(processes, request.dlopen);
      if (additions === before) return processes;
    } catch (error) {
      const final = additions === before || providerErrors.has(error) || !(error instanceof ToolError);
      if (final) throw error;
    }
  }
  throw cannot('load', request.roots.join(' and '), 'each package that is added makes another one necessary');
}

/** Loads declared objects until nothing new comes: one may be what another `by` names. */
async function loadDeclared<Owner>(
  processes: readonly LoadedProcess<Owner>[],
  declared: readonly DeclaredDlopen[],
): Promise<void> {
  for (const process of processes) {
    for (let before = -1; before !== process.entries.length;) {
      before = process.entries.length;
      for (const { by, loads } of declared) {
        const caller = process.objects.find((object) => isNamed(object, by));
        if (caller === undefined) continue;
        for (const name of loads) await process.dlopen(name, caller);
        orThrow(process);
      }
    }
  }
  const objects = processes.flatMap((process) => process.objects);
  for (const { by, loads } of declared) {
    // That something loads nothing is as true where it is not: one definition is for several releases.
    if (loads.length === 0 || objects.some((object) => isNamed(object, by))) continue;
    const close = nearest(by, objects.flatMap(namesOf));
    throw cannot('load', `what ${by} opens with dlopen`, 'no loaded object has this soname or file name', {
      hint: close === undefined ? 'remove the entry' : `did you mean ${close}?`,
      exitCode: 2,
    });
  }
}

function mergeObjects<Owner>(
  group: readonly LoadedObject<Owner>[],
  { view, config }: ClosureRequest<Owner>,
): ClosureObject<Owner> {
  const [first] = group;
  if (first === undefined) throw new TypeError('a group of objects is never empty');
  const paths = new Set(group.flatMap(({ path, otherPaths }) => [path, ...otherPaths]));
  const shortest = group.reduce(
    (best, { chain }) => (chain.length < best.length ? chain : best),
    first.chain,
  );
  const variants = [...paths].flatMap((path) =>
    elfMachine(config.architecture).hwcaps.map((cap) => path.replace(/[^/]*$/, `glibc-hwcaps/${cap}/$&`)),
  );
  return {
    file: first.file,
    path: first.path,
    otherPaths: [...paths].filter((path) => path !== first.path),
    soname: first.elf.dynamic?.soname,
    role: first.role,
    through: first.through,
    chain: shortest,
    neededAs: first.neededAs,
    dlopenNotes: first.elf.dlopen.notes,
    callsDlopen: first.elf.dynamic?.callsDlopen === true,
    hwcapsVariants: variants.flatMap((path) => view.lookup(path) ?? []),
  };
}

function warningsAbout<Owner>(
  group: readonly LoadedObject<Owner>[],
  found: ReadonlyMap<string, readonly LoadedObject<Owner>[]>,
  declared: readonly DeclaredDlopen[],
): string[] {
  const [object] = group;
  if (object === undefined) return [];
  const { path, elf } = object;
  const warnings = elf.dlopen.problems.map((problem) => `${path}: ${problem}`);
  for (const element of new Set(object.search.relative)) {
    warnings.push(
      `${path} also searches ${element === '' ? 'the working directory' : element}, which depends on where it is started: nothing is looked for there`,
    );
  }
  for (const modules of [elf.dynamic?.audit, elf.dynamic?.depaudit]) {
    if (modules !== undefined) warnings.push(`${path} names audit modules, which are left out: ${modules}`);
  }
  if (declared.some(({ by }) => isNamed(object, by))) return warnings;

  const loaded = new Set([...found.values()].flat().flatMap(namesOf));
  for (const { priority, sonames, feature } of elf.dlopen.notes) {
    if (priority !== 'required' || sonames.some((soname) => loaded.has(soname))) continue;
    const what = feature === undefined ? '' : ` for ${feature}`;
    warnings.push(`${path} requires ${sonames.join(' or ')}${what} at run time: declare it under dlopen`);
  }
  if (elf.dynamic?.callsDlopen === true && elf.dlopen.notes.length === 0) {
    const name = elf.dynamic.soname ?? path.replace(/^.*\//s, '');
    warnings.push(
      `${path} calls dlopen, and nothing says what it loads: declare it under dlopen with "by: ${name}"`,
    );
  }
  return warnings;
}

function isNamed<Owner>(object: LoadedObject<Owner>, name: string): boolean {
  return namesOf(object).includes(name);
}

/** soname, path and file names of an object. */
function namesOf<Owner>({ path, file, elf }: LoadedObject<Owner>): string[] {
  const names = [path, file.path].flatMap((each) => [each, each.slice(each.lastIndexOf('/') + 1)]);
  return elf.dynamic?.soname === undefined ? names : [elf.dynamic.soname, ...names];
}

function orThrow<Owner>({ problems: [problem] }: LoadedProcess<Owner>): void {
  if (problem !== undefined) throw problem;
}
