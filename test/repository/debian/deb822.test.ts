import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  parseStanza,
  parseStanzas,
  stanzaText,
  visitPackages,
} from '../../../build/repository/debian/deb822.js';
import { ToolError } from '../../../build/support/errors.js';

function visited(text: string): [string, string][] {
  const bytes = Buffer.from(text);
  const found: [string, string][] = [];
  visitPackages(bytes, 'index', (name, offset) => {
    found.push([name, stanzaText(bytes, offset)]);
  });
  return found;
}

describe('parseStanza', () => {
  it('keeps the order of fields and the lines of folded values', () => {
    const fields = parseStanza(
      'Package: a\nDescription: short\n long\n .\n  more\nEmpty:\nTight:x\n',
      'file',
    );
    expect([...fields]).toEqual([
      ['Package', 'a'],
      ['Description', 'short\nlong\n.\n more'],
      ['Empty', ''],
      ['Tight', 'x'],
    ]);
  });

  it('leaves comments out only where people write', () => {
    const text = 'A: 1\n# between\n 2\n#B: 3\n';
    expect([...parseStanza(text, 'file', { comments: true })]).toEqual([['A', '1\n2']]);
    expect(() => parseStanza(text, 'file')).toThrow('cannot read file: "# between" is not a field');
  });

  it.each([
    ['A: 1\na: 2', 'the field a is there twice'],
    [' 1', 'the line " 1" continues no field'],
    ['no field', '"no field" is not a field'],
    ['A: 1\n\nB: 2', 'it holds more than one stanza'],
    ['-A: 1', '"-A: 1" is not a field'],
    [': 1', '": 1" is not a field'],
    ['A: 1\0', 'a line holds a NUL byte'],
  ])('refuses %j', (text, reason) => {
    expect(() => parseStanza(text, 'file')).toThrow(`cannot read file: ${reason}`);
  });

  it('throws nothing but ToolError, whatever the text', () => {
    const line = fc.oneof(fc.string(), fc.constantFrom('A: b', ' c', '', '#', '\t', 'A:', 'B: \0', '.'));
    fc.assert(
      fc.property(fc.array(line), fc.boolean(), (lines, comments) => {
        for (const parse of [parseStanza, parseStanzas]) {
          try {
            parse(lines.join('\n'), 'file', { comments });
          } catch (error) {
            expect(error).toBeInstanceOf(ToolError);
          }
        }
      }),
      { numRuns: 500 },
    );
  });

  it('gives back what was written', () => {
    const name = fc.stringMatching(/^[A-Za-z][A-Za-z0-9-]{0,10}$/);
    const value = fc.array(fc.stringMatching(/^[!-~]([ -~]{0,10}[!-~])?$/), { minLength: 1, maxLength: 3 });
    const fields = fc.uniqueArray(fc.tuple(name, value), { selector: ([field]) => field.toLowerCase() });
    fc.assert(
      fc.property(fields, (written) => {
        const text = written.map(([field, lines]) => `${field}: ${lines.join('\n ')}\n`).join('');
        expect([...parseStanza(text, 'file')]).toEqual(
          written.map(([field, lines]) => [field, lines.join('\n')]),
        );
      }),
    );
  });
});

describe('parseStanzas', () => {
  it('tells where each stanza begins', () => {
    const stanzas = parseStanzas('\n# head\n\nA: 1\n \t\n\nB: 2\n', 'file', { comments: true });
    expect(stanzas.map(({ fields, line }) => [line, [...fields]])).toEqual([
      [4, [['A', '1']]],
      [7, [['B', '2']]],
    ]);
  });
});

describe('visitPackages', () => {
  it('finds every stanza and its text', () => {
    const index = 'Package: a\nVersion: 1\n\nPackage: b\nDescription: x\n Package: no\n\nPackage: c\n';
    expect(visited(index)).toEqual([
      ['a', 'Package: a\nVersion: 1'],
      ['b', 'Package: b\nDescription: x\n Package: no'],
      ['c', 'Package: c\n'],
    ]);
    expect(visited('')).toEqual([]);
    expect(visited(`\n\n${index}`)).toHaveLength(3);
  });

  it('refuses a stanza that hides its name behind other fields', () => {
    expect(() => visited('Package: a\n\nVersion: 1\nPackage: b\n')).toThrow(
      'does not begin with its Package field',
    );
  });

  it('scans 63000 stanzas of 50 MB in a fraction of a second', () => {
    const stanza = (number: number): string =>
      `Package: package-${number}\nVersion: 1.${number}\nDescription: ${'lorem ipsum '.repeat(60)}\n\n`;
    const bytes = Buffer.from(Array.from({ length: 63_000 }, (_, number) => stanza(number)).join(''));
    const before = performance.now();
    let count = 0;
    visitPackages(bytes, 'index', () => {
      count++;
    });
    expect(count).toBe(63_000);
    // 60 ms on a small machine; the bound leaves room for a busy one.
    expect(performance.now() - before).toBeLessThan(1000);
  });
});
