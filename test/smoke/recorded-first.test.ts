import { describe, expect, it } from 'vitest';
import { mustRecordFirst, tracedCalls } from '../../build/smoke/checks/recorded-first.js';

const write = String.raw`100   write(5, "\x6c\x65\x61\x73\x65", 5) = 5`;
const flush = '100   fsync(5)                          = 0';
const offer = String.raw`100   write(4, "\xff\x35\x01\x02\x36", 5) = 5`;
const ack = String.raw`100   write(4, "\xff\x35\x01\x05\x36", 5) = 5`;
const judge = (...lines: readonly string[]): void => {
  mustRecordFirst(tracedCalls(lines.join('\n')), 5);
};

describe('what strace has seen', () => {
  it('is right when the lease is flushed before the ACK', () => {
    expect(() => {
      judge(offer, write, flush, ack);
    }).not.toThrow();
  });

  it.each<[string, readonly string[], RegExp]>([
    ['flushed afterwards', [offer, write, ack, flush], /not flushed to disk/],
    ['written after it was flushed', [write, flush, write, ack], /not flushed to disk/],
    ['never flushed', [offer, write, ack], /not flushed to disk/],
    ['not written', [offer, flush, ack], /nothing is written/],
    ['written to another file', [write.replace('(5', '(6'), flush, ack], /nothing is written/],
    ['flushed in another file', [write, flush.replace('(5', '(6'), ack], /not flushed to disk/],
    [
      'flushed without success',
      [write, flush.replace('= 0', '= -1 EIO (Input/output error)'), ack],
      /not flushed/,
    ],
    ['never acknowledged', [write, flush, offer], /no ACK/],
  ])('is wrong when the lease is %s', (_what, lines, reason) => {
    expect(() => {
      judge(...lines);
    }).toThrow(reason);
  });

  it('counts a flush only from its return, which may come in another line', () => {
    const [begins, ends] = ['100   fsync(5 <unfinished ...>', '100   <... fsync resumed>)              = 0'];
    const other = ack.replace('100', '101');
    expect(() => {
      judge(write, begins, ends, other);
    }).not.toThrow();
    expect(() => {
      judge(write, begins, other, ends);
    }).toThrow(/not flushed to disk/);
  });
});
