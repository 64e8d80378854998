import type { Architecture } from '../../support/architecture.js';
import type { Cache } from '../../support/cache.js';
import { cannot, ToolError } from '../../support/errors.js';
import type { Log } from '../../support/log.js';
import { shownUrl } from '../../support/url.js';
import type { Fetcher } from '../fetch.js';
import { baseArchitecture } from './layout.js';
import { locate } from './location.js';
import { plainSource, type RpmSource } from './source.js';
import { readYumRepositories } from './yum-repos.js';

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
  /** Directory that stands for `/`, with the host's /etc/yum.repos.d. */
  readonly root: string;
}

/** Fedora's list of mirrors. */
const metalink = 'https://mirrors.fedoraproject.org/metalink';

/**
 * The repositories to take packages from: those of `--mirror`, else those of the host, else Fedora's release and its
 * updates, which keep the names of Fedora's own .repo files.
 *
 * @throws ToolError with exit code 2 when a mirror is none
 */
export async function chooseRpmSources(choice: SourceChoice): Promise<readonly RpmSource[]> {
  if (choice.mirrors.length > 0) return mirrorSources(choice);
  const configured = await readYumRepositories(choice);
  if (configured.length > 0) return configured;
  return metalinkSources(metalink, choice, 'the release of the definition');
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

function metalinkSources(url: string, choice: SourceChoice, configuredAt: string): readonly RpmSource[] {
  return placesOf(choice).map(({ id, repo }) => {
    const query = new URLSearchParams({ repo, arch: baseArchitecture(choice.architecture) });
    return {
      ...plainSource,
      id,
      bases: [],
      metalink: `${url}?${query.toString()}`,
      mirrorlist: undefined,
      configuredAt,
    };
  });
}

/**
 * A mirror is one of three things: a list of mirrors (`.../metalink`), one repository (it has repodata/), or the top of
 * a tree that is laid out like Fedora's. Several trees are mirrors of the same; several of the others complete each
 * other.
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
    // What it is asked for follows from the release and the architecture.
    const list = /^([^?]*\/metalink)(?:\?.*)?\/?$/.exec(mirror)?.[1];
    if (list !== undefined) {
      lists.push(...metalinkSources(list, choice, '--mirror'));
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
