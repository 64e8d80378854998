import { constants } from 'node:fs';
import { access, open } from 'node:fs/promises';
import { dirname } from 'node:path';

import type { Family } from '../definition/definition.js';
import type { Architecture } from '../support/architecture.js';
import { isCode, writeFileAtomically } from '../support/atomic.js';
import { cannot, reasonOf, ToolError } from '../support/errors.js';
import { compareBytes } from '../support/order.js';

/** One package, named exactly enough to fetch and prove it again. */
export interface LockedPackage {
  readonly name: string;
  readonly version: string;
  /** The distribution's architecture name, such as `amd64` or `all`. */
  readonly architecture: string;
  /** Suite whose index named it, such as `bookworm-security`; finds the mirror again. */
  readonly suite: string;
  /** URL path below the archive's base, such as `pool/main/g/glibc/libc6_2.36-9_amd64.deb`. */
  readonly path: string;
  /** Bytes. */
  readonly size: number;
  /** Lower-case hexadecimal. */
  readonly sha256: string;
  /** One line: which file of it the image needs, and for whom. */
  readonly why: string;
}

/** The packages of one image for one architecture of one release. */
export interface LockedTarget {
  readonly family: Family;
  /** Codename of the release, such as `bookworm`. */
  readonly release: string;
  readonly architecture: Architecture;
  /** Of an image upon another: that one, as `NAME:TAG@sha256:DIGEST` of its manifest for the architecture. */
  readonly base?: string;
  /** Sorted by name. For an image upon another none: its package manager chooses them. */
  readonly packages: readonly LockedPackage[];
}

/** Of the layout of lock files; another one is refused. */
export const lockSchemaVersion = 1;

export interface LockFile {
  /** sha256 of the definition file's bytes when the packages were chosen. */
  readonly definition: string;
  /** Sorted by family, release, architecture. */
  readonly targets: readonly LockedTarget[];
}

/**
 * Reads and checks a lock file.
 *
 * @returns undefined when there is none
 * @throws ToolError `cannot read lock file FILE:LINE:COLUMN: reason` with exit code 2
 */
export async function readLock(path: string): Promise<LockFile | undefined> {
  const text = await readBounded(path);
  if (text === undefined) return undefined;
  const [yaml, { parseLock }] = await Promise.all([import('yaml'), import('./lock-document.js')]);
  return parseLock(text, path, yaml);
}

/** Bytes; an image of a hundred packages for every architecture has a tenth of it. */
const largestFile = 4 * 1024 ** 2;

async function readBounded(path: string): Promise<string | undefined> {
  const fail = (reason: string, cause?: unknown): ToolError =>
    cannot('read', `lock file ${path}`, reason, { cause, hint: elsewhere, exitCode: 2 });
  try {
    // Without O_NONBLOCK a named pipe would be waited for, before it can be refused.
    const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
    try {
      const stats = await file.stat();
      if (!stats.isFile()) throw fail(stats.isDirectory() ? 'it is a directory' : 'it is no regular file');
      if (stats.size > largestFile) throw fail(`it is larger than ${largestFile / 1024 ** 2} MiB`);
      return await file.readFile('utf8');
    } finally {
      await file.close();
    }
  } catch (error) {
    if (isCode(error, 'ENOENT')) return undefined;
    throw error instanceof ToolError ? error : fail(reasonOf(error), error);
  }
}

const elsewhere = 'choose another one with --lock-file FILE';

/** Whether the file could be written, as far as that can be told before. @throws ToolError when not */
export async function checkLockPlace(path: string): Promise<void> {
  try {
    await access(dirname(path), constants.W_OK);
  } catch (error) {
    throw cannot('write', `lock file ${path}`, reasonOf(error), { cause: error, hint: elsewhere });
  }
}

/** Writes the file whole or not at all. @throws ToolError */
export async function writeLock(path: string, lock: LockFile): Promise<void> {
  await writeFileAtomically(path, formatLock(lock));
}

/**
 * The lock file's text: the same for the same packages, whatever their order. The layout is ours rather than a
 * YAML library's, so that a library's new version changes no committed file.
 */
export function formatLock(lock: LockFile): string {
  const lines = [
    '# Generated; do not edit. Renew it with: npx dhcpd-scratch lock DEFINITION',
    '# It names the packages of the image exactly: a build takes these and no others.',
    `schemaVersion: ${lockSchemaVersion}`,
    `definition: ${quoted(lock.definition)}`,
    lock.targets.length === 0 ? 'targets: []' : 'targets:',
  ];
  for (const target of sortedBy(lock.targets, (it) => [it.family, it.release, it.architecture].join(' '))) {
    lines.push(
      `  - family: ${plain(target.family)}`,
      `    release: ${plain(target.release)}`,
      `    architecture: ${plain(target.architecture)}`,
      ...(target.base === undefined ? [] : [`    base: ${quoted(target.base)}`]),
      target.packages.length === 0 ? '    packages: []' : '    packages:',
    );
    for (const locked of sortedBy(target.packages, (it) => it.name)) {
      lines.push(
        `      - name: ${plain(locked.name)}`,
        `        version: ${quoted(locked.version)}`,
        `        architecture: ${plain(locked.architecture)}`,
        `        suite: ${plain(locked.suite)}`,
        `        path: ${plain(locked.path)}`,
        `        size: ${locked.size}`,
        `        sha256: ${quoted(locked.sha256)}`,
        `        why: ${quoted(locked.why)}`,
      );
    }
  }
  return `${lines.join('\n')}\n`;
}

function sortedBy<Item>(items: readonly Item[], keyOf: (item: Item) => string): readonly Item[] {
  return [...items].sort((a, b) => compareBytes(keyOf(a), keyOf(b)));
}

/** A word that no YAML reader takes for a number, a truth value or nothing; in quotes otherwise. */
function plain(text: string): string {
  const isWord = /^[A-Za-z][A-Za-z0-9+._~/-]*$/.test(text);
  return isWord && !/^(?:true|false|yes|no|on|off|null|y|n)$/i.test(text) ? text : quoted(text);
}

/** JSON strings are YAML strings (YAML 1.2, 7.3.1). */
function quoted(text: string): string {
  return JSON.stringify(text);
}
