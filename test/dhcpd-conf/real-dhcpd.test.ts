import fc from 'fast-check';
import { readFileSync } from 'node:fs';
import { afterAll, describe, expect, it } from 'vitest';
import { tokensOf, type Token } from '../../build/dhcpd-conf/tokens.js';
import { proposalsOf, withProposals } from '../config/proposals.js';
import { configurations, gaps, written } from './configurations.js';
import { errorsOf, RealDhcpd } from './real-dhcpd.js';

const real = new RealDhcpd();
afterAll(() => {
  real.remove();
});

const example = readFileSync(new URL('../../config/dhcpd.conf.example', import.meta.url), 'utf8');

/** Every text in which one semicolon, brace or quote of the original is missing. */
function mutations(text: string): readonly (readonly [what: string, text: string])[] {
  const lines = text.split('\n');
  const starts = lines.map((_, index) => lines.slice(0, index).join('\n').length + (index === 0 ? 0 : 1));
  const offset = ({ line, column }: Pick<Token, 'line' | 'column'>): number =>
    (starts[line - 1] ?? 0) + column - 1;
  return tokensOf('', text).tokens.flatMap((token) => {
    const places =
      token.kind === 'string'
        ? [offset(token), offset(token.end) - 1]
        : /^[;{}]$/.test(token.text)
          ? [offset(token)]
          : [];
    return places.map((at): readonly [string, string] => [
      `${text[at] ?? ''} of line ${String(token.line)} column ${String(token.column)}`,
      text.slice(0, at) + text.slice(at + 1),
    ]);
  });
}

/** Where dhcpd and our check are of different minds about the mutations of a text. */
async function disagreements(
  text: string,
): Promise<{ readonly tried: number; readonly found: readonly string[] }> {
  const all = mutations(text);
  const found: string[] = [];
  for (const [what, mutated] of all) {
    const { accepts, says } = real.test(mutated);
    const errors = errorsOf(await real.problems(mutated));
    if (accepts !== (errors.length === 0))
      found.push(
        `without ${what}: dhcpd ${accepts ? 'accepts' : `refuses (${says.slice(-300)})`}, we say ${errors.join(', ')}\n${mutated}`,
      );
  }
  return { tried: all.length, found };
}

/** The examples in the manual page, each also as it would stand in a subnet. */
function manualExamples(): readonly string[] {
  const page = real.read('usr/share/man/man5/dhcpd.conf.5');
  return [...page.matchAll(/^\.nf\n([^]*?)^\.fi/gm)].flatMap(([, text = '']) => {
    const plain = text
      .replace(/^\.(?!B ).*$/gm, '')
      .replace(/\\f[A-Z]/g, '')
      .replace(/^\.B +/gm, '')
      .replaceAll('\\-', '-');
    return [plain, `subnet 10.0.0.0 netmask 255.255.255.0 { range 10.0.0.2; ${plain} }`];
  });
}

/** Debian's own example, with all that is commented out in force. */
function debianExample(): string {
  return real
    .read('usr/share/doc/isc-dhcp-server/examples/dhcpd.conf.example')
    .replace(/^#(?=\w|\}| {2})/gm, '');
}

describe.skipIf(!real.isThere)('what the real dhcpd accepts', () => {
  it('is accepted: Debian’s configurations and the examples of the manual page', async () => {
    const texts = [
      real.read('etc/dhcp/dhcpd.conf'),
      real.read('usr/share/doc/isc-dhcp-server/examples/dhcpd.conf.example'),
      ...manualExamples(),
    ];
    const accepted = texts.filter((text) => real.test(text).accepts);
    expect(accepted.length).toBeGreaterThan(15);
    for (const text of accepted) expect(errorsOf(await real.problems(text)), text).toEqual([]);
  });

  it('is accepted: Debian’s example with everything it proposes', async () => {
    const text = debianExample();
    expect(real.test(text)).toMatchObject({ accepts: true });
    expect(text).toMatch(/^subnet 10\.5\.5\.0/m);
    expect(errorsOf(await real.problems(text))).toEqual([]);
  });

  it('is accepted: whatever its grammar makes', { timeout: 120_000 }, async () => {
    await fc.assert(
      fc.asyncProperty(
        configurations,
        fc.array(gaps, { minLength: 1, maxLength: 7 }),
        async (words, between) => {
          const text = written(words, between);
          const { accepts, says } = real.test(text);
          expect(accepts, `${says}\n${text}`).toBe(true);
          expect(errorsOf(await real.problems(text)), text).toEqual([]);
        },
      ),
      { numRuns: 300 },
    );
  });
});

describe.skipIf(!real.isThere)('one semicolon, brace or quote less', () => {
  it.each([
    ['config/dhcpd.conf.example', () => withProposals(example, proposalsOf(example)), 80],
    ['Debian’s example', debianExample, 70],
  ])('is refused exactly where dhcpd refuses it: %s', { timeout: 120_000 }, async (_, text, least) => {
    const { tried, found } = await disagreements(text());
    expect(found).toEqual([]);
    expect(tried).toBeGreaterThan(least);
  });

  it(
    'is refused exactly where dhcpd refuses it: whatever its grammar makes',
    { timeout: 240_000 },
    async () => {
      let all = 0;
      await fc.assert(
        fc.asyncProperty(
          configurations,
          fc.array(gaps, { minLength: 1, maxLength: 7 }),
          async (words, between) => {
            const { tried, found } = await disagreements(written(words, between));
            all += tried;
            expect(found).toEqual([]);
          },
        ),
        { numRuns: 12 },
      );
      expect(all).toBeGreaterThan(500);
    },
  );
});
