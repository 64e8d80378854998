import { describe, expect, it } from 'vitest';
import { heldLeases } from '../../build/smoke/held-leases.js';

const [a, b] = ['02:00:01:00:00:00', '02:00:01:00:00:01'];
const line = (event: string, mac: string, address?: string): string =>
  JSON.stringify({ event, at: '1', how: 'lease', mac, address });

describe('what clients hold', () => {
  it('is the last address that each was given', () => {
    const lines = [line('ack', a, '192.0.2.1'), line('ack', b, '192.0.2.2'), line('ack', a, '192.0.2.3')];
    expect(heldLeases(lines.join('\n'))).toEqual([
      { mac: a, address: '192.0.2.3' },
      { mac: b, address: '192.0.2.2' },
    ]);
  });

  it.each(['release', 'nak'])('is nothing after a %s', (event) => {
    expect(heldLeases(`${line('ack', a, '192.0.2.1')}\n${line(event, a, '192.0.2.1')}\n`)).toEqual([]);
  });

  it('stays when nobody has answered', () => {
    expect(heldLeases(`${line('ack', a, '192.0.2.1')}\n${line('none', a)}\n`)).toHaveLength(1);
  });

  it('may be written by hand', () => {
    expect(heldLeases(`{"mac":"${a}","address":"192.0.2.9"}`)).toEqual([{ mac: a, address: '192.0.2.9' }]);
  });

  it('is not told by a line that was cut off, nor by anything else', () => {
    expect(heldLeases(`${line('ack', a, '192.0.2.1').slice(0, -1)}\nnull\n7\n{}\n`)).toEqual([]);
  });
});
