import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { missing, type Measured, type Setting } from './part.js';
import { writePrimary } from './package-list.js';
import { measure, type Command } from './process.js';
import { largest, ratio, type SeriesSummary, type Target } from './report.js';
import { fixed, interleave } from './rounds.js';

/** The most that making an index may take: times of decompressing alone, and bytes. */
const limits = { ratio: 3, memory: 200e6 } as const;

/** Rounds: one takes some seconds, and the values differ little. */
const most = 3;

/** How repositories pack their lists today, and how they did. */
const packings = [
  { format: 'zst', program: 'zstd', parameters: ['-10', '--quiet', '--keep'] },
  { format: 'gz', program: 'gzip', parameters: ['-6', '--keep'] },
] as const;

/**
 * Measures what the list of packages of a large RPM repository costs: unpacked and nothing else, and made into an index,
 * each in a process of its own.
 */
export async function measureRpmMd({ directory, rounds, time }: Setting): Promise<Measured> {
  const list = join(directory, 'primary.xml');
  const bytes = await writePrimary(list);
  const size = `${(bytes / 1e6).toFixed(0)} MB`;
  const series: SeriesSummary[] = [];
  const targets: Target[] = [];
  const notes: string[] = [];
  for (const { format, program, parameters } of packings) {
    const without = await missing(`list of packages with ${format}`, program);
    notes.push(...without);
    if (without.length > 0) continue;
    await measure({ argv: [program, ...parameters, list], cwd: directory }, undefined);
    const packed = `${list}.${format}`;
    const rows = await interleave(rounds, time, [
      {
        name: `${size} of packages, ${format}: unpacked`,
        rounds: most,
        prepare: () => fixed(unpackCommand(packed, format, directory)),
      },
      {
        name: `${size} of packages, ${format}: indexed`,
        rounds: most,
        prepare: () => fixed(indexCommand(packed, format, directory)),
      },
    ]);
    series.push(...rows);
    const [unpacked, indexed] = rows;
    targets.push(
      {
        about: `packages, ${format}: indexed / unpacked`,
        value: ratio(indexed, unpacked),
        limit: limits.ratio,
        unit: 'x',
      },
      {
        about: `packages, ${format}: peak memory`,
        value: largest([indexed]),
        limit: limits.memory,
        unit: 'MB',
      },
    );
    await rm(packed);
  }
  await rm(list);
  return { series, targets, more: undefined, notes };
}

const moduleUrl = (path: string): string => new URL(`../dist/${path}`, import.meta.url).href;

function unpackCommand(packed: string, format: string, cwd: string): Command {
  return scriptCommand(
    `import { decompressFile } from ${JSON.stringify(moduleUrl('package/decompress.js'))};
    const [path, format] = process.argv.slice(1);
    for await (const chunk of decompressFile(path, format, 2 ** 31));`,
    [packed, format],
    cwd,
  );
}

function indexCommand(packed: string, format: string, cwd: string): Command {
  return scriptCommand(
    `import { writeFileSync } from 'node:fs';
    import { decompressFile } from ${JSON.stringify(moduleUrl('package/decompress.js'))};
    import { indexPrimary } from ${JSON.stringify(moduleUrl('repository/fedora/primary.js'))};
    const [path, format, index] = process.argv.slice(1);
    writeFileSync(index, '');
    const architectures = new Set(['x86_64', 'noarch']);
    await indexPrimary(decompressFile(path, format, 2 ** 31), { path: index, where: path, architectures });`,
    [packed, format, join(cwd, 'index')],
    cwd,
  );
}

function scriptCommand(script: string, parameters: readonly string[], cwd: string): Command {
  return { argv: [process.execPath, '--input-type=module', '--eval', script, ...parameters], cwd };
}
