import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { compareVersions, isVersion } from '../../../build/repository/debian/versions.js';
import { run } from '../../../build/support/exec.js';
import { requireTools } from '../../support/tools.js';

/** Near misses are what tells orders apart: few letters, many separators, leading zeros, one part changed. */
const part = fc
  .array(
    fc.constantFrom(
      '0',
      '1',
      '9',
      '00',
      '10',
      'a',
      'b',
      'Z',
      '.',
      '+',
      '~',
      '-',
      '~~',
      'rc',
      '123456789012345678901',
    ),
    {
      maxLength: 6,
    },
  )
  .map((pieces) => pieces.join(''));
const version = fc
  .tuple(
    fc.constantFrom('', '', '0:', '1:', '01:'),
    fc.constantFrom('0', '1', '2'),
    part,
    fc.constantFrom('', '-1', '-0', '-1~'),
  )
  .map(([epoch, digit, rest, revision]) => epoch + digit + rest + revision);

describe('compareVersions', () => {
  it('follows deb-version(7) where its text gives an order', () => {
    const parts = ['1~~', '1~~a', '1~', '1', '1a'];
    expect([...parts].reverse().sort(compareVersions)).toEqual(parts);
    expect(compareVersions('1:0', '9')).toBeGreaterThan(0);
    expect(compareVersions('1.0', '1.0-0')).toBe(0);
    expect(compareVersions('2.36-9+deb12u14', '2.36-9+deb12u9')).toBeGreaterThan(0);
  });

  it('is an order: antisymmetric and transitive', () => {
    fc.assert(
      fc.property(version, version, version, (a, b, c) => {
        expect(Math.sign(compareVersions(a, b))).toBe(-Math.sign(compareVersions(b, a)) + 0);
        if (compareVersions(a, b) <= 0 && compareVersions(b, c) <= 0) {
          expect(compareVersions(a, c)).toBeLessThanOrEqual(0);
        }
      }),
    );
  });

  const sample = (count: number): (readonly [string, string])[] =>
    fc
      .sample(fc.tuple(version, fc.option(version)), { numRuns: count, seed: 20261120 })
      .map(([a, b]) => [a, b ?? `${a}~`] as const)
      .filter(([a, b]) => isVersion(a) && isVersion(b));

  const disagreements = async (
    pairs: readonly (readonly [string, string])[],
    argv: readonly [string, ...string[]],
  ): Promise<unknown[]> => {
    const { stdout } = await run({
      argv,
      input: pairs.map((pair) => `${pair.join(' ')}\n`).join(''),
      environment: { PATH: process.env['PATH'] ?? '/usr/bin:/bin', LC_ALL: 'C' },
    });
    const expected = stdout.trimEnd().split('\n').map(Number);
    expect(expected).toHaveLength(pairs.length);
    return pairs.filter(([a, b], index) => Math.sign(compareVersions(a, b)) !== expected[index]);
  };

  it.skipIf(!requireTools('dpkg', 'sh'))('agrees with dpkg on generated pairs', async () => {
    // One shell for all: dpkg says by its exit code whether a relation holds.
    const script = `while read -r a b; do
      if dpkg --compare-versions "$a" lt "$b" 2>/dev/null; then echo -1
      elif dpkg --compare-versions "$a" eq "$b" 2>/dev/null; then echo 0
      else echo 1; fi; done`;
    expect(await disagreements(sample(500), ['sh', '-c', script])).toEqual([]);
  });

  // dpkg-architecture comes with the module.
  it.skipIf(!requireTools('perl', 'dpkg-architecture'))(
    'agrees with Dpkg::Version on many more',
    async () => {
      const pairs = sample(20_000);
      expect(pairs.length).toBeGreaterThan(15_000);
      const script = 'my ($a, $b) = split; print version_compare($a, $b), "\\n"';
      expect(await disagreements(pairs, ['perl', '-MDpkg::Version', '-ne', script])).toEqual([]);
    },
  );
});

describe('isVersion', () => {
  it.each(['1', '1:2.3-4', '0~git20200101', '2.36-9+deb12u14', '1.0+dfsg-1.1~bpo12+1'])(
    'accepts %s',
    (text) => {
      expect(isVersion(text)).toBe(true);
    },
  );
  it.each(['', '-1', 'a:1', '1 2', '1/2', '1_2', '1\n', '1'.repeat(600)])('refuses %j', (text) => {
    expect(isVersion(text)).toBe(false);
  });
});
