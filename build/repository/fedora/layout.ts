import { posix } from 'node:path';
import type { PackageContents } from '../../package/contents.js';
import type { Architecture } from '../../support/architecture.js';

interface FedoraNames {
  /** Of repositories: what `$basearch` stands for. */
  readonly base: string;
  /** Of packages in such a repository, besides `noarch`. */
  readonly packages: readonly string[];
  /** Directory name of libraries: `%{_lib}`. */
  readonly lib: 'lib' | 'lib64';
}

/** rpm's own names: `rpm --eval %_host_cpu` and the arch_compat lines of rpmrc. */
const names: Readonly<Record<Architecture, FedoraNames>> = {
  x86_64: { base: 'x86_64', packages: ['x86_64'], lib: 'lib64' },
  aarch64: { base: 'aarch64', packages: ['aarch64'], lib: 'lib64' },
  i686: { base: 'i386', packages: ['i686', 'i586', 'i386'], lib: 'lib' },
  armv7l: { base: 'armhfp', packages: ['armv7hl', 'armv7hnl'], lib: 'lib' },
  ppc64le: { base: 'ppc64le', packages: ['ppc64le'], lib: 'lib64' },
  riscv64: { base: 'riscv64', packages: ['riscv64'], lib: 'lib64' },
  s390x: { base: 's390x', packages: ['s390x'], lib: 'lib64' },
};

/** What `$basearch` stands for. */
export function baseArchitecture(architecture: Architecture): string {
  return names[architecture].base;
}

/** Architectures of packages that count, the preferred first; without `noarch`. */
export function packageArchitectures(architecture: Architecture): readonly string[] {
  return names[architecture].packages;
}

/**
 * What `()` and a mark follow in the name of what a library of the architecture provides, such as
 * `libc.so.6()(64bit)`; 32-bit libraries go without both (rpm's elfdeps).
 */
export function sonameCapability(soname: string, architecture: Architecture): string {
  return names[architecture].lib === 'lib64' ? `${soname}()(64bit)` : soname;
}

/** The package whose own links make the layout: `/lib64`, and since Fedora 42 `/usr/sbin`. */
export const layoutPackages: readonly string[] = ['filesystem'];

/**
 * The links to directories that the layout packages own, shipped or not: Fedora's scriptlets make some of them.
 * Link path to target, relative to the root.
 */
export function directoryLinks(packages: readonly PackageContents[]): ReadonlyMap<string, string> {
  const links = new Map<string, string>();
  for (const { name, metadata, entries } of packages) {
    if (metadata.format !== 'rpm' || !layoutPackages.includes(name)) continue;
    const own = [...entries, ...metadata.ghostLinks];
    const directories = new Set(own.flatMap(({ kind, path }) => (kind === 'directory' ? [path] : [])));
    const targets = new Map(
      own.flatMap((entry) => (entry.kind === 'symlink' ? [[entry.path, targetOf(entry)] as const] : [])),
    );
    for (const entry of own) {
      if (entry.kind !== 'symlink') continue;
      // A link may lead to another, such as /sbin to /usr/sbin to /usr/bin.
      let target = targetOf(entry);
      for (let step = 0; step < targets.size && targets.has(target); step += 1)
        target = targets.get(target) ?? '';
      if (directories.has(target)) links.set(entry.path, entry.target);
    }
  }
  return links;
}

function targetOf({ path, target }: { readonly path: string; readonly target: string }): string {
  return posix.join('/', target.startsWith('/') ? '' : posix.dirname(path), target).replace(/^\/|\/$/g, '');
}

/** Where Fedora's dynamic loader searches; the fields are those of elf/closure.ts `LoaderConfig`. */
export function fedoraLoader(architecture: Architecture): {
  /** Compiled into ld.so: `ld.so --list-diagnostics` shows them as path.system_dirs. */
  readonly builtIn: readonly string[];
  /** What $LIB stands for. */
  readonly lib: string;
} {
  const { lib } = names[architecture];
  // riscv64 has the directory of its ABI first (sysdeps/unix/sysv/linux/riscv/dl-cache.h).
  const abi = architecture === 'riscv64' ? ['/lib64/lp64d', '/usr/lib64/lp64d'] : [];
  return { builtIn: [...abi, `/${lib}`, `/usr/${lib}`], lib };
}
