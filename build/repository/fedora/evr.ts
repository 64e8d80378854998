/** What rpm orders packages of one name by. */
export interface Evr {
  /** 0 where there is none: rpm takes that for the same. */
  readonly epoch: number;
  readonly version: string;
  readonly release: string;
}

/** EPOCH:VERSION-RELEASE, without an epoch of 0: the spelling of lock files and messages. */
export function evrText({ epoch, version, release }: Evr): string {
  return `${epoch === 0 ? '' : `${epoch}:`}${version}-${release}`;
}

/** Orders packages as rpm does: epoch, version, release (rpm-version(7)). */
export function compareEvr(a: Evr, b: Evr): number {
  return (
    Math.sign(a.epoch - b.epoch) ||
    compareSegments(a.version, b.version) ||
    compareSegments(a.release, b.release)
  );
}

/**
 * Compares segment by segment, runs of ASCII digits and runs of ASCII letters; whatever stands between them parts
 * them and counts for nothing. A tilde sorts before the end, a caret behind it but before any other segment.
 */
function compareSegments(a: string, b: string): number {
  let i = 0;
  let j = 0;
  while (i < a.length || j < b.length) {
    while (i < a.length && kindOf(a, i) === 'separator') i++;
    while (j < b.length && kindOf(b, j) === 'separator') j++;
    const left = kindOf(a, i);
    const right = kindOf(b, j);
    if (left === 'tilde' || right === 'tilde') {
      if (left !== right) return left === 'tilde' ? -1 : 1;
    } else if (left === 'caret' || right === 'caret') {
      if (left !== right) return (left === 'caret') === (left === 'end' || right === 'end') ? 1 : -1;
    } else {
      if (left === 'end' || right === 'end') return left === right ? 0 : left === 'end' ? -1 : 1;
      if (left !== right) return left === 'digit' ? 1 : -1;
      const endA = runEnd(a, i);
      const endB = runEnd(b, j);
      const difference = compareRuns(a.slice(i, endA), b.slice(j, endB), left === 'digit');
      if (difference !== 0) return difference;
      i = endA;
      j = endB;
      continue;
    }
    i++;
    j++;
  }
  return 0;
}

type Kind = 'digit' | 'letter' | 'tilde' | 'caret' | 'separator' | 'end';

function kindOf(text: string, at: number): Kind {
  if (at >= text.length) return 'end';
  const code = text.charCodeAt(at);
  if (code >= 0x30 && code <= 0x39) return 'digit';
  if ((code >= 0x41 && code <= 0x5a) || (code >= 0x61 && code <= 0x7a)) return 'letter';
  return code === 0x7e ? 'tilde' : code === 0x5e ? 'caret' : 'separator';
}

function runEnd(text: string, from: number): number {
  const kind = kindOf(text, from);
  let end = from + 1;
  while (kindOf(text, end) === kind) end++;
  return end;
}

/** Numbers without leading zeros: the longer is the greater, equal lengths compare as text. */
function compareRuns(a: string, b: string, areNumbers: boolean): number {
  const left = areNumbers ? a.replace(/^0+/, '') : a;
  const right = areNumbers ? b.replace(/^0+/, '') : b;
  if (areNumbers && left.length !== right.length) return left.length < right.length ? -1 : 1;
  return left === right ? 0 : left < right ? -1 : 1;
}
