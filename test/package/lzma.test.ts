import { execFileSync, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { decompress } from '../../build/package/decompress.js';
import { maxLzmaBytes } from '../../build/package/lzma.js';
import { ToolError } from '../../build/support/errors.js';
import { requireTools } from '../support/tools.js';

const xz = ['--format=lzma', '--stdout', '--quiet'];

function compress(data: Buffer, ...options: readonly string[]): Buffer {
  return execFileSync('xz', [...xz, ...options], { input: data, maxBuffer: 2 ** 28, stdio: 'pipe' });
}

/** What xz makes of each; undefined where it refuses. */
function oracle(packed: readonly Buffer[]): readonly (Buffer | undefined)[] {
  const directory = mkdtempSync(join(tmpdir(), 'lzma-'));
  try {
    packed.forEach((bytes, index) => {
      writeFileSync(join(directory, `${index}.lzma`), bytes);
    });
    // It goes on after a file that it refuses, and leaves nothing of it.
    const names = packed.map((_, index) => `${index}.lzma`);
    spawnSync('xz', ['--format=lzma', '--decompress', '--keep', '--quiet', ...names], { cwd: directory });
    return packed.map((_, index) => {
      const path = join(directory, String(index));
      return existsSync(path) ? readFileSync(path) : undefined;
    });
  } finally {
    rmSync(directory, { recursive: true });
  }
}

/** Mebibytes of zero bytes. */
function zeros(mebibytes: number): Buffer {
  return execFileSync('sh', ['-c', `head -c ${mebibytes}M /dev/zero | xz ${xz.join(' ')} -0`], {
    maxBuffer: 2 ** 24,
  });
}

// eslint-disable-next-line @typescript-eslint/require-await -- a stream of what is in memory
async function* chunksOf(data: Buffer, size: number): AsyncGenerator<Buffer> {
  for (let at = 0; at < data.length; at += size) yield data.subarray(at, at + size);
}

async function unpack(packed: Buffer, limit = 2 ** 30, size = 65_536): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  for await (const part of decompress(chunksOf(packed, size), 'lzma', { name: 'sample', limit }))
    parts.push(part);
  return Buffer.concat(parts);
}

/** The same answers as xz: the bytes, or a refusal. */
async function expectAsXz(packed: readonly Buffer[]): Promise<void> {
  const expected = oracle(packed);
  for (const [index, bytes] of packed.entries()) {
    const found = await unpack(bytes, 2 ** 20).catch((error: unknown) => error);
    const shown = found instanceof ToolError ? undefined : found;
    expect(shown, `${index}: ${bytes.toString('hex')}`).toEqual(expected[index]);
  }
}

const sample = Buffer.concat([
  Buffer.from('the quick brown fox '.repeat(2000)),
  randomBytes(100_000),
  Buffer.alloc(200_000),
  Buffer.from(Array.from({ length: 30_000 }, (_, index) => `${index} ${index * 7}\n`).join('')),
]);
/** As the SDK of LZMA writes it: the size in the header, and no end mark. */
const knownSize = Buffer.from('5d00008000220000000000000000359b8a430b4bbeb1e9ae82c13534c1eff0c000', 'hex');

describe.skipIf(!requireTools('xz'))('decompress lzma', () => {
  it('gives back what xz compressed, with any options and any length', async () => {
    for (const options of [
      ['-0'],
      ['-6'],
      ['-9e'],
      ['--lzma1=preset=1,lc=0,lp=0,pb=0'],
      ['--lzma1=preset=1,lc=4,lp=0,pb=4'],
      ['--lzma1=preset=1,lc=1,lp=3,pb=0'],
      ['--lzma1=dict=4KiB'],
      ['--lzma1=dict=100000'],
    ]) {
      expect((await unpack(compress(sample, ...options))).equals(sample), options.join(' ')).toBe(true);
    }
    for (const length of [0, 1, 65_535, 65_536, 65_537, 131_072]) {
      const part = sample.subarray(0, length);
      expect((await unpack(compress(part))).equals(part), String(length)).toBe(true);
    }
  });

  it('does not care how the input is cut', async () => {
    const text = sample.subarray(30_000, 60_000);
    for (const size of [1, 7, 4096])
      expect((await unpack(compress(text), 2 ** 20, size)).equals(text)).toBe(true);
  });

  it('takes a known size with and without an end mark', async () => {
    const text = 'known size, known size, known size';
    expect((await unpack(knownSize)).toString()).toBe(text);
    const marked = compress(sample);
    marked.writeBigUInt64LE(BigInt(sample.length), 5);
    expect(oracle([knownSize, marked])).toEqual([Buffer.from(text), sample]);
    expect((await unpack(marked)).equals(sample)).toBe(true);
    for (const size of [0, 1, sample.length - 1, sample.length + 1]) {
      marked.writeBigUInt64LE(BigInt(size), 5);
      await expect(unpack(marked), String(size)).rejects.toThrow(ToolError);
    }
  });

  it('answers as xz does whichever byte is changed, missing or added', async () => {
    const text = sample.subarray(39_900, 40_200);
    for (const packed of [compress(text, '-0'), knownSize]) {
      const garbage = ['x', '\0', 'garbage, more than a header long', packed.toString('latin1')];
      await expectAsXz([
        packed,
        ...Array.from(packed, (byte, at) => {
          const damaged = Buffer.from(packed);
          damaged.writeUInt8(byte ^ (1 << (at % 8)), at);
          return damaged;
        }),
        ...Array.from(packed.keys(), (length) => packed.subarray(0, length)),
        ...garbage.map((more) => Buffer.concat([packed, Buffer.from(more, 'latin1')])),
      ]);
    }
  });

  it('ends in an error or in bytes, whatever it is given', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom(0x5d, 0, 0x2e, 0xa0),
        fc.constantFrom(2n ** 64n - 1n, 0n, 100n, 2n ** 20n, 2n ** 30n),
        fc.uint8Array({ maxLength: 2000 }),
        async (properties, size, data) => {
          const header = Buffer.alloc(14);
          header.writeUInt8(properties);
          header.writeUInt32LE(2 ** 16, 1);
          header.writeBigUInt64LE(size, 5);
          const result = await unpack(Buffer.concat([header, data]), 2 ** 20).catch(
            (error: unknown) => error,
          );
          if (!Buffer.isBuffer(result)) expect(result).toBeInstanceOf(ToolError);
        },
      ),
      { numRuns: 500 },
    );
  });

  it('stops at the limit, exactly, and soon', async () => {
    const packed = compress(Buffer.alloc(100_000));
    expect((await unpack(packed, 100_000)).length).toBe(100_000);
    await expect(unpack(packed, 99_999)).rejects.toThrow(
      'cannot decompress sample: it unpacks to more than 99999 bytes',
    );
    const begin = performance.now();
    await expect(unpack(zeros(256), 2 ** 24)).rejects.toThrow('it unpacks to more than 16777216 bytes');
    expect(performance.now() - begin).toBeLessThan(5000);
  });

  it('takes no more than its own limit, in bounded memory', async () => {
    const bomb = zeros(160);
    const before = process.memoryUsage();
    await expect(unpack(bomb, 2 ** 33)).rejects.toThrow(
      `it unpacks to more than ${maxLzmaBytes} bytes, too many for lzma data`,
    );
    const after = process.memoryUsage();
    expect(after.heapUsed - before.heapUsed).toBeLessThan(64 * 2 ** 20);
    expect(after.rss - before.rss).toBeLessThan(2.5 * maxLzmaBytes);
    // eslint-disable-next-line @typescript-eslint/require-await -- a stream
    async function* endless(): AsyncGenerator<Buffer> {
      yield Buffer.from('5d00000100ffffffffffffffff', 'hex');
      for (;;) yield Buffer.alloc(2 ** 20);
    }
    const unpacked = decompress(endless(), 'lzma', { name: 'sample', limit: 2 ** 33 });
    await expect(unpacked.next()).rejects.toThrow(`it has more than ${maxLzmaBytes} bytes of lzma data`);
  });

  it('says what it does not take', async () => {
    const packed = compress(sample.subarray(0, 100));
    const changed = (change: (header: Buffer) => void): Buffer => {
      const copy = Buffer.from(packed);
      change(copy);
      return copy;
    };
    for (const [data, reason] of [
      [Buffer.alloc(0), 'the lzma data is cut off'],
      [packed.subarray(0, 12), 'the lzma data is cut off'],
      [packed.subarray(0, -1), 'the lzma data is cut off'],
      [Buffer.concat([packed, Buffer.from('x')]), 'there is garbage after the lzma data'],
      [changed((header) => header.writeUInt8(225)), 'it is not lzma data'],
      [changed((header) => header.writeUInt8(44)), 'it is not lzma data'],
      [changed((header) => header.writeBigUInt64LE(2n ** 38n, 5)), 'it is not lzma data'],
      [changed((header) => header.writeUInt8(1, 13)), 'it is not lzma data'],
      [changed((header) => header.writeUInt32LE(2 ** 26 + 1, 1)), 'it is not lzma data'],
      [changed((header) => header.writeUInt32LE(0, 1)), 'it is not lzma data'],
      [changed((header) => header.writeUInt32LE(2 ** 27, 1)), 'its lzma dictionary is too large'],
      [changed((header) => header.writeBigUInt64LE(101n, 5)), 'the size in the lzma header is wrong'],
      [changed((header) => header.writeUInt8(header.readUInt8(20) ^ 4, 20)), 'the lzma data is'],
    ] as const) {
      await expect(unpack(data), reason).rejects.toThrow(`cannot decompress sample: ${reason}`);
    }
  });
});
