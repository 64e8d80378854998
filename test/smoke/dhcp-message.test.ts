import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { encodeDiscover, encodeMessage, readMessage, readOffer } from '../../build/smoke/dhcp-message.js';

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

describe('what a client says', () => {
  const mac = '02:00:00:00:00:0a';
  /** Options as RFC 2132 writes them, up to and with the end. */
  const options = (message: Buffer): readonly number[] => [
    ...message.subarray(240, message.indexOf(255, 240) + 1),
  ];

  it('takes an offer', () => {
    const message = encodeMessage({
      ...{ type: 'request', transaction, mac, requested: '192.0.2.50', server: '192.0.2.1' },
    });
    expect(message.subarray(12, 16)).toEqual(Buffer.alloc(4));
    expect(options(message)).toEqual([
      ...[53, 1, 3, 50, 4, 192, 0, 2, 50, 54, 4, 192, 0, 2, 1, 55, 3, 1, 3, 6, 255],
    ]);
  });

  it('renews: its address in ciaddr, and neither server nor address among the options', () => {
    const message = encodeMessage({ type: 'request', transaction, mac, current: '192.0.2.50' });
    expect([...message.subarray(12, 16)]).toEqual([192, 0, 2, 50]);
    expect(options(message)).toEqual([53, 1, 3, 55, 3, 1, 3, 6, 255]);
  });

  it('gives its address back, and waits for no answer', () => {
    const message = encodeMessage({
      ...{ type: 'release', transaction, mac, current: '192.0.2.50', server: '192.0.2.1' },
    });
    expect(message.readUInt16BE(10)).toBe(0);
    expect([...message.subarray(12, 16)]).toEqual([192, 0, 2, 50]);
    expect(options(message)).toEqual([53, 1, 7, 54, 4, 192, 0, 2, 1, 255]);
  });

  it('names itself by an identifier of its own', () => {
    const message = encodeMessage({ type: 'discover', transaction, mac, clientId: Buffer.from('\0ab') });
    expect(options(message)).toEqual([53, 1, 1, 61, 3, 0, 97, 98, 55, 3, 1, 3, 6, 255]);
  });

  it('is never cut off', () => {
    const clientId = Buffer.alloc(200, 1);
    expect(encodeMessage({ type: 'discover', transaction, mac, clientId })).toHaveLength(
      240 + 3 + 202 + 5 + 1,
    );
  });
});

describe('what a server says', () => {
  const from = { transaction, address: '192.0.2.50', server: '192.0.2.1', seconds: 600 };
  const to = (message: Buffer): void => {
    message.set([2, 0, 0, 0, 0, 10], 28);
  };

  it('is read with its client and its time', () => {
    expect(readMessage(offer(to))).toEqual({ type: 'offer', mac: '02:00:00:00:00:0a', ...from });
    const ack = offer((message) => {
      to(message);
      message.writeUInt8(5, 249);
    });
    expect(readMessage(ack)).toEqual({ type: 'ack', mac: '02:00:00:00:00:0a', ...from });
  });

  it('may be a refusal, which has no time', () => {
    const nak = offer((message) => {
      message.set([53, 1, 6, 54, 4, 192, 0, 2, 1, 255], 240);
    });
    expect(readMessage(nak)).toMatchObject({ type: 'nak', seconds: undefined });
  });

  it('is nothing that a client says', () => {
    const mac = '02:00:00:00:00:0a';
    expect(readMessage(encodeMessage({ type: 'discover', transaction, mac }))).toBeUndefined();
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
