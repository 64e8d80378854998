import { mkdir, mkdtemp } from 'node:fs/promises';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { librariesOfTar } from './archive.js';
import { forerunnerArchive, forerunnerCommand, missingForForerunner } from './forerunner.js';
import { writeRepository } from './package-list.js';
import { missing, type Measured, type Setting } from './part.js';
import { measure } from './process.js';
import { buildCommand, builtFiles } from './program.js';
import { largest, ratio, type Target } from './report.js';
import { fixed, interleave, type Prepared, type Variant } from './rounds.js';
import { serveStandIn, standInTools, type ServedStandIn } from './stand-in.js';

/** See docs/benchmarks.md. Ratios and bytes. */
const limits = { cold: 10, warm: 30, memory: 300e6 } as const;

/** Builds from the stand-in of Fedora, over HTTP on loopback. */
export async function measureFedora(setting: Setting): Promise<Measured> {
  const nothing = { series: [], targets: [], more: undefined };
  const notes = await missing('Fedora', ...standInTools);
  if (notes.length > 0) return { ...nothing, notes };
  const standIn = await serveStandIn(setting.directory).catch((error: unknown) =>
    error instanceof Error ? error.message : String(error),
  );
  if (typeof standIn === 'string') return { ...nothing, notes: [`Fedora not measured: ${standIn}`] };
  try {
    const stand = await measureFrom(standIn, setting, { name: 'stand-in', most: 2, more: undefined });
    const more = join(setting.directory, 'more');
    await mkdir(more);
    await writeRepository(more);
    const large = await measureFrom(standIn, setting, { name: "Fedora's size", most: 1, more });
    return {
      series: [...stand.series, ...large.series],
      targets: [...stand.targets, ...large.targets],
      more: undefined,
      // Of the forerunner, the same for both.
      notes: stand.notes,
    };
  } finally {
    await standIn.close();
  }
}

interface Repositories {
  readonly name: string;
  /** Rounds of the forerunner, which takes long. */
  readonly most: number;
  /** Directory of a repository beside the stand-in's. */
  readonly more: string | undefined;
}

async function measureFrom(
  standIn: ServedStandIn,
  { directory, rounds, time, own }: Setting,
  { name, most, more }: Repositories,
): Promise<Measured> {
  const { metalink, keyring, release } = standIn;
  const source = [
    ...['--distro', 'fedora', '--suite', release],
    ...['--mirror', metalink, '--keyring', keyring],
    ...(more === undefined ? [] : ['--mirror', pathToFileURL(more).href]),
  ];
  const warm = await mkdtemp(join(directory, 'warm-'));
  const { layer } = builtFiles((await measure(buildCommand(warm, [own], source), undefined)).stdout);
  const libraries = await librariesOfTar(layer, warm);

  const fresh = async (): Promise<Prepared> => {
    const cwd = await mkdtemp(join(directory, 'cold-'));
    return { ...buildCommand(cwd, [own], source), directory: cwd };
  };
  const notes = await missingForForerunner(directory);
  // A cold run leaves it filled for the warm one of its round.
  let cache = '';
  const forerunner = (state: string, prepare: () => Promise<Prepared>): Variant => ({
    name: `${name}: forerunner, ${state}`,
    rounds: most,
    prepare,
    after: async (cwd) => {
      const its = await librariesOfTar(join(cwd, forerunnerArchive), cwd);
      if (its.join('\n') !== libraries.join('\n'))
        throw new Error(`the forerunner has other libraries: ${differences(libraries, its).join(', ')}`);
    },
  });
  const series = await interleave(rounds, time, [
    { name: `${name}: warm`, prepare: () => fixed(buildCommand(warm, [own], source)) },
    { name: `${name}: cold`, prepare: fresh },
    ...(notes.length > 0
      ? []
      : [
          forerunner('cold', async () => {
            cache = await mkdtemp(join(directory, 'cache-'));
            return forerunnerCommand(directory, cache, more, standIn, own);
          }),
          forerunner('warm', () => forerunnerCommand(directory, cache, more, standIn, own)),
        ]),
  ]);
  const [ownWarm, ownCold, itsCold, itsWarm] = series;
  const least = (state: 'cold' | 'warm', value: number | null): Target => ({
    about: `${name}: forerunner / this program, ${state}`,
    value,
    limit: limits[state],
    atLeast: true,
    unit: 'x',
  });
  const targets: Target[] = [
    least('cold', ratio(itsCold, ownCold)),
    least('warm', ratio(itsWarm, ownWarm)),
    {
      about: `${name}: peak memory of any build`,
      value: largest([ownWarm, ownCold]),
      limit: limits.memory,
      unit: 'MB',
    },
  ];
  return { series, targets, more: undefined, notes };
}

/** What only one of them has. */
function differences(one: readonly string[], other: readonly string[]): readonly string[] {
  return [
    ...one.filter((item) => !other.includes(item)).map((item) => `without ${item}`),
    ...other.filter((item) => !one.includes(item)).map((item) => `with ${item}`),
  ];
}
