import { hostRelease, readAptConfiguration, type AptConfiguration } from './apt-config.js';
import {
  locateLocked,
  openArchive,
  type DebianArchive,
  type DecompressFile,
  type OpenPackage,
  type PackageRecord as DebianRecord,
} from './archive.js';
import { debianArchitecture, releasePackage } from './layout.js';
import { openSuites } from './open-suites.js';
import { readPins, type Pin } from './preferences.js';
import type { Release } from './release.js';
import type { Source } from './sources.js';
import { chooseSources, type ChosenSources } from './suites.js';
import type { PackageContents } from '../../package/contents.js';
import { architectures, type Architecture } from '../../support/architecture.js';
import { cannot } from '../../support/errors.js';
import { nearest } from '../../support/nearest.js';
import { shownUrl } from '../../support/url.js';
import { createFetcher, type Fetcher } from '../fetch.js';
import type { LockFile } from '../lock.js';
import { openLocked } from '../locked.js';
import type {
  LockedPackages,
  OpenedPackage,
  OriginOptions,
  PackageArchive,
  PackageOrigin,
  PackageRecord,
  RepositorySurvey,
} from '../origin.js';

export interface DebianOriginOptions extends OriginOptions {
  readonly openPackage: OpenPackage;
  readonly decompressFile: DecompressFile;
}

/** Where the Debian packages of one run come from. */
export class DebianOrigin implements PackageOrigin {
  readonly #options: DebianOriginOptions;
  readonly #opened: Promise<PackageContents>[] = [];
  readonly #archives: DebianArchive[] = [];
  readonly #releases = new Map<string, Promise<Release | undefined>>();
  #apt: Promise<AptConfiguration | undefined> | undefined;
  #fetcher: Promise<Fetcher> | undefined;
  #chosen: Promise<ChosenSources> | undefined;
  #pins: Promise<readonly Pin[]> | undefined;

  constructor(options: DebianOriginOptions) {
    this.#options = options;
  }

  async locked(lock: LockFile | undefined, architecture: Architecture): Promise<LockedPackages | undefined> {
    return openLocked(lock, architecture, {
      ...this.#options,
      family: 'debian',
      title: 'Debian',
      release: await this.wantedRelease(),
      open: async (record) => this.#open(await this.#fetch(record), record),
    });
  }

  async archive(architecture: Architecture): Promise<PackageArchive> {
    const { cache, offline, log, now, openPackage, decompressFile } = this.#options;
    const [{ release, sources }, fetcher, pins] = await Promise.all([
      this.#sources(),
      this.#connect(),
      this.#readPins(),
    ]);
    const archive = await openArchive({
      release,
      sources,
      architecture,
      fetcher,
      releases: this.#releases,
      pins,
      cache,
      offline,
      log,
      now,
      decompressFile,
      openPackage: (...of) => this.#keep(openPackage(...of)),
    });
    this.#archives.push(archive);
    return asPackageArchive(archive);
  }

  async survey(): Promise<readonly RepositorySurvey[]> {
    const [{ release, sources }, fetcher] = await Promise.all([this.#sources(), this.#connect()]);
    const { cache, offline, log, now } = this.#options;
    const suites = await openSuites(sources, {
      release,
      debian: undefined,
      fetcher,
      cache,
      offline,
      log,
      now,
    });
    return suites.map(({ source, release: { date, architectures: debian } }) => ({
      url: shownUrl(source.uri),
      suite: source.suite,
      date: new Date(date).toISOString().slice(0, 10),
      architectures: architectures.filter((name) => debian.includes(debianArchitecture(name))),
      keyring: keyringName(source),
      configuredAt: source.configuredAt,
    }));
  }

  async close(): Promise<void> {
    await Promise.all(this.#archives.map((archive) => archive.close()));
    const opened = await Promise.allSettled(this.#opened);
    await Promise.all(
      opened.flatMap((result) => (result.status === 'fulfilled' ? [result.value.close()] : [])),
    );
    await (await this.#fetcher)?.close();
  }

  async wantedRelease(): Promise<string | undefined> {
    const { suite, release } = this.#options;
    return suite ?? (release === 'host' ? await hostRelease() : release);
  }

  async #fetch(record: PackageRecord): Promise<string> {
    const cached = await this.#options.cache.find(record.sha256);
    if (cached !== undefined) return cached;
    const [{ sources }, fetcher] = await Promise.all([this.#sources(), this.#connect()]);
    return fetcher.blob(locateLocked(sources, record), {
      sha256: record.sha256,
      size: record.size,
      label: `${record.name} ${record.version}`,
    });
  }

  #open(path: string, { name, version, sha256 }: PackageRecord): Promise<PackageContents> {
    return this.#keep(this.#options.openPackage(path, sha256, `package ${name} ${version}`));
  }

  #keep(contents: Promise<PackageContents>): Promise<PackageContents> {
    this.#opened.push(contents);
    return contents;
  }

  #sources(): Promise<ChosenSources> {
    const { mirrors, keyring, log } = this.#options;
    this.#chosen ??= (async () =>
      chooseSources(
        {
          apt: await this.#hostApt(),
          hostRelease: await hostRelease(),
          suite: await this.wantedRelease(),
          mirrors,
          keyring,
        },
        log,
      ))();
    return this.#chosen;
  }

  #connect(): Promise<Fetcher> {
    const { log, environment, signal, cache, offline } = this.#options;
    this.#fetcher ??= (async () => {
      const apt = await this.#hostApt();
      return createFetcher({
        log,
        signal,
        cache,
        offline,
        environment: { ...environment, ...apt?.proxyEnvironment },
      });
    })();
    return this.#fetcher;
  }

  #readPins(): Promise<readonly Pin[]> {
    this.#pins ??= (async () => readPins((await this.#hostApt())?.preferences ?? [], this.#options.log))();
    return this.#pins;
  }

  #hostApt(): Promise<AptConfiguration | undefined> {
    const { exec, environment, log } = this.#options;
    this.#apt ??= readAptConfiguration({ exec, environment, log });
    return this.#apt;
  }
}

function keyringName({ keyring: { files, blocks }, trusted }: Source): string {
  if (trusted === true) return 'signed by nobody (trusted=yes)';
  const [first, ...others] = [...files, ...blocks.map(() => 'Signed-By')];
  if (first === undefined) return 'signed by nobody';
  return others.length === 0
    ? `signed with keys of ${first}`
    : `signed with keys of ${first} and ${others.length} more`;
}

/** The archive in the words of every family. */
function asPackageArchive(archive: DebianArchive): PackageArchive {
  const open = async (records: readonly DebianRecord[]): Promise<readonly OpenedPackage[]> => {
    const opened = await archive.open(records);
    return records.flatMap((record, index) => {
      const contents = opened[index];
      return contents === undefined ? [] : [{ record, contents }];
    });
  };
  return {
    release: archive.release,
    architecture: archive.architecture,
    // Where the links of a merged /usr lead is the same in every release.
    layout: [],
    releasePackages: () => Promise.resolve([releasePackage]),
    select: async (names) => open(names.map((name) => archive.find(name) ?? missing(name, archive))),
    provide: async (request) => {
      const provider = await archive.provider(request);
      if (provider === undefined) return undefined;
      const [opened] = await open([provider.record]);
      return opened === undefined ? undefined : { ...opened, explanation: provider.explanation };
    },
  };
}

function missing(name: string, archive: DebianArchive): never {
  const { release, architecture } = archive;
  const close = nearest(name, archive.similar(name));
  const meant = close === undefined ? '' : ` (did you mean ${close}?)`;
  throw cannot('find', `package ${name}`, `${release} has none of that name for ${architecture}`, {
    hint: `choose another release with --suite, or correct packages in the definition${meant}`,
  });
}
