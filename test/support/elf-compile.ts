import { execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';

/** A stand-in system directory does not help the linker: names are resolved by full path alone. */
const quiet = ['-Wl,--unresolved-symbols=ignore-all', '-Wl,--no-as-needed', '-w'];

export interface Build {
  readonly source?: string;
  readonly soname?: string;
  /** Objects to link to, absolute paths: each becomes a DT_NEEDED under its soname. */
  readonly needs?: readonly string[];
  readonly rpath?: string;
  readonly runpath?: string;
  /** Text of a version script. */
  readonly versions?: string;
  readonly flags?: readonly string[];
}

/** Compiles a shared library with gcc, without the C library unless `flags` asks for it. @returns its path */
export function buildLibrary(path: string, build: Build = {}): string {
  return compile(path, ['-shared', '-fPIC', '-nostdlib'], build.source ?? 'int unused;', build);
}

/** Compiles a dynamically linked program with gcc. @returns its path */
export function buildProgram(path: string, build: Build = {}): string {
  return compile(path, [], build.source ?? 'int main(void) { return 0; }', build);
}

function compile(path: string, mode: readonly string[], source: string, build: Build): string {
  mkdirSync(dirname(path), { recursive: true });
  const script = `${path}.map`;
  if (build.versions !== undefined) writeFileSync(script, build.versions);
  const searchPath =
    build.rpath !== undefined
      ? ['-Wl,--disable-new-dtags', `-Wl,-rpath,${build.rpath}`]
      : build.runpath !== undefined
        ? ['-Wl,--enable-new-dtags', `-Wl,-rpath,${build.runpath}`]
        : [];
  execFileSync(
    'gcc',
    [
      ...['-o', path, '-xc', '-', '-xnone', ...mode, ...quiet],
      ...(build.soname === undefined ? [] : [`-Wl,-soname,${build.soname}`]),
      ...(build.versions === undefined ? [] : [`-Wl,--version-script,${script}`]),
      ...searchPath,
      ...(build.needs ?? []),
      ...(build.flags ?? []),
    ],
    { input: source, stdio: ['pipe', 'ignore', 'inherit'] },
  );
  return path;
}
