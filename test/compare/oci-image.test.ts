import { mkdirSync, mkdtempSync, rmSync, symlinkSync, unlinkSync, writeFileSync } from 'node:fs';
import { execFileSync } from 'node:child_process';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { defaultImageLimits, stackLayers } from '../../build/compare/layers.js';
import { openImageStore } from '../../build/compare/image-store.js';
import { readOciImage, type OciImage } from '../../build/compare/oci-image.js';
import type { Architecture } from '../../build/support/architecture.js';
import { tarArchive, tarMember } from '../support/tar-builder.js';
import { requireTools } from '../support/tools.js';
import {
  addBlob,
  addImage,
  digestOf,
  imageStore,
  layer,
  storeOf,
  types,
  writeArchive,
  writeDirectory,
  type ImageSpec,
  type StoreFiles,
} from './store-builder.js';

let work = '';
let count = 0;
beforeAll(() => {
  work = mkdtempSync(join(tmpdir(), 'oci-image-'));
});
afterAll(() => {
  rmSync(work, { recursive: true });
});

const fresh = (): string => join(work, String((count += 1)));
const signal = new AbortController().signal;

/** Reads an image whole: what it is, and its names. */
async function read(
  path: string,
  architecture: Architecture = 'x86_64',
  limits = defaultImageLimits,
): Promise<OciImage & { readonly names: readonly string[] }> {
  const store = await openImageStore(path, 'it.tar');
  try {
    const image = await readOciImage(store, architecture);
    const { tree } = await stackLayers(store, image.layers, () => false, signal, limits);
    return { ...image, names: [...tree.walk()].map((entry) => entry.path) };
  } finally {
    await store.close();
  }
}

const readFiles = (files: StoreFiles): ReturnType<typeof read> => read(writeArchive(fresh(), files));
const readSpec = (spec: ImageSpec): ReturnType<typeof read> => readFiles(imageStore(spec));

describe('an image', () => {
  const spec: ImageSpec = {
    layers: [layer('etc/', 'etc/passwd root')],
    reference: 'localhost/a:1',
    config: {
      User: '177:177',
      Entrypoint: ['/usr/sbin/dhcpd', '-f'],
      Cmd: null,
      Volumes: { '/var/lib/dhcp': {}, '/a': {} },
      Labels: { 'io.containers.capabilities': 'CAP_NET_RAW,net_bind_service' },
    },
  };
  const expected = {
    architecture: 'x86_64',
    reference: 'localhost/a:1',
    user: '177:177',
    entrypoint: ['/usr/sbin/dhcpd', '-f'],
    command: [],
    volumes: ['/a', '/var/lib/dhcp'],
    capabilities: ['NET_RAW', 'NET_BIND_SERVICE'],
    names: ['etc', 'etc/passwd'],
  };

  it('is read from an archive', async () => {
    expect(await readSpec(spec)).toMatchObject(expected);
  });

  it('is read from a directory, also through symbolic links', async () => {
    const directory = writeDirectory(fresh(), imageStore(spec));
    expect(await read(directory)).toMatchObject(expected);
    const linked = fresh();
    symlinkSync(directory, linked);
    expect(await read(linked)).toMatchObject(expected);
  });

  it.skipIf(!requireTools('zstd')).each(['gz', 'zst', 'none'] as const)(
    'is read when its layers are compressed as %s',
    async (format) => {
      const tar = layer('a x');
      const compressed = {
        gz: () => gzipSync(tar),
        zst: () => execFileSync('zstd', ['-c', '-q'], { input: tar }),
        none: () => tar,
      };
      const suffix = { gz: '+gzip', zst: '+zstd', none: '' };
      const files: StoreFiles = new Map();
      const blob = addBlob(files, types.layer + suffix[format], compressed[format]());
      const image = addImage(files, {
        layers: [tar],
        changeManifest: (manifest) => {
          manifest['layers'] = [blob];
        },
      });
      expect((await readFiles(storeOf(files, [image]))).names).toEqual(['a']);
    },
  );

  it('may be written in Docker’s words, and have no configuration to run', async () => {
    const image = await readSpec({
      layers: [layer('a x')],
      config: null,
      changeManifest: (manifest) => {
        const docker = 'application/vnd.docker';
        manifest['mediaType'] = `${docker}.distribution.manifest.v2+json`;
        Object.assign(manifest['config'] as object, { mediaType: `${docker}.container.image.v1+json` });
        const [first] = manifest['layers'] as object[];
        Object.assign(first ?? {}, { mediaType: `${docker}.image.rootfs.diff.tar.gzip` });
      },
    });
    expect(image).toMatchObject({
      names: ['a'],
      user: '',
      entrypoint: [],
      volumes: [],
      capabilities: undefined,
      reference: undefined,
    });
  });

  it('is chosen from an index by its architecture, and attestations are passed over', async () => {
    const files: StoreFiles = new Map();
    const images = [
      addImage(files, { architecture: 'amd64', layers: [layer('amd64 x')] }),
      addImage(files, { architecture: 'arm64', variant: 'v8', layers: [layer('arm64 x')] }),
      addImage(files, { architecture: 'unknown', platform: { os: 'unknown', architecture: 'unknown' } }),
    ];
    const index = addBlob(files, types.index, { schemaVersion: 2, manifests: images });
    const named = { ...index, annotations: { 'org.opencontainers.image.ref.name': 'a:1' } };
    const path = writeArchive(fresh(), storeOf(files, [named]));
    expect(await read(path)).toMatchObject({ names: ['amd64'], reference: 'a:1' });
    expect(await read(path, 'aarch64')).toMatchObject({ names: ['arm64'], reference: 'a:1' });
    await expect(read(path, 's390x')).rejects.toMatchObject({
      message: 'cannot read it.tar: it holds no image for s390x, only for aarch64, x86_64',
      hint: 'choose another, such as --arch aarch64',
      exitCode: 2,
    });
  });

  it('is known by its configuration where the index names no platform', async () => {
    const path = writeArchive(fresh(), imageStore({ architecture: 'arm64', platform: null }));
    expect((await read(path, 'aarch64')).architecture).toBe('aarch64');
    await expect(read(path)).rejects.toThrow('only for aarch64');
  });

  it('must be the only one of its architecture; two names of one are one', async () => {
    const files: StoreFiles = new Map();
    const first = addImage(files, { layers: [layer('a x')], reference: 'a:1' });
    const again = addImage(files, { layers: [layer('a x')], reference: 'a:2' });
    expect((await readFiles(storeOf(files, [first, again]))).reference).toBe('a:1');
    const second = addImage(files, { layers: [layer('b x')] });
    await expect(readFiles(storeOf(files, [first, second]))).rejects.toMatchObject({
      message: `cannot read it.tar: it holds 2 images for x86_64: a:1, ${second.digest}`,
      exitCode: 2,
    });
  });

  it.skipIf(!requireTools('skopeo'))('is made by skopeo too', async () => {
    const image = writeArchive(fresh(), imageStore({ layers: [layer('a x'), layer('b y')] }));
    const copy = fresh();
    execFileSync('skopeo', ['copy', '--quiet', `oci-archive:${image}`, `oci:${copy}:localhost/x:1`]);
    expect(await read(copy)).toMatchObject({ names: ['a', 'b'], reference: 'localhost/x:1' });
  });
});

describe.skipIf(!requireTools('mkfifo'))('what is no such image', () => {
  const blobPath = (digest: string): string => `blobs/${digest.replace(':', '/')}`;
  const descriptor = (files: StoreFiles): { digest: string; size: number } => {
    const index = JSON.parse(files.get('index.json')?.toString() ?? '') as {
      manifests: { digest: string; size: number }[];
    };
    const [first] = index.manifests;
    if (first === undefined) throw new Error('no manifest');
    return first;
  };

  it.each([
    ['nothing', () => fresh(), /no such file or directory$/, 2],
    [
      'an empty directory',
      () => writeDirectory(fresh(), new Map([['a', Buffer.alloc(0)]])),
      /it has no oci-layout/,
      1,
    ],
    ['an empty file', () => writeRaw(Buffer.alloc(0)), /without its end mark/, 1],
    ['another file', () => writeRaw(Buffer.alloc(5000, 'x')), /checksum/, 1],
    ['a compressed archive', () => writeRaw(gzipSync(Buffer.alloc(2048))), /it is compressed with gzip$/, 1],
    [
      'a cut archive',
      () => writeRaw(tarArchive([{ name: 'a', data: Buffer.alloc(600) }]).subarray(0, 900)),
      /cut off/,
      1,
    ],
    [
      'an archive of climbing names',
      () => writeArchive(fresh(), new Map([['../a', Buffer.alloc(1)]])),
      /leaves the package/,
      1,
    ],
    [
      'a docker-archive',
      () => writeArchive(fresh(), new Map([['manifest.json', Buffer.from('[]')]])),
      /docker-archive$/,
      1,
    ],
    ['a pipe', () => pipe(), /it is no regular file$/, 2],
  ])('%s is refused', async (_what, make, message, exitCode) => {
    await expect(read(make())).rejects.toMatchObject({
      message: expect.stringMatching(new RegExp(`^cannot read it.tar.*${message.source}`)) as unknown,
      exitCode,
    });
  });

  it('is a layout whose blob is a pipe or a directory', async () => {
    const files = imageStore();
    const { digest } = descriptor(files);
    const directory = writeDirectory(fresh(), files);
    unlinkSync(join(directory, blobPath(digest)));
    execFileSync('mkfifo', [join(directory, blobPath(digest))]);
    await expect(read(directory)).rejects.toThrow(/^cannot read it\.tar\/blobs\/\S+: it is no regular file$/);
    unlinkSync(join(directory, blobPath(digest)));
    mkdirSync(join(directory, blobPath(digest)));
    await expect(read(directory)).rejects.toThrow(/: it is no regular file$/);
  });

  it('is one whose blobs are not what their digests say', async () => {
    for (const name of imageStore({ layers: [layer('a x')] }).keys()) {
      if (!name.startsWith('blobs/')) continue;
      const digest = name.replace('blobs/', '').replace('/', ':');
      const tamper = (change: (bytes: Buffer) => Buffer | undefined): Promise<unknown> => {
        const files = imageStore({ layers: [layer('a x')] });
        const changed = change(Buffer.from(files.get(name) ?? ''));
        if (changed === undefined) files.delete(name);
        else files.set(name, changed);
        return readFiles(files);
      };
      const flip = (bytes: Buffer): Buffer => {
        bytes[bytes.length >> 1] = (bytes[bytes.length >> 1] ?? 0) ^ 1;
        return bytes;
      };
      await expect(tamper(flip)).rejects.toThrow(`cannot read it.tar: the blob ${digest} is damaged`);
      await expect(tamper((bytes) => bytes.subarray(1))).rejects.toThrow(/ bytes instead of \d+$/);
      await expect(tamper(() => undefined)).rejects.toThrow(`it has no ${name}`);
    }
  });

  it('is one whose layers unpack to something else', async () => {
    const lie: ImageSpec = {
      changeConfiguration: (configuration) => {
        configuration['rootfs'] = { diff_ids: [digestOf(Buffer.alloc(0))] };
      },
    };
    await expect(readSpec(lie)).rejects.toThrow(
      /it unpacks to sha256:[0-9a-f]{64} instead of sha256:e3b0c442/,
    );
  });

  it.each<[string, ImageSpec, RegExp]>([
    [
      'no list of layers',
      { changeManifest: (it) => delete it['layers'] },
      /manifest \S+\): it has no layers$/,
    ],
    [
      'another number of layers',
      { changeManifest: (it) => (it['layers'] = []) },
      /names 1 layers, and the manifest 0$/,
    ],
    ['a text as entrypoint', { config: { Entrypoint: '/bin/sh' } }, /config\.Entrypoint is not a list$/],
    ['a number as user', { config: { User: 5 } }, /config\.User is not a text$/],
    [
      'no digest',
      { changeManifest: (it) => (it['config'] = { mediaType: types.config, digest: '../../x', size: 1 }) },
      /config\.digest is no SHA-256 or SHA-512 digest$/,
    ],
    [
      'a negative size',
      { changeManifest: (it) => Object.assign(it['config'] as object, { size: -1 }) },
      /config\.size is not a size$/,
    ],
    [
      'an encrypted layer',
      {
        changeManifest: (it) =>
          Object.assign((it['layers'] as object[])[0] ?? {}, { mediaType: `${types.layer}+gzip+encrypted` }),
      },
      /layers\[0\] is of the unknown type/,
    ],
    [
      'a prototype for members',
      {
        changeManifest: (it) => {
          delete it['config'];
          Object.defineProperty(it, '__proto__', { value: { config: {} }, enumerable: true });
        },
      },
      /it has no config$/,
    ],
    ['a program for nobody', { architecture: 'mips' }, /it holds no image for x86_64, only for linux\/mips$/],
    [
      'something else than an image',
      { changeManifest: (it) => Object.assign(it['config'] as object, { mediaType: 'application/json' }) },
      /it holds no container image$/,
    ],
  ])('is a manifest with %s', async (_what, spec, message) => {
    await expect(readSpec(spec)).rejects.toThrow(message);
  });

  it('is an index.json that is not JSON, or an index in an index in an index', async () => {
    const files = imageStore();
    files.set('index.json', Buffer.from('{"manifests": ['));
    await expect(readFiles(files)).rejects.toThrow(/^cannot read it\.tar \(index\.json\): it is not JSON/);
    let blob = addImage(files);
    for (let depth = 0; depth < 4; depth += 1) blob = addBlob(files, types.index, { manifests: [blob] });
    await expect(readFiles(storeOf(files, [blob]))).rejects.toThrow(/is an index too deep inside of others$/);
  });

  it.each<[string, Buffer, RegExp]>([
    ['a climbing path', tarArchive([{ name: '../../etc/shadow' }]), /leaves the package/],
    ['a hard link to nothing', layer('a => b'), /a is a hard link to b, which is no file$/],
    ['a hard link to a directory', layer('b/', 'a => b'), /a is a hard link to b, which is no file$/],
    ['a lying size', Buffer.concat([tarMember({ name: 'a', size: 1e9 }), Buffer.alloc(1024)]), /cut off/],
  ])('is a layer with %s', async (_what, tar, message) => {
    await expect(readSpec({ layers: [tar] })).rejects.toThrow(message);
  });

  it('is a bomb', async () => {
    const limits = { ...defaultImageLimits, unpackedBytes: 1024 ** 2, entries: 100 };
    const bomb = layer('a '.padEnd(2 * 1024 ** 2));
    await expect(
      read(writeArchive(fresh(), imageStore({ layers: [bomb] })), 'x86_64', limits),
    ).rejects.toThrow(
      /^cannot decompress it\.tar \(layer sha256:\S+\): it unpacks to more than 1048576 bytes$/,
    );
    const twice = [layer('a '.padEnd(600_000)), layer('b '.padEnd(600_000))];
    await expect(
      read(writeArchive(fresh(), imageStore({ layers: twice })), 'x86_64', limits),
    ).rejects.toThrow(/it unpacks to more than \d+ bytes$/);
    const many = layer(...Array.from({ length: 60 }, (_, index) => `${index}/a x`));
    await expect(
      read(writeArchive(fresh(), imageStore({ layers: [many] })), 'x86_64', limits),
    ).rejects.toThrow('cannot read it.tar: its layers have more than 100 entries');
  });

  function writeRaw(bytes: Buffer): string {
    const path = fresh();
    writeFileSync(path, bytes);
    return path;
  }

  function pipe(): string {
    const path = fresh();
    execFileSync('mkfifo', [path]);
    return path;
  }
});
