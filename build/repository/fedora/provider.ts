import type { PackageContents } from '../../package/contents.js';
import type { Architecture } from '../../support/architecture.js';
import { cannot } from '../../support/errors.js';
import type { ProviderRequest } from '../origin.js';
import { sonameCapability } from './layout.js';

/** A package of an index, as far as choosing is concerned. */
export interface Candidate {
  readonly name: string;
  /** Names of what it requires, as written; no versions. */
  readonly requires: readonly string[];
}

/** What choosing asks of the repositories: always the one version of each package that counts. */
export interface CandidateIndex<One extends Candidate> {
  find(name: string): One | undefined;
  /** Packages that provide a capability such as `libc.so.6()(64bit)`. */
  providers(capability: string): readonly One[];
  /** Packages that own one of these absolute paths. */
  owners(paths: readonly string[]): Promise<readonly One[]>;
}

export interface ProviderOptions<One extends Candidate> {
  readonly index: CandidateIndex<One>;
  readonly architecture: Architecture;
  /** Packages of the definition's `prefer`. */
  readonly prefer: readonly string[];
  /** Whether a package has been taken already. */
  readonly isTaken: (candidate: One) => boolean;
  readonly open: (candidate: One) => Promise<PackageContents>;
}

export interface Choice<One extends Candidate> {
  readonly candidate: One;
  /** One line: why this package and not another. */
  readonly explanation: string;
}

/** Packages that may be fetched to see which of them holds a library. */
const mostOpened = 8;

/**
 * The package that provides a library. What packages say they provide decides, then the paths they own. Where several
 * do: those that the definition prefers, those that the needing package or the root package requires by
 * name, and those that really hold the file where the loader searches.
 *
 * @returns undefined when no package provides it
 * @throws ToolError when several are left: which of them it is nobody has said
 */
export async function chooseProvider<One extends Candidate>(
  request: ProviderRequest,
  options: ProviderOptions<One>,
): Promise<Choice<One> | undefined> {
  const { soname, directories } = request;
  const { index, architecture, isTaken } = options;
  const capability = sonameCapability(soname, architecture);
  const stated = byName(index.providers(capability));
  const found =
    stated.length > 0
      ? stated
      : byName(await index.owners(directories.flatMap((path) => spellings(`${path}/${soname}`))));
  // It is asked only for what no package in hand has where the loader searches.
  const untaken = found.filter((candidate) => !isTaken(candidate));
  const candidates = untaken.length > 0 ? untaken : found;
  const says = stated.length > 0 ? `provides ${capability}` : `holds ${soname}`;
  const [only] = candidates;
  if (only === undefined) return undefined;
  if (candidates.length === 1) return { candidate: only, explanation: `${only.name} alone ${says}` };
  return (
    preferred(candidates, options) ??
    required(candidates, request, options) ??
    (await holder(candidates, request, options))
  );
}

/** Two spellings of one path where `/lib64` is `/usr/lib64`. */
function spellings(path: string): readonly string[] {
  return path.startsWith('usr/') ? [`/${path}`, `/${path.slice(4)}`] : [`/${path}`, `/usr/${path}`];
}

/** One record of each name, in the order of names. */
function byName<One extends Candidate>(candidates: readonly One[]): readonly One[] {
  const names = new Map(candidates.map((candidate) => [candidate.name, candidate]));
  return [...names.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
}

function preferred<One extends Candidate>(
  candidates: readonly One[],
  { prefer }: ProviderOptions<One>,
): Choice<One> | undefined {
  for (const name of prefer) {
    const candidate = candidates.find((one) => one.name === name);
    if (candidate !== undefined) return { candidate, explanation: `the definition prefers ${name}` };
  }
  return undefined;
}

/** The one that the needing package, or else the root package, requires by its name. */
function required<One extends Candidate>(
  candidates: readonly One[],
  { neededBy, root }: ProviderRequest,
  { index }: ProviderOptions<One>,
): Choice<One> | undefined {
  for (const name of new Set([neededBy, root])) {
    const requires = index.find(name)?.requires ?? [];
    const named = candidates.filter((candidate) => requires.includes(candidate.name));
    const [candidate] = named;
    if (candidate !== undefined && named.length === 1) {
      return { candidate, explanation: `${name} requires ${candidate.name}` };
    }
  }
  return undefined;
}

/** The one that really has the file where the loader searches. */
async function holder<One extends Candidate>(
  candidates: readonly One[],
  { soname, directories }: ProviderRequest,
  { open }: ProviderOptions<One>,
): Promise<Choice<One>> {
  const places = new Set(directories.flatMap((path) => spellings(`${path}/${soname}`)));
  const holders: One[] = [];
  for (const candidate of candidates.slice(0, mostOpened)) {
    const { entries } = await open(candidate);
    if (entries.some(({ path }) => places.has(`/${path}`))) holders.push(candidate);
  }
  const left = holders.length > 0 ? holders : candidates;
  const [candidate] = left;
  if (candidate !== undefined && left.length === 1) {
    return { candidate, explanation: `${candidate.name} alone has it where the loader searches` };
  }
  throw cannot(
    'choose',
    `the package of ${soname}`,
    `${listOf(left.map(({ name }) => name))} all provide it`,
    { hint: 'name one of them under packages.fedora.prefer in the definition' },
  );
}

function listOf(names: readonly string[]): string {
  return `${names.slice(0, -1).join(', ')} and ${names.at(-1) ?? ''}`;
}
