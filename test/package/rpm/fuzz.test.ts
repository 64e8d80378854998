import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { PackageContents } from '../../../build/package/contents.js';
import type { SignaturePolicy } from '../../../build/package/rpm/signature.js';
import { ToolError } from '../../../build/support/errors.js';
import { expectModestMemory } from '../../support/memory.js';
import { makeSigningKey, type RpmSpec } from '../../support/rpm.js';
import { partsOf, resealed } from '../../support/rpm-bytes.js';
import { policyOf, RpmOpening } from '../../support/rpm-opening.js';
import { requireTools } from '../../support/tools.js';

const opening = new RpmOpening();
afterAll(() => opening.remove());

const limits = { unpackedBytes: 2 ** 22, entries: 1000, controlBytes: 2 ** 20 };
/** Milliseconds that one input may take, on a busy machine. */
const patience = 2000;

const files: RpmSpec['files'] = {
  'usr/bin/tool': { content: 'tool\n'.repeat(100), mode: 0o4755, capabilities: 'cap_net_raw=ep' },
  'usr/bin/twin': { hardlink: 'usr/bin/tool', mode: 0o4755 },
  'usr/bin/alias': { link: 'tool' },
  'usr/lib/sysusers.d/x.conf': 'u x 7\n',
  'run/ghost': { link: 'x', ghost: true },
  'var/x': { directory: true, user: 'x', group: 'x' },
};

/** The outcome is a ToolError of one line, or what the whole package gives, in time and in little memory. */
async function survives(bytes: Buffer, policy: SignaturePolicy, whole?: string): Promise<void> {
  const begin = performance.now();
  let outcome: string | undefined;
  try {
    outcome = await summary(await opening.bytes(bytes, policy, { limits }));
  } catch (error) {
    expect(error).toBeInstanceOf(ToolError);
    expect(String(error)).toMatch(/^ToolError: cannot \w+ .+: .+$/);
  } finally {
    await opening.closeAll();
  }
  if (whole !== undefined && outcome !== undefined) expect(outcome).toBe(whole);
  expect(performance.now() - begin).toBeLessThan(patience);
  expectModestMemory();
}

/** Everything that a package is, as text. */
async function summary(contents: PackageContents): Promise<string> {
  const { name, version, architecture, built, metadata, entries } = contents;
  const texts: string[] = [];
  for (const entry of entries) {
    expect(entry.path.split('/')).not.toContain('..');
    if (entry.kind === 'file' || entry.kind === 'hardlink') {
      texts.push((await contents.read(entry)).toString('base64'));
    }
  }
  return JSON.stringify({ name, version, architecture, built, metadata, entries, texts });
}

describe.skipIf(!requireTools('rpmbuild', 'rpmsign', 'gpg', 'gpgconf'))('damaged packages', () => {
  let policy: SignaturePolicy;
  let sign: NonNullable<RpmSpec['sign']>;
  beforeAll(async () => {
    sign = makeSigningKey(opening.directory);
    policy = await policyOf(sign);
  });

  it.each(['w.ufdio', 'w6.gzdio', 'w2.xzdio', 'w1.lzdio', 'w3.zstdio'])(
    'end in an error or the whole package, whichever byte is changed (%s)',
    async (payload) => {
      const bytes = readFileSync(opening.build({ files, payload, sign }));
      const whole = await summary(await opening.bytes(bytes, policy));
      // Every byte that says something of the structure, and a choice of the others.
      for (let at = 0; at < bytes.length; at += at < 700 ? 9 : 37) {
        const changed = Buffer.from(bytes);
        changed.writeUInt8(changed.readUInt8(at) ^ (1 << (at % 8)), at);
        await survives(changed, policy, whole);
      }
      for (let length = 0; length < bytes.length; length += 193) {
        await survives(bytes.subarray(0, length), policy, whole);
      }
    },
    120_000,
  );

  it.each(['w.ufdio', 'w6.gzdio', 'w2.xzdio', 'w1.lzdio', 'w3.zstdio'])(
    'end in an error or a package, when their digests fit the damage (%s)',
    async (payload) => {
      const parts = partsOf(readFileSync(opening.build({ files, payload })));
      const change = fc.record({
        part: fc.constantFrom('header', 'payload', 'index'),
        at: fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
        value: fc.nat(255),
      });
      await fc.assert(
        fc.asyncProperty(fc.array(change, { minLength: 1, maxLength: 4 }), async (changes) => {
          const header = parts.header.map((tag) => ({ ...tag, data: Buffer.from(tag.data) }));
          const data = Buffer.from(parts.payload);
          for (const { part, at, value } of changes) {
            const tag = header[Math.floor(at * header.length)];
            if (part === 'payload') data.writeUInt8(value, Math.floor(at * data.length));
            else if (tag === undefined) continue;
            else if (part === 'header') tag.data.writeUInt8(value, (value * 7) % tag.data.length);
            else header[header.indexOf(tag)] = { ...tag, type: value % 11, count: (tag.count * value) >>> 3 };
          }
          await survives(resealed({ ...parts, header, payload: data }), 'unsigned');
        }),
        { numRuns: 400 },
      );
    },
    120_000,
  );
});
