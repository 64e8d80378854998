import { createHash, randomBytes } from 'node:crypto';
import { readFileSync, readlinkSync, type Stats } from 'node:fs';
import { lstat, readdir, rm } from 'node:fs/promises';
import { hostname } from 'node:os';
import { basename, dirname, join } from 'node:path';

/**
 * Temporary names say whose they are: `.<name>.<system>-<pid>-<random>.tmp`. What a killed process left behind
 * can so be told from what a living one still writes. `<system>` stands for one boot of one machine and one
 * process id namespace, because a process id means nothing outside of these.
 */
const mark = /\.([0-9a-f]{8})-([0-9]{1,10})-[0-9a-f]{12}\.(?:tmp|old)$/;

/** Where the owner cannot be asked for (another host, boot or container), a name unused for this long is left over. */
const foreignAge = 24 * 60 * 60 * 1000;

let systemToken: string | undefined;

/** A fresh name in the directory of `path`, hidden, so that renaming it to `path` stays on one file system. */
export function temporaryPath(path: string, suffix: 'tmp' | 'old' = 'tmp'): string {
  const random = randomBytes(6).toString('hex');
  return join(dirname(path), `.${basename(path)}.${system()}-${process.pid}-${random}.${suffix}`);
}

/** The name that `temporaryPath` was asked to stand in for, or undefined when `name` is not a temporary name. */
export function temporaryFor(name: string): string | undefined {
  return name.startsWith('.') && mark.test(name) ? name.replace(mark, '').slice(1) : undefined;
}

/**
 * Whether this temporary name is ours and the process that made it is gone for good. What another user has put
 * there is never ours: that user could lead its removal elsewhere.
 */
export function isLeftover(name: string, { uid, mtimeMs }: Pick<Stats, 'uid' | 'mtimeMs'>): boolean {
  const found = mark.exec(name);
  if (found === null || uid !== (process.geteuid?.() ?? 0)) return false;
  if (found[1] !== system()) return Date.now() - mtimeMs > foreignAge;
  return !isAlive(Number(found[2]));
}

/**
 * Removes what dead processes left in a directory. Best effort: what cannot be removed now is met again later.
 *
 * @param standIn only names that stand in for this one
 */
export async function removeLeftovers(directory: string, standIn?: string): Promise<void> {
  for (const name of await readdir(directory).catch(() => [])) {
    const stoodFor = temporaryFor(name);
    if (stoodFor === undefined || stoodFor !== (standIn ?? stoodFor)) continue;
    const path = join(directory, name);
    const stats = await lstat(path).catch(() => undefined);
    if (stats === undefined || !isLeftover(name, stats)) continue;
    await rm(path, { recursive: true, force: true }).catch(() => undefined);
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    // EPERM: it lives, and belongs to somebody else.
    return !(error instanceof Error && 'code' in error && error.code === 'ESRCH');
  }
}

function system(): string {
  systemToken ??= createHash('sha256')
    .update(
      [
        hostname(),
        orEmpty(() => readFileSync('/proc/sys/kernel/random/boot_id', 'latin1')),
        orEmpty(() => readlinkSync('/proc/self/ns/pid')),
      ].join('\0'),
    )
    .digest('hex')
    .slice(0, 8);
  return systemToken;
}

function orEmpty(read: () => string): string {
  try {
    return read();
  } catch {
    return ''; // not Linux: the host name alone
  }
}
