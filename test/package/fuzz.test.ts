import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openDeb } from '../../build/package/deb.js';
import { readTar } from '../../build/package/tar.js';
import { openCache, type Cache } from '../../build/support/cache.js';
import { ToolError } from '../../build/support/errors.js';
import { buildDeb, controlText, debCompressions, debOf, sha256Of } from '../support/deb.js';
import { expectModestMemory } from '../support/memory.js';
import { gnuLong, paxHeader, tarArchive, type TarSpec } from '../support/tar-builder.js';
import { requireTools } from '../support/tools.js';

const directory = mkdtempSync(join(tmpdir(), 'package-fuzz-'));
let cache: Cache;
beforeAll(async () => {
  cache = await openCache(join(directory, 'cache'));
});
afterAll(() => {
  rmSync(directory, { recursive: true });
});

const limits = { unpackedBytes: 2 ** 22, entries: 1000, controlBytes: 2 ** 20 };
/** Milliseconds that one input may take, on a busy machine. */
const patience = 2000;

const members: (TarSpec | Buffer)[] = [
  { name: './', type: '5' },
  { name: './dir/', type: '5' },
  gnuLong('L', 'dir/long'),
  { name: 'x', data: Buffer.from('text'.repeat(200)) },
  paxHeader({ path: 'dir/pax', mtime: '1.5', 'SCHILY.xattr.security.capability': 'x'.repeat(20) }),
  { name: 'y', data: Buffer.from('pax') },
  { name: 'dir/hard', type: '1', linkName: 'dir/pax' },
  { name: 'link', type: '2', linkName: 'dir' },
];

type Change = {
  readonly at: number;
  readonly kind: 'flip' | 'set' | 'cut' | 'drop' | 'repeat';
  readonly value: number;
};
const changes: fc.Arbitrary<readonly Change[]> = fc.array(
  fc.record({
    at: fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
    kind: fc.constantFrom('flip', 'set', 'flip', 'set', 'cut', 'drop', 'repeat'),
    value: fc.nat(255),
  }),
  { minLength: 1, maxLength: 6 },
);

function changed(input: Buffer, list: readonly Change[]): Buffer {
  let data = Buffer.from(input);
  for (const { at, kind, value } of list) {
    const index = Math.floor(at * data.length);
    if (data.length === 0) return data;
    if (kind === 'flip') data.writeUInt8(data.readUInt8(index) ^ (1 << (value % 8)), index);
    else if (kind === 'set') data.writeUInt8(value, index);
    else if (kind === 'cut') data = data.subarray(0, index);
    else if (kind === 'drop') data = Buffer.concat([data.subarray(0, index), data.subarray(index + value)]);
    else data = Buffer.concat([data.subarray(0, index + value), data.subarray(index)]);
  }
  return data;
}

/** Gives every damaged tar header its right checksum, so that the damage is read and not just noticed. */
function withChecksums(archive: Buffer): Buffer {
  const data = Buffer.from(archive);
  for (let at = 0; at + 512 <= data.length; at += 512) {
    const block = data.subarray(at, at + 512);
    if (!block.toString('latin1', 257, 262).startsWith('ustar')) continue;
    block.fill(' ', 148, 156);
    block.write(
      block
        .reduce((sum, byte) => sum + byte, 0)
        .toString(8)
        .padStart(6, '0') + '\0',
      148,
    );
  }
  return data;
}

/** The outcome is a result or a ToolError of one line, in time and in little memory. */
async function survives(work: () => Promise<unknown>): Promise<void> {
  const begin = performance.now();
  try {
    await work();
  } catch (error) {
    expect(error).toBeInstanceOf(ToolError);
    expect(String(error)).toMatch(/^ToolError: cannot \w+ .+: .+$/);
  }
  expect(performance.now() - begin).toBeLessThan(patience);
  expectModestMemory();
}

async function openChanged(bytes: Buffer): Promise<void> {
  const path = join(directory, 'changed.deb');
  writeFileSync(path, bytes);
  const contents = await openDeb(path, sha256Of(bytes), cache, { limits });
  try {
    for (const entry of contents.entries) {
      if (entry.kind === 'file' || entry.kind === 'hardlink') {
        expect((await contents.read(entry)).length).toBe(entry.size);
      }
      expect(entry.path.split('/')).not.toContain('..');
      expect(entry.path).toMatch(/^[^/]/);
    }
  } finally {
    await contents.close();
  }
}

describe('damaged input ends in a result or an error that says so', () => {
  it('tar, with and without right checksums', async () => {
    const archive = tarArchive(members);
    const drain = async (bytes: Buffer) => {
      // eslint-disable-next-line @typescript-eslint/require-await -- a stream of what is in memory
      async function* chunks(): AsyncGenerator<Buffer> {
        yield bytes;
      }
      for await (const { entry } of readTar(chunks(), 'sample'))
        expect(entry.path).not.toMatch(/(^|\/)\.\.(\/|$)/);
    };
    await fc.assert(
      fc.asyncProperty(changes, fc.boolean(), async (list, repair) => {
        const bytes = changed(archive, list);
        await survives(() => drain(repair ? withChecksums(bytes) : bytes));
      }),
      { numRuns: 3000 },
    );
  });

  it('ar and the whole package', async () => {
    const deb = debOf(members);
    await fc.assert(
      fc.asyncProperty(changes, (list) => survives(() => openChanged(changed(deb, list)))),
      { numRuns: 800 },
    );
  });

  it('the headers of ar and tar', async () => {
    const deb = debOf(members);
    const headers = deb.subarray(0, 8 + 60 + 4 + 60);
    await fc.assert(
      fc.asyncProperty(changes, (list) =>
        survives(() => openChanged(Buffer.concat([changed(headers, list), deb.subarray(headers.length)]))),
      ),
      { numRuns: 500 },
    );
  });

  it('control files', async () => {
    const text = Buffer.from(controlText({ Depends: 'a (>= 1),\n b' }));
    await fc.assert(
      fc.asyncProperty(changes, (list) =>
        survives(() => openChanged(debOf(members, [{ name: 'control', data: changed(text, list) }]))),
      ),
      { numRuns: 500 },
    );
  });

  describe.skipIf(!requireTools('dpkg-deb', 'zstd'))('compressed', () => {
    for (const compression of debCompressions) {
      it(`packages of dpkg-deb -Z${compression}`, async () => {
        const text = 'line of text\n'.repeat(300);
        const deb = readFileSync(
          buildDeb(directory, { 'usr/bin/tool': text, 'usr/bin/two': 'x' }, { compression }),
        );
        await fc.assert(
          fc.asyncProperty(changes, (list) => survives(() => openChanged(changed(deb, list)))),
          { numRuns: 400 },
        );
      });
    }

    it('zstd frames without a checksum', async () => {
      const noise = Array.from({ length: 4000 }, (_, index) => `${(index * index) % 977} `).join('');
      const tar = tarArchive([{ name: 'file', data: Buffer.from(noise) }]);
      const packed = execFileSync('zstd', ['-q', '-19', '--no-check', '-c'], { input: tar });
      const { decompress } = await import('../../build/package/decompress.js');
      await fc.assert(
        fc.asyncProperty(changes, (list) =>
          survives(async () => {
            // eslint-disable-next-line @typescript-eslint/require-await -- a stream of what is in memory
            async function* chunks(): AsyncGenerator<Buffer> {
              yield changed(packed, list);
            }
            for await (const chunk of decompress(chunks(), 'zst', { name: 'sample', limit: 2 ** 22 })) {
              expect(chunk.length).toBeLessThanOrEqual(2 ** 17);
            }
          }),
        ),
        { numRuns: 2000 },
      );
    });
  });
});
