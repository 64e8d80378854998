import { writeFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  imageStore,
  layer,
  writeArchive,
  writeDirectory,
  type StoreFiles,
} from '../compare/store-builder.js';
import { errorLines, Place } from '../support/cli.js';
import { hostArchitecture, otherArchitecture } from '../support/host.js';

const goNames = { x86_64: 'amd64', aarch64: 'arm64' } as Readonly<Record<string, string>>;
const architecture = goNames[hostArchitecture] ?? hostArchitecture;
const base = layer('bin/', 'bin/sh #!x', 'etc/', 'etc/passwd root');
const top = layer('bin/', 'bin/dhcpd #!x', 'bin/.wh.sh ');

function small(): StoreFiles {
  return imageStore({
    layers: [base, top],
    architecture,
    reference: 'localhost/small:1',
    config: { User: '177:177', Entrypoint: ['/bin/dhcpd', '-f'] },
  });
}

function large(): StoreFiles {
  return imageStore({
    layers: [base, layer('big x'.padEnd(3 * 1024 ** 2)), layer('link -> etc')],
    architecture,
    config: { Labels: { 'io.containers.capabilities': 'NET_RAW' } },
  });
}

describe('compare', () => {
  let place: Place;
  beforeAll(() => {
    place = new Place();
    writeArchive(place.path('small.tar'), small());
    writeDirectory(place.path('large'), large());
  });
  afterAll(() => {
    place.remove();
  });
  const args = ['compare', 'small.tar', 'large', '--no-offer'];

  it('prints an aligned table', async () => {
    const { code, stdout, stderr } = await place.run(args);
    expect([code, stderr]).toEqual([0, 'reading small.tar\nreading large\n']);
    const lines = stdout.split('\n');
    const columns = ['small.tar', 'large'].map((name) => lines[0]?.indexOf(name));
    expect(lines[1]).toMatch(new RegExp(`^architecture +${hostArchitecture} +${hostArchitecture}$`));
    expect(columns).toEqual([lines[1]?.indexOf(hostArchitecture), lines[1]?.lastIndexOf(hostArchitecture)]);
    expect(lines.filter((line) => / $/.test(line))).toEqual([]);
    const squeezed = stdout.replace(/ {2,}/g, '  ').split('\n');
    expect(squeezed).toEqual(
      expect.arrayContaining([
        'unpacked  7 B  3.0 MiB  x 449390',
        'layers  2  3  +1',
        'files  2  3  +1',
        'directories  2  2',
        'symbolic links  0  1  +1',
        'programs  0  0',
        'user  177:177  root  differs',
        'entrypoint  /bin/dhcpd -f  none  differs',
        'declared capabilities  none  NET_RAW  differs',
        'packages  unknown  unknown',
        'small.tar: packages: there is no package database',
      ]),
    );
    expect(squeezed.find((line) => line.startsWith('shared layers'))).toMatch(
      /^shared layers {2}1 {2}1 {2}\d+ B$/,
    );
  });

  it('prints one JSON document in which every key is there', async () => {
    const document: unknown = JSON.parse(await place.ok([...args, '--json', '--quiet']));
    const digest: unknown = expect.stringMatching(/^sha256:[0-9a-f]{64}$/);
    const number: unknown = expect.any(Number);
    const layerDocument = { digest, diffId: digest, compressedBytes: number, unpackedBytes: number };
    const common = {
      digest,
      configDigest: digest,
      architecture: hostArchitecture,
      command: [],
      volumes: [],
      compressedBytes: number,
      specials: 0,
      packages: { count: null, from: [], reason: 'there is no package database' },
      programs: [],
      libraries: [],
      shells: [],
      interpreters: [],
      setid: [],
      capable: [],
      worldWritable: [],
      offer: null,
    };
    expect(document).toEqual({
      images: [
        {
          ...common,
          name: 'small.tar',
          reference: 'localhost/small:1',
          user: '177:177',
          entrypoint: ['/bin/dhcpd', '-f'],
          capabilities: null,
          contentBytes: 7,
          layers: [layerDocument, layerDocument],
          files: 2,
          directories: 2,
          symlinks: 0,
        },
        {
          ...common,
          name: 'large',
          reference: null,
          user: '',
          entrypoint: [],
          capabilities: ['NET_RAW'],
          contentBytes: 3 * 1024 ** 2 - 4 + 7,
          layers: [layerDocument, layerDocument, layerDocument],
          files: 3,
          directories: 2,
          symlinks: 1,
        },
      ],
      sharedLayers: { diffIds: [digest], compressedBytes: number },
      measurement: null,
    });
  });

  it('says why no time was taken', async () => {
    const stdout = await place.ok(['compare', 'small.tar', 'small.tar'], {
      environment: { PATH: '/nowhere', HOME: '/' },
    });
    const reason = process.getuid?.() === 0 ? 'ip is not installed' : 'it needs root, for network namespaces';
    expect(stdout).toMatch(/^time to first OFFER +not measured +not measured$/m);
    expect(stdout).toContain(`small.tar: time to first OFFER not measured: ${reason}\n`);
  });

  it.each([
    [['compare'], 2, /^error: cannot read out\/dhcpd\.oci\.tar: no such file or directory; /],
    [['compare', 'small.tar', 'nothing'], 2, /^error: cannot read nothing: no such file or directory; /],
    [['compare', 'small.tar', 'large', '--arch', 'vax'], 2, /^error: cannot build for architecture "vax"/],
    [
      ['compare', 'small.tar', 'large', '--arch', otherArchitecture],
      2,
      new RegExp(
        `^error: cannot read small\\.tar: it holds no image for ${otherArchitecture}, only for ${hostArchitecture}; `,
      ),
    ],
    [['compare', 'small.tar', 'large', 'more'], 2, /^error: cannot read the command line: /],
    [
      ['compare', 'damaged.tar', 'large'],
      1,
      /^error: cannot read damaged\.tar: the blob sha256:\S+ is damaged/,
    ],
    [['compare', 'text', 'large'], 1, /^error: cannot read text: /],
  ])('fails with one line: %j', async (words, code, line) => {
    const files = small();
    const name = [...files.keys()].find((path) => path.startsWith('blobs/')) ?? '';
    files.set(name, Buffer.from(files.get(name) ?? '').fill(0, 12, 13));
    writeArchive(place.path('damaged.tar'), files);
    writeFileSync(place.path('text'), 'x'.repeat(2000));
    const outcome = await place.run([...words, '--quiet']);
    expect(outcome.code).toBe(code);
    expect(errorLines(outcome)).toEqual([expect.stringMatching(line)]);
  });
});
