import type { Family, FamilyPackage, FedoraPackage, ImageDefinition } from './definition/definition.js';
import type { PackageContents } from './package/contents.js';
import { debianLoader, mergedUsr } from './repository/debian/layout.js';
import { directoryLinks, fedoraLoader, layoutPackages } from './repository/fedora/layout.js';
import type { FedoraOrigin } from './repository/fedora/origin.js';
import type { OriginOptions, PackageOrigin } from './repository/origin.js';
import { familyOfSystem, readOsRelease } from './repository/os-release.js';
import type { Architecture } from './support/architecture.js';
import { cannot } from './support/errors.js';

/** `auto` is the family of the host. */
export type FamilyChoice = Family | 'auto';

/** What the pipeline needs to know of one distribution family. */
export interface FamilySupport {
  readonly family: Family;
  /** What the definition says of the family. */
  readonly package: FamilyPackage;
  /** Loads what the family needs: nobody waits for the other one's. */
  origin(options: Omit<OriginOptions, 'release'>): Promise<PackageOrigin>;
  /** Names of packages that are always there, whether a file of theirs is needed or not: what makes the layout. */
  readonly layoutPackages: readonly string[];
  /** Directory links of the layout, such as `lib` to `usr/lib`. */
  directoryLinks(packages: readonly PackageContents[]): ReadonlyMap<string, string>;
  /** Where the family's dynamic loader searches; the fields are those of elf/closure.ts `LoaderConfig`. */
  loader(architecture: Architecture): { readonly builtIn: readonly string[]; readonly lib: string };
}

/**
 * The family to build from.
 *
 * @throws ToolError with exit code 2 when the definition has no package of it
 */
export async function chooseFamily(
  choice: FamilyChoice,
  { name, packages }: ImageDefinition,
): Promise<FamilySupport> {
  const { fedora, debian } = packages;
  const family = choice === 'auto' ? await automatic(packages) : choice;
  if (family === 'fedora' && fedora !== undefined) {
    return {
      family,
      package: fedora,
      origin: (options) => fedoraOrigin(fedora, options),
      layoutPackages,
      directoryLinks,
      loader: fedoraLoader,
    };
  }
  if (family === 'debian' && debian !== undefined) {
    return {
      family,
      package: debian,
      origin: async (options) => {
        const [{ DebianOrigin }, { openDeb }, { decompressFile }] = await Promise.all([
          import('./repository/debian/origin.js'),
          import('./package/deb.js'),
          import('./package/decompress.js'),
        ]);
        return new DebianOrigin({
          ...options,
          release: debian.release,
          decompressFile,
          openPackage: (path, sha256, name) => openDeb(path, sha256, options.cache, { name }),
        });
      },
      layoutPackages: [],
      directoryLinks: () => mergedUsr,
      loader: debianLoader,
    };
  }
  throw cannot(
    'build',
    name,
    `the definition names no ${family === 'fedora' ? 'Fedora' : 'Debian'} package`,
    {
      hint: `add ${family} under packages, or choose another family with --distro`,
      exitCode: 2,
    },
  );
}

/**
 * What an image upon a base installs: the base's package manager is one of Fedora's family.
 *
 * @throws ToolError with exit code 2 when another family was chosen, or the definition has no package of this one
 */
export function packageUponBase(choice: FamilyChoice, { name, packages }: ImageDefinition): FedoraPackage {
  const reason = 'an image upon a base is made of Fedora packages';
  if (choice === 'debian') throw cannot('build', name, reason, { hint: 'leave --distro out', exitCode: 2 });
  if (packages.fedora !== undefined) return packages.fedora;
  throw cannot('build', name, reason, { hint: 'add fedora under packages in the definition', exitCode: 2 });
}

export async function fedoraOrigin(
  { release, keys, prefer }: FedoraPackage,
  options: Omit<OriginOptions, 'release'>,
): Promise<FedoraOrigin> {
  const [{ FedoraOrigin }, { openRpm }, { decompressFile }] = await Promise.all([
    import('./repository/fedora/origin.js'),
    import('./package/rpm.js'),
    import('./package/decompress.js'),
  ]);
  return new FedoraOrigin({
    ...options,
    release,
    pinned: keys,
    prefer,
    decompressFile,
    openPackage: (path, sha256, keys, name) => openRpm(path, sha256, options.cache, keys, { name }),
  });
}

/** The host's family; Fedora elsewhere; and the only one there is when the definition has no choice. */
async function automatic(packages: ImageDefinition['packages']): Promise<Family> {
  if (packages.fedora === undefined) return 'debian';
  if (packages.debian === undefined) return 'fedora';
  return familyOfSystem(await readOsRelease()) ?? 'fedora';
}
