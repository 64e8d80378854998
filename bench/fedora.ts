import { mkdir, mkdtemp } from 'node:fs/promises';
import { join } from 'node:path';
import { librariesOfTar } from './archive.js';
import { forerunnerArchive, forerunnerCommand, missingForForerunner } from './forerunner.js';
import { missing, type Measured, type Setting } from './part.js';
import { measure } from './process.js';
import { buildCommand, builtFiles } from './program.js';
import { largest, ratio, type Target } from './report.js';
import { fixed, interleave, type Prepared, type Variant } from './rounds.js';
import { serveStandIn, standInTools, type ServedStandIn } from './stand-in.js';

/** See docs/benchmarks.md. Ratios and bytes. */
const limits = { cold: 10, warm: 30, memory: 300e6 } as const;

/** Rounds of the forerunner, which takes long. */
const most = 2;

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
    return await measureFrom(standIn, setting);
  } finally {
    await standIn.close();
  }
}

async function measureFrom(
  standIn: ServedStandIn,
  { directory, rounds, time, own }: Setting,
): Promise<Measured> {
  const { metalink, keyring, release } = standIn;
  const source = [
    ...['--distro', 'fedora', '--suite', release],
    ...['--mirror', metalink, '--keyring', keyring],
  ];
  const warm = join(directory, 'warm');
  await mkdir(warm);
  const { layer } = builtFiles((await measure(buildCommand(warm, [own], source), undefined)).stdout);
  const libraries = await librariesOfTar(layer, warm);

  const fresh = async (): Promise<Prepared> => {
    const cwd = await mkdtemp(join(directory, 'cold-'));
    return { ...buildCommand(cwd, [own], source), directory: cwd };
  };
  const notes = await missingForForerunner(directory);
  // A cold run leaves it filled for the warm one of its round.
  let cache = '';
  const forerunner = (name: string, prepare: () => Promise<Prepared>): Variant => ({
    name: `forerunner: dnf, ${name}`,
    rounds: most,
    prepare,
    after: async (cwd) => {
      const its = await librariesOfTar(join(cwd, forerunnerArchive), cwd);
      if (its.join('\n') !== libraries.join('\n'))
        throw new Error(`the forerunner has other libraries: ${differences(libraries, its).join(', ')}`);
    },
  });
  const series = await interleave(rounds, time, [
    { name: 'warm', prepare: () => fixed(buildCommand(warm, [own], source)) },
    { name: 'cold', prepare: fresh },
    ...(notes.length > 0
      ? []
      : [
          forerunner('cold', async () => {
            cache = await mkdtemp(join(directory, 'cache-'));
            return forerunnerCommand(directory, cache, standIn, own);
          }),
          forerunner('warm', () => forerunnerCommand(directory, cache, standIn, own)),
        ]),
  ]);
  const [ownWarm, ownCold, itsCold, itsWarm] = series;
  const targets: Target[] = [
    {
      about: 'cold: forerunner / this program',
      value: ratio(itsCold, ownCold),
      limit: limits.cold,
      atLeast: true,
      unit: 'x',
    },
    {
      about: 'warm: forerunner / this program',
      value: ratio(itsWarm, ownWarm),
      limit: limits.warm,
      atLeast: true,
      unit: 'x',
    },
    {
      about: 'peak memory of any build',
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
