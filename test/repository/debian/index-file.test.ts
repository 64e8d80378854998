import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { writeIndexFile, type IndexFile } from '../../../build/repository/debian/index-file.js';
import { sourceOf } from './opening.js';

let directory: string;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'index-file-'));
});
afterEach(async () => {
  await rm(directory, { recursive: true, force: true });
});

async function indexOf(text: string, chunkSize: number, size?: number): Promise<IndexFile> {
  const path = join(directory, 'index');
  await writeFile(path, '');
  return writeIndexFile(chunksOf(Buffer.from(text), chunkSize), {
    path,
    source: sourceOf('file:///archive/', 'stable', 'keyring'),
    automatic: true,
    url: 'file:///archive/Packages',
    size,
  });
}

// eslint-disable-next-line @typescript-eslint/require-await -- makes a stream of what is in memory
async function* chunksOf(bytes: Buffer, size: number): AsyncGenerator<Buffer> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

/** Stanzas of lengths from 100 bytes to 60 kB, so that windows and blocks end anywhere in them. */
function stanzas(count: number): readonly string[] {
  return Array.from({ length: count }, (_, number) => {
    const provides = number % 3 === 0 ? `\nProvides: virtual-${number}, grüße-${number % 7}` : '';
    const description = 'lorem ipsum '.repeat((number * 7919) % (number % 50 === 0 ? 5000 : 60));
    return `Package: package-${number % 1000}\nVersion: ${number}${provides}\nDescription: ${description}.`;
  });
}

describe('writeIndexFile', () => {
  it.each([1021, 65_536, 1_048_576, 100_000_000])(
    'finds every stanza and every Provides field, in chunks of %i bytes',
    async (chunkSize) => {
      const written = stanzas(4000);
      const text = `${written.join('\n\n')}\n`;
      expect(text.length).toBeGreaterThan(3_000_000);
      const index = await indexOf(text, chunkSize, Buffer.byteLength(text));
      const found = [...index.offsets.values()].flat().sort((a, b) => a - b);
      expect(found.map((offset) => index.stanza(offset).trimEnd())).toEqual(written);
      expect(index.offsets.get('package-7')).toHaveLength(4);
      expect(index.provides).toHaveLength(Math.ceil(4000 / 3));
      expect(index.provides[5]).toMatchObject({ owner: 'package-15' });
      expect(index.provides[5]?.value).toMatch(/^virtual-15, /);
    },
  );

  it('takes an index of nothing, and blank lines around stanzas', async () => {
    expect((await indexOf('', 10)).offsets.size).toBe(0);
    const index = await indexOf('\n\nPackage: a\nVersion: 1\n\n\n\nPackage: b\nVersion: 2\n\n\n', 10);
    expect([...index.offsets.keys()]).toEqual(['a', 'b']);
    expect(index.stanza(index.offsets.get('b')?.[0] ?? 0)).toBe('Package: b\nVersion: 2');
  });

  it('refuses an index of another length than the Release says', async () => {
    const text = 'Package: a\nVersion: 1\n';
    await expect(indexOf(text, 10, text.length + 1)).rejects.toThrow('it is shorter than its Release says');
    await expect(indexOf(text, 10, text.length - 1)).rejects.toThrow('it is longer than its Release says');
  });

  it('refuses a stanza without an end', async () => {
    const text = `Package: a\nDescription: ${'x'.repeat(6_000_000)}\n`;
    await expect(indexOf(text, 65_536)).rejects.toThrow('it has a stanza of more than 4194304 bytes');
  });

  it('says where in the whole index a stanza hides its name', async () => {
    const text = `${stanzas(2000).join('\n\n')}\n\nVersion: 1\nPackage: hidden\n`;
    const at = Buffer.from(text).lastIndexOf('\nPackage: hidden');
    await expect(indexOf(text, 65_536)).rejects.toThrow(`at byte ${at} does not begin with its Package`);
  });

  it('reports an index that has gone from the disk', async () => {
    const index = await indexOf('Package: a\nVersion: 1\n', 10);
    await rm(join(directory, 'index'));
    expect(() => index.stanza(0)).toThrow(/^cannot read .*no such file/);
  });
});
