import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { startBytes, Tap, type Keep } from '../../build/compare/tap.js';
import { readTar } from '../../build/package/tar.js';
import { tarArchive } from '../support/tar-builder.js';

const keeps = fc.constantFrom<ReturnType<Keep>>('all', 'start', 'nothing');
const files = fc.array(fc.tuple(fc.uint8Array({ maxLength: 3000 }), keeps), { maxLength: 8 });

describe('a tap', () => {
  it('copies files out of an archive that is read by somebody else, whatever its chunks are', async () => {
    await fc.assert(
      fc.asyncProperty(
        files,
        fc.array(fc.integer({ min: 1, max: 2500 }), { minLength: 1 }),
        async (made, cuts) => {
          const archive = tarArchive(
            made.map(([data], index) => ({ name: `f${index}`, data: Buffer.from(data) })),
          );
          const tap = new Tap();
          const found: (Buffer | undefined)[] = [];
          let asked = false;
          for await (const { entry, offset } of readTar(tap.through(chunked(archive, cuts)), 'it')) {
            if (asked) found.push(tap.finish());
            asked = true;
            const [data, keep] = made[Number(entry.path.slice(1))] ?? [];
            tap.begin(offset, data?.length ?? 0, (start) => {
              expect(start).toEqual(Buffer.from(data?.slice(0, startBytes) ?? []));
              return keep ?? 'nothing';
            });
          }
          if (asked) found.push(tap.finish());
          const expected = made.map(([data, keep]) =>
            // Nobody decides about a file of no bytes.
            keep === 'all' || data.length === 0
              ? Buffer.from(data)
              : keep === 'start'
                ? Buffer.from(data.slice(0, startBytes))
                : undefined,
          );
          expect(found).toEqual(expected);
        },
      ),
      { numRuns: 200 },
    );
  });
});

async function* chunked(bytes: Buffer, cuts: readonly number[]): AsyncGenerator<Uint8Array, void, undefined> {
  for (let at = 0, turn = 0; at < bytes.length; turn += 1) {
    const length = cuts[turn % cuts.length] ?? 1;
    yield await Promise.resolve(bytes.subarray(at, at + length));
    at += length;
  }
}
