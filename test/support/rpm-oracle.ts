import { execFileSync } from 'node:child_process';
import { lstatSync, mkdtempSync, readFileSync, readlinkSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'vitest';
import type { PackageContents, PackageEntry, RpmMetadata } from '../../build/package/contents.js';

/** What rpm prints of a package file for a query format. */
export function queryRpm(path: string, format: string): string {
  return execFileSync('rpm', ['-qp', '--nosignature', '--nodigest', '--qf', format, path], {
    encoding: 'utf8',
    maxBuffer: 2 ** 26,
    stdio: ['ignore', 'pipe', 'ignore'],
    env: { PATH: process.env['PATH'], LC_ALL: 'C.UTF-8', TZ: 'UTC' },
  });
}

export function rpmMetadataOf({ metadata }: PackageContents): RpmMetadata {
  if (metadata.format !== 'rpm') throw new Error(`this is a package of the format ${metadata.format}`);
  return metadata;
}

/** Expects that a package opens as rpm itself describes it, and as cpio(1) or tar(1) unpacks it. */
export async function expectAsRpmSays(contents: PackageContents, path: string): Promise<void> {
  expectMetadata(contents, path);
  expectFiles(contents, path);
  await expectBytes(contents, path);
}

function expectMetadata(contents: PackageContents, path: string): void {
  const metadata = rpmMetadataOf(contents);
  const none = (text: string | number | undefined) => (text === undefined || text === '' ? '(none)' : text);
  expect(
    [
      contents.name,
      contents.version,
      contents.architecture,
      contents.built,
      none(metadata.epoch),
      metadata.version,
      metadata.release,
      none(metadata.vendor),
      none(metadata.license),
      none(metadata.sourceRpm),
      metadata.installedSize,
    ].join('\n'),
  ).toBe(
    queryRpm(
      path,
      '%{NAME}\n%{EVR}\n%{ARCH}\n%{BUILDTIME}\n%{EPOCH}\n%{VERSION}\n%{RELEASE}\n%{VENDOR}\n%{LICENSE}\n%{SOURCERPM}\n%{LONGSIZE}',
    ),
  );
}

/** One line of rpm's file list. */
interface QueriedFile {
  readonly path: string;
  readonly mode: number;
  readonly isGhost: boolean;
  readonly line: string;
}

const kindBits = new Map<PackageEntry['kind'], number>([
  ['file', 0o100000],
  ['hardlink', 0o100000],
  ['directory', 0o040000],
  ['symlink', 0o120000],
  ['character-device', 0o020000],
  ['block-device', 0o060000],
  ['fifo', 0o010000],
]);

function expectFiles(contents: PackageContents, path: string): void {
  const listed = queriedFiles(path);
  const lines = contents.entries.map((entry) =>
    [
      `/${entry.path}`,
      (kindBits.get(entry.kind) ?? 0) | entry.mode,
      entry.kind === 'file' || entry.kind === 'hardlink' ? entry.size : '',
      entry.mtime,
      entry.userName,
      entry.groupName,
      entry.kind === 'symlink' ? entry.target : '',
    ].join('\t'),
  );
  const shipped = listed.filter(({ isGhost, path: name }) => !isGhost && name !== '/');
  expect([...lines].sort()).toEqual(shipped.map(({ line }) => line).sort());
  const ghosts = listed.filter(({ isGhost, mode }) => isGhost && (mode & 0o170000) === 0o120000);
  expect(rpmMetadataOf(contents).ghostLinks.map((link) => `/${link.path}`)).toEqual(
    ghosts.map((ghost) => ghost.path),
  );
}

function queriedFiles(path: string): readonly QueriedFile[] {
  const format =
    '[%{FILENAMES}\t%{FILEMODES}\t%{LONGFILESIZES}\t%{FILEMTIMES}\t%{FILEUSERNAME}\t%{FILEGROUPNAME}\t%{FILELINKTOS}\t%{FILEFLAGS}\n]';
  const text = queryRpm(path, format);
  if (text.startsWith('(none)')) return [];
  return text
    .split('\n')
    .slice(0, -1)
    .map((row) => {
      const [name = '', mode = '', size = '', mtime = '', user = '', group = '', target = '', flags = ''] =
        row.split('\t');
      const bits = Number(mode) & 0xffff;
      const shownSize = (bits & 0o170000) === 0o100000 ? size : '';
      return {
        path: name,
        mode: bits,
        isGhost: (Number(flags) & 64) !== 0,
        line: [name, bits, shownSize, mtime, user, group, target].join('\t'),
      };
    });
}

async function expectBytes(contents: PackageContents, path: string): Promise<void> {
  const root = mkdtempSync(join(tmpdir(), 'rpm-oracle-'));
  try {
    // cpio(1) cannot read the payloads of format 6.
    const unpack =
      queryRpm(path, '%{RPMFORMAT}').startsWith('6') || readFileSync(path)[4] === 4
        ? 'rpm2archive - < "$0" | tar -xzp --numeric-owner -C "$1"'
        : 'rpm2cpio "$0" | (cd "$1" && cpio -idm --quiet --no-absolute-filenames)';
    execFileSync('sh', ['-c', unpack, path, root], { stdio: ['ignore', 'ignore', 'pipe'] });
    const inodes = new Map<string, number>();
    for (const entry of contents.entries) {
      const real = join(root, entry.path);
      const stats = lstatSync(real);
      if (entry.kind === 'file' || entry.kind === 'hardlink') {
        expect((await contents.read(entry)).equals(readFileSync(real)), entry.path).toBe(true);
        expect(stats.mode & 0o7777, entry.path).toBe(entry.mode);
        inodes.set(entry.path, stats.ino);
        if (entry.kind === 'hardlink') expect(stats.ino, entry.path).toBe(inodes.get(entry.target));
        else expect(stats.nlink, entry.path).toBe(1 + linksTo(contents, entry.path));
      } else if (entry.kind === 'symlink') {
        expect(readlinkSync(real)).toBe(entry.target);
      } else if (entry.kind === 'directory') {
        expect(stats.isDirectory(), entry.path).toBe(true);
      }
    }
  } finally {
    rmSync(root, { recursive: true });
  }
}

function linksTo({ entries }: PackageContents, path: string): number {
  return entries.filter((entry) => entry.kind === 'hardlink' && entry.target === path).length;
}
