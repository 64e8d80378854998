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

  const environment = { PATH: process.env['PATH'] ?? '/usr/bin:/bin', LC_ALL: 'C' };

  it.skipIf(!requireTools('dpkg', 'sh'))('agrees with dpkg on generated pairs', async () => {
    const pairs = sample(4000);
    expect(pairs.length).toBeGreaterThan(3000);
    const relations = ['lt', 'eq', 'gt'];
    const claims = pairs.map(([a, b]) => [a, relations[Math.sign(compareVersions(a, b)) + 1], b].join(' '));
    // One shell for all: dpkg says by its exit code whether the one relation that we claim holds.
    const script = 'while read -r a is b; do dpkg --compare-versions "$a" "$is" "$b"; echo "$?"; done';
    const { stdout } = await run({
      argv: ['sh', '-c', script],
      input: claims.map((claim) => `${claim}\n`).join(''),
      environment,
    });
    const answers = stdout.trimEnd().split('\n');
    expect(answers).toHaveLength(claims.length);
    expect(claims.filter((_, index) => answers[index] !== '0')).toEqual([]);
  });

  // dpkg-architecture comes with the module.
  it.skipIf(!requireTools('perl', 'dpkg-architecture'))(
    'agrees with Dpkg::Version on many more',
    async () => {
      const pairs = sample(20_000);
      expect(pairs.length).toBeGreaterThan(15_000);
      const script = 'my ($a, $b) = split; print version_compare($a, $b), "\\n"';
      const { stdout } = await run({
        argv: ['perl', '-MDpkg::Version', '-ne', script],
        input: pairs.map((pair) => `${pair.join(' ')}\n`).join(''),
        environment,
      });
      const expected = stdout.trimEnd().split('\n').map(Number);
      expect(expected).toHaveLength(pairs.length);
      expect(pairs.filter(([a, b], index) => Math.sign(compareVersions(a, b)) !== expected[index])).toEqual(
        [],
      );
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
