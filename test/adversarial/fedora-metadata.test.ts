import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { Place } from '../support/cli.js';
import {
  fedoraDefinition,
  fedoraTools,
  library,
  libraryPackage,
  made,
  placeOf,
  refusal,
  rewritePrimary,
  serverPackage,
  serveMirror,
  urlOf,
  Workshop,
} from '../support/fedora-place.js';
import { metalinkXml, repomdOf } from '../support/rpm-repository.js';
import { requireTools } from '../support/tools.js';

/** What is said of metadata that is broken, and of packages that do not fit together: always with what to do. */
describe.skipIf(!requireTools(...fedoraTools))('broken metadata', { timeout: 120_000 }, () => {
  let workshop: Workshop;
  let tiny: readonly string[];
  let place: Place;
  beforeAll(() => {
    workshop = new Workshop();
    tiny = workshop.tiny();
  }, 120_000);
  afterAll(() => {
    workshop.remove();
  });
  beforeEach(() => {
    place = new Place({ 'tiny.yaml': fedoraDefinition(workshop.key.fingerprint) });
  });
  afterEach(() => {
    place.remove();
  });
  const from = (repository: string): readonly string[] => [
    '--mirror',
    repository.startsWith('/') ? urlOf(repository) : repository,
    '--keyring',
    workshop.keyring,
  ];
  const refused = (repository: string, ...more: readonly string[]): Promise<string> =>
    refusal(place, 1, ['build', 'tiny.yaml', '--compression', 'none', ...from(repository), ...more]);

  it('of two packages whose files differ', async () => {
    const outer = libraryPackage('libouter', 'libouter.so.1', ['libinner.so.2', 'libc.so.6']);
    const directory = workshop.repository([
      ...tiny.filter((path) => !/lib(?:inner|outer)/.test(path)),
      { ...outer, files: { ...outer.files, 'usr/share/shared': 'one\n' } },
      libraryPackage('libinner', 'libinner.so.2', [], {
        files: {
          'usr/lib64/libinner.so.2': { content: library(made, 'libinner.so.2'), mode: 0o755 },
          'usr/share/shared': 'two\n',
        },
      }),
    ]);
    expect(await refused(directory)).toMatch(
      /^cannot add lib(?:outer|inner) 1\.0-1: its usr\/share\/shared differs from that of lib(?:outer|inner) 1\.0-1; ./,
    );
  });

  it.each(['<html></html>', '<metalink><files/></metalink>'])('a metalink that is %s', async (text) => {
    const server = await serveMirror(workshop.directory);
    server.lie = (_, response) => {
      response.end(text);
      return true;
    };
    try {
      expect(await refused(`${server.url}metalink`)).toMatch(/^cannot read \S+metalink: .*; ./);
    } finally {
      await server.close();
    }
  });

  it.each([
    ['<html></html>', () => '<html></html>'],
    ['two primaries', (xml: string) => xml.replace(/<data type="primary">[^]*?<\/data>/, '$&$&')],
    ['no size', (xml: string) => xml.replace(/<size>\d+<\/size>/g, '')],
  ])('a repomd.xml with %s', async (_, change) => {
    const directory = workshop.repository(tiny);
    const path = join(directory, 'repodata/repomd.xml');
    writeFileSync(path, change(readFileSync(path, 'utf8')));
    expect(await refused(directory)).toMatch(/^cannot read \S+repomd\.xml: .*; ./);
  });

  it.each([
    ['version', (xml: string) => xml.replaceAll('ver="1.0"', 'ver="1-0"')],
    ['size', (xml: string) => xml.replace(/<size package="\d+"/g, '<size package="many"')],
  ])('an index with a malformed %s', async (_, change) => {
    const directory = workshop.repository(tiny);
    rewritePrimary(directory, change);
    expect(await refused(directory)).toMatch(/^cannot \w+ .*; ./);
  });

  // Over plain http nothing says that the list of mirrors is today's.
  it('an old metalink over plain http, replayed with the old repomd.xml, is refused', async () => {
    const old = workshop.tree({ [made]: tiny });
    const top = workshop.tree({ [made]: tiny });
    workshop.fill(join(top, placeOf()), [serverPackage({ version: '1.1' })], 1_750_000_000);
    workshop.fill(join(top, `updates/9/Everything/${made}`), [], 1_750_000_000);
    const servers = [await serveMirror(top), await serveMirror(old)];
    const [now, past] = servers;
    if (now === undefined || past === undefined) throw new Error('unreachable');
    let served = top;
    const list = await serveMirror(workshop.directory);
    list.lie = (path, response) => {
      if (path !== 'metalink') return false;
      const repo = new URL(response.req.url ?? '', 'http://localhost').searchParams.get('repo') ?? '';
      const directory = repo === 'fedora-9' ? placeOf() : `updates/9/Everything/${made}`;
      const mirror = served === top ? now : past;
      response.end(metalinkXml([repomdOf(join(served, directory))], [`${mirror.url}${directory}/`]));
      return true;
    };
    try {
      await place.ok(['lock', 'tiny.yaml', ...from(`${list.url}metalink`)]);
      served = old;
      const line = await refusal(place, 1, ['lock', 'tiny.yaml', ...from(`${list.url}metalink`)]);
      expect(line).toMatch(/it is dated .*, but one of .* has been seen; ./);
    } finally {
      await Promise.all([...servers, list].map((server) => server.close()));
    }
  });
});
