import { cannot } from '../../support/errors.js';
import type { RpmHeader } from './header.js';
import { tags } from './tags.js';

/** One file of the header's list. */
export interface RpmFile {
  /** Normalised: without the leading `/`; '' for the root. */
  readonly path: string;
  /** Type and permission bits. */
  readonly mode: number;
  /** Bytes; of a symbolic link, the length of its target. */
  readonly size: number;
  /** Seconds since the epoch. */
  readonly mtime: number;
  readonly target: string;
  readonly userName: string;
  readonly groupName: string;
  /** Owned, but not in the payload. */
  readonly ghost: boolean;
  /** Equal for names of the same file. */
  readonly inode: string;
  /** Device number of 16 bits. */
  readonly device: number;
  /** Text of cap_from_text(3), or ''. */
  readonly capabilities: string;
  /** Hexadecimal, or '' where there is none. */
  readonly digest: string;
}

/** stat(2), st_mode. */
export const fileType = {
  mask: 0o170000,
  regular: 0o100000,
  directory: 0o040000,
  symlink: 0o120000,
  characterDevice: 0o020000,
  blockDevice: 0o060000,
  fifo: 0o010000,
} as const;

/** RPMFILE_GHOST (rpmfiles.h). */
const ghostFlag = 1 << 6;
/** PATH_MAX without its NUL (limits.h). */
const maxPathBytes = 4095;
/** Deeper than any real package; bounds what a path costs whoever walks it. */
const maxDepth = 64;
/** All paths together, characters: few directories can stand in many paths. */
const maxNames = 64 * 1024 ** 2;

/**
 * The files of a package, as its header lists them.
 *
 * @param limit most of them
 * @throws ToolError for lists that do not fit together, and for paths that are not plain absolute ones
 */
export function headerFiles(header: RpmHeader, name: string, limit: number): readonly RpmFile[] {
  const fail = (reason: string) => cannot('read', name, reason);
  const modes = header.numbers(tags.fileModes) ?? [];
  const count = modes.length;
  if (count > limit) throw fail(`it has more than ${limit} entries`);
  const same = <Value>(values: readonly Value[] | undefined, what: string): readonly Value[] => {
    if ((values?.length ?? 0) !== count) throw fail(`its header lists ${what} for another number of files`);
    return values ?? [];
  };
  const optional = <Value>(values: readonly Value[] | undefined, what: string): readonly Value[] =>
    values === undefined ? [] : same(values, what);

  const paths = same(filePaths(header, fail), 'names');
  const sizes = same(header.numbers(tags.longFileSizes) ?? header.numbers(tags.fileSizes), 'sizes');
  const mtimes = same(header.numbers(tags.fileMtimes), 'times');
  const flags = same(header.numbers(tags.fileFlags), 'flags');
  const users = same(header.texts(tags.fileUserName), 'users');
  const groups = same(header.texts(tags.fileGroupName), 'groups');
  const targets = optional(header.texts(tags.fileLinkTos), 'link targets');
  const devices = optional(header.numbers(tags.fileDevices), 'devices');
  const inodes = optional(header.numbers(tags.fileInodes), 'inodes');
  const rdevs = optional(header.numbers(tags.fileRdevs), 'device numbers');
  const capabilities = optional(header.texts(tags.fileCaps), 'capabilities');
  const digests = optional(header.texts(tags.fileDigests), 'digests');

  const seen = new Set<string>();
  let names = 0;
  return modes.map((mode, index) => {
    const path = normalise(paths[index] ?? '', fail);
    names += path.length;
    if (names > maxNames) throw fail(`its paths take more than ${maxNames} characters`);
    if (seen.has(path)) throw fail(`its header lists ${path} twice`);
    seen.add(path);
    return {
      path,
      mode,
      size: sizes[index] ?? 0,
      mtime: mtimes[index] ?? 0,
      target: targets[index] ?? '',
      userName: users[index] ?? '',
      groupName: groups[index] ?? '',
      ghost: ((flags[index] ?? 0) & ghostFlag) !== 0,
      // Without inodes no two names are of one file.
      inode: inodes.length === 0 ? `#${index}` : `${devices[index] ?? 0}:${inodes[index] ?? 0}`,
      device: rdevs[index] ?? 0,
      capabilities: capabilities[index] ?? '',
      digest: digests[index] ?? '',
    };
  });
}

/** Directory and base name apart, or whole paths as before rpm 4.0. */
function filePaths(header: RpmHeader, fail: (reason: string) => Error): readonly string[] {
  const names = header.texts(tags.baseNames);
  if (names === undefined) return header.texts(tags.oldFileNames) ?? [];
  const directories = header.texts(tags.dirNames) ?? [];
  const indexes = header.numbers(tags.dirIndexes) ?? [];
  if (indexes.length !== names.length) throw fail('its header lists directories for another number of files');
  return names.map((name, index) => {
    const directory = directories[indexes[index] ?? 0];
    if (directory === undefined || (directory !== '' && !directory.endsWith('/'))) {
      throw fail('its header names a directory that there is not');
    }
    return `${directory}${name}`;
  });
}

/** Without the leading `/`; '' for the root. @throws for a path that is relative, climbs, or is too long */
function normalise(path: string, fail: (reason: string) => Error): string {
  if (!path.startsWith('/')) throw fail(`the path ${JSON.stringify(path)} is not absolute`);
  if (Buffer.byteLength(path) > maxPathBytes) throw fail('a path is too long');
  const parts = path.split('/').filter((part) => part !== '' && part !== '.');
  if (parts.includes('..')) throw fail(`the path ${JSON.stringify(path)} leaves the package`);
  if (parts.length > maxDepth) throw fail('a path is too deep');
  return parts.join('/');
}
