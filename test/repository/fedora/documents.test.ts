import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { locate, repositoryBase, safeLocation } from '../../../build/repository/fedora/location.js';
import { parseMetalink, parseMirrorlist } from '../../../build/repository/fedora/metalink.js';
import { readModuleArtifacts } from '../../../build/repository/fedora/modules.js';
import { matchesGlob, matchesPackage } from '../../../build/repository/fedora/name-patterns.js';
import { parseRepomd } from '../../../build/repository/fedora/repomd.js';
import { ToolError } from '../../../build/support/errors.js';
import { expectModestMemory } from '../../support/memory.js';
import { metalinkXml, repomdXml } from '../../support/rpm-repository.js';

const samples = process.env['REPODATA_SAMPLES'];
if (samples === undefined) process.stderr.write('skipped: real repository documents need REPODATA_SAMPLES\n');
const sample = (path: string): Buffer => readFileSync(join(samples ?? '', path));

function fault(work: () => unknown): string {
  try {
    work();
    return 'no error';
  } catch (error) {
    if (error instanceof ToolError) return error.message;
    throw error;
  }
}

const files = { primary: { path: 'repodata/primary.xml.zst', bytes: Buffer.from('primary') } };

describe('parseMetalink', () => {
  const versions = [Buffer.from('new'), Buffer.from('old')];
  const good = metalinkXml(versions, ['http://a.example/x/', 'https://b.example/']);

  it('reads versions and mirrors', () => {
    const { versions: found, mirrors } = parseMetalink(Buffer.from(good), 'metalink');
    expect(mirrors).toEqual(['http://a.example/x/', 'https://b.example/']);
    expect(found.map(({ size, timestamp, checksums }) => [size, timestamp, checksums.length])).toEqual([
      [3, 1_700_000_000, 2],
      [3, 1_700_000_000, 2],
    ]);
  });

  it('puts https first among mirrors of equal preference, and leaves out other protocols', () => {
    const url = (preference: string, text: string): string =>
      `<url preference="${preference}">${text}repodata/repomd.xml</url>`;
    const urls = [
      url('10', 'http://a/'),
      url('10', 'rsync://a/'),
      url('10', 'https://a/'),
      url('99', 'http://b/'),
      '<url preference="100">http://c/other.xml</url>',
      url('10', 'https://a/'),
      url('x', 'file:///d/'),
    ];
    const text = good.replace(/<resources[^]*<\/resources>/, `<resources>${urls.join('')}</resources>`);
    expect(parseMetalink(Buffer.from(text), 'm').mirrors).toEqual([
      'http://b/',
      'https://a/',
      'http://a/',
      'file:///d/',
    ]);
  });

  it.each([
    ['<html/>', 'it is no metalink'],
    ['', 'it is cut off'],
    [good.replace('repomd.xml">', 'other.xml">'), 'it names no repomd.xml'],
    [good.replace(/<hash type="sha[25][^]*?<\/hash>/g, ''), 'no SHA-256 or SHA-512 hash'],
    [good.replace('<files>', '<!DOCTYPE x><files>'), 'document type declaration'],
  ])('refuses %#', (text, message) => {
    expect(fault(() => parseMetalink(Buffer.from(text), 'm'))).toContain(message);
  });

  it.skipIf(samples === undefined)('reads the one of Fedora 32 updates', () => {
    const { versions: found, mirrors } = parseMetalink(sample('fedora32-updates/metalink.xml'), 'm');
    expect(found).toHaveLength(4);
    expect(found[0]).toEqual({
      timestamp: 1601254082,
      size: 8311,
      checksums: [
        { algorithm: 'sha256', value: '94c908f83a2a92fde86bb63386cd73ff9c021b1b2adcbc3bb0b22dd4f276e9f8' },
        { algorithm: 'sha512', value: expect.stringMatching(/^f8ed7016/) as string },
      ],
    });
    expect(mirrors.slice(0, 3)).toEqual([
      'http://fedora.tu-chemnitz.de/pub/linux/fedora/linux/updates/32/Everything/x86_64/',
      'https://mirror.sucs.org/pub/linux/fedora/updates/32/Everything/x86_64/',
      'http://mirror.sucs.org/pub/linux/fedora/updates/32/Everything/x86_64/',
    ]);
  });
});

it('reads mirrorlists', () => {
  const text =
    '# comment\n\nhttps://a.example/x\r\nftp://b.example/\n  http://c.example/y/  \nhttps://a.example/x/\nnonsense\n';
  expect(parseMirrorlist(text)).toEqual(['https://a.example/x/', 'http://c.example/y/']);
});

describe('parseRepomd', () => {
  const good = repomdXml(files);

  it('reads files by their exact type', () => {
    const text = good.replace(
      '</repomd>',
      `${good.slice(good.indexOf('<data'), good.indexOf('</repomd>')).replace('"primary"', '"primary_zck"')}</repomd>`,
    );
    const { revision, timestamp, files: found } = parseRepomd(Buffer.from(text), 'r');
    expect([revision, timestamp, [...found.keys()]]).toEqual(['1700000000', 1_700_000_000, ['primary']]);
    expect(found.get('primary')).toMatchObject({
      path: 'repodata/primary.xml.zst',
      size: 7,
      openSize: undefined,
    });
  });

  it('takes a fraction of a second, and SHA-512', () => {
    const text = repomdXml({ primary: { ...files.primary, algorithm: 'sha512' } }).replace(
      '<timestamp>1700000000</timestamp>',
      '<timestamp>1700000001.75</timestamp>',
    );
    const { timestamp, files: found } = parseRepomd(Buffer.from(text), 'r');
    expect([timestamp, found.get('primary')?.checksum.algorithm]).toEqual([1_700_000_001, 'sha512']);
  });

  it.each([
    [
      good.replace(/checksum type="sha256"/, 'checksum type="md5"'),
      'no SHA-256 or SHA-512 checksum of primary',
    ],
    [good.replace(/<size>.*<\/size>/, ''), 'does not say how large primary is'],
    [good.replace('repodata/primary', '../primary'), 'leaves the repository'],
    [good.replace('repodata/primary', '%2e%2e/primary'), 'leaves the repository'],
    [good.replace('repodata/primary', 'http://evil.example/primary'), 'leaves the repository'],
    [good.replace('repodata/primary', '/etc/primary'), 'leaves the repository'],
    [good.replace('</repomd>', good.slice(good.indexOf('<data'))), 'more than one primary'],
    [good.replaceAll('repomd', 'other'), 'it is no repomd.xml'],
    [`<!DOCTYPE r [${'<!ENTITY a "&b;">'.repeat(50)}]>${good}`, 'document type declaration'],
  ])('refuses %#', (text, message) => {
    expect(fault(() => parseRepomd(Buffer.from(text), 'r'))).toContain(message);
  });

  it.skipIf(samples === undefined).each([
    ['cs9-baseos/repodata/repomd.xml', ['filelists', 'primary']],
    ['fedora32-release/repomd.xml', ['filelists', 'primary']],
    ['zck-repo/repodata/repomd.xml', ['filelists', 'modules', 'primary']],
    ['zstd-repo/repodata/repomd.xml', ['filelists', 'primary']],
    ['dnf5-repomd-gpg/repodata/repomd.xml', ['primary']],
  ])('reads %s', (path, types) => {
    const { files: found } = parseRepomd(sample(path), path);
    expect([...found.keys()].sort()).toEqual(types);
    expect(found.get('primary')?.path).not.toContain('.zck');
  });
});

describe('locations', () => {
  it.each([
    ['Packages/f/foo-1.0^git~x-1.noarch.rpm', 'http://h/b/Packages/f/foo-1.0%5Egit~x-1.noarch.rpm'],
    ['./gtk+-1.rpm', 'http://h/b/gtk%2B-1.rpm'],
    ['a b/%41#?%/x%2fy.rpm', 'http://h/b/a%20b/%41%23%3F%25/x%2fy.rpm'],
    ['ä.rpm', 'http://h/b/%C3%A4.rpm'],
    ['a:b.rpm/c', undefined],
    ['', undefined],
    ['a//b', undefined],
    ['a/../b', undefined],
    ['a/%2E%2e/b', undefined],
    ['/a', undefined],
    ['//host/a', undefined],
    ['https://host/a', undefined],
    ['a\\b', undefined],
    ['a%5c..%5cb', undefined],
    ['a%00b', undefined],
    ['a\nb', undefined],
    ['%ff', undefined],
  ])('%s', (location, url) => {
    const safe = safeLocation(location);
    expect(safe === undefined ? undefined : locate('http://h/b/', safe)).toBe(url);
  });

  it('never leaves the base, whatever the location', () => {
    const part = fc.constantFrom(
      '..',
      '.',
      '%2e',
      '%2E',
      '/',
      '\\',
      'a',
      '%2f',
      '?',
      '#',
      ':',
      '%',
      '@',
      '//',
      ' ',
      '%5c',
    );
    fc.assert(
      fc.property(fc.array(part, { maxLength: 8 }), (parts) => {
        const safe = safeLocation(parts.join(''));
        if (safe === undefined) return;
        const url = new URL(locate('http://user@host/base/?token=1', safe));
        expect(url.pathname.startsWith('/base/')).toBe(true);
        expect([url.host, url.search, url.hash]).toEqual(['host', '?token=1', '']);
      }),
      { numRuns: 3000 },
    );
  });

  it('knows the bases of repositories', () => {
    expect(repositoryBase('https://h/a')).toBe('https://h/a/');
    expect(repositoryBase('/srv/a b#c')).toBe('file:///srv/a%20b%23c/');
    expect(repositoryBase('file:///srv/x')).toBe('file:///srv/x/');
    for (const bad of ['ftp://h/', 'file://host/x', 'x', '', 'http:///x y\0'.slice(0, 5), 'javascript:1'])
      expect(repositoryBase(bad), bad).toBeUndefined();
  });
});

describe('excluded packages', () => {
  const record = {
    name: 'dhcp-server',
    epoch: 12,
    version: '4.4.3',
    release: '27.fc45',
    architecture: 'x86_64',
  };
  it.each([
    ['dhcp-server', true],
    ['dhcp*', true],
    ['*.x86_64', true],
    ['dhcp-server.i686', false],
    ['dhcp-server-4.4.3', true],
    ['dhcp-server-4.4.3-27.fc45.x86_64', true],
    ['dhcp-server-12:4.4.3-27.fc45.x86_64', true],
    ['dhcp-server-12:4.4.3-27.fc45', true],
    ['12:dhcp-server-4.4.3-27.fc45.x86_64', true],
    ['dhcp-?erver', true],
    ['dhcp-[r-t]erver', true],
    ['dhcp-[!r-t]erver', false],
    ['kea', false],
  ])('%s: %s', (pattern, expected) => {
    expect(matchesPackage([pattern], record)).toBe(expected);
  });

  it('costs no time for hostile patterns', () => {
    const begin = Date.now();
    expect(matchesGlob('*a'.repeat(500), 'a'.repeat(400) + 'b')).toBe(false);
    expect(matchesGlob('[', '[')).toBe(true);
    expect(matchesGlob('[]]', ']')).toBe(true);
    expect(matchesGlob('**', '')).toBe(true);
    expect(Date.now() - begin).toBeLessThan(500);
  });
});

it('reads the artifacts of modules', async () => {
  const text = `---
document: modulemd
data:
  artifacts:
    rpms:
    - dhcp-server-12:4.3.6-47.module_el8.5.0+1.x86_64
    - 'perl-0:5.30-1.module+el8.noarch'
  profiles:
    default:
      rpms:
      - not-an-artifact
`;
  const bytes = Buffer.from(text);
  async function* chunks(): AsyncGenerator<Buffer> {
    for (let at = 0; at < bytes.length; at += 7) yield await Promise.resolve(bytes.subarray(at, at + 7));
  }
  expect([...(await readModuleArtifacts(chunks(), 'm'))]).toEqual([
    'dhcp-server-12:4.3.6-47.module_el8.5.0+1.x86_64',
    'perl-0:5.30-1.module+el8.noarch',
  ]);
});

describe('mangled documents', () => {
  const metalink = metalinkXml([Buffer.from('a'), Buffer.from('b')], ['http://a/']);
  const repomd = repomdXml(files);
  const damage = fc.record({
    at: fc.double({ min: 0, max: 0.999, noNaN: true }),
    cut: fc.nat(40),
    put: fc.oneof(
      fc.constantFrom(
        '<',
        '>',
        '"',
        '&',
        '&#x0;',
        '&lol;',
        '\0',
        '<a>',
        '</',
        '<!--',
        '<![CDATA[',
        ']]>',
        '<?x',
        '../',
        '-1',
        '9'.repeat(40),
        '\ud800',
      ),
      fc.string({ maxLength: 5 }),
    ),
    repeat: fc.constantFrom(1, 1, 1, 3000),
  });

  it('give a result or a ToolError, in no time', () => {
    fc.assert(
      fc.property(
        fc.constantFrom<'metalink' | 'repomd'>('metalink', 'repomd'),
        fc.array(damage, { minLength: 1, maxLength: 3 }),
        (kind, all) => {
          let text = kind === 'metalink' ? metalink : repomd;
          for (const { at, cut, put, repeat } of all) {
            const index = Math.floor(at * text.length);
            text = text.slice(0, index) + put.repeat(repeat) + text.slice(index + cut);
          }
          const begin = Date.now();
          fault(() =>
            kind === 'metalink' ? parseMetalink(Buffer.from(text), 'm') : parseRepomd(Buffer.from(text), 'r'),
          );
          expect(Date.now() - begin).toBeLessThan(2000);
        },
      ),
      { numRuns: 2000 },
    );
    expectModestMemory();
  });

  it('bounds the number of elements', () => {
    expect(
      fault(() => parseRepomd(Buffer.from(`<repomd>${'<data/>'.repeat(60_000)}</repomd>`), 'r')),
    ).toContain('more than 50000 elements');
  });
});
