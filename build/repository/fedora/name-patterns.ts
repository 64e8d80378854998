import { evrText, type Evr } from './evr.js';

interface Named extends Evr {
  readonly name: string;
  readonly architecture: string;
}

/**
 * Whether a package is meant by one of the patterns of `excludepkgs` (dnf.conf(5)): shell patterns of names, or of
 * names with version, release and architecture as dnf spells them.
 */
export function matchesPackage(patterns: readonly string[], record: Named): boolean {
  if (patterns.length === 0) return false;
  const { name, version, release, architecture, epoch } = record;
  const full = `${name}-${version}-${release}`;
  const spellings = [
    name,
    `${name}.${architecture}`,
    `${name}-${version}`,
    full,
    `${full}.${architecture}`,
    `${name}-${evrText(record)}`,
    `${name}-${epoch}:${version}-${release}.${architecture}`,
    `${epoch}:${full}`,
    `${epoch}:${full}.${architecture}`,
  ];
  return patterns.some((pattern) => spellings.some((spelling) => matchesGlob(pattern, spelling)));
}

/** fnmatch(3) with `*`, `?` and `[...]`, in time that grows with the product of the lengths at most. */
export function matchesGlob(pattern: string, text: string): boolean {
  let p = 0;
  let t = 0;
  let star = -1;
  let resume = 0;
  while (t < text.length) {
    const length = matchOne(pattern, p, text.charAt(t));
    if (pattern[p] === '*') {
      star = p++;
      resume = t;
    } else if (length > 0) {
      p += length;
      t++;
    } else if (star >= 0) {
      p = star + 1;
      t = ++resume;
    } else return false;
  }
  while (pattern[p] === '*') p++;
  return p === pattern.length;
}

/** @returns how much of the pattern stands for the character, 0 when it does not */
function matchOne(pattern: string, at: number, character: string): number {
  const first = pattern[at];
  if (first === undefined || first === '*') return 0;
  if (first === '?') return 1;
  const isNegated = first === '[' && /[!^]/.test(pattern[at + 1] ?? '');
  const begin = at + (isNegated ? 2 : 1);
  const end = first === '[' ? pattern.indexOf(']', begin + 1) : -1;
  if (end < 0) return first === character ? 1 : 0;
  let found = false;
  for (let i = begin; i < end; i++) {
    const last = pattern[i + 1] === '-' && i + 2 < end ? pattern.charAt(i + 2) : undefined;
    if (last === undefined) found ||= pattern[i] === character;
    else {
      found ||= pattern.charAt(i) <= character && character <= last;
      i += 2;
    }
  }
  return found === isNegated ? 0 : end + 1 - at;
}
