import { beginsStatement, canHold, leadsToValue, needsBlock, standsAlone, takesBlock } from './keywords.js';
import { errorAt, type Place, type Problem } from './problem.js';
import { tokensOf, type Token } from './tokens.js';

/** One statement: words that end with a semicolon, or that have a block. */
export interface Statement {
  /** Its first word, in lower case. */
  readonly keyword: string;
  /** All of its words and marks, the first one included; no semicolon, no braces of the block. */
  readonly tokens: readonly Token[];
  readonly block: readonly Statement[] | undefined;
  readonly place: Place;
}

/** Far above any real configuration; the walks over the tree are recursive. */
const mostNested = 60;

/** A block that is not closed yet. */
interface Open {
  readonly head: readonly Token[];
  readonly brace: Token | undefined;
  readonly statements: Statement[];
}

/**
 * The statements of one file, nested as its braces are. Statements that are not known are kept as they stand: whether
 * dhcpd knows them is its own word.
 */
export function statementsOf(
  file: string,
  text: string,
): { readonly statements: readonly Statement[]; readonly problems: readonly Problem[] } {
  const { tokens, problems: scanned, unclosed: quote } = tokensOf(file, text);
  // What stands behind a quote without its partner is the inside of strings taken for words.
  if (quote !== undefined)
    return { statements: [], problems: [errorAt(quote, 'this string has no closing quote')] };
  const problems: Problem[] = [...scanned];
  const start: Place = { file, line: 1, column: 1 };
  const root: Open = { head: [], brace: undefined, statements: [] };
  const open: Open[] = [root];
  let words: Token[] = [];
  /** Depth of braces inside of a statement: the fields of `option NAME code N = { ... };`. */
  let record = 0;
  const current = (): Open => open.at(-1) ?? root;
  const complete = (
    block: readonly Statement[] | undefined,
    head: readonly Token[],
  ): Statement | undefined => {
    const [first] = head;
    if (first === undefined) return undefined;
    return { keyword: keywordOf(first), tokens: head, block, place: placeOf(first) };
  };
  /** Completes the statement whose end is missing, so that what follows is read as if it were there. */
  const endMissing = (after: Token): void => {
    const statement = complete(undefined, words);
    if (statement !== undefined && needsBlock(statement.keyword)) {
      problems.push(errorAt(after.end, `expected { after ${shownAll(words)}`));
      open.push({ head: words, brace: undefined, statements: [] });
    } else {
      problems.push(errorAt(after.end, `expected a semicolon after ${shown(after)}`));
      if (statement !== undefined) current().statements.push(statement);
    }
    words = [];
  };
  /** The block whose closing brace is most likely missing: one that cannot hold what begins in it. */
  let suspect: Open | undefined;

  for (const token of tokens) {
    const mark = token.kind === 'mark' ? token.text : '';
    const last = words.at(-1);
    if (record > 0) {
      words.push(token);
      if (mark === '{') record += 1;
      if (mark === '}') record -= 1;
    } else if (mark === '{' && last !== undefined && opensRecord(words)) {
      words.push(token);
      record = 1;
    } else if (mark === '{') {
      problems.push(...problemsOfHead(words, token));
      if (open.length > mostNested) {
        problems.push(
          errorAt(placeOf(token), `expected at most ${String(mostNested)} blocks in one another`),
        );
        return { statements: [], problems };
      }
      const keyword = words[0] === undefined ? '' : keywordOf(words[0]);
      suspect ??= open.find(
        ({ head: [outer] }) => outer !== undefined && !canHold(keywordOf(outer), keyword),
      );
      open.push({ head: words, brace: token, statements: [] });
      words = [];
    } else if (mark === '}') {
      if (last !== undefined) endMissing(last);
      const closed = open.length > 1 ? open.pop() : undefined;
      if (closed === undefined) problems.push(errorAt(placeOf(token), 'this brace closes nothing'));
      else {
        const statement = complete(closed.statements, closed.head);
        if (statement !== undefined) current().statements.push(statement);
      }
    } else if (mark === ';') {
      const before = current().statements.at(-1);
      const statement = complete(undefined, words);
      if (statement !== undefined) {
        if (needsBlock(statement.keyword) && last !== undefined) endMissing(last);
        else current().statements.push(statement);
      } else if (before?.keyword !== 'key' || before.block === undefined) {
        problems.push(errorAt(placeOf(token), 'expected a statement before this semicolon'));
      }
      words = [];
    } else if (mark === ':' && endsLabel(words)) {
      const label = complete(undefined, words);
      if (label !== undefined) current().statements.push(label);
      words = [];
    } else {
      const inside = current().head[0];
      if (last !== undefined && isNext(words, token, inside === undefined ? '' : keywordOf(inside)))
        endMissing(last);
      words.push(token);
    }
  }

  const last = words.at(-1);
  if (last !== undefined) endMissing(last);
  const unclosed = open.slice(1).filter(({ brace }) => brace !== undefined);
  for (const block of unclosed.length > 0 && suspect !== undefined ? [suspect] : unclosed) {
    const text = `the block of ${shownAll(block.head)} is never closed`;
    problems.push(errorAt(placeOf(block.brace ?? block.head[0] ?? start), text));
  }
  return { statements: root.statements, problems };
}

/** The words of a statement, with names, addresses and the like in one: `range`, `192.0.2.1`, `192.0.2.9`. */
export function wordsOf({ tokens }: Pick<Statement, 'tokens'>): readonly string[] {
  return inWords(tokens, ({ text }) => text);
}

function shownAll(tokens: readonly Token[]): string {
  return inWords(tokens, shown).join(' ');
}

function inWords(tokens: readonly Token[], textOf: (token: Token) => string): readonly string[] {
  const words: string[] = [];
  let touching = false;
  for (const token of tokens) {
    const isJoint = token.kind === 'mark' && (token.text === '.' || token.text === ':');
    if (isJoint || touching) words.push(`${words.pop() ?? ''}${textOf(token)}`);
    else words.push(textOf(token));
    touching = isJoint;
  }
  return words;
}

function keywordOf({ kind, text }: Token): string {
  return kind === 'string' ? '' : text.toLowerCase();
}

function placeOf({ file, line, column }: Place): Place {
  return { file, line, column };
}

function shown({ kind, text }: Token): string {
  const short = text.length <= 40 ? text : `${text.slice(0, 37)}...`;
  return kind === 'string' ? JSON.stringify(short) : short;
}

/** `option NAME code N = {` and `array of {` begin a list of types, not a block. */
function opensRecord(words: readonly Token[]): boolean {
  const [first, , ...rest] = words;
  const last = rest.at(-1);
  return (
    first !== undefined &&
    keywordOf(first) === 'option' &&
    (last?.text === '=' || (last !== undefined && keywordOf(last) === 'of'))
  );
}

/** `case EXPRESSION:` and `default:` of a switch. */
function endsLabel(words: readonly Token[]): boolean {
  const [first] = words;
  if (first === undefined) return false;
  const keyword = keywordOf(first);
  return (keyword === 'case' && words.length > 1) || (keyword === 'default' && words.length === 1);
}

function problemsOfHead(words: readonly Token[], brace: Token): readonly Problem[] {
  const [first] = words;
  const last = words.at(-1);
  if (first === undefined || last === undefined) {
    return [errorAt(placeOf(brace), 'expected a declaration before this brace, such as subnet or host')];
  }
  return takesBlock(keywordOf(first)) ? [] : [errorAt(last.end, `expected a semicolon after ${shown(last)}`)];
}

/** Whether a word begins the next statement already, so that the semicolon before it is missing. */
function isNext(words: readonly Token[], token: Token, block: string): boolean {
  const [first] = words;
  const last = words.at(-1);
  if (first === undefined || last === undefined || token.kind !== 'name') return false;
  if (!beginsStatement(keywordOf(token), block)) return false;
  if (words.length === 1) return standsAlone(keywordOf(first));
  if (last.kind === 'mark') return last.text === ')' || last.text === '}';
  return last.kind === 'string' || !leadsToValue(keywordOf(last));
}
