import { relative } from 'node:path';

/** The shorter way to write a path for somebody who stands in `cwd`. */
export function pathFrom(cwd: string, path: string): string {
  const short = relative(cwd, path);
  return short.startsWith('..') ? path : short;
}
