import { errorAt, type Place, type Problem } from './problem.js';

export interface Token extends Place {
  /** A `mark` is a single character, such as a brace or a semicolon. */
  readonly kind: 'string' | 'number' | 'name' | 'mark';
  /** Of a string: without its quotes, escapes resolved. */
  readonly text: string;
  /** The place directly after it. */
  readonly end: Place;
}

/** dhcpd's own limit for one token, in bytes (common/conflex.c). */
const longest = 1500;

/** Everything that dhcpd's scanner skips: spaces and comments, which reach to the end of their line. */
const skipped = /(?:[\t-\r ]+|#[^\n]*)*/y;
const number = /[0-9-][0-9A-Za-z_-]*/y;
const name = /[A-Za-z][0-9A-Za-z_-]*/y;

export interface Tokens {
  readonly tokens: readonly Token[];
  readonly problems: readonly Problem[];
  /**
   * Where a closing quote is missing. A string may go on over several lines, so that is noticed only where the file
   * ends; the first string that does go on is most likely the one.
   */
  readonly unclosed: Place | undefined;
}

/** The marks that statements and expressions are made of; no statement holds another. */
const marks = ';{}(),.:=~!/*+-&|^%?';

/** Splits the text of a configuration file as dhcpd does. */
export function tokensOf(file: string, text: string): Tokens {
  const tokens: Token[] = [];
  const problems: Problem[] = [];
  let offset = 0;
  let line = 1;
  let lineStart = 0;
  /** The first string of more than one line. */
  let longString: Place | undefined;
  const place = (): Place => ({ file, line, column: offset - lineStart + 1 });
  /** Moves on, and counts the lines. */
  const advance = (to: number): void => {
    for (; offset < to; offset++) {
      if (text[offset] !== '\n') continue;
      line += 1;
      lineStart = offset + 1;
    }
  };
  const match = (pattern: RegExp): string | undefined => {
    pattern.lastIndex = offset;
    return pattern.exec(text)?.[0];
  };
  for (;;) {
    advance(offset + (match(skipped)?.length ?? 0));
    if (offset >= text.length) return { tokens, problems, unclosed: undefined };
    const start = place();
    if (text[offset] === '"') {
      const string = readString(text, offset + 1);
      advance(string.end);
      if (line > start.line) longString ??= start;
      if (!string.closed) return { tokens, problems, unclosed: longString ?? start };
      if (Buffer.byteLength(string.value) >= longest)
        problems.push(errorAt(start, `this string is longer than ${String(longest)} bytes`));
      tokens.push({ kind: 'string', text: string.value, ...start, end: place() });
      continue;
    }
    const digits = match(number);
    const word = digits ?? match(name) ?? text[offset] ?? '';
    const kind = digits !== undefined ? 'number' : /^[A-Za-z]/.test(word) ? 'name' : 'mark';
    if (kind === 'mark' && !marks.includes(word))
      problems.push(errorAt(start, `expected a word, a string or a mark, found ${word}`));
    advance(offset + word.length);
    tokens.push({ kind, text: word, ...start, end: place() });
  }
}

const escapes = new Map([
  ['t', '\t'],
  ['r', '\r'],
  ['n', '\n'],
  ['b', '\b'],
]);

/** @param from offset after the opening quote */
function readString(
  text: string,
  from: number,
): { readonly value: string; readonly end: number; readonly closed: boolean } {
  let value = '';
  for (let offset = from; offset < text.length; offset++) {
    const character = text[offset] ?? '';
    if (character === '"') return { value, end: offset + 1, closed: true };
    if (character !== '\\') {
      value += character;
      continue;
    }
    const code = /^(?:x([0-9A-Fa-f]{2})|([0-3][0-7]{2}))/.exec(text.slice(offset + 1, offset + 4));
    if (code === null) {
      offset += 1;
      const escaped = text[offset] ?? '';
      value += escapes.get(escaped) ?? escaped;
    } else {
      offset += code[0].length;
      value += String.fromCharCode(
        code[1] === undefined ? parseInt(code[2] ?? '', 8) : parseInt(code[1], 16),
      );
    }
  }
  return { value, end: text.length, closed: false };
}
