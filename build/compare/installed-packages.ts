import type { ImageTree } from './image-tree.js';
import { readTable, SqliteError } from './sqlite.js';

/** How many packages an image says it holds. */
export type InstalledPackages =
  | { readonly count: number; readonly from: readonly string[] }
  /** Nothing says it, or not in a way that can be read. */
  | { readonly count: undefined; readonly reason: string };

const dpkgStatus = 'var/lib/dpkg/status';
/** One file a package, in images from nothing. */
const dpkgStatusDirectory = 'var/lib/dpkg/status.d/';
const rpmManifest = 'var/lib/rpmmanifest/container-manifest-2';
/** Where rpm keeps its database today, and where it did. */
const rpmDirectories = ['usr/lib/sysimage/rpm', 'var/lib/rpm'];
const rpmDatabase = 'rpmdb.sqlite';
/** Formats of rpm that are not read here: ndb and Berkeley DB. */
const otherRpmDatabases = ['Packages.db', 'Packages'];

const mostPackages = 100_000;

/** Whether `countPackages` looks into the file of this path. */
export function tellsOfPackages(path: string): boolean {
  return (
    path === dpkgStatus ||
    path === rpmManifest ||
    (path.startsWith(dpkgStatusDirectory) && !path.endsWith('.md5sums')) ||
    rpmDirectories.some((directory) => path === `${directory}/${rpmDatabase}`)
  );
}

/** Counts the packages by the databases that scanners read: dpkg's, rpm's, and the lists of images from nothing. */
export function countPackages(tree: ImageTree): InstalledPackages {
  const answers = [...dpkgPackages(tree), ...rpmPackages(tree)];
  const unknown = answers.find((answer) => answer.count === undefined);
  if (unknown !== undefined) return { count: undefined, reason: `${unknown.from} ${unknown.reason ?? ''}` };
  if (answers.length === 0) return { count: undefined, reason: 'there is no package database' };
  return {
    count: answers.reduce((sum, { count = 0 }) => sum + count, 0),
    from: answers.map(({ from }) => from),
  };
}

interface Answer {
  readonly from: string;
  readonly count: number | undefined;
  readonly reason?: string;
}

function dpkgPackages(tree: ImageTree): readonly Answer[] {
  const found = new Set<string>();
  const from: string[] = [];
  const whole = textAt(tree, dpkgStatus);
  if (whole !== undefined) {
    if (whole.text === undefined) return [unread(dpkgStatus)];
    from.push(dpkgStatus);
    for (const stanza of stanzasOf(whole.text)) {
      if (/^Status:.* installed$/m.test(stanza)) found.add(packageIn(stanza));
    }
  }
  const directory = tree.resolve(dpkgStatusDirectory)?.node;
  if (directory?.kind === 'directory') {
    from.push(dpkgStatusDirectory.slice(0, -1));
    for (const name of directory.entries.keys()) {
      if (name.endsWith('.md5sums')) continue;
      const file = textAt(tree, dpkgStatusDirectory + name);
      if (file === undefined) continue;
      if (file.text === undefined) return [unread(dpkgStatusDirectory + name)];
      for (const stanza of stanzasOf(file.text)) found.add(packageIn(stanza));
    }
  }
  return from.length === 0 ? [] : [{ from: from.join(' and '), count: found.size }];
}

function stanzasOf(text: string): readonly string[] {
  return text.split(/\n(?:[ \t]*\n)+/).filter((stanza) => /^Package:/m.test(stanza));
}

function packageIn(stanza: string): string {
  const field = (name: string): string =>
    new RegExp(`^${name}:[ \\t]*(.*?)[ \\t]*$`, 'm').exec(stanza)?.[1] ?? '';
  return `${field('Package')} ${field('Architecture')}`;
}

/** The database itself counts; the list is for images that have none. */
function rpmPackages(tree: ImageTree): readonly Answer[] {
  for (const directory of rpmDirectories) {
    const path = `${directory}/${rpmDatabase}`;
    const node = tree.resolve(path)?.node;
    if (node?.kind !== 'file') continue;
    const log = tree.resolve(`${path}-wal`)?.node;
    if (log?.kind === 'file' && log.size > 0) {
      return [{ from: path, count: undefined, reason: 'has a write-ahead log' }];
    }
    return [node.content === undefined ? unread(path) : countRpms(node.content, path)];
  }
  for (const directory of rpmDirectories) {
    for (const name of otherRpmDatabases) {
      if (tree.resolve(`${directory}/${name}`)?.node.kind !== 'file') continue;
      return [{ from: `${directory}/${name}`, count: undefined, reason: 'is in an older format' }];
    }
  }
  const list = textAt(tree, rpmManifest);
  if (list === undefined) return [];
  if (list.text === undefined) return [unread(rpmManifest)];
  return [{ from: rpmManifest, count: list.text.split('\n').filter((line) => line !== '').length }];
}

/** rpm's table `Name` has one row a package. Keys that it trusts are kept as packages of a name that is none. */
function countRpms(database: Buffer, from: string): Answer {
  try {
    let count = 0;
    for (const [name] of readTable(database, 'Name')) {
      if (name !== 'gpg-pubkey') count += 1;
      if (count > mostPackages) throw new SqliteError('has too many packages');
    }
    return { from, count };
  } catch (error) {
    if (!(error instanceof SqliteError)) throw error;
    return { from, count: undefined, reason: `cannot be read: ${error.message}` };
  }
}

function unread(from: string): Answer {
  return { from, count: undefined, reason: 'cannot be read' };
}

/** Undefined when there is no such file; its text is undefined when its content has not been kept. */
function textAt(tree: ImageTree, path: string): { readonly text: string | undefined } | undefined {
  const node = tree.resolve(path)?.node;
  return node?.kind === 'file' ? { text: node.content?.toString() } : undefined;
}
