import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { closeLibraries, type LoaderFile } from '../../build/elf/closure.js';
import { readLdSoConf } from '../../build/elf/ld-so-conf.js';
import { parseElf } from '../../build/elf/parse.js';
import { ToolError } from '../../build/support/errors.js';
import { buildElf, tag } from '../support/elf-builder.js';
import { hostLoader } from '../support/elf-host.js';
import { expectModestMemory } from '../support/memory.js';

const synthetic = (['little', 'big'] as const).flatMap((data) =>
  ([32, 64] as const).flatMap((elfClass) =>
    (['hash', 'gnu-hash', 'relocations'] as const).map((symbolCount) =>
      buildElf({
        class: elfClass,
        data,
        machine: data === 'big' ? 22 : 62,
        type: 3,
        interpreter: '/lib/ld.so',
        strings: [
          [tag.NEEDED, 'liba.so'],
          [tag.NEEDED, '$ORIGIN/${LIB}/libb.so'],
          [tag.SONAME, 'libself.so'],
          [tag.RUNPATH, '$ORIGIN:/x::$PLATFORM'],
          [tag.AUXILIARY, 'libc.so'],
        ],
        numbers: [[tag.FLAGS_1, 0x840]],
        imports: ['dlopen', 'open'],
        symbolCount,
        neededVersions: [{ file: 'liba.so', versions: ['A', 'B'] }],
        definedVersions: ['self', 'SELF_1'],
        notes: [{ owner: 'FDO', type: 0x407c0c0a, text: '[{"soname":["x"]}]' }],
      }),
    ),
  ),
);
/** Small real programs as well: other layouts, real symbol tables. */
const real = [() => '/bin/true', () => '/bin/sh', hostLoader].flatMap((path) => {
  try {
    return [readFileSync(path())];
  } catch {
    return [];
  }
});

/** Values at which checks of sizes and offsets break. */
const interesting = fc.oneof(
  fc.constantFrom(0, 1, 2, 0x7f, 0x80, 0xff, 0x7fff, 0xffff, 0x7fffffff, 0x80000000, 0xffffffff),
  fc.nat(0xffffffff),
);
const edit = fc.record({
  at: fc.nat(),
  /** Most structures are near the start and the end of a file. */
  near: fc.constantFrom('start', 'anywhere', 'end'),
  width: fc.constantFrom(1, 2, 4, 8),
  little: fc.boolean(),
  value: interesting,
});
const mutation = fc.record({
  base: fc.constantFrom(...synthetic, ...synthetic, ...real),
  edits: fc.array(edit, { maxLength: 12 }),
  cut: fc.option(fc.nat(), { freq: 5 }),
});
type Mutation = typeof mutation extends fc.Arbitrary<infer Value> ? Value : never;

function mutate({ base, edits, cut }: Mutation): Buffer {
  const bytes = Buffer.from(base);
  for (const { at, near, width, little, value } of edits) {
    const span = near === 'anywhere' ? bytes.length : Math.min(bytes.length, 1024);
    const place = (near === 'end' ? bytes.length - span : 0) + (at % span);
    if (place + width > bytes.length) continue;
    const low = width === 8 ? BigInt(value) * 0x1_0000_0001n : BigInt(value);
    for (let index = 0; index < width; index += 1) {
      const shift = BigInt(8 * (little ? index : width - 1 - index));
      bytes[place + index] = Number((low >> shift) & 0xffn);
    }
  }
  return cut === null ? bytes : bytes.subarray(0, cut % (bytes.length + 1));
}

/** Result or ToolError, in little memory and within a second of processor time: other tests share the machine. */
async function expectTame(work: () => unknown): Promise<boolean> {
  const started = process.cpuUsage();
  let fine = true;
  try {
    await work();
  } catch (error) {
    if (!(error instanceof ToolError)) throw error;
    expect(error.message).toMatch(/^cannot /);
    fine = false;
  }
  const { user, system } = process.cpuUsage(started);
  expect((user + system) / 1000).toBeLessThan(1000);
  expectModestMemory();
  return fine;
}

describe('hostile files', () => {
  it('parseElf gives a result or a ToolError', { timeout: 60_000 }, async () => {
    let parsed = 0;
    await fc.assert(
      fc.asyncProperty(mutation, async (input) => {
        const bytes = mutate(input);
        if (await expectTame(() => parseElf(bytes, '/x'))) parsed += 1;
      }),
      { numRuns: 6000 },
    );
    // Both ways are met, or the mutations would show nothing.
    expect(parsed).toBeGreaterThan(300);
    expect(parsed).toBeLessThan(5700);
  });

  it('closeLibraries gives a result or a ToolError', { timeout: 60_000 }, async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(mutation, { minLength: 1, maxLength: 3 }), async (inputs) => {
        const files = inputs.map(mutate);
        const lookup = (path: string): LoaderFile<undefined> | undefined => {
          // Any name leads to one of the files, so that mutated names are followed.
          const index = Buffer.from(path).reduce((sum, byte) => sum + byte, 0) % (files.length + 1);
          const bytes = files[index];
          return bytes && { path: `/file${index}`, owner: undefined, read: () => Promise.resolve(bytes) };
        };
        for (const architecture of ['x86_64', 's390x'] as const) {
          await expectTame(() =>
            closeLibraries({
              roots: ['/bin/a', '/bin/b'],
              dlopen: [{ by: 'a', loads: ['libplugin.so'] }],
              view: { lookup },
              provide: () => Promise.resolve(true),
              config: { architecture, configured: ['/c'], builtIn: ['/lib'], lib: 'lib' },
            }),
          );
        }
      }),
      { numRuns: 1500 },
    );
  });

  it('readLdSoConf gives a result or a ToolError', async () => {
    const line = fc.oneof(
      fc.string(),
      fc.constantFrom('include *', 'include [a-', 'include ../*/x', '/a=', '#'),
      fc.stringMatching(/^include [*?\\[\]!^a/.-]*$/),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(line), async (lines) => {
        const bytes = Buffer.from(lines.join('\n'));
        await expectTame(() =>
          readLdSoConf({ read: () => Promise.resolve(bytes), list: () => ['a', '.b', ']', '-', 'a.conf'] }),
        );
      }),
    );
  });
});

describe('files made to be expensive', () => {
  const host = { class: 64, data: 'little', machine: 62, type: 3 } as const;
  const view = (bytes: Buffer): { lookup(path: string): LoaderFile<undefined> | undefined } => ({
    lookup: (path) =>
      path === '/bin/a' ? { path, owner: undefined, read: () => Promise.resolve(bytes) } : undefined,
  });
  const close = (bytes: Buffer): Promise<boolean> =>
    expectTame(() =>
      closeLibraries({
        roots: ['/bin/a'],
        dlopen: [],
        view: view(bytes),
        provide: () => Promise.resolve(false),
        config: { architecture: 'x86_64', configured: ['/c'], builtIn: ['/lib'], lib: 'lib' },
      }),
    );

  it('thousands of needed names and directories', async () => {
    const directories = Array.from({ length: 12_000 }, (_, index) => `/d${index}`)
      .join(':')
      .slice(0, 65_000);
    const names = Array.from({ length: 4000 }, (_, index) => [tag.AUXILIARY, `lib${index}.so`] as const);
    expect(await close(buildElf({ ...host, strings: [...names, [tag.RUNPATH, directories]] }))).toBe(false);
  });

  it('tokens that grow', async () => {
    const text = Array.from({ length: 15 }, () => '$ORIGIN'.repeat(580)).join(':');
    await close(
      buildElf({
        ...host,
        strings: [
          [tag.NEEDED, 'liba.so'],
          [tag.RPATH, text],
        ],
      }),
    );
  });

  it('one long string under many names', async () => {
    const long = 'x'.repeat(4000);
    const bytes = buildElf({
      ...host,
      strings: Array.from({ length: 4000 }, () => [tag.NEEDED, long] as const),
    });
    expect(await close(bytes)).toBe(false);
  });

  it('too many needed names', async () => {
    const names = Array.from({ length: 5000 }, () => [tag.NEEDED, 'x'] as const);
    expect(await close(buildElf({ ...host, strings: names }))).toBe(false);
  });

  it('notes of zeros, and program headers that all hold them', async () => {
    const text = '\0'.repeat(900_000) + 'x';
    await close(buildElf({ ...host, notes: [{ owner: 'FDO', type: 0x407c0c0a, text }] }));
    const bytes = Buffer.concat([
      buildElf({ ...host, notes: [] }).subarray(0, 64),
      ...Array.from({ length: 60_000 }, () => {
        const header = Buffer.alloc(56);
        header.writeUInt32LE(4);
        header.writeBigUInt64LE(0xffff_ffffn, 32);
        return header;
      }),
      Buffer.alloc(1024 ** 2),
    ]);
    bytes.writeUInt16LE(60_000, 56);
    await close(bytes);
  });
});
