import type { Architecture } from '../../support/architecture.js';

interface DebianNames {
  /** Name in package files and archives, dpkg --print-architecture. */
  readonly architecture: string;
  /** Directory name of the architecture's libraries, dpkg-architecture -qDEB_HOST_MULTIARCH. */
  readonly triplet: string;
}

const names: Readonly<Record<Architecture, DebianNames>> = {
  x86_64: { architecture: 'amd64', triplet: 'x86_64-linux-gnu' },
  aarch64: { architecture: 'arm64', triplet: 'aarch64-linux-gnu' },
  i686: { architecture: 'i386', triplet: 'i386-linux-gnu' },
  armv7l: { architecture: 'armhf', triplet: 'arm-linux-gnueabihf' },
  ppc64le: { architecture: 'ppc64el', triplet: 'powerpc64le-linux-gnu' },
  riscv64: { architecture: 'riscv64', triplet: 'riscv64-linux-gnu' },
  s390x: { architecture: 's390x', triplet: 's390x-linux-gnu' },
};

/** Debian's name for an architecture, such as `amd64`. */
export function debianArchitecture(architecture: Architecture): string {
  return names[architecture].architecture;
}

/**
 * Directory links of Debian's merged /usr, relative to the root: link name to target. base-files ships them
 * since Debian 13; before, usrmerge or debootstrap made them.
 */
export const mergedUsr: ReadonlyMap<string, string> = new Map(
  ['bin', 'lib', 'lib32', 'lib64', 'libx32', 'sbin'].map((name) => [name, `usr/${name}`]),
);

/** The one spelling of a path (relative to the root) in a merged /usr: `lib/x` is `usr/lib/x`. */
export function mergedPath(path: string): string {
  const slash = path.indexOf('/');
  const alias = mergedUsr.get(slash < 0 ? path : path.slice(0, slash));
  return alias === undefined ? path : slash < 0 ? alias : alias + path.slice(slash);
}

/** The package that ships os-release. */
export const releasePackage = 'base-files';

/** Where Debian's dynamic loader searches; the fields are those of elf/closure.ts `LoaderConfig`. */
export interface DebianLoader {
  readonly architecture: Architecture;
  /** An image has no ld.so.cache, so what libc.conf and <triplet>.conf name is never searched. */
  readonly configured: readonly string[];
  /** Compiled into ld.so: `ld.so --list-diagnostics` shows them as path.system_dirs. */
  readonly builtIn: readonly string[];
  /** What $LIB stands for. */
  readonly lib: string;
}

export function debianLoader(architecture: Architecture): DebianLoader {
  const lib = `lib/${names[architecture].triplet}`;
  return { architecture, configured: [], builtIn: [`/${lib}`, `/usr/${lib}`, '/lib', '/usr/lib'], lib };
}
