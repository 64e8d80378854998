import { copyFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { locateLocked } from '../../../build/repository/debian/archive.js';
import { readPins } from '../../../build/repository/debian/preferences.js';
import type { Source } from '../../../build/repository/debian/sources.js';
import { makeAptRoot, type AptRoot } from '../../support/apt-root.js';
import {
  debianArchiveTools,
  makeArchive,
  makeKeys,
  type ArchiveServer,
  type Keys,
  type PackageSpec,
  type TestArchive,
} from '../../support/debian-archive.js';
import { requireTools } from '../../support/tools.js';
import { silentLog } from '../../../build/support/log.js';
import { makeOpening, sourceOf, type Opening } from './opening.js';

const tools = requireTools(...debianArchiveTools, 'apt-get', 'apt-cache');

/** Versions whose order is easy to get wrong; every name is in two or three suites. */
const contested: Record<string, readonly (readonly string[])[]> = {
  epoch: [['9.9-1'], ['1:0.1-1'], []],
  tilde: [['1.0-1'], ['1.0~rc2-1'], ['1.0-1~bpo1']],
  security: [['2.36-9+deb12u10'], ['2.36-9+deb12u9'], ['2.36-9+deb12u14']],
  equal: [['1.0-1'], ['1.0-1'], ['1.0-1']],
  single: [['1.0-1'], [], []],
};

describe.skipIf(!tools)('openArchive', () => {
  let keys: Keys;
  let archive: TestArchive;
  let server: ArchiveServer;
  let apt: AptRoot;
  let opening: Opening;
  const suites = ['test', 'test-updates', 'test-security'];

  beforeAll(async () => {
    keys = await makeKeys();
    apt = await makeAptRoot();
    const packages = (suite: number): PackageSpec[] =>
      Object.entries(contested).flatMap(([name, versions]) =>
        (versions[suite] ?? []).map((version) => ({ name, version, fields: { Suite: String(suite) } })),
      );
    archive = await makeArchive(
      {
        suites: [
          {
            name: 'test',
            architectures: ['amd64', 'arm64'],
            packages: [
              ...packages(0),
              {
                name: 'hello',
                version: '2:1.0+x~y-1',
                depends: 'libone (>= 1.0) | libtwo, three:any (<< 2~), virtual',
                preDepends: 'zero',
                provides: 'hi (= 1), greeting',
                section: 'net',
                priority: 'important',
                files: { 'usr/bin/hello': { content: '#!/bin/sh\n', mode: 0o755 } },
              },
              { name: 'native', version: '1', architecture: 'arm64' },
              { name: 'native', version: '2', architecture: 'amd64' },
              { name: 'portable', version: '1', architecture: 'all' },
            ],
          },
          { name: 'test-updates', packages: packages(1), compressions: ['xz'] },
          { name: 'test-security', packages: packages(2), byHash: false },
        ],
      },
      keys,
    );
    server = await archive.serve();
  });
  afterAll(async () => {
    await archive.remove();
    await apt.remove();
    await keys.remove();
  });
  beforeEach(async () => {
    opening = await makeOpening();
    server.requests.length = 0;
    server.intercept = undefined;
  });
  afterEach(() => opening.close());

  const sources = (uri = server.url): Source[] =>
    suites.map((suite) => sourceOf(uri, suite, archive.keyring));

  it('chooses the versions that apt chooses', async () => {
    const lines = suites.map((suite) => `deb [signed-by=${archive.keyring}] ${archive.url} ${suite} main\n`);
    expect(await apt.update(lines.join(''))).toBeUndefined();
    const opened = await opening.open(sources());
    for (const name of [...Object.keys(contested), 'hello', 'native', 'portable']) {
      expect([name, opened.find(name)?.version]).toEqual([name, await apt.candidate(name)]);
    }
    expect(opened.find('equal')?.suite).toBe('test');
    expect(opened.find('missing')).toBeUndefined();
    expect(opened.similar('hallo')).toEqual(['hello']);
  });

  it('takes from a suite that is not automatic what no other has, as apt does', async () => {
    const backports = await makeArchive(
      {
        suites: [
          { name: 'test', packages: [{ name: 'both', version: '1' }] },
          {
            name: 'test-backports',
            packages: [
              { name: 'both', version: '2' },
              { name: 'alone', version: '2' },
            ],
            editRelease: (text) => `NotAutomatic: yes\nButAutomaticUpgrades: yes\n${text}`,
          },
        ],
      },
      keys,
    );
    try {
      const names = ['test-backports', 'test'];
      const lines = names.map(
        (suite) => `deb [signed-by=${backports.keyring}] ${backports.url} ${suite} main\n`,
      );
      expect(await apt.update(lines.join(''))).toBeUndefined();
      const opened = await opening.open(
        names.map((suite) => sourceOf(backports.url, suite, backports.keyring)),
      );
      const chosen = ['both', 'alone'].map((name) => opened.find(name)?.version);
      expect(chosen).toEqual([await apt.candidate('both'), await apt.candidate('alone')]);
      expect(chosen).toEqual(['1', '2']);
    } finally {
      await backports.remove();
    }
  });

  it('reads a stanza', async () => {
    const opened = await opening.open(sources());
    expect(opened.find('hello')).toMatchObject({
      name: 'hello',
      version: '2:1.0+x~y-1',
      architecture: 'amd64',
      suite: 'test',
      path: 'pool/test/main/hello_1.0+x~y-1_amd64.deb',
      section: 'net',
      priority: 'important',
      depends: [
        [{ name: 'zero', constraint: undefined }],
        [
          { name: 'libone', constraint: '>= 1.0' },
          { name: 'libtwo', constraint: undefined },
        ],
        [{ name: 'three', constraint: '<< 2~' }],
        [{ name: 'virtual', constraint: undefined }],
      ],
      provides: [
        { name: 'hi', constraint: '= 1' },
        { name: 'greeting', constraint: undefined },
      ],
    });
  });

  it('opens packages, each once', async () => {
    const opened = await opening.open(sources());
    const record = opened.find('hello');
    if (record === undefined) throw new Error('hello is missing');
    const [first, second] = await opened.open([record, record]);
    expect(first).toBe(second);
    expect(opening.opened).toEqual(['hello']);
    expect(first?.entries.map(({ path }) => path)).toContain('usr/bin/hello');
    expect(server.requests).toContain('pool/test/main/hello_1.0+x~y-1_amd64.deb');
  });

  it('reads file: archives and another architecture', async () => {
    const opened = await opening.open([sourceOf(archive.url, 'test', archive.keyring)], {
      architecture: 'aarch64',
    });
    expect(opened.find('native')).toMatchObject({ version: '1', architecture: 'arm64' });
    expect(opened.find('portable')).toMatchObject({ architecture: 'all' });
    expect(opened.find('hello')).toBeUndefined();
  });

  it('says when there is nothing for an architecture', async () => {
    await expect(opening.open(sources(), { architecture: 's390x' })).rejects.toThrow(
      'cannot find packages of test for s390x: none of the sources has an index of them',
    );
    expect(opening.said.filter((line) => line.startsWith('warn'))).toEqual([]);
    await opening.open(sources(), { architecture: 'aarch64' });
    expect(opening.said.filter((line) => line.startsWith('warn'))).toEqual(
      ['test-updates', 'test-security'].map(
        (suite) => `warn: test source ${suite}: ${server.url} ${suite} has no main/binary-arm64/Packages`,
      ),
    );
    const limited = sources().map((source) => ({ ...source, architectures: ['arm64'] }));
    await expect(opening.open(limited)).rejects.toThrow('cannot find packages of test for amd64');
  });

  it('asks by hash where the Release offers it, and falls back to the plain name', async () => {
    await opening.open(sources());
    const indexes = server.requests.filter((path) => path.includes('/binary-amd64/')).sort();
    expect(indexes).toEqual([
      expect.stringMatching(/^dists\/test-security\/main\/binary-amd64\/Packages\.gz$/),
      expect.stringMatching(/^dists\/test-updates\/main\/binary-amd64\/by-hash\/SHA256\/[0-9a-f]{64}$/),
      expect.stringMatching(/^dists\/test\/main\/binary-amd64\/by-hash\/SHA256\/[0-9a-f]{64}$/),
    ]);
    const other = await makeOpening();
    try {
      server.intercept = (path) => (path.includes('by-hash') ? 404 : undefined);
      expect((await other.open(sources())).find('hello')).toBeDefined();
      expect(server.requests).toContain('dists/test-updates/main/binary-amd64/Packages.xz');
    } finally {
      await other.close();
    }
  });

  it('says of an index that is not the one of the Release that the mirror may be changing', async () => {
    for (const answer of [Buffer.from('older'), 404]) {
      server.intercept = (path) =>
        path.includes('by-hash') ? 404 : path.includes('/Packages') ? answer : undefined;
      const error: unknown = await opening.open(sources()).catch((thrown: unknown) => thrown);
      expect(error).toMatchObject({
        message: expect.stringMatching(
          /^cannot fetch \S+\/Packages\.[gx]z: (?:expected \d+ bytes, got 5|the server does not have it)$/,
        ) as string,
        hint: expect.stringContaining('in the middle of an update') as string,
      });
      expect(opening.said.filter((line) => line.startsWith('warn'))).toEqual([]);
    }
  });

  it('warns of pins as far as apt would choose another version for them', async () => {
    const lines = suites.map((suite) => `deb [signed-by=${archive.keyring}] ${archive.url} ${suite} main\n`);
    const preferences = join(apt.directory, 'etc/apt/preferences.d/pins');
    const warning = async (name: string): Promise<{ warned: boolean; differs: boolean }> => {
      const pins = await readPins([preferences], silentLog);
      const opened = await opening.open(sources(archive.url), { pins });
      const record = opened.find(name);
      if (record === undefined) throw new Error(`${name} is missing`);
      opening.said.length = 0;
      // The suites of another package have no say.
      await opened.open([record]);
      const warned = opening.said.some((line) => line.startsWith(`warn: ${preferences}:`));
      return { warned, differs: (await apt.candidate(name)) !== record.version };
    };
    expect(await apt.update(lines.join(''))).toBeUndefined();
    const pins: readonly (readonly [string, string, string, number, boolean])[] = [
      ['security', 'security', 'release n=test', 900, true],
      ['security', 'other secur* x', 'release a=test, o=Test, l=Test, c=main', 900, true],
      ['security', '/^sec/', 'release test-updates', 900, true],
      ['security', 'security', 'version 2.36-9+deb12u9', 990, true],
      ['security', 'security', 'version *u14', 990, false],
      ['security', 'other', 'release n=test', 900, false],
      ['security', '*', 'release n=test', 900, true],
      ['security', '*', 'release n=test', 400, false],
      ['security', '*', 'release n=test-security', 900, false],
      ['security', '*', 'release n=test-security', 100, true],
      ['security', '*', 'release n=elsewhere', 900, false],
      ['security', '*', 'release o=Other,n=test', 900, false],
      ['security', '*', 'origin "other.invalid"', 900, false],
      ['security', '*', 'origin ""', 900, false],
      ['security', '*', 'origin ""', -1, true],
      ['single', '*', 'release n=test-updates', 900, false],
      ['epoch', 'epoch', 'release a=test', 1001, true],
    ];
    try {
      for (const [name, packages, pin, priority, warned] of pins) {
        await writeFile(
          preferences,
          `# why\nExplanation: x\nPackage: ${packages}\nPin: ${pin}\nPin-Priority: ${priority}\n`,
        );
        expect({ name, packages, pin, priority, ...(await warning(name)) }).toEqual({
          ...{ name, packages, pin, priority },
          ...{ warned, differs: warned },
        });
      }
    } finally {
      await writeFile(preferences, '');
    }
  });

  it('asks several mirrors for every suite, and says when none has security updates', async () => {
    const mirrored = (uri: string): Source[] =>
      suites.map((suite) => sourceOf(uri, suite, archive.keyring, { optional: suite !== 'test' }));
    const other = await makeArchive({ suites: [{ name: 'test-security', packages: [] }] }, keys);
    const plain = await makeArchive(
      { suites: [{ name: 'test', packages: [{ name: 'a', version: '1' }] }] },
      keys,
    );
    try {
      const trusting = (all: readonly Source[]): Source[] =>
        all.map((source) => ({
          ...source,
          keyring: { files: [other.keyring, plain.keyring], blocks: [], fingerprints: [] },
        }));
      const warnings = (): readonly string[] => opening.said.filter((line) => line.startsWith('warn'));
      await opening.open(trusting([...mirrored(plain.url), ...mirrored(other.url)]));
      expect(warnings()).toEqual([]);
      await opening.open(trusting(mirrored(plain.url)));
      expect(warnings()).toEqual([
        expect.stringContaining('no archive has test-security, so security updates'),
      ]);
      await expect(opening.open(trusting(mirrored(other.url)))).rejects.toThrow(
        'cannot find the suite test:',
      );
    } finally {
      await other.remove();
      await plain.remove();
    }
  });

  it('works offline from what it has accepted before', async () => {
    const optional = { ...sourceOf(server.url, 'test-nowhere', archive.keyring), optional: true };
    const all = [...sources(), optional];
    await expect(opening.open(all, { offline: true })).rejects.toThrow('--offline is given');
    await opening.open(all);
    server.requests.length = 0;
    const opened = await opening.open(all, { offline: true });
    expect(opened.find('security')?.version).toBe('2.36-9+deb12u14');
    expect(server.requests).toEqual([]);
    // The time of day holds for remembered files too.
    const later = { offline: true, now: new Date(Date.UTC(2000, 0, 1)) };
    await expect(opening.open(all, later)).rejects.toThrow(/^cannot (?:use|trust) /);
  });

  it('keeps a password out of messages', async () => {
    const uri = server.url.replace('//', '//user:secret@');
    const opened = opening.open([sourceOf(uri, 'test-nowhere', archive.keyring)]);
    await expect(opened).rejects.toThrow(`${server.url} has neither InRelease nor Release of it`);
    expect(opening.said.join()).not.toContain('secret');
  });

  it('breaks on a missing suite, unless it is optional', async () => {
    const missing = sourceOf(server.url, 'test-nowhere', archive.keyring);
    await expect(opening.open([...sources(), missing])).rejects.toThrow(
      `cannot find the suite test-nowhere: ${server.url} has neither InRelease nor Release of it`,
    );
    expect(await opening.open([...sources(), { ...missing, optional: true }])).toBeDefined();
    expect(opening.said).toContain(`info: ${server.url} has no test-nowhere, left out`);
  });

  it('works on when another archive of the same suite answers, never without a suite', async () => {
    const dead = sourceOf('http://127.0.0.1:9/', 'test', archive.keyring);
    const opened = await opening.open([dead, ...sources()]);
    expect(opened.find('hello')).toBeDefined();
    expect(opening.said.join('\n')).toMatch(
      /warn: test source test: left out, cannot fetch http:\/\/127\.0\.0\.1:9\//,
    );
    const security = sourceOf('http://127.0.0.1:9/', 'test-security', archive.keyring);
    await expect(opening.open([...sources().slice(0, 2), security])).rejects.toThrow(/^cannot fetch /);
  });

  it('leaves out a moving name that has moved on', async () => {
    await archive.publish({ name: 'stable', codename: 'next', packages: [] });
    await expect(opening.open([sourceOf(server.url, 'stable', archive.keyring)])).rejects.toThrow(
      'cannot find packages of test for amd64',
    );
    await archive.publish({ name: 'stable', codename: 'test', packages: [{ name: 'moved', version: '1' }] });
    const opened = await opening.open([sourceOf(server.url, 'stable', archive.keyring)]);
    expect(opened.find('moved')?.suite).toBe('stable');
  });

  it('reads a flat archive', async () => {
    await archive.publish({ name: 'flat/', packages: [{ name: 'flat', version: '1' }] });
    const opened = await opening.open([sourceOf(server.url, 'flat/', archive.keyring)]);
    const record = opened.find('flat');
    expect(record).toMatchObject({ version: '1', suite: 'flat/', path: 'flat/flat_1_amd64.deb' });
    if (record === undefined) return;
    expect((await opened.open([record]))[0]?.name).toBe('flat');
    expect(await apt.update(`deb [signed-by=${archive.keyring}] ${archive.url} flat/\n`)).toBeUndefined();
  });

  it('refuses entries of one suite that trust different keys', async () => {
    const one = sourceOf(server.url, 'test', archive.keyring);
    const other = join(apt.directory, 'other.gpg');
    await copyFile(archive.keyring, other);
    const two = sourceOf(server.url, 'test', other);
    await expect(opening.open([one, two])).rejects.toThrow(
      'two of its entries have different Signed-By values',
    );
    expect(
      await apt.update(
        `deb [signed-by=${archive.keyring}] ${archive.url} test main\ndeb [signed-by=${other}] ${archive.url} test x\n`,
      ),
    ).toContain('Conflicting values');
  });

  it.each([
    ['Filename: pool', 'Filename: ../../pool', 'leaves the archive'],
    ['Filename: pool', 'Filename: /pool', 'leaves the archive'],
    ['Filename: pool', 'Filename: http://evil.invalid/pool', 'leaves the archive'],
    ['Size: ', 'Size: -', 'is no number'],
    ['SHA256: ', 'SHA256: x', 'the SHA256 is not 64 hexadecimal digits'],
    ['Version: ', 'Version: ../', 'the version "../1" is malformed'],
    ['Filename: ', 'Nothing: ', 'the field Filename is missing'],
    ['Version: ', 'Package: x\nVersion: ', 'does not begin with its Package field'],
  ])('refuses a signed index with %j made %j', async (from, to, reason) => {
    const name = 'hostile';
    const editPackages = (text: string): string => text.replace(from, to);
    await archive.publish({ name, packages: [{ name: 'hello', version: '1' }], editPackages });
    const opened = opening.open([sourceOf(server.url, name, archive.keyring)], { release: name });
    const found = opened.then((one) => one.find('hello'));
    await expect(found).rejects.toThrow(reason);
  });

  it('refuses an index of another length than the Release says', async () => {
    const shorten = (text: string): string =>
      text.replace(/^( [0-9a-f]{64}) +[0-9]+ (main\/binary-amd64\/Packages)$/gm, '$1 7 $2');
    await archive.publish({
      name: 'short',
      packages: [{ name: 'hello', version: '1' }],
      editRelease: shorten,
    });
    const opened = opening.open([sourceOf(server.url, 'short', archive.keyring)], { release: 'short' });
    await expect(opened).rejects.toThrow(/more than 7 bytes|longer than its Release says/);
  });
});

describe('locateLocked', () => {
  it('asks the archives of the same suite first', () => {
    const sources = [
      sourceOf('http://a.invalid/', 'test', ''),
      sourceOf('http://s.invalid/x/', 'test-security', ''),
      sourceOf('http://a.invalid/', 'test-updates', ''),
    ];
    expect(locateLocked(sources, { suite: 'test-security', path: 'pool/a+b~1.deb' })).toEqual([
      'http://s.invalid/x/pool/a%2Bb~1.deb',
      'http://a.invalid/pool/a%2Bb~1.deb',
    ]);
  });
});
