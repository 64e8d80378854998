import { createHash } from 'node:crypto';
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { $ } from 'zx';
import { finishDirectory, takePlaces } from '../../support/atomic.js';
import { cannot } from '../../support/errors.js';
import { Semaphore } from '../../support/semaphore.js';
import { choosePackages, fetchPackages, identityOf } from './debian.js';
import { modulesDocument } from './decoys.js';
import {
  descriptionName,
  readDescription,
  repositoryNames,
  repositoryPath,
  type RepositoryName,
  type StandInArchitecture,
  type StandInDescription,
  type StandInPackage,
} from './description.js';
import { packagePath, writeRepository } from './repository.js';
import { buildPackages } from './rpmbuild.js';
import { makeKeys, type KeyName, type Signer } from './signing.js';
import { sourcesFor, type PlacedSource } from './sources.js';

export interface StandInRequest {
  readonly release: number;
  /** At least one, in the order in which they are built. */
  readonly architectures: readonly StandInArchitecture[];
  readonly say: (text: string) => void;
}

/**
 * When everything was built, in seconds since the epoch: long past on every machine, and never the time of day, so
 * that the same files give the same packages but for their signatures.
 */
const built: Readonly<Record<RepositoryName, number>> = {
  fedora: 1_700_000_000,
  'updates-released': 1_710_000_000,
};
const day = 24 * 60 * 60;

/**
 * What the repositories were like before, for mirrors that lag behind: on `previous` the metalink still gives the
 * hash, on `ancient` no more. `without` are packages that came later.
 */
const generations = [
  { directory: 'pub', age: 0, without: [] },
  { directory: 'older/previous', age: day, without: ['dhcp-server', 'dhcp-common'] },
  { directory: 'older/ancient', age: 7 * day, without: ['dhcp-server', 'dhcp-common', 'dhcp-relay'] },
] as const;

/** @returns a hash over what a stand-in is made from: Debian's packages, this program and the request */
export async function keyOf(request: StandInRequest): Promise<string> {
  const hash = createHash('sha256');
  const { release, architectures } = request;
  const rpm = await $({ quiet: true })`rpmbuild --version`;
  const identity = await identityOf(await choosePackages());
  hash.update(JSON.stringify([release, architectures, identity, rpm.stdout]));
  for (const name of (await readdir(import.meta.dirname)).sort()) {
    if (name.endsWith('.js')) hash.update(await readFile(join(import.meta.dirname, name)));
  }
  return hash.digest('hex');
}

/**
 * Builds the stand-in as a whole or not at all. What stands there from the same key stays.
 *
 * @param root the directory that it becomes
 * @throws ToolError
 */
export async function buildStandIn(root: string, key: string, request: StandInRequest): Promise<void> {
  const before = await readDescription(root);
  if (before?.key === key) return;
  const names = await readdir(root).catch(() => []);
  if (before === undefined && names.length > 0) {
    throw cannot('write', root, 'there is something in it that is no stand-in', {
      hint: 'choose another directory with --output',
    });
  }
  await mkdir(dirname(root), { recursive: true });
  await takePlaces([await finishDirectory(root, (aside) => fill(aside, key, request))]);
}

async function fill(root: string, key: string, request: StandInRequest): Promise<void> {
  const { release, architectures, say } = request;
  const work = join(root, 'work');
  await mkdir(work);
  const names = await choosePackages();
  const signing = makeKeys();
  // Looked at when it is needed; until then a failure waits.
  signing.catch(() => undefined);
  try {
    say(`fetching ${names.length} packages of Debian for ${architectures.join(' and ')}`);
    const sources = await Promise.all(
      architectures.map(async (architecture) => {
        const own = join(work, architecture);
        const debian = await fetchPackages(names, architecture, own);
        return { architecture, sources: await sourcesFor(architecture, release, debian, join(own, 'made')) };
      }),
    );
    say(`building ${sources.reduce((sum, each) => sum + each.sources.length, 0)} sources`);
    const packages = await buildAll(sources, work);
    const signer = await signing;
    say(`signing ${new Set(packages.map(({ path }) => path)).size} packages`);
    await signAll(signer, packages);
    const described = await writeRepositories(root, work, request, packages);
    const keys = {
      first: { file: 'RPM-GPG-KEY-stand-in', fingerprint: signer.fingerprints.first },
      second: { file: 'RPM-GPG-KEY-stand-in-second', fingerprint: signer.fingerprints.second },
    };
    for (const name of ['first', 'second'] as const) {
      await signer.writePublicKey(name, join(root, keys[name].file));
    }
    const description: StandInDescription = { key, release, architectures, keys, packages: described };
    await writeFile(join(root, descriptionName), `${JSON.stringify(description, undefined, 2)}\n`);
  } finally {
    await signing.then((signer) => signer.close()).catch(() => undefined);
  }
  await rm(work, { recursive: true });
}

interface BuiltPackage {
  readonly architecture: StandInArchitecture;
  readonly repository: RepositoryName;
  readonly signedBy: KeyName;
  readonly path: string;
}

/** Packages without an architecture are built for the first one alone, and are the same file for all. */
async function buildAll(
  all: readonly { readonly architecture: StandInArchitecture; readonly sources: readonly PlacedSource[] }[],
  work: string,
): Promise<readonly BuiltPackage[]> {
  const limit = new Semaphore(availableParallelism());
  const jobs = all.flatMap(({ architecture, sources }) =>
    sources.map((placed, index) => ({
      ...placed,
      architecture,
      own: join(work, architecture, 'build', String(index)),
    })),
  );
  const shared = new Map<string, Promise<readonly string[]>>();
  const results = await Promise.all(
    jobs.map(async ({ source, repository, signedBy, architecture, own }) => {
      const same = `${source.name} ${source.release}`;
      const building =
        (source.target === 'noarch' ? shared.get(same) : undefined) ??
        limit.run(() => buildPackages(source, own, built[repository]));
      shared.set(same, building);
      return (await building).map((path): BuiltPackage => ({ architecture, repository, signedBy, path }));
    }),
  );
  // Parts without an architecture of sources that have one.
  const first = new Map<string, string>();
  return results.flat().map((each) => {
    if (!each.path.endsWith('.noarch.rpm')) return each;
    const name = `${each.repository} ${basename(each.path)}`;
    const path = first.get(name) ?? each.path;
    first.set(name, path);
    return { ...each, path };
  });
}

async function signAll(signer: Signer, packages: readonly BuiltPackage[]): Promise<void> {
  const parts = availableParallelism();
  for (const key of ['first', 'second'] as const) {
    const paths = [...new Set(packages.flatMap(({ signedBy, path }) => (signedBy === key ? [path] : [])))];
    await Promise.all(
      Array.from({ length: Math.min(parts, paths.length) }, (_, part) =>
        signer.sign(
          key,
          paths.filter((__, index) => index % parts === part),
        ),
      ),
    );
  }
}

async function writeRepositories(
  root: string,
  work: string,
  { release, architectures }: StandInRequest,
  packages: readonly BuiltPackage[],
): Promise<readonly StandInPackage[]> {
  const described: StandInPackage[] = [];
  for (const architecture of architectures) {
    for (const repository of repositoryNames) {
      const own = packages.filter(
        (each) => each.architecture === architecture && each.repository === repository,
      );
      const paths = own.map(({ path }) => path);
      const queryFormat = '%{NAME} %{NEVRA}\\n';
      const { stdout } = await $({ quiet: true })`rpm -qp --nosignature --qf ${queryFormat} ${paths}`;
      const identities = stdout.trimEnd().split('\n');
      const where = repositoryPath(repository, release, architecture);
      for (const { directory, age, without } of generations) {
        const scratch = join(work, `repository-${described.length}-${age}`);
        await mkdir(scratch);
        const left: readonly string[] = repository === 'fedora' ? [] : without;
        await writeRepository({
          directory: join(root, directory, where),
          packages: paths.filter((_, index) => !left.includes((identities[index] ?? '').split(' ')[0] ?? '')),
          revision: built[repository] + 10 * day - age,
          modules: repository === 'fedora' ? modulesDocument(architecture, release) : undefined,
          work: scratch,
        });
      }
      own.forEach(({ path, signedBy }, index) => {
        const nevra = (identities[index] ?? '').split(' ')[1] ?? '';
        described.push({
          repository,
          architecture,
          nevra,
          file: join('pub', where, packagePath(path)),
          signedBy,
        });
      });
    }
  }
  return described;
}
