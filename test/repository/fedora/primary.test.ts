import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import { findOwners } from '../../../build/repository/fedora/filelists.js';
import { indexPrimary } from '../../../build/repository/fedora/primary.js';
import { openRpmIndex, type RpmIndex } from '../../../build/repository/fedora/rpm-index.js';
import { ToolError } from '../../../build/support/errors.js';
import { expectModestMemory } from '../../support/memory.js';
import { primaryXml, type PrimaryPackage } from '../../support/rpm-repository.js';

const samples = process.env['REPODATA_SAMPLES'];
if (samples === undefined) process.stderr.write('skipped: real lists of packages need REPODATA_SAMPLES\n');

const directory = mkdtempSync(join(tmpdir(), 'primary-'));
const opened: RpmIndex[] = [];
afterAll(() => {
  for (const index of opened) index.close();
  rmSync(directory, { recursive: true });
});

async function* chunksOf(bytes: Buffer, size = 64 * 1024): AsyncGenerator<Buffer> {
  for (let at = 0; at < bytes.length; at += size) yield await Promise.resolve(bytes.subarray(at, at + size));
}

async function indexOf(text: string | Buffer, size?: number): Promise<RpmIndex> {
  const path = join(directory, `index-${opened.length}`);
  writeFileSync(path, '');
  const architectures = new Set(['x86_64', 'noarch']);
  await indexPrimary(chunksOf(Buffer.from(text), size), { path, where: 'primary', architectures });
  const index = openRpmIndex(path, 'primary');
  opened.push(index);
  return index;
}

const entry = (name: string): string => `<rpm:entry name="${name}"/>`;

describe('indexPrimary', () => {
  it('finds every key of thousands, and nothing else', async () => {
    const packages = Array.from({ length: 3000 }, (_, index): PrimaryPackage => ({
      name: `package-${index}`,
      provides:
        entry(`lib${index}.so.1()(64bit)`) +
        entry(`lib${index % 7}.so.2`) +
        entry('common'.repeat(index % 3)),
      files: `<file>/usr/bin/program-${index}</file>`,
    }));
    const index = await indexOf(primaryXml(packages));
    expect(index.packages).toBe(3000);
    expect(index.names()).toEqual(packages.map(({ name }) => name));
    for (let number = 0; number < 3000; number += 37) {
      for (const [kind, key] of [
        ['name', `package-${number}`],
        ['provides', `lib${number}.so.1()(64bit)`],
        ['provides', `/usr/bin/program-${number}`],
      ] as const) {
        expect(
          index.find(kind, key).map(({ name }) => name),
          key,
        ).toContain(`package-${number}`);
      }
      expect(
        index.find('provides', `package-${number}`).filter(({ name }) => name === `package-${number}`),
      ).toEqual([]);
    }
    expect(index.find('provides', 'lib3.so.2')).toHaveLength(Math.ceil((3000 - 3) / 7));
    expect(index.find('name', 'nothing')).toEqual([]);
    // More of one key than anybody can choose from.
    const many = await indexOf(
      primaryXml(Array.from({ length: 2100 }, (_, number) => ({ name: `p${number}`, provides: entry('x') }))),
    );
    expect(() => many.find('provides', 'x')).toThrow('more than 2000 packages have "x"');
  });

  it('is the same, byte by byte, however the document is cut', async () => {
    const text = primaryXml([
      { name: 'a', provides: entry('é&amp;"'.replace('"', '')) },
      { name: 'b', arch: 'i686', provides: entry('c') },
      { name: 'c', epoch: '3' },
    ]);
    await indexOf(text);
    const first = readFileSync(join(directory, `index-${opened.length - 1}`));
    for (const size of [1, 3, 100]) {
      await indexOf(text, size);
      expect(readFileSync(join(directory, `index-${opened.length - 1}`)).equals(first)).toBe(true);
    }
  });

  it('keeps no keys of packages that do not count, whatever the order of the elements', async () => {
    const text = primaryXml([
      { name: 'a', arch: 'i686', provides: entry('key') },
      { name: 'b', provides: entry('other') },
    ]);
    const late = text.replace('<arch>i686</arch>', '').replace('</package>', '<arch>i686</arch></package>');
    for (const one of [text, late]) {
      const index = await indexOf(one);
      expect([index.packages, index.find('provides', 'key'), index.find('provides', 'other').length]).toEqual(
        [1, [], 1],
      );
    }
  });

  it('takes prefixes as they come', async () => {
    const text = primaryXml([{ name: 'a', provides: entry('p'), requires: entry('r') }]);
    const index = await indexOf(text.replaceAll('rpm:', ''));
    expect(index.find('provides', 'p')[0]?.requires).toEqual([{ name: 'r', constraint: undefined }]);
  });

  it
    .skipIf(samples === undefined)
    .each(['bash-fc32', 'fedora-release-container', 'perl-pathtools-fc32', 'pkgconf-pkg-config-fc32'])(
    'reads %s',
    async (name) => {
      const text = readFileSync(join(samples ?? '', 'fedora32-subsets', `${name}.xml`));
      const index = await indexOf(text);
      const wanted = text.toString().match(/<arch>(?:x86_64|noarch)<\/arch>/g) ?? [];
      expect(index.packages).toBe(wanted.length);
      for (const one of new Set(index.names())) expect(index.find('name', one).length).toBeGreaterThan(0);
    },
  );
});

describe('an index that somebody has changed', () => {
  it('is refused or read, never more', async () => {
    const good = primaryXml([{ name: 'a', provides: entry('p') }, { name: 'b' }]);
    await indexOf(good);
    const bytes = readFileSync(join(directory, `index-${opened.length - 1}`));
    const path = join(directory, 'changed');
    fc.assert(
      fc.property(fc.nat(bytes.length - 1), fc.nat(255), fc.boolean(), (at, value, isCut) => {
        const changed = isCut ? bytes.subarray(0, at) : Buffer.from(bytes);
        if (!isCut) changed.writeUInt8(value, at);
        writeFileSync(path, changed);
        try {
          const index = openRpmIndex(path, 'primary');
          try {
            for (const key of ['a', 'b', 'p']) {
              index.find('name', key);
              index.find('provides', key);
            }
            index.names();
          } finally {
            index.close();
          }
        } catch (error) {
          if (!(error instanceof ToolError)) throw error;
        }
      }),
      { numRuns: 1500 },
    );
  });
});

describe('mangled lists', () => {
  const primary = primaryXml([
    {
      name: 'a',
      provides: entry('p') + '<rpm:entry name="v" flags="GE" epoch="1" ver="2" rel="3"/>',
      files: '<file>/x</file>',
    },
    { name: 'b', arch: 'noarch', requires: entry('(a if b)') },
  ]);
  const filelists =
    '<filelists><package pkgid="aa" name="a" arch="x86_64"><version epoch="0" ver="1" rel="1"/><file>/x</file><file type="dir">/d</file></package></filelists>';
  const damage = fc.record({
    at: fc.double({ min: 0, max: 0.999, noNaN: true }),
    cut: fc.nat(60),
    put: fc.oneof(
      fc.constantFrom(
        '<',
        '>',
        '"',
        '&',
        '&#x110000;',
        '\0',
        '<package type="rpm">',
        '</package>',
        '<rpm:entry name="',
        '<!--',
        '<![CDATA[',
        '<x>',
        '__proto__',
        '\u{10ffff}',
      ),
      fc.string({ maxLength: 5 }),
    ),
    repeat: fc.constantFrom(1, 1, 1, 2000),
  });
  const damages = fc.array(damage, { minLength: 1, maxLength: 3 });

  function damaged(
    text: string,
    all: readonly { at: number; cut: number; put: string; repeat: number }[],
  ): Buffer {
    let result = text;
    for (const { at, cut, put, repeat } of all) {
      const index = Math.floor(at * result.length);
      result = result.slice(0, index) + put.repeat(repeat) + result.slice(index + cut);
    }
    return Buffer.from(result);
  }

  it('give an index or a ToolError', async () => {
    await fc.assert(
      fc.asyncProperty(damages, fc.constantFrom(undefined, 1, 50), async (all, size) => {
        const begin = Date.now();
        try {
          const index = await indexOf(damaged(primary, all), size);
          for (const key of ['a', 'b', 'p', '__proto__']) {
            index.find('name', key);
            index.find('provides', key);
          }
          opened.pop()?.close();
        } catch (error) {
          if (!(error instanceof ToolError)) throw error;
        }
        expect(Date.now() - begin).toBeLessThan(2000);
      }),
      { numRuns: 800 },
    );
    expectModestMemory();
  });

  it('of files give owners or a ToolError', async () => {
    expect(await findOwners(chunksOf(Buffer.from(filelists)), new Set(['/x', '/d']), 'f')).toEqual([
      { name: 'a', checksum: 'aa' },
    ]);
    await fc.assert(
      fc.asyncProperty(damages, async (all) => {
        try {
          await findOwners(chunksOf(damaged(filelists, all)), new Set(['/x']), 'f');
        } catch (error) {
          if (!(error instanceof ToolError)) throw error;
        }
      }),
      { numRuns: 500 },
    );
  });

  it('of one endless package stay within bounds', async () => {
    const begin = Date.now();
    async function* endless(): AsyncGenerator<Buffer> {
      yield Buffer.from('<metadata><package type="rpm"><name>a</name><arch>x86_64</arch><format><provides>');
      const chunk = Buffer.from(entry('x'.repeat(80)).repeat(1000));
      for (let count = 0; count < 3000; count++) yield await Promise.resolve(chunk);
    }
    const path = join(directory, 'endless');
    writeFileSync(path, '');
    const error: unknown = await indexPrimary(endless(), {
      path,
      where: 'primary',
      architectures: new Set(['x86_64']),
    }).catch((thrown: unknown) => thrown);
    expect(error instanceof ToolError ? error.message : '').toContain('it holds a list of more than');
    expect(statSync(path).size).toBe(0);
    expect(Date.now() - begin).toBeLessThan(10_000);
    expectModestMemory();
  });
});
