import type { Context } from './context.js';
import { pathFrom } from './path-from.js';
import { requestOf, type ImageOptions } from './request.js';
import { servicesOf } from './services.js';
import { renewLock } from '../pipeline.js';
import { checkLockPlace, lockSchemaVersion, writeLock, type LockFile } from '../repository/lock.js';

interface Change {
  readonly target: string;
  readonly package: string;
  readonly from: string | null;
  readonly to: string | null;
}

/** `lock`: chooses the newest packages anew, writes the lock file and prints what has changed in it. */
export async function lock(definition: string, options: ImageOptions, context: Context): Promise<void> {
  const request = requestOf(definition, options, context, true);
  await checkLockPlace(request.lockFile);
  const { before, after, changed } = await renewLock(request, await servicesOf(context));
  if (changed) await writeLock(request.lockFile, after);
  const changes = changesBetween(before, after);
  if (options.json === true) {
    context.print(
      `${JSON.stringify({ lockFile: request.lockFile, changes, lock: { schemaVersion: lockSchemaVersion, ...after } }, undefined, 2)}\n`,
    );
    return;
  }
  const lines = changes.map(({ target, package: name, from, to }) => {
    const rebuilt = from === to ? ' (rebuilt)' : '';
    return `${target}: ${name} ${from ?? '(new)'} -> ${to ?? '(gone)'}${rebuilt}`;
  });
  const count =
    lines.length === 0 ? 'nothing has changed' : `${lines.length} change${lines.length === 1 ? '' : 's'}`;
  context.print(`${[...lines, `${pathFrom(context.cwd, request.lockFile)}: ${count}`].join('\n')}\n`);
}

function changesBetween(before: LockFile | undefined, after: LockFile): readonly Change[] {
  const old = packagesOf(before);
  const now = packagesOf(after);
  return [...new Set([...old.keys(), ...now.keys()])].sort().flatMap((key) => {
    const [target = '', name = ''] = key.split('\n');
    const from = old.get(key);
    const to = now.get(key);
    return from?.sha256 === to?.sha256
      ? []
      : [{ target, package: name, from: from?.version ?? null, to: to?.version ?? null }];
  });
}

/** Packages, and the base that takes the place of some. */
function packagesOf(
  lockFile: LockFile | undefined,
): ReadonlyMap<string, { readonly version: string; readonly sha256: string }> {
  return new Map(
    (lockFile?.targets ?? []).flatMap(({ family, release, architecture, base, packages }) => {
      const [name = '', digest = ''] = base?.split('@') ?? [];
      const locked = [
        ...packages,
        ...(base === undefined ? [] : [{ name, version: digest, sha256: digest }]),
      ];
      return locked.map((one) => [`${family} ${release} ${architecture}\n${one.name}`, one] as const);
    }),
  );
}
