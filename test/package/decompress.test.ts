import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, describe, expect, it } from 'vitest';
import { decompress, decompressFile, type CompressionFormat } from '../../build/package/decompress.js';
import { ToolError } from '../../build/support/errors.js';
import { requireTools } from '../support/tools.js';

const tools = requireTools('gzip', 'xz', 'zstd');
const compressors = { gz: ['gzip', '-c'], xz: ['xz', '-c'], zst: ['zstd', '-c', '-q'] } as const;
const formats = ['gz', 'xz', 'zst'] as const;

function compress(data: Buffer, format: (typeof formats)[number], ...options: readonly string[]): Buffer {
  const [program, ...args] = compressors[format];
  return execFileSync(program, [...args, ...options], { input: data, maxBuffer: 2 ** 30, stdio: 'pipe' });
}

/** One stream of zero bytes. */
function zeros(format: (typeof formats)[number], mebibytes: number): Buffer {
  return execFileSync(
    'sh',
    ['-c', `head -c ${mebibytes}M /dev/zero | ${compressors[format].join(' ')} -${format === 'xz' ? 0 : 1}`],
    { maxBuffer: 2 ** 24, stdio: ['ignore', 'pipe', 'pipe'] },
  );
}

// eslint-disable-next-line @typescript-eslint/require-await -- a stream of what is in memory
async function* chunksOf(data: Buffer, size: number): AsyncGenerator<Buffer> {
  for (let at = 0; at < data.length; at += size) yield data.subarray(at, at + size);
}

async function unpack(
  data: Buffer,
  format: CompressionFormat,
  limit = 2 ** 30,
  size = 65_536,
): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  for await (const part of decompress(chunksOf(data, size), format, { name: 'sample', limit }))
    parts.push(part);
  return Buffer.concat(parts);
}

/** Text, noise and repetition, so that every block type of the formats comes up. */
const sample = Buffer.concat([
  Buffer.from('the quick brown fox '.repeat(2000)),
  randomBytes(300_000),
  Buffer.alloc(400_000),
  Buffer.from(Array.from({ length: 60_000 }, (_, index) => `${index} ${index * 7}\n`).join('')),
]);

describe.skipIf(!tools)('decompress', () => {
  for (const format of formats) {
    describe(format, () => {
      it('gives back what the real program compressed, at every level', async () => {
        for (const level of ['-1', '-9', ...(format === 'zst' ? ['-19', '--no-check'] : [])]) {
          const packed = compress(sample, format, level);
          expect((await unpack(packed, format)).equals(sample), level).toBe(true);
        }
      });

      it('does not care how the input is cut', async () => {
        const text = sample.subarray(30_000, 60_000);
        const packed = compress(text, format);
        for (const size of [1, 7, 4096])
          expect((await unpack(packed, format, 2 ** 20, size)).equals(text)).toBe(true);
      });

      it('reads members that follow each other, however they are cut', async () => {
        const first = compress(Buffer.from('first '), format);
        const packed = Buffer.concat([
          first,
          compress(Buffer.from('second'), format),
          compress(Buffer.alloc(0), format),
        ]);
        for (const size of [1, first.length, 65_536]) {
          expect((await unpack(packed, format, 100, size)).toString()).toBe('first second');
        }
      });

      it('refuses garbage after the end, in the same chunk and in the next', async () => {
        const packed = compress(Buffer.from('text'), format);
        for (const garbage of ['x', 'garbage, more than a header long', '\0', '\0\0\0', '\0\0\0\0\0x']) {
          for (const size of [1, packed.length, 65_536]) {
            await expect(
              unpack(Buffer.concat([packed, Buffer.from(garbage)]), format, 100, size),
            ).rejects.toThrow(/^cannot decompress sample: /);
          }
        }
      });

      it('refuses data cut off at any byte', async () => {
        const packed = compress(Buffer.from('some text, some text'), format);
        for (let length = 0; length < packed.length; length += 1) {
          await expect(unpack(packed.subarray(0, length), format), String(length)).rejects.toThrow(ToolError);
        }
      });

      it('notices every damaged byte of the data', async () => {
        const text = sample.subarray(0, 3000);
        const packed = compress(text, format);
        for (let at = 0; at < packed.length; at += 1) {
          const damaged = Buffer.from(packed);
          damaged.writeUInt8(damaged.readUInt8(at) ^ 0x55, at);
          const result = await unpack(damaged, format, 2 ** 20).catch((error: unknown) => error);
          // A gzip header also has a time and a system that say nothing about the data.
          if (Buffer.isBuffer(result)) expect(result.equals(text), String(at)).toBe(true);
          else expect(result, String(at)).toBeInstanceOf(ToolError);
        }
      });

      it('stops at the limit, exactly, and quickly', async () => {
        const packed = compress(Buffer.alloc(100_000), format);
        expect((await unpack(packed, format, 100_000)).length).toBe(100_000);
        await expect(unpack(packed, format, 99_999)).rejects.toThrow('it unpacks to more than 99999 bytes');

        const part = zeros(format, 32);
        const bomb = Buffer.concat(Array.from({ length: 32 }, () => part));
        const begin = performance.now();
        await expect(unpack(bomb, format, 2 ** 24)).rejects.toThrow('it unpacks to more than 16777216 bytes');
        expect(performance.now() - begin).toBeLessThan(2000);
      });

      it('refuses other formats', async () => {
        for (const other of formats) {
          if (other === format) continue;
          await expect(unpack(compress(sample.subarray(0, 100), other), format)).rejects.toThrow(
            `it is not ${format} data`,
          );
        }
      });

      it('can be left in the middle, and is free for others afterwards', async () => {
        const packed = compress(sample, format);
        for await (const part of decompress(chunksOf(packed, 4096), format, {
          name: 'left',
          limit: 2 ** 30,
        })) {
          if (part.length > 0) break;
        }
        const both = await Promise.all([unpack(packed, format), unpack(packed, format)]);
        expect(both.every((data) => data.equals(sample))).toBe(true);
      });

      it('passes on what went wrong with its input', async () => {
        // eslint-disable-next-line @typescript-eslint/require-await -- a stream
        async function* broken(): AsyncGenerator<Buffer> {
          yield compress(sample, format).subarray(0, 5000);
          throw new ToolError('cannot read the disk: it is gone');
        }
        const unpacked = decompress(broken(), format, { name: 'sample', limit: 2 ** 30 });
        await expect(drain(unpacked)).rejects.toThrow('cannot read the disk: it is gone');
      });
    });
  }

  it('accepts xz stream padding, blocks, and the common checks', async () => {
    for (const options of [
      ['--check=none'],
      ['--check=crc32'],
      ['--check=crc64'],
      ['--check=sha256'],
      ['-T2', '--block-size=65536'],
      ['-T2', '--block-size=65536', '--check=sha256'],
    ]) {
      const packed = Buffer.concat([compress(sample, 'xz', ...options), Buffer.alloc(8)]);
      expect((await unpack(packed, 'xz')).equals(sample), options.join(' ')).toBe(true);
    }
  });

  describe('xz checked by SHA-256', () => {
    const options = ['--check=sha256', '--block-size=20000'];
    const text = sample.subarray(0, 50_000);

    it('is the same however it is cut, with other streams around it', async () => {
      const packed = compress(text, 'xz', ...options);
      const around = [
        [packed, packed],
        [packed, Buffer.alloc(8), compress(text, 'xz')],
        [packed, compress(Buffer.alloc(0), 'xz', ...options), compress(text, 'xz', '--check=crc32')],
        [compress(Buffer.alloc(0), 'xz', ...options), packed, packed],
      ];
      for (const parts of around) {
        for (const size of [1, 7, 65_536]) {
          const whole = await unpack(Buffer.concat(parts), 'xz', 2 ** 20, size);
          expect(whole.length % text.length).toBe(0);
          for (let at = 0; at < whole.length; at += text.length)
            expect(whole.subarray(at, at + text.length).equals(text)).toBe(true);
        }
      }
    });

    it('notices every damaged and every missing byte', async () => {
      const small = text.subarray(38_000, 41_000);
      const packed = compress(small, 'xz', '--check=sha256', '--block-size=1500');
      for (let at = 0; at < packed.length; at += 1) {
        const damaged = Buffer.from(packed);
        damaged.writeUInt8(damaged.readUInt8(at) ^ 0x55, at);
        const result = await unpack(damaged, 'xz', 2 ** 20).catch((error: unknown) => error);
        // The first byte of a range coder says nothing.
        if (Buffer.isBuffer(result)) expect(result.equals(small), String(at)).toBe(true);
        else expect(result, String(at)).toBeInstanceOf(ToolError);
        await expect(unpack(packed.subarray(0, at), 'xz'), String(at)).rejects.toThrow(ToolError);
      }
      for (const garbage of ['x', 'garbage, more than a header long', '\0', '\0\0\0\0\0x']) {
        await expect(unpack(Buffer.concat([packed, Buffer.from(garbage)]), 'xz')).rejects.toThrow(ToolError);
      }
    });

    it('notices a wrong digest where all else is right', async () => {
      const packed = compress(text, 'xz', ...options);
      // The digest of the last block stands before the index, whose length is in the footer.
      const index = (packed.readUInt32LE(packed.length - 8) + 1) * 4;
      const last = packed.length - 12 - index - 1;
      packed.writeUInt8(packed.readUInt8(last) ^ 1, last);
      await expect(unpack(packed, 'xz')).rejects.toThrow(
        'cannot decompress sample: the xz checksum is wrong',
      );
    });

    it('stops at the limit', async () => {
      const packed = compress(Buffer.alloc(100_000), 'xz', '--check=sha256');
      expect((await unpack(packed, 'xz', 100_000)).length).toBe(100_000);
      await expect(unpack(packed, 'xz', 99_999)).rejects.toThrow('it unpacks to more than 99999 bytes');
    });
  });

  it('says what it does not support', async () => {
    const small = sample.subarray(0, 100);
    await expect(unpack(compress(small, 'xz', '--check=sha256', '--x86', '--lzma2'), 'xz')).rejects.toThrow(
      'xz options that are not supported',
    );
    await expect(unpack(compress(small, 'xz', '--x86', '--lzma2'), 'xz')).rejects.toThrow(
      'xz options that are not supported',
    );
    await expect(unpack(compress(small, 'xz', '--lzma2=dict=512MiB'), 'xz')).rejects.toThrow(
      'its xz dictionary is too large',
    );
    await expect(
      unpack(compress(small, 'zst', '--ultra', '-22', '--long=31', '--stream-size=100'), 'zst').then(String),
    ).resolves.toBe(String(small));
    const streamed = execFileSync('sh', ['-c', 'head -c 1000 /dev/zero | zstd -q --ultra --long=31 -c'], {
      stdio: 'pipe',
    });
    await expect(unpack(streamed, 'zst')).rejects.toThrow('its zstd window is larger than 8388608 bytes');
  });

  it('skips zstd frames that hold no data, and checks sizes that frames state', async () => {
    const frame = compress(sample, 'zst', `--stream-size=${sample.length}`);
    const skippable = Buffer.from([0x5a, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3]);
    expect((await unpack(Buffer.concat([skippable, frame, skippable]), 'zst')).equals(sample)).toBe(true);
    // One raw block of one byte in a single-segment frame that states two.
    const lying = Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0x20, 2, 0x09, 0, 0, 0x41]);
    await expect(unpack(lying, 'zst')).rejects.toThrow('the size in the zstd frame header is wrong');
    lying.writeUInt8(1, 5);
    expect((await unpack(lying, 'zst')).toString()).toBe('A');
  });

  it('gives up on tiny zstd blocks in a huge window', async () => {
    // 8 MiB window, then raw blocks of one byte without end; or frames of one such block.
    const header = Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0, 0x68]);
    const blocks = Buffer.concat([header, Buffer.from('08000041'.repeat(100_000), 'hex')]);
    const frame = Buffer.concat([header, Buffer.from('09000041', 'hex')]);
    for (const packed of [blocks, Buffer.concat(Array.from({ length: 2000 }, () => frame))]) {
      await expect(unpack(packed, 'zst')).rejects.toThrow('its zstd blocks are too small for their window');
    }
  });

  it('keeps memory flat', async () => {
    for (const format of formats) {
      const packed = zeros(format, 128);
      const before = process.memoryUsage.rss();
      let most = 0;
      let size = 0;
      for await (const part of decompress(chunksOf(packed, 65_536), format, {
        name: 'zeros',
        limit: 2 ** 30,
      })) {
        size += part.length;
        most = Math.max(most, process.memoryUsage.rss());
      }
      expect(size).toBe(2 ** 27);
      expect(most - before, format).toBeLessThan(100 * 2 ** 20);
    }
  });
});

describe('decompressFile', () => {
  const directory = mkdtempSync(join(tmpdir(), 'decompress-'));
  afterAll(() => {
    rmSync(directory, { recursive: true });
  });

  it('unpacks an index', async () => {
    const path = join(directory, 'Packages.gz');
    writeFileSync(path, gzipSync(sample));
    expect((await drain(decompressFile(path, 'gz', 2 ** 30))).equals(sample)).toBe(true);
    await expect(drain(decompressFile(path, 'gz', 100))).rejects.toThrow(
      `cannot decompress ${path}: it unpacks to`,
    );
    await expect(drain(decompressFile(join(directory, 'none'), 'gz', 100))).rejects.toThrow('no such file');
  });
});

async function drain(chunks: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  for await (const part of chunks) parts.push(part);
  return Buffer.concat(parts);
}
