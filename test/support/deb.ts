import { createHash } from 'node:crypto';
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { PackageContents } from '../../build/package/contents.js';
import { arArchive, type ArMemberSpec } from './ar.js';
import { tarArchive, type TarSpec } from './tar-builder.js';

export const debCompressions = ['none', 'gzip', 'xz', 'zstd'] as const;
export type DebCompression = (typeof debCompressions)[number];

/** A control file for a package of this name. */
export function controlText(fields: Readonly<Record<string, string>> = {}): string {
  const all = {
    Package: 'sample',
    Version: '1.0-1',
    Architecture: 'amd64',
    Maintainer: 'Nobody <nobody@example.org>',
    Description: 'sample package\n of two lines',
    ...fields,
  };
  return Object.entries(all)
    .map(([name, value]) => `${name}: ${value}\n`)
    .join('');
}

/** The container members of a .deb with uncompressed archives. */
export function debMembers(
  data: readonly (TarSpec | Buffer)[],
  control: readonly (TarSpec | Buffer)[] = [{ name: './control', data: Buffer.from(controlText()) }],
): ArMemberSpec[] {
  return [
    { name: 'debian-binary', data: Buffer.from('2.0\n') },
    { name: 'control.tar', data: tarArchive(control) },
    { name: 'data.tar', data: tarArchive(data) },
  ];
}

/** A whole .deb with uncompressed archives, built byte by byte. */
export function debOf(data: readonly (TarSpec | Buffer)[], control?: readonly (TarSpec | Buffer)[]): Buffer {
  return arArchive(debMembers(data, control));
}

/**
 * Builds a package with dpkg-deb from plain files.
 *
 * @param directory where to work; the package file is left there
 * @param files path to text
 * @param prepare called with the tree's root before it is packed, for links, modes and the like
 * @returns path of the .deb
 */
export function buildDeb(
  directory: string,
  files: Readonly<Record<string, string>>,
  options: {
    readonly control?: Readonly<Record<string, string>>;
    readonly compression?: DebCompression;
    readonly epoch?: number;
    readonly prepare?: (root: string) => void;
  } = {},
): string {
  const work = mkdtempSync(join(directory, 'deb-'));
  const root = join(work, 'root');
  const all = { ...files, 'DEBIAN/control': controlText(options.control) };
  for (const [path, text] of Object.entries(all)) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), text);
  }
  options.prepare?.(root);
  const output = join(work, 'package.deb');
  execFileSync('dpkg-deb', [`-Z${options.compression ?? 'xz'}`, '--root-owner-group', '-b', root, output], {
    env: { PATH: process.env['PATH'], SOURCE_DATE_EPOCH: String(options.epoch ?? 1_700_000_000) },
    stdio: 'pipe',
  });
  return output;
}

/** Downloads packages with the host's own apt into a directory. @returns paths by package name, or undefined without network */
export function downloadDebs(
  directory: string,
  names: readonly string[],
): ReadonlyMap<string, string> | undefined {
  try {
    execFileSync('apt-get', ['download', '-qq', '-o', 'APT::Sandbox::User=root', ...names], {
      cwd: directory,
      stdio: 'pipe',
      timeout: 50_000,
    });
  } catch {
    return undefined;
  }
  const files = readdirSync(directory);
  return new Map(
    names.map((name) => [name, join(directory, files.find((file) => file.startsWith(`${name}_`)) ?? name)]),
  );
}

export function sha256Of(data: Buffer): string {
  return createHash('sha256').update(data).digest('hex');
}

/** Control fields of an opened package. @throws Error for another format */
export function controlOf({ metadata }: PackageContents): ReadonlyMap<string, string> {
  if (metadata.format !== 'deb') throw new Error(`this is a package of the format ${metadata.format}`);
  return metadata.control;
}
