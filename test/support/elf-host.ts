import { execFile } from 'node:child_process';
import { readdirSync, readFileSync, realpathSync, statSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import type { LoaderConfig, LoaderFile, LoaderView } from '../../build/elf/closure.js';
import { readLdSoConf } from '../../build/elf/ld-so-conf.js';
import type { LoaderContext } from '../../build/elf/loader.js';
import type { ParsedFiles } from '../../build/elf/object-file.js';
import { parseElf } from '../../build/elf/parse.js';
import { hostArchitecture } from './host.js';

/** The host's file system as its loader sees it. Lookups are remembered: only for files that do not change. */
export function hostView(): LoaderView<undefined> {
  const seen = new Map<string, LoaderFile<undefined> | undefined>();
  /** Names of one file may be hard links, which the loader knows to be one. */
  const byInode = new Map<string, LoaderFile<undefined>>();
  const look = (path: string): LoaderFile<undefined> | undefined => {
    try {
      const real = realpathSync.native(path);
      const status = statSync(real);
      if (!status.isFile()) return undefined;
      const inode = `${status.dev}:${status.ino}`;
      const known = byInode.get(inode);
      if (known !== undefined) return known;
      const file = { path: real, owner: undefined, read: () => readFile(real) };
      byInode.set(inode, file);
      return file;
    } catch {
      return undefined;
    }
  };
  return {
    lookup: (path) => {
      if (!seen.has(path)) seen.set(path, look(path));
      return seen.get(path);
    },
  };
}

export function hostContext(
  config: LoaderConfig,
  parsed: ParsedFiles = new Map(),
  view = hostView(),
): LoaderContext<undefined> {
  return { view, provide: () => Promise.resolve(false), config, parsed, asked: new Set() };
}

/** The loader that the host's own programs name. */
export function hostLoader(): string {
  const loader = parseElf(readFileSync(process.execPath), process.execPath).interpreter;
  if (loader === undefined) throw new Error('node is statically linked here');
  return loader;
}

export interface Run {
  readonly status: number | string | null;
  readonly stdout: string;
  readonly stderr: string;
}

export function run(
  program: string,
  argv: readonly string[],
  environment: Readonly<Record<string, string>> = {},
  cwd = '/',
): Promise<Run> {
  return new Promise((resolve) => {
    execFile(
      program,
      argv,
      { env: { LC_ALL: 'C', ...environment }, cwd, timeout: 30_000, maxBuffer: 64 * 1024 ** 2 },
      (error, stdout, stderr) => {
        resolve({ status: error === null ? 0 : (error.code ?? error.signal ?? null), stdout, stderr });
      },
    );
  });
}

/**
 * How the host's loader is made and set up, in its own words: built-in directories from `ld.so --help`,
 * subdirectories for this processor from the search path it traces, directories of ld.so.conf.
 */
export async function hostConfig(loader: string): Promise<LoaderConfig> {
  const help = await run(loader, ['--help']);
  const builtIn = [...help.stdout.matchAll(/^ {2}(\/.*) \(system search path\)$/gm)].map(
    (match) => match[1] ?? '',
  );
  const first = builtIn[0];
  if (first === undefined) throw new Error('ld.so --help does not tell its search path');
  const trace = await run(loader, ['--inhibit-cache', '--list', process.execPath], { LD_DEBUG: 'libs' });
  const searched =
    /search path=(\S+)\s*\(system search path\)/.exec(trace.stderr + trace.stdout)?.[1]?.split(':') ?? [];
  const configured = await readLdSoConf({
    read: (path) => readFile(path).catch(() => undefined),
    list: (directory) => {
      try {
        return readdirSync(directory);
      } catch {
        return [];
      }
    },
  });
  return {
    architecture: hostArchitecture,
    configured,
    builtIn,
    lib: first.slice(1),
    hwcaps: searched
      .filter((path) => path.startsWith(`${first}/`))
      .map((path) => path.slice(first.length + 1)),
  };
}

/** Runs `ld.so --list` on many files, one shell for all: starting each from here would cost more than the run. */
export async function listAll(
  loader: string,
  options: readonly string[],
  paths: readonly string[],
): Promise<ReadonlyMap<string, Run>> {
  const script = 'for f do "$LOADER" $OPTIONS --list "$f" 2>&1; printf "\\036%s\\036%s\\036" "$?" "$f"; done';
  const results = new Map<string, Run>();
  for (let at = 0; at < paths.length; at += 200) {
    const batch = await run('/bin/sh', ['-c', script, 'sh', ...paths.slice(at, at + 200)], {
      LOADER: loader,
      OPTIONS: options.join(' '),
    });
    const parts = batch.stdout.split('\x1e');
    for (let index = 0; index + 2 < parts.length; index += 3) {
      const [text = '', status, path = ''] = parts.slice(index, index + 3);
      results.set(path, { status: Number(status), stdout: text, stderr: text });
    }
  }
  return results;
}

/** One line of the loader's list: the name asked for, and the path opened for it. */
export interface Listed {
  readonly name: string;
  readonly path: string | undefined;
}

/** What `ld.so --list` or LD_TRACE_LOADED_OBJECTS prints, without the kernel's own object, which QEMU makes without a name. */
export function parseList(stdout: string): readonly Listed[] {
  return stdout
    .split('\n')
    .filter((line) => line.startsWith('\t') && !/^\t(linux-(vdso|gate)| \()|^\tstatically linked$/.test(line))
    .map((line) => {
      const match = /^\t(.*?)(?: => (.*?))?(?: \(0x[0-9a-f]+\))?$/.exec(line);
      const name = match?.[1] ?? line;
      const path = match?.[2] ?? name;
      return { name, path: path === 'not found' ? undefined : path };
    });
}
