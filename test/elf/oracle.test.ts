import { closeSync, openSync, readdirSync, readSync, realpathSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { LoaderConfig } from '../../build/elf/closure.js';
import { LoadedProcess } from '../../build/elf/loader.js';
import { elfMachine } from '../../build/elf/machine.js';
import type { ParsedFiles } from '../../build/elf/object-file.js';
import { ToolError } from '../../build/support/errors.js';
import {
  hostConfig,
  hostContext,
  hostLoader,
  hostView,
  listAll,
  type Run,
  type Listed,
  parseList,
  run,
} from '../support/elf-host.js';
import { hostArchitecture } from '../support/host.js';
import { requireThat } from '../support/tools.js';

const usable = requireThat(process.platform === 'linux', 'the dynamic loader of Linux');

/** What the header of an object of this host says (gABI). */
const host = elfMachine(hostArchitecture);
const wide = host.class === 64;
const little = host.data === 'little';

interface Candidates {
  readonly objects: readonly string[];
  readonly otherMachine: number;
  readonly notDynamic: number;
}

/** Every ELF program and library below some directories, by real path, looked at without the code under test. */
function findObjects(tops: readonly string[]): Candidates {
  const objects = new Set<string>();
  const seen = new Set<string>();
  let otherMachine = 0;
  let notDynamic = 0;
  const look = (path: string): void => {
    let real: string;
    try {
      real = realpathSync.native(path);
    } catch {
      return;
    }
    if (seen.has(real)) return;
    seen.add(real);
    const head = Buffer.alloc(wide ? 64 + 56 * 64 : 52 + 32 * 64);
    let length: number;
    try {
      const file = openSync(real, 'r');
      length = readSync(file, head);
      closeSync(file);
    } catch {
      return;
    }
    if (length < 52 || head.toString('latin1', 0, 4) !== '\x7fELF') return;
    const number = (at: number, size: number): number =>
      little ? head.readUIntLE(at, size) : head.readUIntBE(at, size);
    if (head[4] !== (wide ? 2 : 1) || head[5] !== (little ? 1 : 2) || number(18, 2) !== host.machine) {
      otherMachine += 1;
      return;
    }
    if (![2, 3].includes(number(16, 2))) return;
    // e_phoff, of which six bytes are plenty, e_phnum and the size of a program header, which begins with its type.
    const start = wide ? number(little ? 32 : 34, 6) : number(28, 4);
    const [count, size] = wide ? [number(56, 2), 56] : [number(44, 2), 32];
    let dynamic = false;
    for (let index = 0; index < count; index += 1) {
      const at = start + index * size;
      if (at + 4 <= length && number(at, 4) === 2) dynamic = true;
    }
    if (dynamic) objects.add(real);
    else notDynamic += 1;
  };
  const walk = (directory: string): void => {
    for (const entry of readdirSync(directory, { withFileTypes: true })) {
      const path = join(directory, entry.name);
      if (entry.isDirectory()) walk(path);
      else if (entry.isFile() || entry.isSymbolicLink()) look(path);
    }
  };
  tops.forEach(walk);
  return { objects: [...objects].sort(), otherMachine, notDynamic };
}

/**
 * In a trace the real loader shows itself right behind the last object it found, before names it did not find
 * (elf/rtld.c): missing entries directly before the loader move behind it.
 */
function asTraced(lines: readonly string[]): readonly string[] {
  const at = lines.indexOf('the loader');
  let start = at;
  while (start > 0 && lines[start - 1]?.endsWith('=> not found') === true) start -= 1;
  return at < 0
    ? lines
    : [...lines.slice(0, start), 'the loader', ...lines.slice(start, at), ...lines.slice(at + 1)];
}

interface Result {
  /** What made it fail, or undefined. */
  readonly failure: string | undefined;
  readonly listed: readonly Listed[];
}

describe.skipIf(!usable)('the real loader', () => {
  it('agrees on every program and library of this host', { timeout: 240_000 }, async () => {
    const loader = hostLoader();
    const loaderFile = realpathSync(loader);
    const config = await hostConfig(loader);
    const view = hostView();
    const parsed: ParsedFiles = new Map();
    const { objects, otherMachine, notDynamic } = findObjects(['/usr/bin', '/usr/sbin', '/usr/lib']);

    /** The loader goes by many names; all else is compared as it is: name, path opened, file, order. */
    const describeEntry = ({ name, path }: Listed): string => {
      const real = path === undefined ? undefined : (view.lookup(path)?.path ?? path);
      if (real === loaderFile) return 'the loader';
      return `${name} => ${path ?? 'not found'}${real === path || real === undefined ? '' : ` (${real})`}`;
    };

    const closure = async (path: string, used: LoaderConfig): Promise<Result> => {
      try {
        const process = await LoadedProcess.start(hostContext(used, parsed, view), path);
        const needed = new Set(
          process.objects.flatMap((object) => object.elf.dynamic?.dependencies ?? []).map(({ name }) => name),
        );
        const listed = process.entries.slice(1).flatMap((entry): Listed[] => {
          if (entry.kind === 'missing') return [{ name: entry.name, path: undefined }];
          // The real loader does not list itself when nothing needs it.
          const names = [entry.path, entry.elf.dynamic?.soname ?? ''];
          if (entry.role === 'interpreter' && !names.some((name) => needed.has(name))) return [];
          return [{ name: entry.neededAs ?? '', path: entry.path }];
        });
        return { failure: process.problems[0]?.message, listed };
      } catch (error) {
        if (!(error instanceof ToolError)) throw error;
        return { failure: error.message, listed: [] };
      }
    };

    const differences: string[] = [];
    const counts = { equal: 0, missing: 0, refused: 0, edges: 0 };
    const compare = async (
      path: string,
      strict: Run,
      used: LoaderConfig,
      options: readonly string[],
    ): Promise<void> => {
      const ours = await closure(path, used);
      const differ = (difference: string): void => {
        differences.push(`${[...options, path].join(' ')}: ${difference}`);
      };
      // A missing version is told, but is no failure of --list.
      const loads = strict.status === 0 && !/: version `.*' not found \(required by /.test(strict.stderr);
      if (loads !== (ours.failure === undefined)) {
        differ(`${ours.failure ?? 'loads'}; ld.so: ${strict.status} ${strict.stderr.trim()}`);
        return;
      }
      // Where something is missing, --list stops, and the tracing loader goes on.
      const missing = ours.listed.some((entry) => entry.path === undefined);
      const theirs = missing
        ? await run(loader, [...options, path], { LD_TRACE_LOADED_OBJECTS: '1' })
        : strict;
      const lines = ours.listed.map(describeEntry);
      const a = missing ? asTraced(lines) : lines;
      const b = parseList(theirs.stdout).map(describeEntry);
      if (missing) counts.missing += 1;
      else if (ours.failure === undefined) counts.equal += 1;
      else counts.refused += 1;
      counts.edges += a.length;
      if (a.join('\n') !== b.join('\n')) {
        const first = a.findIndex((line, index) => line !== b[index]);
        differ(
          `entry ${first} of ${a.length}/${b.length}: ${a[first] ?? 'nothing'}; ld.so: ${b[first] ?? 'nothing'}`,
        );
      }
    };
    /** Two loaders at a time. */
    const compareAll = async (
      paths: readonly string[],
      used: LoaderConfig,
      options: readonly string[],
    ): Promise<void> => {
      const half = Math.ceil(paths.length / 2);
      for (const part of await Promise.all(
        [paths.slice(0, half), paths.slice(half)].map((some) => listAll(loader, options, some)),
      )) {
        for (const [path, strict] of part) await compare(path, strict, used, options);
      }
    };

    const started = performance.now();
    await compareAll(objects, config, []);
    // As in an image without ld.so.cache: ld.so.conf counts for nothing.
    const uncached = objects.filter((_, index) => index % 5 === 0);
    await compareAll(uncached, { ...config, configured: [] }, ['--inhibit-cache']);
    const seconds = ((performance.now() - started) / 1000).toFixed(1);
    process.stdout.write(
      `${objects.length} objects, each fifth also without ld.so.cache, in ${seconds} s: ${counts.equal} closures equal, ${counts.missing} equal with libraries missing, ` +
        `${counts.refused} refused by both, ${counts.edges} loaded objects compared; ` +
        `not compared: ${otherMachine} for other machines, ${notDynamic} without a dynamic section\n`,
    );
    expect(differences).toEqual([]);
    expect(counts.equal + counts.missing + counts.refused).toBe(objects.length + uncached.length);
    expect(objects.length).toBeGreaterThanOrEqual(500);
  });
});
