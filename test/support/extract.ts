import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { lstatSync, mkdtempSync, readFileSync, readlinkSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import type { RootfsPlan } from '../../build/rootfs/plan.js';

/** What a file system says of one entry, in the order of the archive. */
export interface ExtractedEntry {
  readonly path: string;
  readonly kind: string;
  readonly mode: string;
  readonly owner: string;
  /** Seconds since the epoch. */
  readonly mtime: number;
  readonly target: string | undefined;
  readonly sha256: string | undefined;
  /** As getcap(8) prints it. */
  readonly capability: string;
}

/** Unpacks a layer with GNU tar, which needs root to set owners and capabilities, and looks at the result. */
export function extract(layer: string): readonly ExtractedEntry[] {
  const root = mkdtempSync(join(tmpdir(), 'extract-'));
  try {
    execFileSync('tar', ['--xattrs', '--xattrs-include=*', '--numeric-owner', '-xpf', layer, '-C', root]);
    return listNames(layer).map((path) => {
      const full = join(root, path);
      const stats = lstatSync(full);
      const kind = stats.isDirectory() ? 'directory' : stats.isSymbolicLink() ? 'symlink' : 'file';
      return {
        path,
        kind,
        mode: (stats.mode & 0o7777).toString(8),
        owner: `${stats.uid}:${stats.gid}`,
        mtime: stats.mtimeMs / 1000,
        target: kind === 'symlink' ? readlinkSync(full) : undefined,
        sha256: kind === 'file' ? sha256(readFileSync(full)) : undefined,
        capability:
          kind === 'file'
            ? execFileSync('getcap', [full], { encoding: 'utf8' }).slice(full.length).trim()
            : '',
      };
    });
  } finally {
    rmSync(root, { recursive: true });
  }
}

/** Names in an archive as stored, by GNU tar. */
export function listNames(archive: string): readonly string[] {
  return execFileSync('tar', ['--quoting-style=literal', '-tf', archive], { encoding: 'utf8' })
    .split('\n')
    .slice(0, -1);
}

/** What `extract` must find of a plan. @param capability what getcap prints of the plan's capabilities */
export async function planned(plan: RootfsPlan, capability: string): Promise<readonly ExtractedEntry[]> {
  return Promise.all(
    plan.entries.map(async (entry) => ({
      path: entry.path,
      kind: entry.kind === 'text' ? 'file' : entry.kind,
      mode: entry.mode.toString(8),
      owner: `${entry.uid}:${entry.gid}`,
      mtime: plan.epoch,
      target: entry.kind === 'symlink' ? entry.target : undefined,
      sha256:
        entry.kind === 'file'
          ? sha256(await entry.read())
          : entry.kind === 'text'
            ? sha256(entry.content)
            : undefined,
      capability: entry.kind === 'file' && entry.capability !== undefined ? capability : '',
    })),
  );
}

export function sha256(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex');
}
