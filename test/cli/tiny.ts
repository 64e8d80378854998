import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, realpathSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { debianArchitecture, debianLoader } from '../../build/repository/debian/layout.js';
import {
  debianArchiveTools,
  makeArchive,
  type Keys,
  type PackageSpec,
  type SuiteSpec,
  type TestArchive,
} from '../support/debian-archive.js';
import { buildLibrary, buildProgram } from '../support/elf-compile.js';
import { hostArchitecture } from '../support/host.js';

export const tinyTools = [...debianArchiveTools, 'gcc', 'readelf', 'apt-config'] as const;

export const architecture = hostArchitecture;
const debian = debianArchitecture(architecture);
/** Where the libraries are, relative to the root. */
export const libraries = `usr/${debianLoader(architecture).lib}`;

/** The release the archive is of. */
export const release = 'trial';

/** A server of one program, which needs libouter, which needs libinner. */
export const definition = `name: tiny
title: Tiny server
description: Says hello
licenses: MIT
packages:
  debian: { release: ${release}, package: tiny-server, state: /var/lib/tiny }
roots: [tinyd]
user: { name: tiny, id: 177 }
config: /etc/tiny
state: { volume: leases, files: [tiny.leases] }
ports: [67/udp]
capabilities: [NET_RAW]
run: [-f]
`;

/** A few small real packages: programs and libraries compiled with gcc, and the host's own C library. */
export function tinyPackages(version = '1.0-1'): readonly PackageSpec[] {
  const work = mkdtempSync(join(tmpdir(), 'tiny-'));
  try {
    const inner = buildLibrary(join(work, 'libinner.so.2'), {
      soname: 'libinner.so.2',
      source: 'const char *inner(void) { return "inner"; }',
    });
    const outer = buildLibrary(join(work, 'libouter.so.1'), {
      soname: 'libouter.so.1',
      source: `extern const char *inner(void); const char *version = "${version}"; const char *outer(void) { return inner(); }`,
      needs: [inner],
    });
    const tinyd = buildProgram(join(work, 'tinyd'), {
      source:
        '#include <stdio.h>\nextern const char *outer(void); int main(void) { return puts(outer()) < 0; }',
      needs: [outer],
    });
    const missing = buildLibrary(join(work, 'libnobody.so.9'), {
      soname: 'libnobody.so.9',
      source: 'int nobody(void) { return 9; }',
    });
    const lonely = buildProgram(join(work, 'lonelyd'), {
      source: 'extern int nobody(void); int main(void) { return nobody(); }',
      needs: [missing],
    });
    const interpreter = /interpreter: ([^\]]+)\]/.exec(
      execFileSync('readelf', ['-l', tinyd], { encoding: 'utf8' }),
    )?.[1];
    if (interpreter === undefined) throw new Error('tinyd names no dynamic loader');
    const libc = execFileSync('gcc', ['-print-file-name=libc.so.6'], { encoding: 'utf8' }).trim();
    const loader = realpathSync(interpreter);
    const executable = (path: string): { content: Buffer; mode: number } => ({
      content: readFileSync(path),
      mode: 0o755,
    });
    const built = (spec: PackageSpec): PackageSpec => ({ architecture: debian, ...spec });
    return [
      built({
        name: 'tiny-server',
        version,
        depends: 'libouter1, libc6',
        files: {
          'usr/sbin/tinyd': executable(tinyd),
          'usr/sbin/tiny-setuid': { ...executable(tinyd), mode: 0o4755 },
          'usr/share/doc/tiny-server/copyright': 'MIT\n',
        },
      }),
      built({
        name: 'lonely-server',
        version,
        depends: 'libc6',
        files: { 'usr/sbin/lonelyd': executable(lonely) },
      }),
      built({
        name: 'libouter1',
        version,
        depends: 'libinner2, libc6',
        files: {
          [`${libraries}/libouter.so.1.0`]: readFileSync(outer),
          [`${libraries}/libouter.so.1`]: { symlink: 'libouter.so.1.0' },
        },
      }),
      built({
        name: 'libinner2',
        version: '2.0-1',
        files: { [`${libraries}/libinner.so.2`]: readFileSync(inner) },
      }),
      built({
        name: 'libc6',
        version: '2.0-1',
        files: {
          [`${libraries}/libc.so.6`]: executable(realpathSync(libc)),
          [`${libraries}/${basename(interpreter)}`]: executable(loader),
          // Where the program's PT_INTERP says, as Debian's own libc6 has it.
          [`usr${interpreter}`]: { symlink: `/${libraries}/${basename(interpreter)}` },
        },
      }),
      built({
        name: 'base-files',
        version: '12',
        files: {
          'usr/lib/os-release': `PRETTY_NAME="Trial"\nID=debian\nVERSION_CODENAME=${release}\n`,
          'etc/os-release': { symlink: '../usr/lib/os-release' },
        },
      }),
    ];
  } finally {
    rmSync(work, { recursive: true });
  }
}

export function tinySuite(packages: readonly PackageSpec[], more: Partial<SuiteSpec> = {}): SuiteSpec {
  return { name: release, architectures: [debian], packages, compressions: ['gz'], ...more };
}

export function makeTinyArchive(keys?: Keys): Promise<TestArchive> {
  const security = tinySuite([], { name: `${release}-security`, contents: false });
  return makeArchive({ suites: [tinySuite(tinyPackages()), security] }, keys);
}

/** The options that say where packages come from. @param url the archive's, or that of a server of it */
export function from(archive: TestArchive, url = archive.url): readonly string[] {
  return ['--mirror', url, '--keyring', archive.keyring];
}
