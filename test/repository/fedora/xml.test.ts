import { execFileSync } from 'node:child_process';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { XmlReader } from '../../../build/repository/fedora/xml.js';
import { expectModestMemory } from '../../support/memory.js';
import { requireTools } from '../../support/tools.js';

const names = ['a', 'b', 'entry', 'name', 'ver'];

/** Everything that is told of a document, in its order. Text is of elements without children. */
function read(document: Buffer, size = document.length): readonly string[] {
  const told: string[] = [];
  const reader = new XmlReader({
    names,
    open: (name, tag) => {
      const attributes = names.flatMap((attribute) => {
        const value = tag.attribute(attribute);
        return value === undefined ? [] : [`${attribute}=${JSON.stringify(value)}`];
      });
      told.push([`${tag.depth}`, `<${name}`, ...attributes].join(' '));
      return true;
    },
    close: (name, text) => told.push(`>${name} ${JSON.stringify(text)}`),
  });
  for (let at = 0; at < document.length; at += size) reader.write(document.subarray(at, at + size));
  reader.end();
  return told;
}

function fault(document: string | Buffer): string {
  try {
    read(Buffer.from(document));
    return 'no error';
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

/** The same by expat, which Python brings; documents and results as JSON. */
const oracle = `
import json, sys
from xml.parsers import expat
names = ${JSON.stringify(names)}
local = lambda name: name.split(':', 1)[-1] if name.split(':', 1)[-1] in names else ''
def read(document):
    told, stack = [], []
    def start(name, attributes):
        if stack: stack[-1] = None
        stack.append('')
        found = ['%s=%s' % (n, json.dumps(attributes[n], ensure_ascii=False)) for n in names if n in attributes]
        told.append(' '.join(['%d' % (len(stack) - 1), '<' + local(name)] + found))
    def end(name):
        text = stack.pop()
        told.append('>%s %s' % (local(name), 'undefined' if text is None else json.dumps(text, ensure_ascii=False)))
    def data(text):
        if stack and stack[-1] is not None: stack[-1] += text
    parser = expat.ParserCreate('UTF-8')
    parser.StartElementHandler, parser.EndElementHandler, parser.CharacterDataHandler = start, end, data
    try:
        parser.Parse(document.encode('utf-8', 'surrogatepass'), True)
    except expat.ExpatError:
        return None
    return told
print(json.dumps([read(document) for document in json.load(sys.stdin)]))
`;

function askExpat(documents: readonly string[]): readonly (readonly string[] | null)[] {
  const output = execFileSync('python3', ['-I', '-c', oracle], {
    input: JSON.stringify(documents),
    encoding: 'utf8',
    maxBuffer: 2 ** 28,
  });
  return JSON.parse(output) as readonly (readonly string[] | null)[];
}

const blank = fc.constantFrom('', '', ' ', '\n  ', '\t');
const textPart = fc.oneof(
  fc.constantFrom('x', 'libc.so.6()(64bit)', ' ', '\n', '"', "'", '>', 'ä€😀', '\\', '=', '/', '\r\n', '\r'),
  fc.constantFrom('&amp;', '&lt;', '&gt;', '&quot;', '&apos;', '&#65;', '&#x20ac;', '&#x1F600;', '&#10;'),
);
const text = fc.array(textPart, { maxLength: 4 }).map((parts) => parts.join(''));
const cdata = fc.constantFrom('<![CDATA[a < b & c]]>', '<![CDATA[]]>', '<!-- <a> & -->', '<?p x > y ?>');
const attribute = fc
  .tuple(blank, blank, fc.constantFrom('"', "'"), text)
  .map(([before, after, mark, value]) => `${before}=${after}${mark}${value.replaceAll(mark, '')}${mark}`);
const startTag = fc
  .tuple(
    fc.constantFrom('a', 'b', 'entry', 'rpm:entry', 'x', 'ä'),
    fc.uniqueArray(fc.constantFrom('name', 'ver', 'other', 'x:z'), { maxLength: 3 }),
    fc.array(attribute, { minLength: 3, maxLength: 3 }),
    blank,
  )
  .map(([name, keys, values, end]) => ({
    name,
    tag: `<${name}${keys.map((key, index) => ` ${key}${values[index] ?? ''}`).join('')}${end}`,
  }));
const { element } = fc.letrec<{ element: string }>((tie) => ({
  element: fc.oneof(
    { maxDepth: 4 },
    fc
      .tuple(startTag, text, fc.option(cdata))
      .map(([{ name, tag }, inner, extra]) => `${tag}>${inner}${extra ?? ''}</${name}>`),
    startTag.map(({ tag }) => `${tag}/>`),
    fc
      .tuple(startTag, fc.array(tie('element'), { maxLength: 3 }), blank)
      .map(([{ name, tag }, children, gap]) => `${tag}>${children.join(gap)}</${name}${gap}>`),
  ),
}));
const prolog = fc.constantFrom('', '\ufeff', '<?xml version="1.0" encoding="UTF-8"?>\n', '<!-- x -->');
const document = fc.tuple(prolog, element, blank).map((parts) => parts.join(''));

describe('XmlReader', () => {
  it.skipIf(!requireTools('python3'))('reads what expat reads', () => {
    const documents = fc.sample(document, { numRuns: 3000, seed: 3 });
    const theirs = askExpat(documents);
    documents.forEach((one, index) => {
      expect(read(Buffer.from(one)), one).toEqual(theirs[index]);
    });
  });

  it.skipIf(!requireTools('python3'))('refuses what expat refuses, where it looks', () => {
    const damage = fc
      .tuple(
        document,
        fc.double({ min: 0, max: 0.999, noNaN: true }),
        fc.constantFrom('<', '>', '&', '"', '/', '\0', '', 'x', '='),
        fc.nat(3),
      )
      .map(([one, at, put, cut]) => {
        const index = Math.floor(at * one.length);
        return one.slice(0, index) + put + one.slice(index + cut);
      });
    const documents = fc.sample(damage, { numRuns: 4000, seed: 4 });
    const theirs = askExpat(documents);
    let refused = 0;
    documents.forEach((one, index) => {
      const expected = theirs[index];
      if (expected === null) refused++;
      // Some well-formedness hurts nobody: a bracket in text, a character in a name, an entity that nobody reads.
      if (fault(one) !== 'no error') return;
      if (expected !== null) expect(read(Buffer.from(one)), one).toEqual(expected);
    });
    expect(refused).toBeGreaterThan(1000);
    const accepted = documents.filter((one, index) => theirs[index] === null && fault(one) === 'no error');
    expect(accepted.length).toBeLessThan(refused / 20);
    const lost = documents.filter((one, index) => theirs[index] !== null && fault(one) !== 'no error');
    expect(lost).toEqual([]);
  });

  it('does not care where chunks end', () => {
    fc.assert(
      fc.property(document, fc.integer({ min: 1, max: 7 }), (one, size) => {
        expect(read(Buffer.from(one), size)).toEqual(read(Buffer.from(one)));
      }),
      { numRuns: 300 },
    );
  });

  it.each([
    ['', 'it is cut off'],
    ['<a>', 'it is cut off'],
    ['<a/><b/>', 'it has more than one root element'],
    ['x<a/>', 'it has text outside of its root element'],
    ['<a></b>', 'it has the end tag "</b>" in a wrong place'],
    ['<a name="x" name="y"/>', 'is malformed'],
    ['<a name=x/>', 'is malformed'],
    ['<a name="<"/>', 'is malformed'],
    ['<a name="&nbsp;"/>', '"&nbsp;" is no entity'],
    ['<a>&#0;</a>', '"&#0;" is no entity'],
    ['<a>\0</a>', 'it holds a NUL byte'],
    ['<!DOCTYPE a [<!ENTITY x "y">]><a/>', 'it has a document type declaration'],
    ['<?xml version="1.0" encoding="latin1"?><a/>', 'its encoding is "latin1", not UTF-8'],
    [Buffer.from('<a>\xff</a>', 'latin1'), 'it is not UTF-8 text'],
    [Buffer.from('<a>\xc3', 'latin1'), 'it is cut off'],
    ['<a>'.repeat(100), 'it is nested more than 32 levels deep'],
    [
      Array.from({ length: 300 }, (_, index) => `<x${index}/>`)
        .join('')
        .replace(/^/, '<a>'),
      'it has too many different',
    ],
  ])('refuses %s', (one, message) => {
    expect(fault(one)).toContain(message);
  });

  it('bounds what one tag, text or comment may take, in chunks of any size', () => {
    const begin = Date.now();
    for (const start of ['<a name="', '<a>', '<!--', '<a><![CDATA[', '<?x ', '<']) {
      const reader = new XmlReader({ names, open: () => true, close: () => undefined });
      reader.write(Buffer.from(start));
      const chunk = Buffer.alloc(1000, 'x');
      const grow = (): void => {
        for (let count = 0; count < 20_000; count++) reader.write(chunk);
      };
      expect(grow, start).toThrow(/longer than|is no name/);
    }
    expect(Date.now() - begin).toBeLessThan(5000);
    expectModestMemory();
  });

  it('passes over text that nobody wants, however long', () => {
    const reader = new XmlReader({ names, open: () => false, close: () => undefined });
    reader.write(Buffer.from('<a>'));
    for (let count = 0; count < 100; count++) reader.write(Buffer.alloc(1_000_000, 'ä'));
    reader.write(Buffer.from('</a>'));
    reader.end();
    expectModestMemory();
  });
});
