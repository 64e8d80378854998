import { describe, expect, it } from 'vitest';
import { leaseRecords, recordedLeases } from '../../build/smoke/lease-file.js';

const record = (address: string, state: string, mac: string, ends: string): string => `lease ${address} {
  starts 0 2026/11/29 14:00:00;
  ends ${ends};
  binding state ${state};
  next binding state free;
  hardware ethernet ${mac};
}
`;
const mac = '02:00:00:00:00:0a';
const one = record('192.0.2.50', 'active', mac, '0 2026/11/29 14:10:00');
const two = record('192.0.2.50', 'free', mac, '0 2026/11/29 14:05:00');

describe('a lease file of dhcpd', () => {
  it('has the records in their order', () => {
    expect(leaseRecords(`# remark\nserver-duid "x";\n\n${one}${two}`).map(({ state }) => state)).toEqual([
      'active',
      'free',
    ]);
  });

  it('says by its last record what holds', () => {
    expect([...recordedLeases(one + two).values()]).toEqual([
      { address: '192.0.2.50', state: 'free', mac, ends: '0 2026/11/29 14:05:00' },
    ]);
  });

  it('does not mistake `next binding state` for the state', () => {
    expect(recordedLeases(one).get('192.0.2.50')?.state).toBe('active');
  });

  it('says nothing by a record that is not whole', () => {
    for (let end = one.length - 2; end > 0; end -= 1) expect(leaseRecords(one.slice(0, end))).toEqual([]);
  });
});
