import { readFile } from 'node:fs/promises';
import { join } from 'node:path';

/** The architectures that the stand-in can be built for, and what each is called elsewhere. */
export const standInArchitectures = ['x86_64', 'aarch64'] as const;
export type StandInArchitecture = (typeof standInArchitectures)[number];

/** Repositories under the names that Fedora's mirror manager knows them by, `45` being the release. */
export const repositoryNames = ['fedora', 'updates-released'] as const;
export type RepositoryName = (typeof repositoryNames)[number];

/** What one built stand-in holds: the content of its `stand-in.json`. */
export interface StandInDescription {
  /** What it was built from, as a hash: the same key stands for the same packages. */
  readonly key: string;
  readonly release: number;
  readonly architectures: readonly StandInArchitecture[];
  readonly keys: {
    /** Signs everything but what `second` signs: RSA 4096, as Fedora's. */
    readonly first: StandInKey;
    /** Signs the dhcp-relay of updates: Ed25519. */
    readonly second: StandInKey;
  };
  readonly packages: readonly StandInPackage[];
}

interface StandInKey {
  /** Path of the armoured public key, relative to the root. */
  readonly file: string;
  /** Upper-case fingerprint of the primary key. */
  readonly fingerprint: string;
}

export interface StandInPackage {
  readonly repository: RepositoryName;
  /** Of the repository; the package itself may be noarch or i686. */
  readonly architecture: StandInArchitecture;
  /** As `rpm -q` prints it with `%{NEVRA}`: the epoch only where there is one. */
  readonly nevra: string;
  /** Relative to the root. */
  readonly file: string;
  readonly signedBy: 'first' | 'second';
}

/** File name of the description within the root. */
export const descriptionName = 'stand-in.json';

/** @returns undefined where no stand-in has been finished */
export async function readDescription(root: string): Promise<StandInDescription | undefined> {
  const text = await readFile(join(root, descriptionName), 'utf8').catch(() => undefined);
  // Written by this program alone, last of all and by rename.
  return text === undefined ? undefined : (JSON.parse(text) as StandInDescription);
}

/** Directory of a repository relative to the root of a mirror, which is `pub` on Fedora's own. */
export function repositoryPath(
  name: RepositoryName,
  release: number,
  architecture: StandInArchitecture,
): string {
  return name === 'fedora'
    ? `fedora/linux/releases/${release}/Everything/${architecture}/os`
    : `fedora/linux/updates/${release}/Everything/${architecture}`;
}
