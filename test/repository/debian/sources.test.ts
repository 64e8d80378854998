import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  hostRelease,
  parseDump,
  plainDefaults,
  readAptConfiguration,
} from '../../../build/repository/debian/apt-config.js';
import {
  parseList,
  parseSources,
  type Source,
  type SourceDefaults,
} from '../../../build/repository/debian/sources.js';
import { chooseSources, type SuiteChoice } from '../../../build/repository/debian/suites.js';
import { ToolError } from '../../../build/support/errors.js';
import { run, type Exec } from '../../../build/support/exec.js';
import { silentLog, type Log } from '../../../build/support/log.js';
import { makeAptRoot, type AptRoot } from '../../support/apt-root.js';
import { requireTools } from '../../support/tools.js';

const defaults: SourceDefaults = { ...plainDefaults, keyrings: ['/etc/apt/trusted.gpg'] };

function listening(): { log: Log; said: string[] } {
  const said: string[] = [];
  const note = (message: string): void => void said.push(message);
  return { said, log: { ...silentLog, warn: note, debug: note, info: note } };
}

const brief = (sources: readonly Source[]): string[] =>
  sources.map(({ uri, suite, components }) => [uri, suite, ...components].join(' '));

const list = (text: string): readonly Source[] => parseList(text, 'test.list', defaults, silentLog);
const deb822 = (text: string): readonly Source[] => parseSources(text, 'test.sources', defaults, silentLog);

describe('parseList', () => {
  it('reads entries, options and comments', () => {
    const [first, second] = list(
      [
        '# deb http://comment.invalid a b',
        '',
        'deb [arch=amd64,arm64 signed-by=/a.gpg,/b.asc check-valid-until=no by-hash=force] http://one.invalid/debian/ stable main contrib # why',
        'deb-src http://one.invalid/debian stable main',
        'deb [ trusted=yes  valid-until-max=60 ] https://two.invalid:8443/a%20b ./',
      ].join('\n'),
    );
    expect(first).toEqual({
      uri: 'http://one.invalid/debian/',
      suite: 'stable',
      components: ['main', 'contrib'],
      architectures: ['amd64', 'arm64'],
      keyring: { files: ['/a.gpg', '/b.asc'], blocks: [], fingerprints: [] },
      trusted: undefined,
      checks: { ...plainDefaults.checks, validUntil: false },
      byHash: 'force',
      optional: false,
      configuredAt: 'test.list:3',
    });
    expect(second).toMatchObject({
      uri: 'https://two.invalid:8443/a%20b/',
      suite: './',
      components: [],
      trusted: true,
      keyring: { files: ['/etc/apt/trusted.gpg'] },
      checks: { maxValid: 60 },
    });
  });

  it.each([
    ['dbe http://a.invalid b c', 'it begins with neither deb nor deb-src'],
    ['deb http://a.invalid', 'URI and suite are needed'],
    ['deb http://a.invalid stable', 'the suite stable needs a component'],
    ['deb http://a.invalid ./ main', 'the suite ./ takes no components'],
    ['deb http://a.invalid ../x main', 'the suite "../x" is not a relative path'],
    ['deb http://a.invalid stable ../main', 'the component "../main" is not a relative path'],
    ['deb /srv/mirror stable main', '"/srv/mirror" is not a URI'],
    ['deb file:srv/mirror stable main', '"file:srv/mirror" names no absolute path'],
    ['deb [arch] http://a.invalid stable main', '"arch" is not an option'],
    ['deb [trusted=perhaps] http://a.invalid stable main', 'trusted is "perhaps", not yes or no'],
    [
      'deb [signed-by=keys] http://a.invalid stable main',
      'Signed-By "keys" is neither a path nor a fingerprint',
    ],
    [
      'deb [valid-until-max=soon] http://a.invalid stable main',
      'valid-until-max is "soon", not a number of seconds',
    ],
  ])('refuses %j', (line, reason) => {
    expect(() => list(`\n${line}`)).toThrow(`cannot read apt source test.list:2: ${reason}`);
  });

  it('leaves out methods it does not have, cdroms silently', () => {
    const { log, said } = listening();
    const text =
      'deb cdrom:[Debian GNU/Linux 12 - Official]/ bookworm main\ndeb tor+http://a.invalid s main\ndeb mirror+file:/x s main';
    expect(parseList(text, 'test.list', defaults, log)).toEqual([]);
    expect(said).toEqual([
      'test.list:2: left out, the method tor+http is not supported',
      'test.list:3: left out, the method mirror+file is not supported',
    ]);
  });

  it('warns of trust without signatures', () => {
    const { log, said } = listening();
    const text =
      'deb [trusted=yes] http://a.invalid s main\ndeb [allow-insecure=yes] http://b.invalid s main';
    expect(parseList(text, 'test.list', defaults, log).map(({ trusted }) => trusted)).toEqual([
      true,
      undefined,
    ]);
    expect(said).toEqual([
      'test.list:1: trusted=yes, so signatures of http://a.invalid/ are not checked',
      'test.list:2: allow-insecure is ignored, signatures are always checked',
    ]);
  });

  it('gives file URLs their one form', () => {
    expect(
      brief(list('deb file:/srv/a+b s main\ndeb file:///srv/x s main\ndeb copy:/srv/y/ s main')),
    ).toEqual(['file:///srv/a%2Bb/ s main', 'file:///srv/x/ s main', 'file:///srv/y/ s main']);
  });
});

describe('parseSources', () => {
  it('multiplies URIs and suites', () => {
    const text = `# all of it
Types: deb deb-src
URIs: http://one.invalid/debian
 http://two.invalid/debian
# between
Suites: stable stable-updates
Components: main
Architectures: amd64
Check-Valid-Until: no
By-Hash: no

Enabled: no
Types: deb
URIs: http://off.invalid
Suites: s
Components: main

Types: deb-src
URIs: http://src.invalid
Suites: s
Components: main
`;
    expect(brief(deb822(text))).toEqual([
      'http://one.invalid/debian/ stable main',
      'http://one.invalid/debian/ stable-updates main',
      'http://two.invalid/debian/ stable main',
      'http://two.invalid/debian/ stable-updates main',
    ]);
    expect(deb822(text)[0]).toMatchObject({
      architectures: ['amd64'],
      checks: { validUntil: false, date: true },
      byHash: 'no',
      configuredAt: 'test.sources:1',
    });
  });

  it('takes a key block out of the source', () => {
    const text = `Types: deb
URIs: http://a.invalid
Suites: s
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 mDMEYCQjIxYJ
 -----END PGP PUBLIC KEY BLOCK-----
`;
    expect(deb822(text)[0]?.keyring).toEqual({
      files: [],
      blocks: ['-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nmDMEYCQjIxYJ\n-----END PGP PUBLIC KEY BLOCK-----'],
      fingerprints: [],
    });
  });

  it('tells paths from fingerprints', () => {
    const fingerprint = 'ab'.repeat(20);
    const source = (value: string): string =>
      `Types: deb\nURIs: http://a.invalid\nSuites: s\nComponents: main\nSigned-By: ${value}\n`;
    expect(deb822(source(`/a.gpg ${fingerprint}!`))[0]?.keyring).toEqual({
      files: ['/a.gpg'],
      blocks: [],
      fingerprints: [`${fingerprint.toUpperCase()}!`],
    });
    expect(deb822(source(fingerprint))[0]?.keyring.files).toEqual(['/etc/apt/trusted.gpg']);
  });

  it.each([
    ['URIs: http://a.invalid\nSuites: s\nComponents: main', 'the field Types is missing'],
    ['Types: rpm\nURIs: http://a.invalid\nSuites: s\nComponents: main', 'the type "rpm" is not known'],
    ['Types: deb\nSuites: s\nComponents: main', 'the field URIs is missing'],
    ['Types: deb\nURIs: http://a.invalid\nComponents: main', 'the field Suites is missing'],
    ['Types: deb\nURIs: http://a.invalid\nSuites: s', 'the suite s needs a component'],
  ])('refuses %j', (text, reason) => {
    expect(() => deb822(`\n\n${text}\n`)).toThrow(`cannot read apt source test.sources:3: ${reason}`);
  });

  it('throws nothing but ToolError', () => {
    const line = fc.oneof(
      fc.string(),
      fc.constantFrom(
        'Types: deb',
        'URIs: http://a',
        'URIs: file:',
        'Suites: s ./',
        'Components: main',
        '',
        '#',
        'deb [',
        'deb [a=b] http://[ s m',
      ),
    );
    fc.assert(
      fc.property(fc.array(line), (lines) => {
        for (const parse of [list, deb822]) {
          try {
            parse(lines.join('\n'));
          } catch (error) {
            expect(error).toBeInstanceOf(ToolError);
          }
        }
      }),
      { numRuns: 500 },
    );
  });
});

describe('chooseSources', () => {
  const third = 'deb http://third.invalid/apt nodistro main\ndeb http://cloud.invalid cloud-bookworm main\n';
  const apt = {
    defaults,
    sources: list(
      `deb http://m.invalid/debian bookworm main\ndeb http://m.invalid/debian bookworm-updates main\ndeb http://s.invalid/security bookworm-security main\n${third}`,
    ),
    preferences: [],
    proxyEnvironment: {},
  };
  const choose = (changes: Partial<SuiteChoice>, log = silentLog): ReturnType<typeof chooseSources> =>
    chooseSources(
      { apt, hostRelease: 'bookworm', suite: undefined, mirrors: [], keyring: undefined, ...changes },
      log,
    );

  it('takes the suites of the host and leaves others out', async () => {
    const { log, said } = listening();
    const { release, sources } = await choose({}, log);
    expect(release).toBe('bookworm');
    expect(brief(sources)).toEqual([
      'http://m.invalid/debian/ bookworm main',
      'http://m.invalid/debian/ bookworm-updates main',
      'http://s.invalid/security/ bookworm-security main',
    ]);
    expect(said).toEqual([
      'test.list:4: left out, nodistro does not belong to bookworm',
      'test.list:5: left out, cloud-bookworm does not belong to bookworm',
    ]);
  });

  it('exchanges the suite for another release', async () => {
    const { sources } = await choose({ suite: 'trixie' });
    expect(sources.map(({ uri, suite, optional }) => [uri, suite, optional])).toEqual([
      ['http://m.invalid/debian/', 'trixie', false],
      ['http://m.invalid/debian/', 'trixie-updates', true],
      ['http://s.invalid/security/', 'trixie-security', true],
    ]);
  });

  it('prefers sources that name the release to exchanged ones', async () => {
    const own = { ...apt, sources: [...apt.sources, ...list('deb http://t.invalid trixie main')] };
    expect(brief((await choose({ apt: own, suite: 'trixie' })).sources)).toEqual([
      'http://t.invalid/ trixie main',
    ]);
  });

  it('keeps moving names for the host itself', async () => {
    const moving = {
      ...apt,
      sources: list('deb http://m.invalid stable main\ndeb http://m.invalid stable-updates main'),
    };
    expect((await choose({ apt: moving })).sources).toHaveLength(2);
    await expect(choose({ apt: moving, suite: 'trixie' })).rejects.toThrow(
      'cannot find packages of trixie: no apt source of the host names it',
    );
  });

  it('makes sources from a mirror', async () => {
    const { sources } = await choose({
      mirrors: ['https://m.invalid/x', 'https://s.invalid/y', 'https://m.invalid/x/'],
      suite: 'trixie',
      keyring: '/k.gpg',
    });
    expect(sources.map(({ uri, suite, optional, keyring }) => [uri, suite, optional, keyring.files])).toEqual(
      [
        ['https://m.invalid/x/', 'trixie', false, ['/k.gpg']],
        ['https://m.invalid/x/', 'trixie-updates', true, ['/k.gpg']],
        ['https://m.invalid/x/', 'trixie-security', true, ['/k.gpg']],
        ['https://s.invalid/y/', 'trixie', false, ['/k.gpg']],
        ['https://s.invalid/y/', 'trixie-updates', true, ['/k.gpg']],
        ['https://s.invalid/y/', 'trixie-security', true, ['/k.gpg']],
      ],
    );
    const bare = { apt: undefined, mirrors: ['file:/srv/debian'], suite: 'trixie' };
    await expect(choose({ ...bare, distributionKeyring: '/nowhere' })).rejects.toMatchObject({
      message: 'cannot trust file:///srv/debian/: the host has no keys of the distribution',
      exitCode: 2,
    });
    await expect(choose({ ...bare, mirrors: ['ftp://m.invalid'] })).rejects.toMatchObject({ exitCode: 2 });
    const sid = await choose({ mirrors: ['https://m.invalid/x'], suite: 'sid', keyring: '/k.gpg' });
    expect(sid.sources.map(({ suite }) => suite)).toEqual(['sid', 'sid-updates']);
  });

  it('says what is missing', async () => {
    await expect(choose({ apt: undefined })).rejects.toMatchObject({
      exitCode: 2,
      message: /the host has no apt$/,
    });
    await expect(choose({ hostRelease: undefined })).rejects.toMatchObject({ exitCode: 2 });
    await expect(choose({ suite: '../x' })).rejects.toThrow('not a codename');
  });
});

describe('readAptConfiguration', () => {
  it('knows a host without apt', async () => {
    const exec: Exec = (command) => run({ ...command, environment: { PATH: '/nonexistent' } });
    expect(await readAptConfiguration({ exec, environment: {}, log: silentLog })).toBeUndefined();
  });

  it('does not take a broken apt for a missing one', async () => {
    const exec: Exec = (command) => run({ ...command, argv: ['sh', '-c', 'echo broken >&2; exit 100'] });
    await expect(readAptConfiguration({ exec, environment: process.env, log: silentLog })).rejects.toThrow(
      'broken',
    );
  });

  it('reads the dump line by line', () => {
    expect([...parseDump('A "";\nA::B "x \\" y";\nlist:: "1";\nnoise\n')]).toEqual([
      ['a', ''],
      ['a::b', 'x \\" y'],
      ['list::', '1'],
    ]);
  });

  it.skipIf(!requireTools('apt-config'))('reads the real configuration of the host', async () => {
    const apt = await readAptConfiguration({ exec: run, environment: process.env, log: silentLog });
    expect(apt?.sources.length).toBeGreaterThan(0);
    expect(await hostRelease()).toMatch(/^[a-z]+$/);
    expect(await hostRelease('/nonexistent')).toBeUndefined();
  });
});

describe.skipIf(!requireTools('apt-config', 'apt-get'))('beside the real apt', () => {
  let apt: AptRoot;
  beforeAll(async () => {
    apt = await makeAptRoot();
  });
  afterAll(() => apt.remove());

  it('sees the same sources, keyrings and settings', async () => {
    const etc = join(apt.directory, 'etc/apt');
    await mkdir(join(etc, 'sources.list.d'), { recursive: true });
    await writeFile(
      join(etc, 'sources.list'),
      'deb http://zero.invalid/debian stable main non-free # last\n',
    );
    const parts: Record<string, string> = {
      'b.list':
        'deb [arch=amd64] http://b.invalid/debian/ testing main\ndeb-src http://b.invalid/debian testing main\ndeb http://b.invalid/flat ./\n',
      'a.sources':
        'Types: deb\nURIs: http://a1.invalid http://a2.invalid/x/\nSuites: s s-updates\nComponents: main contrib\nSigned-By: /k.gpg\n\nTypes: deb\nURIs: http://off.invalid\nSuites: s\nComponents: main\nEnabled: no\n',
      'c.list.save': 'deb http://no.invalid s main\n',
      'd e.list': 'deb http://no.invalid s main\n',
    };
    for (const [name, text] of Object.entries(parts))
      await writeFile(join(etc, 'sources.list.d', name), text);
    await writeFile(join(etc, 'trusted.gpg.d', 'one.asc'), '');
    await writeFile(join(etc, 'trusted.gpg.d', 'two.gpg'), '');
    await writeFile(join(etc, 'trusted.gpg.d', 'three.txt'), '');
    await writeFile(join(etc, 'preferences.d', 'pin'), 'Package: *\nPin: origin x\nPin-Priority: 1\n');
    const more = [
      ['-o', 'Acquire::Check-Valid-Until=no'],
      ['-o', 'Acquire::Max-ValidTime=77'],
      ['-o', 'Acquire::http::Proxy=http://proxy.invalid:3142'],
      ['-o', 'Acquire::http::Proxy::local.invalid=DIRECT'],
    ].flat();
    const exec: Exec = (command) => {
      const [program, ...argv] = command.argv;
      return run({ ...command, argv: [program, ...apt.options, ...more, ...argv] });
    };
    const { log, said } = listening();
    const ours = await readAptConfiguration({
      exec,
      environment: { ...process.env, no_proxy: 'x.invalid' },
      log,
    });

    const format = '$(SITE)|$(RELEASE)|$(COMPONENT)';
    const { stdout } = await run({
      argv: [
        'apt-get',
        ...apt.options,
        'indextargets',
        '--no-release-info',
        '--format',
        format,
        'Created-By: Packages',
      ],
      environment: { PATH: process.env['PATH'] ?? '', LC_ALL: 'C' },
    });
    const theirs = new Set(
      stdout
        .trimEnd()
        .split('\n')
        .map((line) => line.replace(/\/*\|/, '|').replace('$(COMPONENT)', '')),
    );
    const seen = new Set(
      ours?.sources.flatMap(({ uri, suite, components }) =>
        (components.length === 0 ? [''] : components).map(
          (component) => `${uri.replace(/\/$/, '')}|${suite}|${component}`,
        ),
      ),
    );
    expect(theirs.size).toBeGreaterThan(10);
    expect([...seen].sort()).toEqual([...theirs].sort());
    expect(ours?.sources[0]?.uri).toBe('http://zero.invalid/debian/');
    expect(ours?.defaults).toMatchObject({
      keyrings: [join(etc, 'trusted.gpg.d/one.asc'), join(etc, 'trusted.gpg.d/two.gpg')],
      checks: { validUntil: false, date: true, maxValid: 77, maxFuture: 10 },
    });
    expect(ours?.proxyEnvironment).toEqual({
      http_proxy: 'http://proxy.invalid:3142',
      https_proxy: 'http://proxy.invalid:3142',
      no_proxy: 'x.invalid,local.invalid',
    });
    expect(ours?.preferences).toEqual([join(etc, 'preferences.d/pin')]);
    expect(said).toEqual([]);
  });
});
