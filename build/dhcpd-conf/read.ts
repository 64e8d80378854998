import { readFile, realpath } from 'node:fs/promises';
import { join, posix, relative } from 'node:path';
import { cannot, reasonOf } from '../support/errors.js';
import { errorAt, type Place, type Problem } from './problem.js';
import { statementsOf, type Statement } from './statements.js';

/** Where the container sees the directory of the configuration. */
const inContainer = '/etc/dhcp';
export const mainFile = 'dhcpd.conf';

/** Files that include one another several times multiply; far above any real configuration. */
const mostIncludes = 5_000;

/** A configuration with all that it includes. */
export interface Configuration {
  /** Path of dhcpd.conf. */
  readonly file: string;
  /** Every file that was read, in the order of reading. */
  readonly files: readonly string[];
  /** Included files are in the place of their `include`. */
  readonly statements: readonly Statement[];
  /** What keeps the files from being read as dhcpd reads them. */
  readonly problems: readonly Problem[];
}

/**
 * Reads dhcpd.conf and what it includes, as dhcpd in the container would.
 *
 * @param directory the one that the container sees as /etc/dhcp
 * @throws when dhcpd.conf itself cannot be read
 */
export async function readConfiguration(directory: string): Promise<Configuration> {
  const file = join(directory, mainFile);
  const files: string[] = [];
  const problems: Problem[] = [];
  let includes = 0;
  const root = await realpath(directory).catch(() => directory);

  const load = async (
    path: string,
    text: string,
    within: readonly string[],
  ): Promise<readonly Statement[]> => {
    if (!files.includes(path)) files.push(path);
    const start: Place = { file: path, line: 1, column: 1 };
    // With its mark or without.
    if (/^(?:\uFFFD\uFFFD|[^\0]\0)/.test(text)) {
      problems.push(errorAt(start, 'this is UTF-16, which the server cannot read: save the file as UTF-8'));
      return [];
    }
    // Editors of Windows write it before the text, and the server stumbles upon it.
    const isMarked = text.startsWith('\uFEFF');
    if (isMarked) {
      problems.push(
        errorAt(start, 'a byte order mark stands before the text: save the file as UTF-8 without it'),
      );
    }
    const { statements, problems: found } = statementsOf(path, isMarked ? text.slice(1) : text);
    for (const problem of found) problems.push(problem);
    return expand(statements, [...within, path]);
  };

  const expand = async (
    statements: readonly Statement[],
    within: readonly string[],
  ): Promise<readonly Statement[]> => {
    const expanded: Statement[] = [];
    for (const statement of statements) {
      if (statement.keyword === 'include') {
        for (const included of await include(statement, within)) expanded.push(included);
      } else if (statement.block === undefined) expanded.push(statement);
      else expanded.push({ ...statement, block: await expand(statement.block, within) });
    }
    return expanded;
  };

  const include = async (
    { tokens, place }: Statement,
    within: readonly string[],
  ): Promise<readonly Statement[]> => {
    includes += 1;
    if (includes > mostIncludes) {
      if (includes === mostIncludes + 1)
        problems.push(
          errorAt(place, `expected at most ${String(mostIncludes)} includes, repeated ones counted`),
        );
      return [];
    }
    const name = tokens[1];
    if (name?.kind !== 'string' || tokens.length !== 2) {
      problems.push(errorAt(place, 'expected include and the path of a file in quotes'));
      return [];
    }
    const found = await pathOf(name.text, place);
    if (typeof found !== 'string') {
      problems.push(found);
      return [];
    }
    if (within.includes(found)) {
      problems.push(errorAt(place, `${name.text} includes itself: the server would never end reading`));
      return [];
    }
    const text = await readFile(found, 'utf8').catch((error: unknown) => {
      problems.push(errorAt(place, `cannot read ${name.text} (here ${found}): ${reasonOf(error)}`));
      return undefined;
    });
    return text === undefined ? [] : load(found, text, within);
  };

  /** Path here of a file that the container knows by `name`; a problem when it does not see the file at all. */
  const pathOf = async (name: string, place: Place): Promise<string | Problem> => {
    // The server's working directory is the root of the image.
    const path = posix.resolve('/', name);
    const unseen = (what: string): Problem =>
      errorAt(place, `${what}, which the container does not see: it sees ${inContainer} alone`);
    if (!path.startsWith(`${inContainer}/`)) return unseen(`include of ${name}`);
    const here = join(directory, path.slice(inContainer.length + 1));
    const outside = await outsideOf(here);
    return outside === undefined ? here : unseen(`${name} is a link to ${outside}`);
  };

  /** Where a link leads that leads out of the directory. */
  const outsideOf = async (path: string): Promise<string | undefined> => {
    const real = await realpath(path).catch(() => path);
    return real === path || !/^\.\.(?:\/|$)/.test(relative(root, real)) ? undefined : real;
  };

  let text;
  try {
    text = await readFile(file, 'utf8');
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? error.code : undefined;
    throw cannot('read', file, reasonOf(error), {
      cause: error,
      exitCode: 2,
      hint:
        code === 'EACCES'
          ? 'let others read the directory and its files: the server is not root either'
          : `name the directory that holds ${mainFile} with --config`,
    });
  }
  const outside = await outsideOf(file);
  if (outside !== undefined) {
    problems.push(
      errorAt(
        { file, line: 1, column: 1 },
        `${mainFile} is a link to ${outside}, which the container does not see: it sees ${inContainer} alone`,
      ),
    );
  }
  const statements = await load(file, text, []);
  return { file, files, statements, problems };
}
