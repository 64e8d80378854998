import { nearest } from '../support/nearest.js';
import { compareBytes } from '../support/order.js';

const similarLimit = 5;

/** Names near to one that is missing, for error messages: a slip of the hand first, then names that hold the word, the shortest first. */
export function similarNames(name: string, names: ReadonlySet<string>): readonly string[] {
  const slip = nearest(name, names);
  const holding = [...names]
    .filter((candidate) => name.length > 2 && candidate !== slip && candidate.includes(name))
    .sort((a, b) => a.length - b.length || compareBytes(a, b));
  return [...(slip === undefined ? [] : [slip]), ...holding].slice(0, similarLimit);
}
