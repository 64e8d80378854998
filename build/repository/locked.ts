import type { Family } from '../definition/definition.js';
import type { PackageContents } from '../package/contents.js';
import type { Architecture } from '../support/architecture.js';
import { allOf } from '../support/all-of.js';
import { cannot, reasonOf, ToolError } from '../support/errors.js';
import { checkIdentity } from './identity.js';
import type { LockedTarget, LockFile } from './lock.js';
import type { LockedPackages, OriginOptions, PackageRecord } from './origin.js';

export interface LockedOptions extends Pick<
  OriginOptions,
  'mode' | 'renewal' | 'lockFile' | 'offline' | 'log' | 'signal'
> {
  readonly family: Family;
  /** The family's name as people write it. */
  readonly title: string;
  /** Undefined: the lock file decides, if it can. */
  readonly release: string | undefined;
  /** Fetches one package, proves it and opens it. */
  readonly open: (record: PackageRecord) => Promise<PackageContents>;
}

/**
 * The packages that the lock file names for one architecture, opened.
 *
 * @returns undefined when they have to be chosen anew
 * @throws ToolError instead, when the lock file must be enough; and whatever `open` throws when nothing else can help
 */
export async function openLocked(
  lock: LockFile | undefined,
  architecture: Architecture,
  options: LockedOptions,
): Promise<LockedPackages | undefined> {
  const { family, title, release, mode, renewal, lockFile, offline, log, signal, open } = options;
  if (mode === 'renew') return undefined;
  const target = lockedTarget(lock, family, architecture, release);
  if (target === undefined) {
    if (mode === 'prefer') return undefined;
    throw cannot(
      'build from',
      lockFile,
      `it names no packages of ${title}${release === undefined ? '' : ` ${release}`} for ${architecture}`,
      { hint: `run ${renewal} --arch ${architecture}`, exitCode: 2 },
    );
  }
  try {
    const packages = await allOf(
      target.packages.map(async (record) => {
        const contents = await open(record);
        checkIdentity(contents, record);
        return { record, contents };
      }),
    );
    return { release: target.release, packages };
  } catch (error) {
    if (!(error instanceof ToolError) || signal.aborted) throw error;
    if (mode === 'locked' && !offline && error.message.startsWith('cannot fetch ')) {
      throw new ToolError(error.message, {
        cause: error,
        hint: `if the package is gone from the archive, run ${renewal}`,
      });
    }
    if (mode === 'locked' || offline) throw error;
    log.info(`choosing packages anew: ${reasonOf(error)}`);
    return undefined;
  }
}

function lockedTarget(
  lock: LockFile | undefined,
  family: Family,
  architecture: Architecture,
  release: string | undefined,
): LockedTarget | undefined {
  const targets =
    lock?.targets.filter((target) => target.family === family && target.architecture === architecture) ?? [];
  if (release !== undefined) return targets.find((target) => target.release === release);
  return targets.length === 1 ? targets[0] : undefined;
}
