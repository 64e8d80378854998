import type { LoaderConfig } from './closure.js';
import type { DynamicSection } from './parse.js';
import { maximumPath } from './bytes.js';

/** How the loader came to a file; `path` when the name itself holds a slash. */
export type FoundThrough = 'path' | 'rpath' | 'runpath' | 'configured' | 'built-in';

/** Files to try in this order, the first suitable one wins. */
export interface SearchStage {
  readonly through: FoundThrough;
  readonly directories: readonly string[];
  readonly paths: readonly string[];
}

/** What a loaded object adds to the search for its dependencies. */
export interface ObjectSearchPath {
  /** Directories of DT_RPATH; empty when there is DT_RUNPATH, which takes its place. */
  readonly rpath: readonly string[];
  /** Directories of DT_RUNPATH; undefined when there is none. An empty one still switches DT_RPATH off. */
  readonly runpath: readonly string[] | undefined;
  /** Elements that stand for a place below the working directory: never searched here. */
  readonly relative: readonly string[];
}

/** Values of the dynamic string tokens (ld.so(8)); a name that needs an undefined one is not usable. */
export interface TokenValues {
  /** Directory of the object that holds the text. */
  readonly origin: string;
  readonly lib: string;
  readonly platform: string | undefined;
}

/**
 * Replaces `$ORIGIN`, `$LIB`, `$PLATFORM` and their `${...}` forms. Anything else after `$` stays as it is.
 *
 * @returns undefined when a token has no value or the result is longer than any path
 */
export function expandTokens(text: string, values: TokenValues): string | undefined {
  if (!text.includes('$')) return text;
  const tokens = new Map([
    ['ORIGIN', values.origin],
    ['LIB', values.lib],
    ['PLATFORM', values.platform],
  ]);
  let expanded = '';
  let at = 0;
  for (const match of text.matchAll(
    /\$(?:\{(ORIGIN|LIB|PLATFORM)\}|(ORIGIN|LIB|PLATFORM)(?![A-Za-z0-9_]))/g,
  )) {
    const value = tokens.get(match[1] ?? match[2] ?? '');
    if (value === undefined || expanded.length > maximumPath) return undefined;
    expanded += text.slice(at, match.index) + value;
    at = match.index + match[0].length;
  }
  expanded += text.slice(at);
  return expanded.length < maximumPath ? expanded : undefined;
}

/** Splits and expands an object's DT_RPATH and DT_RUNPATH. */
export function objectSearchPath(dynamic: DynamicSection | undefined, values: TokenValues): ObjectSearchPath {
  const relative: string[] = [];
  const split = (text: string): readonly string[] => {
    const directories = new Set<string>();
    // An empty text is no search path at all; an empty element is the working directory.
    for (const element of text === '' ? [] : text.split(':')) {
      const directory = element === '' ? '' : expandTokens(element, values);
      if (directory === undefined || (element !== '' && directory === '')) continue;
      if (directory.startsWith('/')) directories.add(withoutTrailingSlashes(directory));
      else relative.push(element);
    }
    return [...directories];
  };
  const runpath = dynamic?.runpath;
  return {
    rpath: runpath === undefined ? split(dynamic?.rpath ?? '') : [],
    runpath: runpath === undefined ? undefined : split(runpath),
    relative,
  };
}

/** A loaded object as the search sees it; `loader` is the object that first asked for it. */
export interface Searcher {
  readonly search: ObjectSearchPath;
  readonly elf: { readonly dynamic: DynamicSection | undefined };
  readonly loader: Searcher | undefined;
}

/**
 * The stages of the search for a name without a slash, as glibc's loader goes through them (ld.so(8),
 * elf/dl-load.c): DT_RPATH of the object, of its loaders and of the program, unless the object has DT_RUNPATH;
 * DT_RUNPATH of the object alone; the configured directories; the built-in ones. LD_LIBRARY_PATH is not looked
 * at: an image does not set it.
 *
 * @param program the object the process was started from
 */
export function searchStages(
  name: string,
  object: Searcher,
  program: Searcher,
  config: LoaderConfig,
): readonly SearchStage[] {
  const subdirectories = [...(config.hwcaps ?? []).map((subdirectory) => `/${subdirectory}`), ''];
  const byDirectory = (through: FoundThrough, directories: readonly string[]): SearchStage => ({
    through,
    directories,
    paths: directories.flatMap((directory) =>
      subdirectories.map((subdirectory) => join(`${directory}${subdirectory}`, name)),
    ),
  });
  const stages: SearchStage[] = [];
  if (object.search.runpath === undefined) {
    let sawProgram = false;
    for (let each: Searcher | undefined = object; each !== undefined; each = each.loader) {
      sawProgram ||= each === program;
      if (each.search.rpath.length > 0) stages.push(byDirectory('rpath', each.search.rpath));
    }
    if (!sawProgram && program.search.rpath.length > 0) {
      stages.push(byDirectory('rpath', program.search.rpath));
    }
  } else {
    stages.push(byDirectory('runpath', object.search.runpath));
  }
  // ld.so.cache prefers the better subdirectory over the earlier directory.
  stages.push({
    through: 'configured',
    directories: config.configured,
    paths: subdirectories.flatMap((subdirectory) =>
      config.configured.map((directory) => join(`${directory}${subdirectory}`, name)),
    ),
  });
  if (object.elf.dynamic?.noDefaultDirectories !== true) stages.push(byDirectory('built-in', config.builtIn));
  return stages;
}

function join(directory: string, name: string): string {
  return directory.endsWith('/') ? `${directory}${name}` : `${directory}/${name}`;
}

function withoutTrailingSlashes(directory: string): string {
  let length = directory.length;
  while (length > 1 && directory[length - 1] === '/') length -= 1;
  return directory.slice(0, length);
}
