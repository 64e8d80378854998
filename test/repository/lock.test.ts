import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parse } from 'yaml';

import { families } from '../../build/definition/definition.js';
import {
  formatLock,
  readLock,
  writeLock,
  type LockedPackage,
  type LockFile,
} from '../../build/repository/lock.js';
import { architectures } from '../../build/support/architecture.js';
import { ToolError } from '../../build/support/errors.js';
import { compareBytes } from '../../build/support/order.js';

let directory: string;
let path: string;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'lock-'));
  path = join(directory, 'dhcpd.lock.yaml');
});
afterAll(async () => {
  await rm(directory, { recursive: true, force: true });
});

const libc: LockedPackage = {
  name: 'libc6',
  version: '2.36-9+deb12u14',
  architecture: 'amd64',
  suite: 'bookworm',
  path: 'pool/main/g/glibc/libc6_2.36-9+deb12u14_amd64.deb',
  size: 2757124,
  sha256: '0'.repeat(60) + 'cafe',
  why: 'libc.so.6, needed by usr/sbin/dhcpd: "the C library"',
};
const dhcpd: LockedPackage = {
  ...libc,
  name: 'isc-dhcp-server',
  version: '1:4.40',
  suite: 'bookworm-security/updates',
  path: 'pool/updates/main/i/isc-dhcp/isc-dhcp-server_4.40_amd64.deb',
  why: 'usr/sbin/dhcpd, root of the image',
};
const lock: LockFile = {
  definition: 'ab'.repeat(32),
  targets: [
    { family: 'debian', release: 'bookworm', architecture: 'aarch64', packages: [] },
    { family: 'debian', release: 'bookworm', architecture: 'x86_64', packages: [dhcpd, libc] },
  ],
};

const golden = `# Generated; do not edit. Renew it with: npx dhcpd-scratch lock DEFINITION
# It names the packages of the image exactly: a build takes these and no others.
schemaVersion: 1
definition: "${'ab'.repeat(32)}"
targets:
  - family: debian
    release: bookworm
    architecture: aarch64
    packages: []
  - family: debian
    release: bookworm
    architecture: x86_64
    packages:
      - name: isc-dhcp-server
        version: "1:4.40"
        architecture: amd64
        suite: bookworm-security/updates
        path: pool/updates/main/i/isc-dhcp/isc-dhcp-server_4.40_amd64.deb
        size: 2757124
        sha256: "${'0'.repeat(60)}cafe"
        why: "usr/sbin/dhcpd, root of the image"
      - name: libc6
        version: "2.36-9+deb12u14"
        architecture: amd64
        suite: bookworm
        path: pool/main/g/glibc/libc6_2.36-9+deb12u14_amd64.deb
        size: 2757124
        sha256: "${'0'.repeat(60)}cafe"
        why: "libc.so.6, needed by usr/sbin/dhcpd: \\"the C library\\""
`;

async function failure(text: string | Buffer): Promise<ToolError> {
  await writeFile(path, text);
  const error: unknown = await readLock(path).then(
    () => new Error('it was accepted'),
    (thrown: unknown) => thrown,
  );
  if (error instanceof ToolError) return error;
  throw error;
}

describe('formatLock', () => {
  it('gives the golden text, in whatever order the packages come', () => {
    expect(formatLock(lock)).toBe(golden);
    const shuffled = lock.targets.map((target) => ({ ...target, packages: [...target.packages].reverse() }));
    expect(formatLock({ ...lock, targets: shuffled.reverse() })).toBe(golden);
    expect(formatLock({ ...lock, targets: [] })).toMatch(/\ntargets: \[\]\n$/);
  });
});

describe('writeLock and readLock', () => {
  it('give back what was written', async () => {
    await writeLock(path, lock);
    expect(await readFile(path, 'utf8')).toBe(golden);
    expect(await readLock(path)).toEqual(lock);
    expect(await readdir(directory)).toEqual(['dhcpd.lock.yaml']);
    expect(await readLock(join(directory, 'none.yaml'))).toBeUndefined();
  });

  const text = (characters: string, maxLength = 20): fc.Arbitrary<string> =>
    fc.string({ unit: fc.constantFrom(...characters.split('')), maxLength });
  const start = 'abcxyzno0189e';
  const word = fc
    .tuple(fc.constantFrom(...start.split('')), text(`${start}+._-`))
    .map((parts) => parts.join(''));
  const special = fc.constantFrom(
    'null',
    'true',
    'no',
    'off',
    'y',
    '0x10',
    '1e5',
    '1.0',
    '0o7',
    '2020-01-01',
    'inf',
    '.inf'.slice(1),
  );
  const name = fc.oneof(word, special);
  const locked: fc.Arbitrary<LockedPackage> = fc.record({
    name,
    version: fc.oneof(
      fc.tuple(fc.constantFrom('0', '1', 'a'), text('019.+~:-a')).map((it) => it.join('')),
      special,
    ),
    architecture: name,
    suite: fc.oneof(
      word,
      special,
      fc.tuple(word, word).map((it) => it.join('/')),
    ),
    path: fc.array(name, { minLength: 1, maxLength: 4 }).map((parts) => parts.join('/')),
    size: fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER }),
    sha256: text('0123456789abcdef').map((it) => it.padEnd(64, '1')),
    why: fc
      .string({ unit: 'grapheme', minLength: 1 })
      // eslint-disable-next-line no-control-regex -- what a reason cannot hold
      .filter((it) => it.trim() !== '' && !/[\u0000-\u001f\u007f-\u009f\u2028\u2029]/.test(it)),
  });
  const lockFile: fc.Arbitrary<LockFile> = fc.record({
    definition: text('0123456789abcdef').map((it) => it.padEnd(64, '0')),
    targets: fc
      .uniqueArray(
        fc.record(
          {
            family: fc.constantFrom(...families),
            release: name,
            architecture: fc.constantFrom(...architectures),
            base: fc.constantFrom(`a.example/b:1@sha256:${'0'.repeat(64)}`, `a:5/b@sha256:${'f'.repeat(64)}`),
            packages: fc
              .uniqueArray(locked, { selector: (it) => it.name, maxLength: 4 })
              .map((list) => list.sort((a, b) => compareBytes(a.name, b.name))),
          },
          { requiredKeys: ['family', 'release', 'architecture', 'packages'] },
        ),
        { selector: (it) => `${it.family} ${it.release} ${it.architecture}`, maxLength: 3 },
      )
      .map((list) =>
        list.sort((a, b) =>
          compareBytes(
            `${a.family} ${a.release} ${a.architecture}`,
            `${b.family} ${b.release} ${b.architecture}`,
          ),
        ),
      ),
  });

  it('round-trip every lock file, byte for byte', async () => {
    await fc.assert(
      fc.asyncProperty(lockFile, async (it) => {
        const formatted = formatLock(it);
        await writeFile(path, formatted);
        const read = await readLock(path);
        expect(read).toEqual(it);
        expect(read === undefined ? '' : formatLock(read)).toBe(formatted);
      }),
      { numRuns: 100 },
    );
  });

  it('are YAML to others too', () => {
    expect(parse(golden)).toEqual({ schemaVersion: 1, ...lock });
  });
});

describe('a wrong lock file', () => {
  it.each([
    ['schemaVersion: 1', 'schemaVersion: 2', '3:16', 'schemaVersion 2 is not known; this is for 1'],
    ['schemaVersion: 1', 'schemaVersion: "1"', '3:16', 'schemaVersion must be a whole number'],
    ['schemaVersion: 1\n', '', '3:1', 'the lock file has no schemaVersion'],
    ['schemaVersion: 1', 'schemaVersion: 1\nschemaVersion: 1', '4:1', 'Map keys must be unique'],
    ['schemaVersion: 1', 'schemaVersion: 1\nmore: 2', '4:1', 'the lock file has the unknown key "more"'],
    ['schemaVersion: 1', 'schemaVersion: 1\n? [a]\n: 2', '4:3', 'the lock file has the unknown key ""'],
    ['abab"', 'abaB"', '4:13', 'definition must be 64 lower-case hexadecimal digits'],
    ['family: debian', 'family: gentoo', '6:13', 'family must be one of fedora, debian'],
    [
      'architecture: aarch64',
      'architecture: arm64',
      '8:19',
      `architecture must be one of ${architectures.join(', ')}`,
    ],
    ['    packages: []\n', '', '6:5', 'a target has no packages'],
    [
      '    packages: []\n',
      '    base: "--root=/@sha256:00"\n    packages: []\n',
      '9:11',
      'base must be the name of an image with its digest, NAME@sha256:DIGEST',
    ],
    ['packages: []', 'packages:', '9:14', 'packages must be a list'],
    ['packages: []', 'packages: {}', '9:15', 'packages must be a list'],
    ['packages: []', 'packages: [x]', '9:16', 'a package must be a mapping'],
    ['architecture: aarch64', 'architecture: x86_64', '10:5', 'targets holds debian bookworm x86_64 twice'],
    [
      'release: bookworm',
      'release: trixie',
      '10:5',
      'targets must be sorted: debian bookworm x86_64 comes before debian trixie aarch64',
    ],
    ['name: isc-dhcp-server', 'name: libc6', '22:9', 'packages holds libc6 twice'],
    ['name: isc-dhcp-server', 'name: zlib1g', '22:9', 'packages must be sorted: libc6 comes before zlib1g'],
    ['name: isc-dhcp-server', 'name: ../x', '14:15', 'name must be letters, digits and + . _ -'],
    ['version: "1:4.40"', 'version: 4.40', '15:18', 'version must be text (in quotes)'],
    ['version: "1:4.40"', 'version: "1 4"', '15:18', 'version must be a package version'],
    ['suite: bookworm-security/updates', 'suite: ../x', '17:16', 'suite must be the name of a suite'],
    ['size: 2757124', 'size: 0', '19:15', 'size must be at least 1'],
    ['size: 2757124', 'size: -1', '19:15', 'size must be at least 1'],
    ['size: 2757124', 'size: 1e300', '19:15', 'size must be a whole number'],
    ['size: 2757124', 'size: 1.5', '19:15', 'size must be a whole number'],
    ['cafe"', 'caf"', '20:17', 'sha256 must be 64 lower-case hexadecimal digits'],
    ['why: "usr', 'why: "a\\nusr', '21:14', 'why must be one printable line'],
    ['why: "usr', 'why: !odd "usr', '21:14', 'Unresolved tag: !odd'],
    ['release: bookworm', 'release: *x', '7:14', 'release must be text'],
    ['release: bookworm', 'release: [', '8:5', 'Flow sequence'],
  ])('%j -> %j', async (from, to, place, reason) => {
    expect(golden).toContain(from);
    const error = await failure(golden.replace(from, to));
    expect(error.message.startsWith(`cannot read lock file ${path}:${place}: ${reason}`), error.message).toBe(
      true,
    );
    expect(error.exitCode).toBe(2);
    expect(error.hint).toContain('dhcpd-scratch lock');
  });

  it.each([
    '/pool/a.deb',
    'pool//a.deb',
    'pool/../../a.deb',
    'pool/%2e%2E/a.deb',
    'pool/.%2e/a.deb',
    './a.deb',
    'pool/a.deb/',
    'http://host/a.deb',
    'file:/etc/passwd',
    '//host/a.deb',
    'pool/a.deb?x',
    'pool/a.deb#x',
    'pool\\\\a.deb',
    'pool/a b.deb',
    '',
  ])('path %j', async (wrong) => {
    const error = await failure(golden.replace(/path: .*/, `path: "${wrong}"`));
    expect(error.message).toBe(
      `cannot read lock file ${path}:18:15: path must be a path below the archive, without scheme and ..`,
    );
  });

  it.each([
    ['nothing', ''],
    ['a scalar', 'x'],
    ['a list', '[]'],
    ['two documents', `${golden}---\n${golden}`],
    ['brackets without end', '['.repeat(20_000)],
    ['mappings without end', Array.from({ length: 3000 }, (_, depth) => `${' '.repeat(depth)}a:`).join('\n')],
    ['bytes', Buffer.from([0xff, 0xfe, 0, 1, 2])],
    ['many aliases', `a: &a [x]\nb: &b [*a,*a,*a]\nc: [*b,*b,*b]`],
  ])('%s', async (_, text) => {
    const error = await failure(text);
    expect(error.message.startsWith(`cannot read lock file ${path}`)).toBe(true);
    expect(error.exitCode).toBe(2);
  });

  it('whatever is broken in it is a ToolError', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.nat(golden.length),
        fc.nat(40),
        fc.string({ unit: fc.constantFrom(...'[]{}:-\n "\'&*!|>%@`#,?x1\t\0'.split('')), maxLength: 4 }),
        async (at, length, inserted) => {
          await writeFile(path, golden.slice(0, at) + inserted + golden.slice(at + length));
          await readLock(path).catch((error: unknown) => {
            expect(error).toBeInstanceOf(ToolError);
          });
        },
      ),
      { numRuns: 150 },
    );
  });

  it('that cannot be read says why', async () => {
    await expect(readLock(directory)).rejects.toThrow(
      `cannot read lock file ${directory}: it is a directory`,
    );
  });
});
