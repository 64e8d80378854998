import { afterAll, describe, expect, it } from 'vitest';
import { parseInterfaceAddress } from '../../build/dhcpd-conf/interfaces.js';
import { requireThat, requireTools } from '../support/tools.js';
import { RealDhcpd, shown } from './real-dhcpd.js';

const place = new RealDhcpd();
afterAll(() => {
  place.remove();
});

const two = `subnet 192.0.2.0 netmask 255.255.255.0 { }
subnet 198.51.100.0 netmask 255.255.255.0 { }`;

interface Case {
  readonly addresses: readonly string[];
  readonly text: string;
  readonly says: readonly string[];
}

const cases = (
  [
    [['192.0.2.1/24'], two, []],
    [['203.0.113.1/24', '198.51.100.1/24'], two, []],
    [['192.0.2.1/32'], two, []],
    [
      ['203.0.113.1/24', '203.0.113.2/24'],
      two,
      ['1:1: error: no subnet is declared for interface eth0, which has 203.0.113.1/24 and 203.0.113.2/24'],
    ],
    [
      ['192.0.2.1/16'],
      two,
      ['1:1: warning: 192.0.2.0/24 is 192.0.0.0/16 on interface eth0, which has 192.0.2.1/16'],
    ],
    [
      ['192.0.2.1/24', '198.51.100.1/24'],
      two,
      [
        '2:1: error: interface eth0 is on 192.0.2.0/24 and 198.51.100.0/24: put the two into one shared-network',
      ],
    ],
    [['192.0.2.1/24', '198.51.100.1/24'], `shared-network both { ${two} }`, []],
    [['192.0.2.1/24', '192.0.2.2/24'], two, []],
    [
      ['192.0.2.129/25'],
      `${two}\nsubnet 192.0.2.128 netmask 255.255.255.128 { }`,
      ['3:1: warning: subnet 192.0.2.128/25 overlaps 192.0.2.0/24, line 1'],
    ],
    [
      ['192.0.2.9/24'],
      'subnet 192.0.2.0 netmask 255.255.255.0 { range 192.0.2.9 192.0.2.20; }',
      [
        '1:42: warning: interface eth0 192.0.2.9 is in the range 192.0.2.9 192.0.2.20, and could be lent to a client',
      ],
    ],
  ] as const
).map(([addresses, text, says]): Case => ({ addresses, text, says }));

const withNamespaces =
  place.isThere &&
  requireThat(process.getuid?.() === 0, 'root, for a network namespace') &&
  requireTools('unshare', 'ip');

describe('interfaces', () => {
  it.each(cases)('$addresses', async ({ addresses, text, says }) => {
    expect(shown(await place.problems(text, [{ name: 'eth0', addresses }]))).toEqual(says);
  });

  it.skipIf(!withNamespaces).each(cases)(
    '$addresses: the real dhcpd starts when there is no error',
    { timeout: 30_000 },
    async ({ addresses, text, says }) => {
      const starts = await place.starts(text, addresses);
      expect(starts, says.join()).toBe(!says.some((line) => line.includes(': error: ')));
    },
  );

  it('have addresses with a length', () => {
    expect(parseInterfaceAddress('192.0.2.1/24')).toEqual({ address: 0xc0000201, length: 24 });
    for (const wrong of ['192.0.2.1', '192.0.2.256/24', '192.0.2.1/33', '::1/64', '/24', '192.0.2.1/']) {
      expect(parseInterfaceAddress(wrong)).toBeUndefined();
    }
  });
});
