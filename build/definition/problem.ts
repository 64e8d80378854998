import { cannot, reasonOf, type ToolError } from '../support/errors.js';

/** One thing that is wrong in a definition file. */
export interface Problem {
  /** Offset in the file's text, UTF-16 units: the problem is shown at its line and column. */
  readonly offset: number;
  /** Such as `packages.debian.state` or `run[0]`. */
  readonly field: string;
  /** What was expected, what was found. */
  readonly text: string;
}

/** A file may be wrong in thousands of ways at once; nobody reads on after this many. */
const mostShown = 100;

/**
 * The error for all problems of one file, in the order of the file: the first in its message, and the first hundred
 * as `file:line:column: field: expected ..., found ...` in its details. Exit code 2.
 */
export function problemsError(file: string, text: string, problems: readonly Problem[]): ToolError {
  const distinct = new Map(
    problems.map((problem) => [`${String(problem.offset)} ${problem.field} ${problem.text}`, problem]),
  );
  const lines = [...distinct.values()]
    .sort((a, b) => a.offset - b.offset)
    .slice(0, mostShown)
    .map((problem) => reasonOf(`${position(text, problem.offset)}: ${problem.field}: ${problem.text}`));
  const more = distinct.size > 1 ? ` (and ${String(distinct.size - 1)} more)` : '';
  return cannot('use', `definition ${file}`, `${lines[0] ?? 'it is wrong'}${more}`, {
    exitCode: 2,
    details: lines.map((line) => reasonOf(`${file}:${line}`)),
  });
}

/** `line:column`, both counted from 1. */
function position(text: string, offset: number): string {
  const before = text.slice(0, offset).split(/\r\n|\n|\r/);
  return `${String(before.length)}:${String((before.at(-1) ?? '').length + 1)}`;
}

/** Shows a value of the file: short, on one line. */
export function shown(value: unknown): string {
  if (value === undefined || value === null) return 'nothing';
  if (Array.isArray(value)) return value.length === 0 ? 'an empty list' : 'a list';
  if (typeof value === 'object') return Object.keys(value).length === 0 ? 'an empty mapping' : 'a mapping';
  const text = JSON.stringify(value);
  return text.length <= 80 ? text : `${text.slice(0, 76)}..."`;
}
