import { cannot } from '../../support/errors.js';

/** One stanza, in the order of its fields; names as written. */
export type Stanza = ReadonlyMap<string, string>;

export interface StanzaOptions {
  /** Lines that begin with `#` are comments: in files people write, not in what archives publish. */
  readonly comments?: boolean;
}

/** A field name: printable ASCII without space and colon, not beginning with `#` or `-` (deb822(5)). */
const fieldLine = /^([!"$-,./-9;-~][!-9;-~]*):[ \t]*(.*)$/;

/**
 * Parses one stanza of deb822(5). A folded value keeps its line ends; the further lines stay as written
 * without their first blank.
 * @param where names the file, and the stanza, in errors
 * @throws ToolError
 */
export function parseStanza(text: string, where: string, options: StanzaOptions = {}): Stanza {
  const fields = new Map<string, string>();
  const seen = new Set<string>();
  let field: string | undefined;
  let value: string[] = [];
  const finish = (): void => {
    if (field !== undefined) fields.set(field, value.join('\n'));
  };
  for (const raw of text.split('\n')) {
    const line = raw.trimEnd();
    if (options.comments === true && line.startsWith('#')) continue;
    if (line.includes('\0')) throw broken(where, 'a line holds a NUL byte');
    if (line === '') {
      // Blank lines around a stanza belong to nobody; one inside would have ended it.
      if (field !== undefined && value.length > 0) {
        finish();
        field = undefined;
      }
      continue;
    }
    if (line.startsWith(' ') || line.startsWith('\t')) {
      if (field === undefined) throw broken(where, `the line ${quote(line)} continues no field`);
      value.push(line.slice(1));
      continue;
    }
    const match = fieldLine.exec(line);
    const [, name, first] = match ?? [];
    if (name === undefined || first === undefined) throw broken(where, `${quote(line)} is not a field`);
    if (field === undefined && fields.size > 0) throw broken(where, 'it holds more than one stanza');
    finish();
    if (seen.has(name.toLowerCase())) throw broken(where, `the field ${name} is there twice`);
    seen.add(name.toLowerCase());
    field = name;
    value = [first];
  }
  finish();
  return fields;
}

export interface PlacedStanza {
  readonly fields: Stanza;
  /** Line of its first field, counted from 1. */
  readonly line: number;
}

/** Parses a small document of several stanzas, such as a `.sources` file. @throws ToolError */
export function parseStanzas(
  text: string,
  where: string,
  options: StanzaOptions = {},
): readonly PlacedStanza[] {
  const stanzas: PlacedStanza[] = [];
  let start = 0;
  let lines: string[] = [];
  const finish = (): void => {
    if (lines.length === 0) return;
    const fields = parseStanza(lines.join('\n'), `${where}:${start}`, options);
    if (fields.size > 0) stanzas.push({ fields, line: start });
    lines = [];
  };
  for (const [index, line] of text.split('\n').entries()) {
    if (line.trim() === '') {
      finish();
      continue;
    }
    if (lines.length === 0) start = index + 1;
    lines.push(line);
  }
  finish();
  return stanzas;
}

const packageField = Buffer.from('\nPackage: ');
const stanzaEnd = Buffer.from('\n\n');
const newline = 0x0a;

/**
 * Walks over a Packages index without making objects of its stanzas: searches the bytes for the Package field, which
 * comes first in every stanza of such an index.
 * @param visit gets the package's name and the offset of its stanza
 * @param start where these bytes begin in the whole index, for errors
 * @throws ToolError when a stanza does not begin with its Package field
 */
export function visitPackages(
  index: Buffer,
  where: string,
  visit: (name: string, offset: number) => void,
  start = 0,
): void {
  const first = packageField.subarray(1);
  let offset = index.subarray(0, first.length).equals(first) ? 0 : nextStanza(index, 0, where, start);
  while (offset >= 0) {
    const from = offset + first.length;
    const end = index.indexOf(newline, from);
    visit(index.toString('latin1', from, end < 0 ? index.length : end), offset);
    offset = nextStanza(index, end < 0 ? index.length : end, where, start);
  }
}

function nextStanza(index: Buffer, from: number, where: string, start: number): number {
  const found = index.indexOf(packageField, from);
  if (found < 0) return -1;
  if (found > 0 && index[found - 1] !== newline) {
    throw broken(where, `the stanza at byte ${start + found} does not begin with its Package field`);
  }
  return found + 1;
}

/** Name of the package whose stanza holds an offset. */
export function packageBefore(index: Buffer, offset: number): string | undefined {
  const found = index.lastIndexOf(packageField, offset);
  if (found < 0 && !index.subarray(0, packageField.length - 1).equals(packageField.subarray(1)))
    return undefined;
  const from = found + packageField.length;
  const end = index.indexOf(newline, from);
  return index.toString('latin1', from, end < 0 ? index.length : end);
}

/** Text of the stanza that begins at an offset `visitPackages` gave. */
export function stanzaText(index: Buffer, offset: number): string {
  const end = index.indexOf(stanzaEnd, offset);
  return index.toString('utf8', offset, end < 0 ? index.length : end);
}

function broken(where: string, reason: string): Error {
  return cannot('read', where, reason);
}

function quote(line: string): string {
  return JSON.stringify(line.length > 60 ? `${line.slice(0, 60)}…` : line);
}
