import type { Run } from './process.js';

/** All runs of one command. */
export interface Series {
  readonly name: string;
  readonly runs: readonly Run[];
}

export interface SeriesSummary {
  readonly name: string;
  readonly runs: number;
  /** Seconds. */
  readonly median: number;
  readonly minimum: number;
  readonly maximum: number;
  /** Processor seconds, the median. */
  readonly processor: number | null;
  /** Bytes: the largest of all runs. */
  readonly memory: number | null;
}

/** A measured value and what is asked of it. */
export interface Target {
  readonly about: string;
  /** Null when it could not be measured. */
  readonly value: number | null;
  /** Null when nothing is asked of it. */
  readonly limit: number | null;
  /** Whether the limit is the least that the value may be; otherwise it is the most. */
  readonly atLeast?: boolean;
  readonly unit: 's' | 'x' | 'MB';
}

export function summarize({ name, runs }: Series): SeriesSummary {
  const seconds = ascending(runs.map((run) => run.seconds));
  const usages = runs.flatMap((run) => run.usage ?? []);
  return {
    name,
    runs: runs.length,
    median: median(seconds),
    minimum: seconds[0] ?? NaN,
    maximum: seconds.at(-1) ?? NaN,
    processor: usages.length === 0 ? null : median(ascending(usages.map(({ processor }) => processor))),
    memory: usages.length === 0 ? null : Math.max(...usages.map(({ memory }) => memory)),
  };
}

function ascending(values: readonly number[]): readonly number[] {
  return [...values].sort((a, b) => a - b);
}

/** @param sorted ascending */
function median(sorted: readonly number[]): number {
  const lower = sorted[Math.floor((sorted.length - 1) / 2)] ?? NaN;
  const upper = sorted[Math.ceil((sorted.length - 1) / 2)] ?? NaN;
  return (lower + upper) / 2;
}

export function isMet({ value, limit, atLeast = false }: Target): boolean | null {
  if (value === null || limit === null) return null;
  return atLeast ? value >= limit : value <= limit;
}

/** Of the medians. @returns null when one of them was not measured */
export function ratio(of: SeriesSummary | undefined, to: SeriesSummary | undefined): number | null {
  return of === undefined || to === undefined ? null : of.median / to.median;
}

/** The largest memory of all rows, bytes. @returns null when it was not measured */
export function largest(rows: readonly (SeriesSummary | undefined)[]): number | null {
  const values = rows.flatMap((row) => row?.memory ?? []);
  return values.length === 0 ? null : Math.max(...values);
}

export function textOfSeries(rows: readonly SeriesSummary[]): string {
  return table(
    ['PROCESS', 'MEDIAN', 'MIN', 'MAX', 'RUNS', 'CPU', 'PEAK MEMORY'],
    rows.map((row) => [
      row.name,
      `${row.median.toFixed(2)} s`,
      `${row.minimum.toFixed(2)} s`,
      `${row.maximum.toFixed(2)} s`,
      String(row.runs),
      row.processor === null ? '-' : `${row.processor.toFixed(2)} s`,
      row.memory === null ? '-' : `${megabytes(row.memory)} MB`,
    ]),
  );
}

export function textOfTargets(targets: readonly Target[]): string {
  return table(
    ['RATIO OR LIMIT', 'VALUE', 'TARGET', ''],
    targets.map((target) => [
      target.about,
      target.value === null ? 'not measured' : shown(target.value, target.unit),
      target.limit === null
        ? '-'
        : `${target.atLeast === true ? '>=' : '<='} ${shown(target.limit, target.unit)}`,
      { true: 'met', false: 'MISSED', null: '' }[`${isMet(target)}`],
    ]),
  );
}

export function table(header: readonly string[], rows: readonly (readonly string[])[]): string {
  const all = [header, ...rows];
  const widths = header.map((_, column) => Math.max(...all.map((row) => row[column]?.length ?? 0)));
  return all
    .map((row) =>
      row
        .map((cell, column) =>
          column === 0 ? cell.padEnd(widths[0] ?? 0) : cell.padStart(widths[column] ?? 0),
        )
        .join('  ')
        .trimEnd(),
    )
    .map((line) => `${line}\n`)
    .join('');
}

/** Megabytes of 10^6 bytes. */
function megabytes(bytes: number): string {
  return (bytes / 1e6).toFixed(0);
}

function shown(value: number, unit: Target['unit']): string {
  if (unit === 'MB') return `${megabytes(value)} MB`;
  return unit === 's' ? `${value.toFixed(2)} s` : `${value.toFixed(3)} x`;
}
