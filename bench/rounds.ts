import { rm } from 'node:fs/promises';
import { measure, type Command, type Run } from './process.js';
import { summarize, type SeriesSummary } from './report.js';

/** A command; `directory` is removed after it. */
export type Prepared = Command & { readonly directory?: string };

export interface Variant {
  readonly name: string;
  /** The most rounds that it takes part in, for what takes long; all of them without this. */
  readonly rounds?: number;
  /** Not measured. */
  readonly prepare: () => Promise<Prepared>;
  /** Not measured; before the directory is removed. */
  readonly after?: (cwd: string) => Promise<void>;
}

export function fixed(command: Command): Promise<Prepared> {
  return Promise.resolve(command);
}

/**
 * Each round runs everything once, so that what slows the machine for a while slows all alike.
 *
 * @param time path of GNU time(1)
 * @returns one summary per variant, in their order
 */
export async function interleave(
  rounds: number,
  time: string | undefined,
  variants: readonly Variant[],
): Promise<readonly SeriesSummary[]> {
  const series = variants.map((variant) => ({ variant, runs: new Array<Run>() }));
  for (let round = 1; round <= rounds; round += 1) {
    for (const { variant, runs } of series) {
      if (round > (variant.rounds ?? rounds)) continue;
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
