/** Where something stands in a configuration file. */
export interface Place {
  readonly file: string;
  /** From 1. */
  readonly line: number;
  /** From 1, in UTF-16 units; a tab is one. */
  readonly column: number;
}

/** One thing that is wrong, or that is most likely not meant. */
export interface Problem {
  /** With an `error` the server does not start, or something it declares cannot work. */
  readonly severity: 'error' | 'warning';
  readonly place: Place;
  readonly text: string;
}

export function errorAt(place: Place, text: string): Problem {
  return { severity: 'error', place, text };
}

export function warningAt(place: Place, text: string): Problem {
  return { severity: 'warning', place, text };
}
