import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { contentOfTar, type ArchiveContent } from './archive.js';
import { floorCommand } from './floor.js';
import { findPeer, peerArchive } from './peer.js';
import { findProgram, measure, type Command, type Run } from './process.js';
import {
  buildCommand,
  closureOf,
  definition,
  imageSize,
  otherLayerCommand,
  type Closure,
  type ImageSize,
} from './program.js';
import {
  isMet,
  summarize,
  table,
  textOfSeries,
  textOfTargets,
  type SeriesSummary,
  type Target,
} from './report.js';

const usage = 'usage: npm run bench -- [--json] [--runs N]   (N at least 1, default 7)';

/** See docs/benchmarks.md. Seconds, ratios, and bytes. */
const limits = { warm: 1, floor: 1.5, peer: 1, both: 1.4, content: 1.01, memory: 300e6 } as const;

try {
  const { values } = parseArgs({
    options: { json: { type: 'boolean', default: false }, runs: { type: 'string', default: '7' } },
  });
  const rounds = Number(values.runs);
  if (!Number.isInteger(rounds) || rounds < 1) throw new Error(usage);
  await bench(rounds, values.json);
} catch (error) {
  process.stderr.write(`error: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
}

async function bench(rounds: number, json: boolean): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), 'dhcpd-scratch-bench-'));
  try {
    const measured = await measureAll(directory, rounds);
    process.stdout.write(json ? `${JSON.stringify(documentOf(measured), undefined, 2)}\n` : textOf(measured));
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

interface Measured {
  readonly series: readonly SeriesSummary[];
  readonly targets: readonly Target[];
  readonly closure: Closure;
  readonly image: ImageSize;
  readonly peer: ArchiveContent | undefined;
  /** What could not be measured, and why. */
  readonly notes: readonly string[];
}

async function measureAll(directory: string, rounds: number): Promise<Measured> {
  const notes: string[] = [];
  const tool = async (name: string, purpose: string): Promise<string | undefined> => {
    const path = await findProgram(name);
    if (path === undefined) notes.push(`${purpose} not measured: ${name} is not installed`);
    return path;
  };
  const time = await tool('time', 'memory and processor time');
  const own = process.arch === 'arm64' ? 'aarch64' : 'x86_64';
  const both = [own, own === 'aarch64' ? 'x86_64' : 'aarch64'];

  const warm = join(directory, 'warm');
  await mkdir(warm);
  await measure(buildCommand(warm, both), undefined);
  const image = await imageSize((await measure(buildCommand(warm, [own]), undefined)).stdout, warm);
  const closure = await closureOf(warm, own);

  const dpkg = await tool('dpkg-deb', 'floor');
  const mmdebstrap = await tool('mmdebstrap', 'peer');
  const peer = mmdebstrap === undefined ? undefined : await findPeer(directory);
  if (mmdebstrap !== undefined && peer === undefined)
    notes.push('peer not measured: apt has no source of this release');

  let epoch = 1_700_000_000;
  // Each round runs everything once, so that what slows the machine for a while slows all alike.
  const warmRuns = await interleave(rounds, time, [
    { name: 'warm, one architecture', prepare: () => fixed(buildCommand(warm, [own])) },
    { name: 'warm, both', prepare: () => fixed(buildCommand(warm, both)) },
    { name: 'warm, one, its layer new', prepare: () => fixed(otherLayerCommand(warm, [own], (epoch += 1))) },
    ...(dpkg === undefined
      ? []
      : [{ name: 'floor: dpkg-deb, tar, gzip -6', prepare: () => floorCommand(warm, closure) }]),
  ]);
  const fresh = async (make: (cwd: string) => Command): Promise<Prepared> => {
    const cwd = await mkdtemp(join(directory, 'cold-'));
    return { ...make(cwd), directory: cwd };
  };
  let result: ArchiveContent | undefined;
  const coldRuns = await interleave(rounds, time, [
    { name: 'cold, one architecture', prepare: () => fresh((cwd) => buildCommand(cwd, [own])) },
    { name: 'cold, both', prepare: () => fresh((cwd) => buildCommand(cwd, both)) },
    ...(peer === undefined
      ? []
      : [
          {
            name: 'peer: mmdebstrap, cold',
            prepare: () => fresh(peer),
            after: async (cwd: string) => {
              result ??= await contentOfTar(join(cwd, peerArchive), cwd);
            },
          },
        ]),
  ]);

  const [warmOne, warmBoth, warmNew, floor] = warmRuns;
  const [coldOne, coldBoth, cold] = coldRuns;
  const series = [...warmRuns, ...coldRuns];
  const builds = [warmOne, warmBoth, warmNew, coldOne, coldBoth].flatMap((row) => row?.memory ?? []);
  const targets: Target[] = [
    { about: 'warm, one architecture', value: warmOne?.median ?? null, limit: limits.warm, unit: 's' },
    { about: 'warm / floor', value: ratio(warmOne, floor), limit: limits.floor, unit: 'x' },
    { about: 'warm with a new layer / floor', value: ratio(warmNew, floor), limit: null, unit: 'x' },
    { about: 'warm: both / one', value: ratio(warmBoth, warmOne), limit: limits.both, unit: 'x' },
    { about: 'cold / mmdebstrap', value: ratio(coldOne, cold), limit: limits.peer, unit: 'x' },
    { about: 'cold: both / one', value: ratio(coldBoth, coldOne), limit: limits.both, unit: 'x' },
    {
      about: 'bytes of files in the layer / of the closure',
      value: image.fileBytes / closure.fileBytes,
      limit: limits.content,
      unit: 'x',
    },
    {
      about: 'peak memory of any build',
      value: builds.length === 0 ? null : Math.max(...builds),
      limit: limits.memory,
      unit: 'MB',
    },
  ];
  return { series, targets, closure, image, peer: result, notes };
}

/** A command; `directory` is removed after it. */
type Prepared = Command & { readonly directory?: string };

interface Variant {
  readonly name: string;
  /** Not measured. */
  readonly prepare: () => Promise<Prepared>;
  /** Not measured; before the directory is removed. */
  readonly after?: (cwd: string) => Promise<void>;
}

function fixed(command: Command): Promise<Prepared> {
  return Promise.resolve(command);
}

async function interleave(
  rounds: number,
  time: string | undefined,
  variants: readonly Variant[],
): Promise<readonly SeriesSummary[]> {
  const series = variants.map((variant) => ({ variant, runs: new Array<Run>() }));
  for (let round = 1; round <= rounds; round += 1) {
    for (const { variant, runs } of series) {
      process.stderr.write(`${round}/${rounds} ${variant.name}\n`);
      const command = await variant.prepare();
      // What the run before has left to write is not this run's business.
      await measure({ argv: ['sync'], cwd: command.cwd }, undefined);
      runs.push(await measure(command, time));
      await variant.after?.(command.cwd);
      if (command.directory !== undefined) await rm(command.directory, { recursive: true, force: true });
    }
  }
  return series.map(({ variant, runs }) => summarize({ name: variant.name, runs }));
}

function ratio(of: SeriesSummary | undefined, to: SeriesSummary | undefined): number | null {
  return of === undefined || to === undefined ? null : of.median / to.median;
}

function documentOf({ series, targets, closure, image, peer, notes }: Measured): unknown {
  return {
    machine: machine(),
    series,
    targets: targets.map((target) => ({ ...target, met: isMet(target) })),
    image,
    closure: { packages: closure.packages.length, fileBytes: closure.fileBytes },
    peer: peer ?? null,
    notes,
  };
}

function textOf({ series, targets, closure, image, peer, notes }: Measured): string {
  const size = (bytes: number): string => bytes.toLocaleString('en-US');
  const sizes = table(
    ['BYTES', 'IMAGE', 'LAYER', 'ITS TAR', 'ITS FILES', 'FILES', 'ENTRIES'],
    [
      [
        definition,
        ...[image.image, image.layer, image.tar, image.fileBytes].map(size),
        String(image.files),
        String(image.entries),
      ],
      ['its closure in the packages', '', '', '', size(closure.fileBytes), '', ''],
      ...(peer === undefined
        ? []
        : [['mmdebstrap', '', '', '', size(peer.fileBytes), String(peer.files), String(peer.entries)]]),
    ],
  );
  const { processors, node } = machine();
  return [
    `${processors} processors, Node.js ${node}\n`,
    textOfSeries(series),
    textOfTargets(targets),
    sizes,
    ...(notes.length === 0 ? [] : [notes.map((line) => `${line}\n`).join('')]),
  ].join('\n');
}

function machine(): { readonly processors: number; readonly node: string } {
  return { processors: cpus().length, node: process.versions.node };
}
