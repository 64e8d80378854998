import { createHash } from 'node:crypto';
import { cannot } from '../../support/errors.js';
import type { PackageEntry, SymlinkEntry } from '../contents.js';
import type { TarMember } from '../tar.js';
import { capabilityAttribute } from './capability.js';
import { CpioReader, type CpioRecord } from './cpio.js';
import { fileType, type RpmFile } from './files.js';

/** A regular file of the package with all its names. */
interface LinkSet {
  readonly files: readonly RpmFile[];
  readonly capability: Buffer | undefined;
  /** The name that had the bytes with it, and where they are. */
  holder: { readonly file: RpmFile; readonly offset: number } | undefined;
  /** Names still to come. */
  missing: number;
}

const maxTargetBytes = 4095;

/**
 * The members of a payload, in its order. What they are is said by the header, which is signed; the payload has to
 * agree in names, types, permissions and sizes, and to hold every file of the header once. Owners are not numbers yet.
 *
 * @param digest algorithm of the header's file digests when they are to be checked
 * @throws ToolError `cannot read NAME: reason`
 */
export async function* payloadMembers(
  chunks: AsyncIterable<Uint8Array>,
  name: string,
  files: readonly RpmFile[],
  digest: string | undefined,
): AsyncGenerator<TarMember, void, undefined> {
  const fail = (reason: string) => cannot('read', name, reason);
  const shipped = files.filter((file) => !file.ghost);
  const byPath = new Map(shipped.map((file) => [file.path, file]));
  const sets = linkSets(shipped, fail);
  const pending = new Set(shipped);
  const archive = new CpioReader(chunks, fail);
  try {
    for (let record = await archive.next(); record !== undefined; record = await archive.next()) {
      const file = record.kind === 'named' ? namedFile(record) : files[record.index];
      if (file === undefined || file.ghost)
        throw fail('its payload holds a file that its header does not list');
      if (!pending.delete(file)) throw fail(`its payload holds ${shown(file)} twice`);
      const type = file.mode & fileType.mask;
      if (record.kind === 'named') {
        if (record.mode !== file.mode) throw fail(`the mode of ${shown(file)} differs in header and payload`);
      } else {
        archive.expect(numberedSize(file));
      }
      const offset = archive.position;
      const data = await takeData(record, file);
      if (type === fileType.regular) {
        yield* fileMembers(file, data.size, offset);
        continue;
      }
      if (type === fileType.symlink) {
        if (data.size !== Buffer.byteLength(file.target) || data.bytes.toString() !== file.target) {
          throw fail(`the target of ${shown(file)} differs in header and payload`);
        }
      } else if (data.size !== 0) {
        throw fail(`${shown(file)} has data and is no regular file`);
      }
      yield { entry: plainEntry(file, fail), offset };
    }
    const [absent] = pending;
    if (absent !== undefined) throw fail(`its payload does not hold ${shown(absent)}`);
  } finally {
    await archive.close();
  }

  function namedFile(record: Extract<CpioRecord, { kind: 'named' }>): RpmFile | undefined {
    const path = record.name.toString();
    return byPath.get(path.replace(/^\.?\/+/, '').replace(/^\.$/, ''));
  }

  /** In a stripped archive the last name of a file has the bytes, as the header orders them. */
  function numberedSize(file: RpmFile): number {
    const type = file.mode & fileType.mask;
    if (type === fileType.symlink) return file.size;
    return type === fileType.regular && sets.get(file.inode)?.files.at(-1) === file ? file.size : 0;
  }

  async function takeData(
    record: CpioRecord,
    file: RpmFile,
  ): Promise<{ readonly size: number; readonly bytes: Buffer }> {
    const isLink = (file.mode & fileType.mask) === fileType.symlink;
    const checksum = record.kind === 'named' ? record.checksum : undefined;
    const hash = digest === undefined || file.digest === '' ? undefined : createHash(digest);
    const kept: Buffer[] = [];
    let size = 0;
    let sum = 0;
    for await (const chunk of archive.data()) {
      size += chunk.length;
      if (isLink && size > maxTargetBytes) throw fail(`the target of ${shown(file)} is too long`);
      if (isLink) kept.push(Buffer.from(chunk));
      if (checksum !== undefined) for (const byte of chunk) sum = (sum + byte) >>> 0;
      hash?.update(chunk);
    }
    if (checksum !== undefined && sum !== checksum) throw fail(`the checksum of ${shown(file)} is wrong`);
    // All names of a file have its digest; the bytes are with one of them.
    if (hash !== undefined && size === file.size && hash.digest('hex') !== file.digest.toLowerCase()) {
      throw fail(`the digest of ${shown(file)} is wrong`);
    }
    return { size, bytes: Buffer.concat(kept) };
  }

  /** Further names wait for the bytes, so that they can point at the name that has them. */
  function* fileMembers(file: RpmFile, size: number, offset: number): Generator<TarMember, void, undefined> {
    const set = sets.get(file.inode);
    if (set === undefined) throw fail(`its header lists no file ${shown(file)}`);
    if (size !== file.size && (size !== 0 || set.files.length === 1)) {
      throw fail(`the size of ${shown(file)} differs in header and payload`);
    }
    set.missing -= 1;
    if (size === file.size && set.holder === undefined) {
      set.holder = { file, offset };
      yield { entry: { ...baseOf(file), kind: 'file', size, capability: set.capability }, offset };
      const before = set.files.filter((other) => other !== file && !pending.has(other));
      for (const other of before) yield { entry: linkEntry(other, file), offset };
      return;
    }
    if (size !== 0) throw fail(`its payload holds the bytes of ${shown(file)} twice`);
    if (set.holder !== undefined) yield { entry: linkEntry(file, set.holder.file), offset };
    else if (set.missing === 0) throw fail(`its payload does not hold the bytes of ${shown(file)}`);
  }
}

/** The symbolic links that the package owns without shipping them. @throws ToolError for one without a target */
export function ghostLinks(files: readonly RpmFile[]): readonly SymlinkEntry[] {
  return files
    .filter((file) => file.ghost && (file.mode & fileType.mask) === fileType.symlink && file.target !== '')
    .map((file) => ({ ...baseOf(file), kind: 'symlink', target: file.target }));
}

/** The regular files by inode. All names of one have the same size. */
function linkSets(
  shipped: readonly RpmFile[],
  fail: (reason: string) => Error,
): ReadonlyMap<string, LinkSet> {
  const grouped = new Map<string, RpmFile[]>();
  for (const file of shipped) {
    if ((file.mode & fileType.mask) !== fileType.regular) continue;
    const group = grouped.get(file.inode);
    if (group === undefined) grouped.set(file.inode, [file]);
    else group.push(file);
  }
  return new Map(
    [...grouped].map(([inode, group]) => {
      const [first] = group;
      if (group.some(({ size }) => size !== first?.size)) {
        throw fail(`the hard links to ${first === undefined ? '' : shown(first)} differ in size`);
      }
      const texts = [...new Set(group.map((file) => file.capabilities).filter((text) => text !== ''))];
      const [text] = texts;
      const capability = text === undefined ? undefined : capabilityAttribute(text);
      if (first !== undefined && text !== undefined && (texts.length > 1 || capability === undefined)) {
        throw fail(`the capabilities ${JSON.stringify(text)} of ${shown(first)} are not valid`);
      }
      return [inode, { files: group, capability, holder: undefined, missing: group.length }];
    }),
  );
}

function plainEntry(file: RpmFile, fail: (reason: string) => Error): PackageEntry {
  const base = baseOf(file);
  const numbers = { major: (file.device >> 8) & 0xff, minor: file.device & 0xff };
  switch (file.mode & fileType.mask) {
    case fileType.directory:
      return { ...base, kind: 'directory' };
    case fileType.symlink:
      if (file.target === '') throw fail(`the symbolic link ${shown(file)} has no target`);
      return { ...base, kind: 'symlink', target: file.target };
    case fileType.characterDevice:
      return { ...base, kind: 'character-device', ...numbers };
    case fileType.blockDevice:
      return { ...base, kind: 'block-device', ...numbers };
    case fileType.fifo:
      return { ...base, kind: 'fifo' };
    default:
      throw fail(`${shown(file)} is of a type that is not supported`);
  }
}

function linkEntry(file: RpmFile, holder: RpmFile): PackageEntry {
  return { ...baseOf(file), kind: 'hardlink', target: holder.path, size: file.size };
}

function baseOf({ path, mode, userName, groupName, mtime }: RpmFile): Omit<SymlinkEntry, 'kind' | 'target'> {
  return { path, mode: mode & 0o7777, uid: undefined, gid: undefined, userName, groupName, mtime };
}

function shown({ path }: RpmFile): string {
  return `/${path}`;
}
