import { isUtf8 } from 'node:buffer';

/** What is told while a document is read. Names are local: what stands behind the colon of `rpm:entry`. */
export interface XmlVisitor {
  /** Names of elements and attributes that mean something; every other one is told as the empty string. */
  readonly names: readonly string[];
  /** @returns whether the text in the element is wanted; it is passed over otherwise */
  open(name: string, tag: XmlTag): boolean;
  /** @param text all character data of an element without children; undefined when it was not wanted */
  close(name: string, text: string | undefined): void;
}

/** The start tag that is being told of; good until `open` returns. */
export interface XmlTag {
  /** Of the element: 0 for the root. */
  readonly depth: number;
  /** Value of an attribute, undefined when there is none. @throws Error for an unknown entity */
  attribute(name: string): string | undefined;
  /** The number of an attribute, negative when there is none: its value can be read without making a string of it. */
  find(name: string): number;
  /** Whether all values mean what their bytes say, in JSON too: no entity, quote, backslash, control character. */
  readonly isPlain: boolean;
  start(found: number): number;
  end(found: number): number;
  /** The document around the tag; it changes with the next chunk. */
  readonly bytes: Uint8Array;
}

/** No tag, comment or text that is wanted comes near. */
const longestToken = 4 * 1024 ** 2;
const deepest = 32;
const mostAttributes = 64;
/** Repository metadata has some fifty of them. */
const mostNames = 256;
const slots = 1024;

const tab = 0x09;
const newline = 0x0a;
const carriageReturn = 0x0d;
const space = 0x20;
const exclamation = 0x21;
const quote = 0x22;
const ampersand = 0x26;
const apostrophe = 0x27;
const slash = 0x2f;
const less = 0x3c;
const equals = 0x3d;
const greater = 0x3e;
const question = 0x3f;
const backslash = 0x5c;

/** The bytes that an attribute's value cannot hold, or not as they are, here and in JSON. */
const special = new Uint8Array(256);
special.fill(1, 0, space);
for (const byte of [quote, ampersand, apostrophe, less, backslash]) special[byte] = 1;

interface Name {
  /** With its prefix. */
  readonly bytes: Uint8Array;
  /** One of the visitor's names, or the empty string. */
  readonly local: string;
}

/**
 * Reads an XML document (XML 1.0, 5th edition) from chunks of UTF-8, in memory that a chunk and one tag need. It makes
 * strings of nothing that is not asked for, and so is as fast as the decompression before it, which general parsers
 * are not (docs/dependencies.md). Well-formedness of tags is checked; document type declarations, and with them
 * entities of their own, are refused; namespaces are not told apart.
 */
export class XmlReader {
  readonly #visitor: XmlVisitor;
  readonly #known: ReadonlyMap<string, string>;
  readonly #names = new Array<Name | undefined>(slots).fill(undefined);
  #nameCount = 0;
  /** Bytes that are not read yet, at the beginning. */
  #window = Buffer.allocUnsafe(512 * 1024);
  #filled = 0;
  /** What must be there before it is looked at again: many small chunks of a long tag would cost hours. */
  #wanted = 0;
  readonly #open: Name[] = [];
  #isStarted = false;
  #isEnded = false;
  /** Text so far of the innermost element, when that is wanted. */
  #text: string | undefined;
  readonly #tag = new Tag();

  constructor(visitor: XmlVisitor) {
    this.#visitor = visitor;
    this.#known = new Map(visitor.names.map((name) => [name, name]));
  }

  /** @throws Error that says what is wrong with the document, or whatever the visitor throws */
  write(chunk: Uint8Array): void {
    if (this.#filled + chunk.length > this.#window.length) {
      const larger = Buffer.allocUnsafe(Math.max(this.#filled + chunk.length, 2 * this.#window.length));
      larger.set(this.#window.subarray(0, this.#filled));
      this.#window = larger;
    }
    this.#window.set(chunk, this.#filled);
    if (chunk.includes(0)) throw new Error('it holds a NUL byte');
    this.#filled += chunk.length;
    if (this.#filled >= this.#wanted) this.#read();
  }

  /** To be called when there is no further chunk. @throws Error when the document is not complete */
  end(): void {
    this.#read();
    if (!this.#isEnded || this.#filled > 0) throw new Error('it is cut off');
  }

  #read(): void {
    const consumed = this.#scan(wholeCharacters(this.#window, this.#filled));
    if (!isUtf8(this.#window.subarray(0, consumed))) throw new Error('it is not UTF-8 text');
    this.#window.copyWithin(0, consumed, this.#filled);
    this.#filled -= consumed;
    if (this.#filled > longestToken)
      throw new Error(`a tag or text of it is longer than ${longestToken} bytes`);
    this.#wanted = 2 * this.#filled;
  }

  /** @returns how many bytes are done with; the others begin something that is not complete yet */
  #scan(limit: number): number {
    const bytes = this.#window;
    let at = 0;
    if (!this.#isStarted && limit >= 3 && bytes.readUIntBE(0, 3) === 0xefbbbf) at = 3;
    for (;;) {
      const start = at;
      while (at < limit && bytes[at] !== less) at++;
      if (at === limit && this.#text !== undefined) return start;
      if (at > start) this.#characters(bytes, start, at);
      if (at === limit) return at;
      const next = this.#markup(bytes, at, limit);
      if (next < 0) return at;
      at = next;
    }
  }

  #characters(bytes: Buffer, start: number, end: number): void {
    if (this.#text !== undefined) this.#addText(unescape(bytes.toString('utf8', start, end)));
    else if (this.#open.length === 0 && !isBlank(bytes, start, end))
      throw new Error('it has text outside of its root element');
  }

  #addText(text: string): void {
    const all = (this.#text ?? '') + text;
    if (all.length > longestToken)
      throw new Error(`a tag or text of it is longer than ${longestToken} bytes`);
    this.#text = all;
  }

  /** @returns where it ends, or a negative number when that is not there yet */
  #markup(bytes: Buffer, at: number, limit: number): number {
    if (at + 1 >= limit) return -1;
    const second = bytes[at + 1];
    if (second === slash) return this.#endTag(bytes, at + 2, limit);
    if (second === exclamation) return this.#declaration(bytes, at, limit);
    if (second === question) return this.#instruction(bytes, at, limit);
    return this.#startTag(bytes, at + 1, limit);
  }

  #startTag(bytes: Buffer, from: number, limit: number): number {
    let at = nameEnd(bytes, from, limit);
    if (at >= limit) return -1;
    const tag = this.#tag;
    const name = this.#intern(bytes, from, at);
    tag.reset(bytes, this.#open.length);
    for (;;) {
      const gap = at;
      at = afterBlanks(bytes, at, limit);
      if (at + 1 >= limit) return -1;
      const byte = bytes[at];
      if (byte === greater) break;
      if (byte === slash) {
        if (bytes[at + 1] !== greater) throw malformed(bytes, from, limit);
        break;
      }
      if (at === gap) throw malformed(bytes, from, limit);
      const attributeStart = at;
      at = nameEnd(bytes, at, limit);
      if (at >= limit) return -1;
      const attribute = this.#intern(bytes, attributeStart, at);
      at = afterBlanks(bytes, at, limit);
      if (at >= limit) return -1;
      if (bytes[at] !== equals) throw malformed(bytes, from, limit);
      at = afterBlanks(bytes, at + 1, limit);
      if (at >= limit) return -1;
      const mark = bytes[at];
      if (mark !== quote && mark !== apostrophe) throw malformed(bytes, from, limit);
      const start = ++at;
      for (; ; at++) {
        while (at < limit && special[bytes[at] ?? 0] === 0) at++;
        if (at >= limit) return -1;
        const byte = bytes[at];
        if (byte === mark) break;
        if (byte === less) throw malformed(bytes, from, limit);
        if (byte !== apostrophe) tag.isPlain = false;
      }
      if (!tag.add(attribute, start, at)) throw malformed(bytes, from, limit);
      at++;
    }
    this.#opened(name);
    if (bytes[at] !== slash) return at + 1;
    this.#closed(name);
    return at + 2;
  }

  #endTag(bytes: Buffer, from: number, limit: number): number {
    const end = nameEnd(bytes, from, limit);
    const at = afterBlanks(bytes, end, limit);
    if (at >= limit) return -1;
    const name = this.#open.at(-1);
    if (bytes[at] !== greater || name === undefined || !isSame(name.bytes, bytes, from, end)) {
      throw new Error(`it has the end tag ${shown(bytes, from - 2, limit)} in a wrong place`);
    }
    this.#closed(name);
    return at + 1;
  }

  #opened(name: Name): void {
    if (this.#isEnded) throw new Error('it has more than one root element');
    if (this.#open.length >= deepest) throw new Error(`it is nested more than ${deepest} levels deep`);
    this.#isStarted = true;
    this.#text = this.#visitor.open(name.local, this.#tag) ? '' : undefined;
    this.#open.push(name);
  }

  #closed(name: Name): void {
    const text = this.#text;
    this.#text = undefined;
    this.#open.pop();
    this.#isEnded = this.#open.length === 0;
    this.#visitor.close(name.local, text);
  }

  #declaration(bytes: Buffer, at: number, limit: number): number {
    const length = Math.min(limit - at, 9);
    const begin = bytes.toString('latin1', at, at + length);
    if ('<!--'.startsWith(begin) || '<![CDATA['.startsWith(begin)) {
      if (begin !== '<![CDATA[') return -1;
      const end = bytes.subarray(0, limit).indexOf(']]>', at);
      if (end < 0) return -1;
      if (this.#open.length === 0) throw new Error('it has text outside of its root element');
      if (this.#text !== undefined) this.#addText(bytes.toString('utf8', at + 9, end));
      return end + 3;
    }
    if (!begin.startsWith('<!--')) throw new Error('it has a document type declaration');
    return endOf(bytes, '-->', at + 4, limit);
  }

  #instruction(bytes: Buffer, at: number, limit: number): number {
    const end = endOf(bytes, '?>', at + 2, limit);
    if (end < 0) return -1;
    const encoding = /^<\?xml\s[^]*?\sencoding\s*=\s*["']([^"']*)["']/.exec(
      bytes.toString('latin1', at, end),
    );
    if (encoding?.[1] !== undefined && encoding[1].toLowerCase() !== 'utf-8')
      throw new Error(`its encoding is ${JSON.stringify(encoding[1])}, not UTF-8`);
    return end;
  }

  #intern(bytes: Buffer, start: number, end: number): Name {
    let hash = 0;
    for (let at = start; at < end; at++) hash = (Math.imul(hash, 31) + (bytes[at] ?? 0)) | 0;
    for (let slot = (hash ^ (hash >>> 10)) & (slots - 1); ; slot = (slot + 1) & (slots - 1)) {
      const name = this.#names[slot];
      if (name === undefined) return this.#newName(slot, bytes.subarray(start, end));
      if (isSame(name.bytes, bytes, start, end)) return name;
    }
  }

  #newName(slot: number, spelt: Buffer): Name {
    const text = spelt.toString('utf8');
    // XML allows more of the world's characters and forbids some of these: nothing hangs on it.
    if (!/^[A-Za-z_:\u0080-\u{10ffff}][-.0-9A-Za-z_:\u0080-\u{10ffff}]*$/u.test(text))
      throw new Error(`${JSON.stringify(text.slice(0, 60))} is no name of an element or attribute`);
    if (this.#nameCount++ >= mostNames) throw new Error('it has too many different elements and attributes');
    const name = {
      bytes: Uint8Array.from(spelt),
      local: this.#known.get(text.slice(text.indexOf(':') + 1)) ?? '',
    };
    this.#names[slot] = name;
    return name;
  }
}

class Tag implements XmlTag {
  bytes: Buffer = Buffer.alloc(0);
  depth = 0;
  isPlain = true;
  #count = 0;
  readonly #names: Name[] = [];
  readonly #starts = new Int32Array(mostAttributes);
  readonly #ends = new Int32Array(mostAttributes);

  reset(bytes: Buffer, depth: number): void {
    this.bytes = bytes;
    this.depth = depth;
    this.isPlain = true;
    this.#count = 0;
  }

  /** @returns whether that is allowed: no attribute may be there twice */
  add(name: Name, start: number, end: number): boolean {
    const count = this.#count;
    if (count >= mostAttributes) return false;
    for (let i = 0; i < count; i++) if (this.#names[i] === name) return false;
    this.#names[count] = name;
    this.#starts[count] = start;
    this.#ends[count] = end;
    this.#count++;
    return true;
  }

  attribute(name: string): string | undefined {
    const found = this.find(name);
    if (found < 0) return undefined;
    const text = this.bytes.toString('utf8', this.start(found), this.end(found));
    return this.isPlain ? text : unescape(text.replace(/\r\n|[\t\n\r]/g, ' '));
  }

  find(name: string): number {
    for (let i = 0; i < this.#count; i++) if (this.#names[i]?.local === name) return i;
    return -1;
  }

  start(found: number): number {
    return this.#starts[found] ?? 0;
  }

  end(found: number): number {
    return this.#ends[found] ?? 0;
  }
}

/** The five entities that every document has, and characters by number (XML 1.0, 4.1 and 4.6). */
const entities = new Map([
  ['lt', '<'],
  ['gt', '>'],
  ['amp', '&'],
  ['quot', '"'],
  ['apos', "'"],
]);

function unescape(text: string): string {
  const plain = text.includes('\r') ? text.replace(/\r\n?/g, '\n') : text;
  if (!plain.includes('&')) return plain;
  return plain.replace(/&([^;&]{0,12};?)/g, (written, body: string) => {
    const character = body.endsWith(';') ? characterOf(body.slice(0, -1)) : undefined;
    if (character === undefined) throw new Error(`${JSON.stringify(written)} is no entity`);
    return character;
  });
}

function characterOf(entity: string): string | undefined {
  const [, hexadecimal, decimal] = /^#(?:x([0-9A-Fa-f]{1,6})|([0-9]{1,7}))$/.exec(entity) ?? [];
  if (hexadecimal === undefined && decimal === undefined) return entities.get(entity);
  const code = hexadecimal === undefined ? Number(decimal) : Number.parseInt(hexadecimal, 16);
  const isCharacter =
    code === tab ||
    code === newline ||
    code === carriageReturn ||
    (code >= space && code < 0xd800) ||
    (code > 0xdfff && code < 0xfffe) ||
    (code > 0xffff && code <= 0x10ffff);
  return isCharacter ? String.fromCodePoint(code) : undefined;
}

/** The end of the last character that is there as a whole. */
function wholeCharacters(bytes: Buffer, end: number): number {
  for (let back = 1; back <= 3 && back <= end; back++) {
    const byte = bytes[end - back] ?? 0;
    if (byte < 0x80) return end;
    if (byte >= 0xc0) return back < (byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : 2) ? end - back : end;
  }
  return end;
}

/** The first byte that cannot be in a name. */
function nameEnd(bytes: Buffer, from: number, limit: number): number {
  let at = from;
  while (at < limit) {
    const byte = bytes[at] ?? 0;
    if (byte <= space || byte === greater || byte === equals || byte === slash || byte === less) break;
    at++;
  }
  return at;
}

function afterBlanks(bytes: Buffer, from: number, limit: number): number {
  let at = from;
  while (at < limit) {
    const byte = bytes[at];
    if (byte !== space && byte !== newline && byte !== tab && byte !== carriageReturn) break;
    at++;
  }
  return at;
}

function isBlank(bytes: Buffer, start: number, end: number): boolean {
  return afterBlanks(bytes, start, end) === end;
}

function endOf(bytes: Buffer, mark: string, from: number, limit: number): number {
  const found = from > limit ? -1 : bytes.subarray(0, limit).indexOf(mark, from);
  return found < 0 ? -1 : found + mark.length;
}

function isSame(name: Uint8Array, bytes: Uint8Array, start: number, end: number): boolean {
  if (name.length !== end - start) return false;
  for (let i = 0; i < name.length; i++) if (name[i] !== bytes[start + i]) return false;
  return true;
}

function malformed(bytes: Buffer, from: number, limit: number): Error {
  return new Error(`its tag ${shown(bytes, from - 1, limit)} is malformed`);
}

/** The beginning of a tag; behind the limit are bytes of nothing. */
function shown(bytes: Buffer, from: number, limit: number): string {
  const text = bytes.toString('utf8', from, Math.min(from + 60, limit));
  return JSON.stringify(text.replace(/>[^]*/, '>'));
}
