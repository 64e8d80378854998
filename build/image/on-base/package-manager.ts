import { cannot } from '../../support/errors.js';
import { shell, type Container } from './container.js';
import { commandFailure } from './failure.js';
import { compareBytes } from '../../support/order.js';

/** A package as rpm names it: name, version and architecture are its NEVRA. */
export interface InstalledPackage {
  readonly name: string;
  /** `EPOCH:VERSION-RELEASE`, without the epoch where it has none. */
  readonly version: string;
  readonly architecture: string;
}

/** A repository to install from in place of the base's own. */
export interface BaseRepository {
  /** `[A-Za-z0-9_.:-]+`. */
  readonly id: string;
  /** Mirrors of one repository, in the order they are tried. */
  readonly urls: readonly string[];
}

/** Repositories in place of the base's own, and the armoured public keys that must have signed their packages. */
export interface BaseSources {
  readonly repositories: readonly BaseRepository[];
  readonly keys: string;
}

export interface Installation {
  readonly package: string;
  /** Such as `45`; undefined for the base's own. */
  readonly release: string | undefined;
  /** Directory in the container that holds a file of repositories; undefined for the base's own. */
  readonly repositories: string | undefined;
  /** Whether a repository is served by this machine to itself alone. */
  readonly hostNetwork: boolean;
}

/** Newest first: what a base of Fedora or of its relatives installs with. */
const managers = ['dnf5', 'dnf', 'microdnf'];

/** Path of the base's package manager in the container. @throws ToolError when it has none */
export async function findPackageManager(container: Container, base: string): Promise<string> {
  const hint = `choose a base that has a shell, rpm and one of ${managers.join(', ')}`;
  const script = 'command -v rpm >&2 || exit 0; for name; do command -v "$name" && exit 0; done; exit 0';
  try {
    const path = await container.read(shell(script, managers));
    if (path !== '') return path;
  } catch (error) {
    throw commandFailure(error, 'install packages in', base, () => ({ hint }));
  }
  throw cannot('install packages in', base, 'it has no package manager', { hint });
}

/** Installs a package and what it requires, signatures checked; nothing that is only recommended, no documentation. */
export async function install(container: Container, manager: string, wanted: Installation): Promise<void> {
  const argv = [
    ...[manager, '-y'],
    ...(wanted.release === undefined ? [] : [`--releasever=${wanted.release}`]),
    ...(wanted.repositories === undefined ? [] : [`--setopt=reposdir=${wanted.repositories}`]),
    ...['--setopt=install_weak_deps=0', '--setopt=tsflags=nodocs'],
    // The old microdnf refuses options of repositories; there, what their files say holds.
    ...(manager.endsWith('/microdnf') ? [] : ['--setopt=gpgcheck=1', '--setopt=*.gpgcheck=1']),
    ...['install', wanted.package],
  ];
  try {
    await container.run(argv, wanted);
  } catch (error) {
    throw commandFailure(error, 'install', wanted.package, (said) => {
      if (/No match for argument|Unable to find a match|No package .* available/i.test(said)) {
        return {
          reason: `the repositories have no package ${wanted.package}`,
          hint: 'correct its name or release under packages in the definition, or choose another mirror with --mirror',
        };
      }
      return { hint: 'try again, or choose another mirror with --mirror' };
    });
  }
}

/** A file of repositories, dnf.conf(5), for `directory`. */
export function repositoryFile({ repositories }: BaseSources, keyFile: string): string {
  return repositories
    .map(({ id, urls }) => {
      for (const text of [id, ...urls]) {
        // A line break would begin another setting.
        if (!/^[!-~]+$/.test(text) || !/^[A-Za-z0-9_.:-]+$/.test(id)) {
          throw cannot(
            'use',
            `repository ${JSON.stringify(text)}`,
            'it holds what no file of repositories can',
            {
              exitCode: 2,
            },
          );
        }
      }
      return [
        ...[`[${id}]`, `name=${id}`, `baseurl=${urls.join(' ')}`, 'enabled=1', 'gpgcheck=1'],
        `gpgkey=file://${keyFile}`,
      ];
    })
    .map((lines) => `${lines.join('\n')}\n`)
    .join('\n');
}

/** What `readPackageLines` reads first, for `rpm --qf`. */
export const packageFields = ['%{NAME}', '%|EPOCH?{%{EPOCH}:}|%{VERSION}-%{RELEASE}', '%{ARCH}'].join('\\t');

/** Every package of rpm's database, by name. */
export async function installedPackages(container: Container): Promise<readonly InstalledPackage[]> {
  const answer = await container.read(['rpm', '-qa', '--qf', `${packageFields}\\n`]);
  return readPackages(answer)
    .filter((found) => !isKey(found))
    .sort((a, b) => compareBytes(a.name, b.name) || compareBytes(a.version, b.version));
}

/** What rpm knows of an installed package. */
export interface PackageFacts {
  /** As in `InstalledPackage`. */
  readonly version: string;
  /** When it was built, seconds since the epoch. */
  readonly built: number;
  /** Absolute paths of its executable files. */
  readonly programs: readonly string[];
}

/** @throws ToolError */
export async function packageFacts(container: Container, name: string): Promise<PackageFacts> {
  const format = `${packageFields}\\n%{BUILDTIME}\\n[%{FILEMODES:octal} %{FILENAMES}\\n]`;
  const answer = await container.read(['rpm', '-q', '--qf', format, '--', name]);
  const [first = '', built = '', ...files] = answer.split('\n');
  const [found] = readPackages(first);
  if (found === undefined || !/^\d{1,11}$/.test(built)) throw unexpectedAnswer(name);
  // A regular file that somebody may execute: 0100000 and 0111 of stat(2).
  const programs = files.flatMap((line) => {
    const [, mode = '', path] = /^0*(10\d{4}) (\/.*)$/.exec(line) ?? [];
    return path !== undefined && (parseInt(mode, 8) & 0o111) !== 0 ? [path] : [];
  });
  return { version: found.version, built: Number(built), programs };
}

/** Whether it is a key, which rpm keeps among the packages. One that is installed has an architecture. */
export function isKey({ name, architecture }: InstalledPackage): boolean {
  return name === 'gpg-pubkey' && architecture === '(none)';
}

function readPackages(answer: string): readonly InstalledPackage[] {
  return readPackageLines(answer).map(({ about, more }) => {
    if (more.length > 0) throw unexpectedAnswer(about.name);
    return about;
  });
}

/** Lines of `packageFields`, and of what else was asked for, tabs between. */
export function readPackageLines(
  answer: string,
): readonly { readonly about: InstalledPackage; readonly more: readonly string[] }[] {
  return answer
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => {
      const [name, version, architecture, ...more] = line.split('\t');
      if (name === undefined || version === undefined || architecture === undefined) {
        throw unexpectedAnswer(line);
      }
      return { about: { name, version, architecture }, more };
    });
}

function unexpectedAnswer(about: string): Error {
  return cannot('read', `rpm's answer about ${about}`, 'it is not what was asked for', {
    hint: 'choose another base',
  });
}
