import type { Family } from '../definition/definition.js';
import { readLock, type LockedTarget, type LockFile } from './lock.js';
import type { Architecture } from '../support/architecture.js';
import { cannot, reasonOf } from '../support/errors.js';
import type { Log } from '../support/log.js';
import { compareBytes } from '../support/order.js';

/** How the lock file is used: as far as it fits, exactly, or not at all. */
export type LockMode = 'prefer' | 'locked' | 'renew';

export interface LockUse {
  /** Path of the lock file. */
  readonly file: string;
  readonly mode: LockMode;
  /** sha256 of the definition as it is now. */
  readonly definition: string;
  /** The command that renews the lock file, for hints. */
  readonly renewal: string;
  readonly log: Log;
}

export interface LockInUse {
  /** The file as it is; undefined when there is none. */
  readonly before: LockFile | undefined;
  /** What of it was chosen for the definition as it is now. */
  readonly usable: LockFile | undefined;
}

/**
 * Reads the lock file and says what of it can be used.
 *
 * @throws ToolError with exit code 2 when it is damaged, or when it must be enough and is not
 */
export async function openLock(use: LockUse): Promise<LockInUse> {
  const before = await readForUse(use);
  if (before?.definition === use.definition) return { before, usable: before };
  const reason =
    before === undefined ? 'there is no such lock file' : 'the definition has changed since it was written';
  if (use.mode === 'locked') {
    throw cannot('use', use.file, reason, { hint: `run ${use.renewal}`, exitCode: 2 });
  }
  if (before !== undefined) use.log.warn(`${use.file}: ${reason}, so its packages are chosen anew`);
  return { before, usable: undefined };
}

/** A damaged lock file cannot be built from; `lock` is what makes a new one. */
async function readForUse({ file, mode, log }: LockUse): Promise<LockFile | undefined> {
  try {
    return await readLock(file);
  } catch (error) {
    if (mode !== 'renew') throw error;
    log.warn(`${reasonOf(error)}: all of it is chosen anew`);
    return undefined;
  }
}

/** Architectures that the file names packages of, for one release. */
export function lockedArchitectures(
  lock: LockFile | undefined,
  family: Family,
  release: string | undefined,
): readonly Architecture[] {
  const targets =
    lock?.targets.filter((target) => target.family === family && target.release === release) ?? [];
  return targets.map(({ architecture }) => architecture);
}

/**
 * The lock file that holds what was chosen now, and of the others what still fits the definition. Targets of a changed
 * definition that are not chosen again are named to the user and dropped.
 */
export function mergeLock(
  { definition, log }: LockUse,
  { before, usable }: LockInUse,
  chosen: readonly LockedTarget[],
): LockFile {
  const merged = new Map([...(usable?.targets ?? []), ...chosen].map((target) => [keyOf(target), target]));
  const dropped = before?.targets.map(keyOf).filter((key) => !merged.has(key)) ?? [];
  if (dropped.length > 0) {
    log.warn(
      `the lock file no longer names packages of ${dropped.join(', ')}: they were for another definition`,
    );
  }
  return {
    definition,
    targets: [...merged.values()].sort((a, b) => compareBytes(keyOf(a), keyOf(b))),
  };
}

function keyOf({ family, release, architecture }: LockedTarget): string {
  return `${family} ${release} ${architecture}`;
}
