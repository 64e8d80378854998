import { findProgram } from './process.js';
import type { SeriesSummary, Target } from './report.js';

/** What every part of the benchmarks is given. */
export interface Setting {
  /** An empty directory of this part alone. */
  readonly directory: string;
  readonly rounds: number;
  /** Path of GNU time(1); without it there are no values of memory and processor time. */
  readonly time: string | undefined;
  /** The names of this machine's architecture and of the other one. */
  readonly own: string;
  readonly other: string;
}

/** What one part has measured. */
export interface Measured {
  readonly series: readonly SeriesSummary[];
  readonly targets: readonly Target[];
  /** Further values: for a reader, and for a program under their names. */
  readonly more: { readonly text: string; readonly document: Readonly<Record<string, unknown>> } | undefined;
  /** What could not be measured, and why. */
  readonly notes: readonly string[];
}

/** Looks for programs. @returns a note for each that is not there */
export async function missing(purpose: string, ...names: readonly string[]): Promise<readonly string[]> {
  const notes: string[] = [];
  for (const name of names) {
    if ((await findProgram(name)) === undefined)
      notes.push(`${purpose} not measured: ${name} is not installed`);
  }
  return notes;
}
