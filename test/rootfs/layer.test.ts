import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';

import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

import { compress } from '../../build/rootfs/compress.js';
import { writeLayer } from '../../build/rootfs/layer.js';
import type { RootfsEntry, RootfsPlan } from '../../build/rootfs/plan.js';
import { cannot, ToolError } from '../../build/support/errors.js';
import { tarHeader } from '../../build/support/tar-writer.js';
import { extract, listNames, planned, sha256 } from '../support/extract.js';
import { directory, file, noise, sampleEpoch, samplePlan, symlink, text } from '../support/plan.js';
import { requireThat, requireTools } from '../support/tools.js';

const compressions = ['none', 'gzip', 'zstd'] as const;
const hasTar = requireTools('tar', 'gzip', 'zstd');
const canExtract = requireTools('tar', 'getcap') && requireThat(process.getuid?.() === 0, 'root');

let scratch: string;
beforeAll(() => {
  scratch = mkdtempSync(join(tmpdir(), 'layer-'));
});
afterAll(() => {
  rmSync(scratch, { recursive: true });
});
const at = (name: string): string => join(scratch, name);
const plan = (entries: readonly RootfsEntry[], epoch = sampleEpoch): RootfsPlan => ({
  entries,
  epoch,
});

describe('writeLayer', () => {
  it('gives the same bytes on every machine', async () => {
    // Golden: a change of these is a change of every image's digest.
    const digests = await Promise.all(
      compressions.map(
        async (compression) => (await writeLayer(samplePlan(), compression, at(compression))).digest,
      ),
    );
    expect(digests).toMatchInlineSnapshot(`
      [
        "sha256:7f739da66e02cd250b5d6e2272d6ff4e102bba874921dd179561f023846ffad9",
        "sha256:00d95f20649e924a7562b0cdcd63a89b5bbdebaba50afc348fe9e568091085a6",
        "sha256:d117b4ece4a90057f93356b70b31f1046354259f1e7fd432f172f283d95ccaf3",
      ]
    `);
  });

  it.each(compressions)('states what is in the %s file', async (compression) => {
    const layer = await writeLayer(samplePlan(), compression, at('stated'));
    const bytes = readFileSync(layer.path);
    expect(layer.digest).toBe(`sha256:${sha256(bytes)}`);
    expect(layer.size).toBe(bytes.length);
    const tar = await writeLayer(samplePlan(), 'none', at('stated.tar'));
    expect([layer.diffId, layer.tarSize]).toEqual([tar.digest, tar.size]);
    expect(layer.tarSize % 512).toBe(0);
  });

  it.skipIf(!hasTar)('is accepted by gzip, zstd and tar', async () => {
    const gzip = await writeLayer(samplePlan(), 'gzip', at('a.gz'));
    execFileSync('gzip', ['--test', gzip.path]);
    const zstd = await writeLayer(samplePlan(), 'zstd', at('a.zst'));
    execFileSync('zstd', ['--test', '--quiet', zstd.path]);
    const tar = await writeLayer(samplePlan(), 'none', at('a.tar'));
    expect(execFileSync('zstd', ['-dc', zstd.path]).equals(readFileSync(tar.path))).toBe(true);
    expect(execFileSync('gzip', ['-dc', gzip.path]).equals(readFileSync(tar.path))).toBe(true);
    const listing = execFileSync('tar', ['--numeric-owner', '--utc', '-tvf', tar.path], { encoding: 'utf8' });
    expect(listing).toContain('-rwsr-xr-x 0/0             512 2023-11-14 22:13 usr/sbin/setuid\n');
    expect(listing).toContain('drwxrwx--T 177/177           0 2023-11-14 22:13 var/lib/dhcp\n');
    expect(listNames(tar.path)).toEqual(samplePlan().entries.map((entry) => entry.path));
  });

  it.skipIf(!canExtract)('extracts to exactly what the plan says', async () => {
    const hard = plan([
      ...samplePlan().entries,
      file('z-owner', noise(3), { uid: 2_097_151, gid: 2_097_152 }),
      text('z-owner-pax', 'x', { uid: 3_000_000_000, gid: 3_000_000_001 }),
      text('z-mode', 'x', { mode: 0o7777 }),
      text('z-mode-0', 'x', { mode: 0 }),
      symlink('z-link-99', 'l'.repeat(99)),
      symlink('z-link-100', 'l'.repeat(100)),
      symlink('z-link-101', 'l'.repeat(101)),
      symlink('z-link-ä', '/ö/../ß'),
      directory('z new\nline'.replace('\n', ' ')),
    ]);
    const layer = await writeLayer(hard, 'gzip', at('hard.gz'));
    expect(extract(layer.path)).toEqual(await planned(hard, 'cap_net_bind_service,cap_net_raw=ep'));
  });

  it.skipIf(!canExtract).each([0, 1, 8_589_934_591, 8_589_934_592, -1])(
    'keeps the time %d',
    async (epoch) => {
      const timed = plan([directory('d'), text('d/f', 'x')], epoch);
      const layer = await writeLayer(timed, 'none', at('timed.tar'));
      expect(extract(layer.path)).toEqual(await planned(timed, ''));
    },
  );

  it.skipIf(!hasTar)('writes any path so that tar reads it back', async () => {
    const part = fc
      .string({
        unit: fc.constantFrom('a', 'Z', '.', '-', ' ', 'ä', '語', '😀', '\u007f'),
        minLength: 1,
        maxLength: 130,
      })
      .filter((name) => name !== '.' && name !== '..' && Buffer.byteLength(name) < 256);
    const path = fc.array(part, { minLength: 1, maxLength: 4 }).map((parts) => parts.join('/'));
    await fc.assert(
      fc.asyncProperty(fc.array(path, { minLength: 1, maxLength: 20 }), async (paths) => {
        const named = plan(
          paths.map((name, index) => (index % 2 === 0 ? text(name, name) : directory(name))),
        );
        const layer = await writeLayer(named, 'none', at('named.tar'));
        expect(listNames(layer.path)).toEqual(paths);
      }),
      { numRuns: 40 },
    );
  });

  it('holds an empty plan: two zero blocks', async () => {
    const layer = await writeLayer(plan([]), 'none', at('empty.tar'));
    expect(readFileSync(layer.path).equals(Buffer.alloc(1024))).toBe(true);
  });

  it.each(['', '/etc', '../x', 'a/../b', './a', 'a//b', 'a/', 'a\0b'])(
    'refuses the path %j',
    async (path) => {
      await expect(writeLayer(plan([text(path, 'x')]), 'none', at('refused'))).rejects.toThrow(
        /^cannot write the entry/,
      );
      expect(readdirSync(scratch).filter((name) => name.includes('refused'))).toEqual([]);
    },
  );

  it('refuses a file that is not as long as stated, and numbers out of range', async () => {
    const short = { ...file('short', Buffer.from('abc')), size: 4 };
    await expect(writeLayer(plan([short]), 'gzip', at('refused'))).rejects.toThrow(
      'cannot write short: it has 3 bytes where 4 were stated',
    );
    for (const wrong of [text('x', '', { uid: -1 }), text('x', '', { mode: 0.5 }), symlink('x', '')]) {
      await expect(writeLayer(plan([wrong]), 'gzip', at('refused'))).rejects.toThrow(ToolError);
    }
    await expect(writeLayer(plan([text('x', '')], Number.NaN), 'gzip', at('refused'))).rejects.toThrow(
      ToolError,
    );
  });

  it('leaves the earlier layer alone when a file cannot be read', async () => {
    writeFileSync(at('kept'), 'earlier');
    const broken = file('broken', Buffer.alloc(0));
    const failing = {
      ...broken,
      read: () => Promise.reject(cannot('read', 'broken', 'the package is damaged')),
    };
    for (const compression of compressions) {
      await expect(
        writeLayer(plan([file('big', noise(3_000_000)), failing]), compression, at('kept')),
      ).rejects.toThrow('cannot read broken: the package is damaged');
    }
    expect(readFileSync(at('kept'), 'utf8')).toBe('earlier');
    expect(readdirSync(scratch).filter((name) => name.includes('kept'))).toEqual(['kept']);
  });
});

describe('tarHeader', () => {
  it.skipIf(!hasTar)('states sizes from 8 GiB on in an extended header', () => {
    for (const size of [8 * 1024 ** 3 - 1, 8 * 1024 ** 3, 2 ** 40]) {
      const header = tarHeader({ kind: 'file', path: 'huge', mode: 0o644, uid: 0, gid: 0, mtime: 0, size });
      expect(header.length).toBe(size < 8 * 1024 ** 3 ? 512 : 1536);
      writeFileSync(at('huge.tar'), header);
      // tar lists the entry before it misses the content and fails.
      const listing = execFileSync('sh', ['-c', 'tar -tvf "$1" 2>/dev/null || true', 'sh', at('huge.tar')], {
        encoding: 'utf8',
      });
      expect(listing).toContain(` ${size} `);
    }
  });
});

describe('compress', () => {
  const input = Buffer.concat([noise(2_500_000), Buffer.alloc(1_000_000), noise(70_000)]);

  it.each(compressions)('gives the same %s bytes however the input is cut', async (compression) => {
    const whole = await collect(compress(cut(input, [input.length]), compression));
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.oneof(fc.integer({ min: 0, max: 2_000_000 }), fc.integer({ min: 0, max: 40 })), {
          maxLength: 20,
        }),
        async (sizes) => {
          expect((await collect(compress(cut(input, sizes), compression))).equals(whole)).toBe(true);
        },
      ),
      { numRuns: compression === 'zstd' ? 3 : 8 },
    );
  });

  it.each([0, 1, 1024 ** 2 - 1, 1024 ** 2, 1024 ** 2 + 1, 2 * 1024 ** 2])(
    'compresses %d bytes',
    async (length) => {
      const bytes = noise(length);
      expect(gunzipSync(await collect(compress(cut(bytes, [length]), 'gzip'))).equals(bytes)).toBe(true);
      expect((await collect(compress(cut(bytes, [7, length]), 'none'))).equals(bytes)).toBe(true);
      if (!hasTar) return;
      const zstd = await collect(compress(cut(bytes, [length]), 'zstd'));
      const back = execFileSync('zstd', ['-dc'], { input: zstd, maxBuffer: 1024 ** 3, stdio: 'pipe' });
      expect(back.equals(bytes)).toBe(true);
    },
  );

  it('names no file and no time in the gzip header', async () => {
    const bytes = await collect(compress(cut(input, [5]), 'gzip'));
    expect(bytes.subarray(0, 10).toString('hex')).toBe('1f8b0800000000000003');
  });

  it('refuses more than zstd can hold, before it compresses', async () => {
    const block = Buffer.alloc(64 * 1024 ** 2);
    // eslint-disable-next-line @typescript-eslint/require-await -- a stream of equal blocks
    async function* endless(): AsyncGenerator<Uint8Array> {
      for (;;) yield block;
    }
    await expect(collect(compress(endless(), 'zstd'))).rejects.toThrow(
      /^cannot compress the layer: .* 512 MiB/,
    );
  });
});

/** The bytes in chunks of these sizes, the rest in one. */
// eslint-disable-next-line @typescript-eslint/require-await -- stands in for a file that is read
async function* cut(bytes: Buffer, sizes: readonly number[]): AsyncGenerator<Uint8Array> {
  let offset = 0;
  for (const size of [...sizes, bytes.length]) {
    yield bytes.subarray(offset, offset + size);
    offset += size;
  }
}

async function collect(source: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of source) chunks.push(chunk);
  return Buffer.concat(chunks);
}
