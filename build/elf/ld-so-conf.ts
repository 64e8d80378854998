import { cannot } from '../support/errors.js';

/** The part of a file system that ld.so.conf is read from. Paths are absolute. */
export interface ConfigurationView {
  /** Bytes of a regular file, links followed; undefined when there is none. */
  read(path: string): Promise<Buffer | undefined>;
  /** Names in a directory, in any order; empty when there is none. */
  list(directory: string): readonly string[];
}

/** Files read for one configuration together: ends circles of `include` lines. */
const maximumFiles = 256;
const maximumFileBytes = 1024 ** 2;
/** Directories one pattern may look into. */
const maximumListed = 10_000;

/**
 * The directories that /etc/ld.so.conf names, in their order, each once (ldconfig(8)): one a line, `#` starts a
 * comment, `include` takes glob patterns relative to the including file's directory, `hwcap` lines are ignored.
 *
 * The loader itself never reads this file: the directories count only where ldconfig has put their libraries into
 * /etc/ld.so.cache.
 *
 * @param path absolute; a file that is missing gives no directories
 * @throws ToolError when files include each other without end or are absurdly large
 */
export async function readLdSoConf(
  view: ConfigurationView,
  path = '/etc/ld.so.conf',
): Promise<readonly string[]> {
  const directories = new Set<string>();
  let files = 0;
  const read = async (file: string): Promise<void> => {
    const bytes = await view.read(file);
    if (bytes === undefined) return;
    files += 1;
    if (files > maximumFiles) throw cannot('read', path, `it includes more than ${maximumFiles} files`);
    if (bytes.length > maximumFileBytes) throw cannot('read', file, 'it is too large to be a configuration');
    for (const line of bytes.toString('utf8').split('\n')) {
      const text = line.replace(/#.*/s, '').trim();
      const patterns = /^include[ \t]+(.*)/.exec(text)?.[1];
      if (patterns !== undefined) {
        for (const pattern of patterns.split(/[ \t]+/)) {
          const from = pattern.startsWith('/')
            ? pattern
            : `${file.slice(0, file.lastIndexOf('/'))}/${pattern}`;
          for (const match of expandGlob(view, from)) await read(match);
        }
      } else if (!/^hwcap[ \t]/.test(text)) {
        const directory = normalise(text);
        if (directory !== undefined) directories.add(directory);
      }
    }
  };
  await read(path);
  return [...directories];
}

/** Drops `=libc6` and the like of old configurations, and slashes at the end. Relative directories do not count. */
function normalise(line: string): string | undefined {
  const directory = line.replace(/=.*/s, '').trimEnd();
  if (!directory.startsWith('/') || directory.includes('\0')) return undefined;
  return directory.replace(/(?<!\/)\/+$/, '') || '/';
}

/** Paths that match an absolute pattern, as glob(7) and glob(3) in the C locale: sorted by bytes. */
function expandGlob(view: ConfigurationView, pattern: string): readonly string[] {
  let paths = [''];
  let listed = 0;
  for (const component of pattern.split('/').filter((part) => part !== '')) {
    if (!/[*?[\\]/.test(component)) {
      paths = paths.map((path) => `${path}/${component}`);
      continue;
    }
    const matches = compileComponent(component);
    const next: string[] = [];
    for (const path of paths) {
      listed += 1;
      if (listed > maximumListed) throw cannot('read', pattern, 'the pattern matches too much');
      for (const name of view.list(path === '' ? '/' : path)) {
        if (matches(name)) next.push(`${path}/${name}`);
      }
    }
    paths = next;
  }
  return paths.sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
}

type Matcher = (character: string) => boolean;

/** One component of a glob(7) pattern; a leading period is matched only by a period. */
function compileComponent(pattern: string): (name: string) => boolean {
  const tokens: (Matcher | '*')[] = [];
  const characters = Array.from(pattern);
  for (let at = 0; at < characters.length; at += 1) {
    const character = characters[at] ?? '';
    const set = character === '[' ? compileSet(characters, at) : undefined;
    if (character === '*') tokens.push('*');
    else if (character === '?') tokens.push(() => true);
    else if (set !== undefined) {
      tokens.push(set.matches);
      at = set.end;
    } else {
      if (character === '\\' && at + 1 < characters.length) at += 1;
      const literal = characters[at] ?? '';
      tokens.push((other) => other === literal);
    }
  }
  return (name) =>
    (!name.startsWith('.') || pattern.startsWith('.')) && matchTokens(tokens, Array.from(name));
}

/** `[...]` from its opening bracket on; undefined when it is never closed, and the bracket stands for itself. */
function compileSet(
  characters: readonly string[],
  at: number,
): { matches: Matcher; end: number } | undefined {
  const negated = characters[at + 1] === '!' || characters[at + 1] === '^';
  const first = at + (negated ? 2 : 1);
  const end = characters.indexOf(']', first + 1);
  if (end < 0) return undefined;
  const ranges: (readonly [string, string])[] = [];
  for (let index = first; index < end; index += 1) {
    const low = characters[index] ?? '';
    if (characters[index + 1] === '-' && index + 2 < end) {
      ranges.push([low, characters[index + 2] ?? '']);
      index += 2;
    } else {
      ranges.push([low, low]);
    }
  }
  return { matches: (other) => negated !== ranges.some(([low, high]) => other >= low && other <= high), end };
}

/** Greedy matching with one step back to the last star: never slower than pattern times name. */
function matchTokens(tokens: readonly (Matcher | '*')[], name: readonly string[]): boolean {
  let token = 0;
  let character = 0;
  let star = -1;
  let starCharacter = 0;
  while (character < name.length) {
    const current = tokens[token];
    if (current === '*') {
      star = token;
      starCharacter = character;
      token += 1;
    } else if (current?.(name[character] ?? '') === true) {
      token += 1;
      character += 1;
    } else if (star >= 0) {
      starCharacter += 1;
      character = starCharacter;
      token = star + 1;
    } else {
      return false;
    }
  }
  while (tokens[token] === '*') token += 1;
  return token === tokens.length;
}
