import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { encodeDiscover, readOffer } from '../../build/smoke/dhcp-message.js';

const transaction = 0xfedcba98;

/** An OFFER written field by field from RFC 2131, figure 1, and RFC 2132. */
function offer(change: (message: Buffer) => void = () => undefined): Buffer {
  const message = Buffer.alloc(300);
  message.set([2, 1, 6, 0, 0xfe, 0xdc, 0xba, 0x98]);
  message.set([192, 0, 2, 50], 16);
  message.set([0x63, 0x82, 0x53, 0x63, 0, 51, 4, 0, 0, 2, 88, 53, 1, 2, 54, 4, 192, 0, 2, 1, 255], 236);
  change(message);
  return message;
}

describe('a DISCOVER', () => {
  it('is what RFC 2131 asks for, answers to be broadcast', () => {
    const message = encodeDiscover(transaction, '02:00:00:00:00:0a');
    expect(message).toHaveLength(300);
    expect([...message.subarray(0, 12)]).toEqual([1, 1, 6, 0, 0xfe, 0xdc, 0xba, 0x98, 0, 0, 0x80, 0]);
    expect(message.subarray(12, 28)).toEqual(Buffer.alloc(16));
    expect(message.toString('hex', 28, 44)).toBe('02000000000a00000000000000000000');
    expect([...message.subarray(236, 249)]).toEqual([0x63, 0x82, 0x53, 0x63, 53, 1, 1, 55, 3, 1, 3, 6, 255]);
  });
});

describe('an OFFER', () => {
  it('is read', () => {
    expect(readOffer(offer(), transaction)).toEqual({ address: '192.0.2.50', server: '192.0.2.1' });
  });

  it.each<[string, (message: Buffer) => void]>([
    ['a request', (message) => message.writeUInt8(1, 0)],
    ['another transaction', (message) => message.writeUInt8(0, 4)],
    ['no cookie', (message) => message.writeUInt8(0, 236)],
    ['an ACK', (message) => message.writeUInt8(5, 249)],
    ['no server', (message) => message.writeUInt8(255, 250)],
    ['an option that ends early', (message) => message.writeUInt8(200, 242)],
  ])('is not %s', (_what, change) => {
    expect(readOffer(offer(change), transaction)).toBeUndefined();
  });

  it('may be anything else that a network brings', () => {
    fc.assert(
      fc.property(fc.nat(300), fc.array(fc.tuple(fc.nat(299), fc.nat(255))), (length, changes) => {
        const message = offer((bytes) => {
          for (const [at, value] of changes) bytes[at] = value;
        }).subarray(0, length);
        const found = readOffer(message, transaction);
        if (found !== undefined) expect(found.server).toMatch(/^\d+\.\d+\.\d+\.\d+$/);
      }),
    );
  });
});
