import { open } from 'node:fs/promises';
import type { Architecture } from '../../support/architecture.js';
import { cannot, reasonOf } from '../../support/errors.js';
import { compareBytes } from '../../support/order.js';
import { shownUrl } from '../../support/url.js';
import { fetchChecked } from './checked-blob.js';
import { compareEvr } from './evr.js';
import { findOwners } from './filelists.js';
import { packageArchitectures } from './layout.js';
import { locate } from './location.js';
import { isModular, readModuleArtifacts } from './modules.js';
import { matchesPackage } from './name-patterns.js';
import { indexPrimary } from './primary.js';
import type { RpmRecord } from './record.js';
import type { RepomdFile } from './repomd.js';
import { indexFormat, openRpmIndex, type RpmIndex } from './rpm-index.js';
import type { RpmSource } from './source.js';
import { fetchRepomd, type RepomdContext, type TrustedRepomd } from './trusted-repomd.js';

/** One repository for one architecture, verified. Packages that its source excludes are not there. */
export interface RpmRepository {
  readonly source: RpmSource;
  readonly architecture: Architecture;
  /** Its top document, and what vouches for it. */
  readonly top: TrustedRepomd;
  /** All versions of a package, the newest first. @throws ToolError on a malformed record */
  find(name: string): readonly RpmRecord[];
  /**
   * Packages that provide something: a package, a soname with its marks, or a file that primary.xml names. By name, the
   * newest first. @throws ToolError
   */
  providers(key: string): readonly RpmRecord[];
  /** Packages that own one of some absolute paths: by primary.xml, or else by filelists.xml, which is large. */
  owners(paths: readonly string[]): Promise<readonly RpmRecord[]>;
  /** Names of all packages. */
  names(): readonly string[];
  /** URLs of a package file, in the order in which mirrors are to be tried. */
  urls(record: Pick<RpmRecord, 'path'>): readonly string[];
  /** Gives the index back; nothing can be found afterwards. */
  close(): void;
}

/** package/ comes after this stage, so its function is handed in. @param limit most unpacked bytes */
export type DecompressFile = (
  path: string,
  format: 'none' | 'gz' | 'xz' | 'zst',
  limit: number,
) => AsyncIterable<Uint8Array>;

export interface RpmRepositoryOptions extends RepomdContext {
  readonly architecture: Architecture;
  readonly decompressFile: DecompressFile;
}

/** Bytes, unpacked; the largest today have a fifth of them. */
const limits = { primary: 1024 ** 3, filelists: 8 * 1024 ** 3, modules: 256 * 1024 ** 2 } as const;

const behind =
  'the mirror is probably in the middle of an update: try again in a few minutes, or use another with --mirror URL';

/**
 * Opens a repository: its repomd.xml, verified, then primary.xml, as an index on disk that is made once and kept in the
 * cache.
 *
 * @throws ToolError
 */
export async function openRpmRepository(
  source: RpmSource,
  options: RpmRepositoryOptions,
): Promise<RpmRepository> {
  const top = await fetchRepomd(source, options);
  const metadata = new Metadata(source, top, options);
  const { architecture } = options;
  const excluded = source.moduleHotfixes ? new Set<string>() : await metadata.moduleArtifacts();
  const index = await metadata.openIndex();

  const isVisible = (record: RpmRecord): boolean => {
    if (matchesPackage(source.excludes, record)) return false;
    if (source.moduleHotfixes) return true;
    const { name, epoch, version, release, architecture: arch } = record;
    return !isModular(release) && !excluded.has(`${name}-${epoch}:${version}-${release}.${arch}`);
  };
  const sorted = (records: readonly RpmRecord[]): readonly RpmRecord[] =>
    records.filter(isVisible).sort((a, b) => compareRecords(a, b, architecture));
  const find = (name: string): readonly RpmRecord[] =>
    sorted(index.find('name', name).filter((record) => record.name === name));
  const providers = (key: string): readonly RpmRecord[] =>
    sorted(index.find('provides', key).filter((record) => provides(record, key)));
  return {
    source,
    architecture,
    top,
    find,
    providers,
    owners: async (paths) => {
      const named = new Set(paths.flatMap((path) => providers(path)));
      if (named.size > 0) return sorted([...named]);
      const owners = await metadata.owners(paths);
      return sorted(
        owners.flatMap(({ name, checksum }) =>
          find(name).filter((record) => record.checksum.value === checksum),
        ),
      );
    },
    names: () => index.names(),
    urls: ({ path }) => top.mirrors.map((mirror) => locate(mirror, path)),
    close: () => {
      index.close();
    },
  };
}

/** Whether a package provides something by its name, whatever the version, or by one of its files. */
export function provides(record: RpmRecord, key: string): boolean {
  return record.provides.some(({ name }) => name === key) || record.files.includes(key);
}

/** By name, the newest first; of equal ones that of the architecture before `noarch`. */
export function compareRecords(a: RpmRecord, b: RpmRecord, architecture: Architecture): number {
  const known = packageArchitectures(architecture);
  const rank = ({ architecture: one }: RpmRecord): number =>
    known.includes(one) ? known.indexOf(one) : known.length;
  return (
    compareBytes(a.name, b.name) ||
    compareEvr(b, a) ||
    rank(a) - rank(b) ||
    compareBytes(a.checksum.value, b.checksum.value) ||
    compareBytes(a.path, b.path)
  );
}

/** The metadata files of one repository. */
class Metadata {
  readonly #source: RpmSource;
  readonly #top: TrustedRepomd;
  readonly #options: RpmRepositoryOptions;

  constructor(source: RpmSource, top: TrustedRepomd, options: RpmRepositoryOptions) {
    this.#source = source;
    this.#top = top;
    this.#options = options;
  }

  async openIndex(): Promise<RpmIndex> {
    const { cache, architecture } = this.#options;
    const file = this.#top.repomd.files.get('primary');
    if (file === undefined) {
      throw cannot('read', this.#top.url, 'it names no primary, which is the list of packages', {
        hint: 'this is no repository of packages; use another',
      });
    }
    const where = this.#where(file);
    const architectures = [...packageArchitectures(architecture), 'noarch'];
    const key = [file.checksum.algorithm, file.checksum.value, indexFormat, ...architectures].join(' ');
    const record = await cache.readRecord('rpm-index', key);
    const known = record === undefined ? undefined : await cache.find(record);
    if (known !== undefined) return openRpmIndex(known, where);
    const temporary = await cache.temporary();
    try {
      const chunks = await this.#unpack(file, limits.primary);
      await indexPrimary(chunks, { path: temporary.path, where, architectures: new Set(architectures) });
    } catch (error) {
      await temporary.discard();
      throw error;
    }
    const { path, sha256 } = await temporary.keep();
    await cache.writeRecord('rpm-index', key, sha256);
    return openRpmIndex(path, where);
  }

  async moduleArtifacts(): Promise<ReadonlySet<string>> {
    const file = this.#top.repomd.files.get('modules');
    if (file === undefined) return new Set();
    return readModuleArtifacts(await this.#unpack(file, limits.modules), this.#where(file));
  }

  async owners(paths: readonly string[]): ReturnType<typeof findOwners> {
    const file = this.#top.repomd.files.get('filelists');
    if (file === undefined) return [];
    return findOwners(await this.#unpack(file, limits.filelists), new Set(paths), this.#where(file));
  }

  #where({ path }: RepomdFile): string {
    return shownUrl(new URL('..', this.#top.url).href) + path;
  }

  async #unpack(file: RepomdFile, limit: number): Promise<AsyncIterable<Uint8Array>> {
    const { type, path, checksum, size, openSize = limit } = file;
    if (openSize > limit)
      throw cannot('read', this.#where(file), 'it is too large for metadata of a repository');
    const urls = this.#top.mirrors.map((mirror) => locate(mirror, path));
    const label = `${this.#source.id} ${type}`;
    const blob = await fetchChecked(urls, { checksum, size, label, hint: behind }, this.#options);
    return this.#options.decompressFile(blob.path, await formatOf(blob.path, this.#where(file)), openSize);
  }
}

/** What a file is packed with, by its first bytes: names do not tell in every repository. */
async function formatOf(path: string, where: string): Promise<'none' | 'gz' | 'xz' | 'zst'> {
  let start: string;
  try {
    const file = await open(path);
    try {
      const { buffer, bytesRead } = await file.read(Buffer.alloc(6), 0, 6, 0);
      start = buffer.toString('hex', 0, bytesRead);
    } finally {
      await file.close();
    }
  } catch (error) {
    throw cannot('read', path, reasonOf(error), { cause: error });
  }
  if (start.startsWith('1f8b')) return 'gz';
  if (start === 'fd377a585a00') return 'xz';
  if (start.startsWith('28b52ffd') || /^5[0-9a-f]2a4d18/.test(start)) return 'zst';
  const other = start.startsWith('425a68') ? 'bzip2' : start.startsWith('005a434b') ? 'zchunk' : undefined;
  if (other === undefined) return 'none';
  throw cannot('read', where, `it is packed with ${other}, which is not supported`, {
    hint: 'use a repository whose metadata is packed with zstd, gzip or xz',
  });
}
