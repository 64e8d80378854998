import type { Architecture } from '../../support/architecture.js';
import type { Cache } from '../../support/cache.js';
import { cannot, ToolError } from '../../support/errors.js';
import type { Log } from '../../support/log.js';
import { shownUrl } from '../../support/url.js';
import type { Fetcher } from '../fetch.js';
import { isEnterprise, isRawhide, readOsRelease, type OsRelease } from '../os-release.js';
import { baseArchitecture } from './layout.js';
import { locate } from './location.js';
import { plainSource, type RpmSource } from './source.js';
import { readMainOptions, readYumRepositories } from './yum-repos.js';

export interface SourceChoice {
  /** Such as `45`. */
  readonly release: string;
  readonly architecture: Architecture;
  /** `--mirror`: URLs that end in `/`; none: the repositories of the host, or Fedora's own. */
  readonly mirrors: readonly string[];
  readonly connect: () => Promise<Fetcher>;
  readonly offline: boolean;
  readonly cache: Cache;
  readonly log: Log;
  readonly signal: AbortSignal;
  /** Directory that stands for `/`, with the host's os-release and configuration of dnf. */
  readonly root: string;
}

/** Fedora's list of mirrors. */
const metalink = 'https://mirrors.fedoraproject.org/metalink';
/** Of the two, one is enabled wherever dnf can install Fedora's packages; the names are Fedora's own. */
const essential: readonly string[] = ['fedora', 'rawhide'];

/**
 * The repositories to take packages from: those of `--mirror`, else those of a host of that very release, else Fedora's
 * release and its updates, which keep the names of Fedora's own .repo files.
 *
 * @throws ToolError with exit code 2 when a mirror is none, or the host's distribution has none enabled
 */
export async function chooseRpmSources(choice: SourceChoice): Promise<readonly RpmSource[]> {
  if (choice.mirrors.length > 0) return mirrorSources(choice);
  const host = await readOsRelease(`${choice.root}/etc/os-release`);
  const release = releaseOfHost(host, choice.release);
  if (release === undefined) {
    // Fedora's mirrors are behind the same proxy as all else.
    await readMainOptions(choice.root, choice.log);
    return fedoraSources(choice, `this host is ${titleOf(host)}, not ${nameOfFedora(choice.release)}`);
  }
  const { sources, known } = await readYumRepositories({ ...choice, release });
  if (isEnterprise(host)) return sources.length > 0 ? sources : noneEnabled(host);
  // Who has disabled Fedora's own and enabled another means that one.
  if (sources.length > 0 && essential.some((id) => known.has(id))) return sources;
  return fedoraSources(
    { ...choice, release },
    sources.length === 0
      ? 'no repository is enabled on this host'
      : `no repository of this host is named ${essential.join(' or ')}`,
  );
}

/**
 * What `$releasever` is on a host whose own repositories have the packages of a release.
 *
 * @returns undefined for a host of another release or distribution
 */
function releaseOfHost(host: OsRelease, wanted: string): string | undefined {
  const version = host.get('VERSION_ID') ?? '';
  if (isEnterprise(host)) {
    const major = version.split('.')[0] ?? '';
    return major !== '' && [version, major].includes(wanted) ? major : undefined;
  }
  if (host.get('ID') !== 'fedora') return undefined;
  if (isRawhide(host)) return ['rawhide', version].includes(wanted) ? 'rawhide' : undefined;
  return version === wanted ? version : undefined;
}

function fedoraSources(choice: SourceChoice, reason: string): readonly RpmSource[] {
  choice.log.info(
    `taking packages of ${nameOfFedora(choice.release)} for ${choice.architecture} from Fedora's mirrors: ${reason}; --mirror URL names others`,
  );
  return listedSources({ metalink }, choice, 'the release of the definition or --suite');
}

function nameOfFedora(release: string): string {
  return release === 'rawhide' ? 'Fedora Rawhide' : `Fedora ${release}`;
}

function titleOf(host: OsRelease): string {
  const version = host.get('VERSION_ID') ?? '';
  const name = host.get('NAME') ?? host.get('ID') ?? 'no system that says its name';
  return isRawhide(host) ? 'Fedora Rawhide' : `${name} ${version}`.trim();
}

function noneEnabled(host: OsRelease): never {
  throw cannot('choose', `repositories of ${titleOf(host)}`, 'none is enabled on this host', {
    hint: 'enable one in /etc/yum.repos.d, or name one with --mirror URL',
    exitCode: 2,
  });
}

interface Place {
  readonly id: 'fedora' | 'updates' | 'rawhide';
  /** The repository's name for the list of mirrors. */
  readonly repo: string;
  /** Its directory below the top of a mirror, with a slash at the end. */
  readonly directory: string;
}

function placesOf({ release, architecture }: SourceChoice): readonly Place[] {
  const base = baseArchitecture(architecture);
  if (release === 'rawhide')
    return [{ id: 'rawhide', repo: 'rawhide', directory: `development/rawhide/Everything/${base}/os/` }];
  return [
    { id: 'fedora', repo: `fedora-${release}`, directory: `releases/${release}/Everything/${base}/os/` },
    {
      id: 'updates',
      repo: `updates-released-f${release}`,
      directory: `updates/${release}/Everything/${base}/`,
    },
  ];
}

/** The lists that Fedora's mirror manager makes: with hashes, and without. */
type ListUrl = { readonly metalink: string } | { readonly mirrorlist: string };

function listedSources(list: ListUrl, choice: SourceChoice, configuredAt: string): readonly RpmSource[] {
  return placesOf(choice).map(({ id, repo }) => {
    const query = new URLSearchParams({ repo, arch: baseArchitecture(choice.architecture) }).toString();
    return {
      ...plainSource,
      id,
      bases: [],
      metalink: 'metalink' in list ? `${list.metalink}?${query}` : undefined,
      mirrorlist: 'mirrorlist' in list ? `${list.mirrorlist}?${query}` : undefined,
      configuredAt,
    };
  });
}

/**
 * A mirror is one of three things: a list of mirrors (`.../metalink` or `.../mirrorlist`), one repository (it has
 * repodata/), or the top of a tree that is laid out like Fedora's. Several trees are mirrors of the same; several of the
 * others complete each other.
 */
async function mirrorSources(choice: SourceChoice): Promise<readonly RpmSource[]> {
  const lists: RpmSource[] = [];
  const single: string[] = [];
  const trees: string[] = [];
  const dead: ToolError[] = [];
  for (const written of choice.mirrors) {
    const mirror = written
      .replaceAll('$releasever', choice.release)
      .replaceAll('$basearch', baseArchitecture(choice.architecture));
    const list = listOf(mirror, choice);
    if (list !== undefined) {
      lists.push(...listedSources(list, choice, '--mirror'));
      continue;
    }
    const kind = await kindOf(mirror, choice).catch((error: unknown) => {
      if (error instanceof ToolError) return error;
      throw error;
    });
    if (kind instanceof ToolError) dead.push(kind);
    else (kind === 'repository' ? single : trees).push(mirror);
  }
  // The trees are mirrors of the same: it takes one of them.
  const [tree] = trees;
  for (const failure of dead) {
    if (tree === undefined || choice.signal.aborted) throw failure;
    choice.log.warn(`${failure.message}; trying ${shownUrl(tree)}`);
  }
  const listed = { ...plainSource, metalink: undefined, mirrorlist: undefined, configuredAt: '--mirror' };
  return [
    ...lists,
    ...single.map((mirror, index) => ({
      ...listed,
      id: index === 0 ? 'mirror' : `mirror-${index + 1}`,
      bases: [mirror],
    })),
    ...(trees.length === 0
      ? []
      : placesOf(choice).map(({ id, directory }) => ({
          ...listed,
          id,
          bases: trees.map((tree) => locate(tree, directory)),
        }))),
  ];
}

/** What a list of mirrors is asked for follows from the release and the architecture: updates must not be missing. */
function listOf(mirror: string, { log }: SourceChoice): ListUrl | undefined {
  const [, url, kind, query] = /^([^?]*\/(metalink|mirrorlist))\/?(?:\?(.*?)\/?)?$/.exec(mirror) ?? [];
  if (url === undefined) return undefined;
  if (query !== undefined && query !== '')
    log.info(
      `${shownUrl(url)} is asked for the release and its updates, whatever the query of --mirror says`,
    );
  return kind === 'metalink' ? { metalink: url } : { mirrorlist: url };
}

/** Kind of the cache records that hold what a mirror is, for a run without the network. */
const mirrorRecords = 'rpm-mirror';
/** Bytes; a document that is larger is no repomd.xml. */
const repomdLimit = 1024 ** 2;

async function kindOf(
  mirror: string,
  { connect, offline, cache, log }: SourceChoice,
): Promise<'repository' | 'tree'> {
  if (offline && !mirror.startsWith('file:')) {
    const known = await cache.readRecord(mirrorRecords, shownUrl(mirror));
    return known === '"repository"' ? 'repository' : 'tree';
  }
  const document = await (await connect()).document(locate(mirror, 'repodata/repomd.xml'), repomdLimit);
  const kind = document === undefined ? 'tree' : 'repository';
  log.debug(`${shownUrl(mirror)} is taken for a ${kind}`);
  await cache.writeRecord(mirrorRecords, shownUrl(mirror), JSON.stringify(kind));
  return kind;
}

/**
 * A release as the definition's schema lets it be: it becomes a part of URLs.
 *
 * @param where it was named
 * @throws ToolError with exit code 2
 */
export function checkedRelease(release: string, where: string): string {
  if (/^(?:rawhide|[1-9][0-9]{0,3}(?:[.-][a-z0-9]+)*)$/.test(release)) return release;
  throw cannot(
    'choose',
    `the Fedora release ${JSON.stringify(release)} of ${where}`,
    'it is neither a number nor rawhide',
    { hint: 'name one with --suite, such as --suite 45', exitCode: 2 },
  );
}

/** @throws ToolError with exit code 2: no release was named, and the host is no Fedora */
export function noRelease(): never {
  throw cannot('choose', 'packages of Fedora', 'no release is named, and this host is no Fedora', {
    hint: 'name one with --suite, such as --suite 45, or as release under packages.fedora in the definition',
    exitCode: 2,
  });
}
