import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { measureDebian } from './debian.js';
import { measureFedora } from './fedora.js';
import type { Measured, Setting } from './part.js';
import { findProgram } from './process.js';
import { isMet, textOfSeries, textOfTargets } from './report.js';
import { measureRpmMd } from './rpm-md.js';

interface Part {
  readonly name: string;
  readonly title: string;
  readonly measure: (setting: Setting) => Promise<Measured>;
}

const parts: readonly Part[] = [
  { name: 'debian', title: 'From Debian', measure: measureDebian },
  { name: 'fedora', title: 'From Fedora', measure: measureFedora },
  { name: 'rpm-md', title: 'Lists of RPM packages', measure: measureRpmMd },
];

const usage =
  'usage: npm run bench -- [--json] [--runs N] [--only PART]   (N at least 1, default 7; ' +
  `PART is ${parts.map(({ name }) => name).join(' or ')})`;

try {
  const { values } = parseArgs({
    options: {
      json: { type: 'boolean', default: false },
      runs: { type: 'string', default: '7' },
      only: { type: 'string' },
    },
  });
  const rounds = Number(values.runs);
  const wanted = parts.filter(({ name }) => values.only === undefined || values.only === name);
  if (!Number.isInteger(rounds) || rounds < 1 || wanted.length === 0) throw new Error(usage);
  await bench(wanted, rounds, values.json);
} catch (error) {
  process.stderr.write(`error: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
}

async function bench(wanted: readonly Part[], rounds: number, json: boolean): Promise<void> {
  const top = await mkdtemp(join(tmpdir(), 'dhcpd-scratch-bench-'));
  try {
    const time = await findProgram('time');
    const notes = time === undefined ? ['memory and processor time not measured: time is not installed'] : [];
    const [own, other] = process.arch === 'arm64' ? ['aarch64', 'x86_64'] : ['x86_64', 'aarch64'];
    const results: Result[] = [];
    for (const part of wanted) {
      const directory = join(top, part.name);
      await mkdir(directory);
      results.push({ part, ...(await part.measure({ directory, rounds, time, own, other })) });
      await rm(directory, { recursive: true });
    }
    process.stdout.write(
      json
        ? `${JSON.stringify(documentOf(results, notes), undefined, 2)}\n`
        : textOf(results, notes).join('\n'),
    );
  } finally {
    await rm(top, { recursive: true, force: true });
  }
}

type Result = Measured & { readonly part: Part };

function documentOf(results: readonly Result[], notes: readonly string[]): unknown {
  return {
    machine: machine(),
    notes,
    parts: results.map(({ part, series, targets, more, notes }) => ({
      part: part.name,
      series,
      targets: targets.map((target) => ({ ...target, met: isMet(target) })),
      ...more?.document,
      notes,
    })),
  };
}

/** @returns blocks of lines */
function textOf(results: readonly Result[], notes: readonly string[]): readonly string[] {
  const { processors, node } = machine();
  const lines = (texts: readonly string[]): readonly string[] =>
    texts.length === 0 ? [] : [texts.map((text) => `${text}\n`).join('')];
  return [
    `${processors} processors, Node.js ${node}\n`,
    ...lines(notes),
    ...results.flatMap(({ part, series, targets, more, notes }) => [
      `${part.title}\n`,
      ...(series.length === 0 ? [] : [textOfSeries(series), textOfTargets(targets)]),
      ...(more === undefined ? [] : [more.text]),
      ...lines(notes),
    ]),
  ];
}

function machine(): { readonly processors: number; readonly node: string } {
  return { processors: cpus().length, node: process.versions.node };
}
