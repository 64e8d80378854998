import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { compareEvr, evrText, type Evr } from '../../../build/repository/fedora/evr.js';
import { requireTools } from '../../support/tools.js';

/** What rpm itself says of pairs of EVR texts, all at once. */
function askRpm(pairs: readonly (readonly [string, string])[]): readonly number[] {
  const directory = mkdtempSync(join(tmpdir(), 'evr-'));
  try {
    const script = join(directory, 'pairs.lua');
    const lines = pairs.map(([a, b]) => `add(rpm.vercmp(${JSON.stringify(a)}, ${JSON.stringify(b)}))`);
    const begin = 'local all = {}\nlocal function add(value) all[#all + 1] = value end';
    writeFileSync(script, `${begin}\n${lines.join('\n')}\nprint(table.concat(all, " "))\n`);
    const output = execFileSync('rpm', ['--eval', `%{lua:dofile("${script}")}`], { encoding: 'utf8' });
    return output.trim().split(' ').map(Number);
  } finally {
    rmSync(directory, { recursive: true });
  }
}

const segment = fc.oneof(
  fc.constantFrom('1', '01', '10', '2', '0', '00', 'a', 'b', 'ab', 'A', 'rc', 'fc45', 'el9', '20240101'),
  fc.constantFrom('~', '^', '~~', '^^', '~^', '^~', '.', '..', '_', '+', '~rc', '^git'),
);
const part = fc.array(segment, { minLength: 1, maxLength: 6 }).map((segments) => segments.join(''));
const evr: fc.Arbitrary<Evr> = fc.record({
  epoch: fc.constantFrom(0, 0, 0, 1, 2, 12),
  version: part,
  release: part,
});

describe('evrText', () => {
  it('leaves out an epoch of 0', () => {
    expect(evrText({ epoch: 0, version: '4.4.3', release: '27.fc45' })).toBe('4.4.3-27.fc45');
    expect(evrText({ epoch: 12, version: '4.4.3', release: '27.fc45' })).toBe('12:4.4.3-27.fc45');
  });
});

describe.skipIf(!requireTools('rpm'))('compareEvr', () => {
  it('orders as rpm does', () => {
    // A seldom pair of equal texts tells nothing; a change of one segment tells most.
    const near = fc
      .tuple(evr, part, fc.boolean())
      .map(([a, other, inVersion]): readonly [Evr, Evr] => [
        a,
        inVersion ? { ...a, version: a.version + other } : { ...a, release: a.release + other },
      ]);
    const pairs = [
      ...fc.sample(fc.tuple(evr, evr), { numRuns: 4000, seed: 1 }),
      ...fc.sample(near, { numRuns: 4000, seed: 2 }),
    ];
    const theirs = askRpm(pairs.map(([a, b]) => [evrText(a), evrText(b)]));
    expect(theirs).toHaveLength(pairs.length);
    const ours = pairs.map(([a, b]) => compareEvr(a, b));
    const different = pairs.flatMap(([a, b], index) =>
      ours[index] === theirs[index]
        ? []
        : [`${evrText(a)} ${evrText(b)}: ${ours[index]}, rpm ${theirs[index]}`],
    );
    expect(different).toEqual([]);
    for (const result of [-1, 0, 1])
      expect(theirs.filter((one) => one === result).length).toBeGreaterThan(50);
    expect(pairs.map(([a, b]) => compareEvr(b, a) + 0)).toEqual(ours.map((result) => 0 - result));
  });

  it('takes a missing epoch for 0', () => {
    expect(askRpm([['0:1-1', '1-1']])).toEqual([0]);
  });
});
