import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { nearest } from '../../build/support/nearest.js';

describe('nearest', () => {
  it.each([
    ['root', ['name', 'roots', 'run'], 'roots'],
    ['titel', ['title', 'files'], 'title'],
    ['Ports', ['roots', 'ports'], 'ports'],
    ['capabilites', ['capabilities'], 'capabilities'],
    ['by', ['loads', 'by'], 'by'],
    ['ru', ['run', 'rum'], 'run'],
    ['fedora', ['debian'], undefined],
    ['', ['a', 'ab'], 'a'],
    ['x', [], undefined],
    ['stat', ['stop', 'state'], 'state'],
  ])('%j among %j is %j', (name, candidates, expected) => {
    expect(nearest(name, candidates)).toBe(expected);
  });

  it('finds a name that one slip has spoilt', () => {
    const name = fc.stringMatching(/^[a-z]{3,20}$/);
    fc.assert(
      fc.property(
        name,
        fc.nat(),
        fc.constantFrom('drop' as const, 'double' as const, 'swap' as const),
        (word, where, slip) => {
          const at = where % (word.length - 1);
          const [a, b] = [word.charAt(at), word.charAt(at + 1)];
          const spoilt = { drop: b, double: a + a + b, swap: b + a }[slip];
          expect(nearest(word.slice(0, at) + spoilt + word.slice(at + 2), [word])).toBe(word);
        },
      ),
    );
  });

  it('does not spend time on what nobody typed', () => {
    expect(nearest('a'.repeat(100_000), ['a'.repeat(100_000)])).toBeUndefined();
  });
});
