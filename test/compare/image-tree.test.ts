import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openImageStore } from '../../build/compare/image-store.js';
import { defaultImageLimits, stackLayers } from '../../build/compare/layers.js';
import { readOciImage } from '../../build/compare/oci-image.js';
import type { ImageTree } from '../../build/compare/image-tree.js';
import { privateStorage, type PrivateStorage } from '../support/buildah.js';
import { hostArchitecture } from '../support/host.js';
import { requireThat, requireTools } from '../support/tools.js';
import { imageStore, layer, writeArchive } from './store-builder.js';

const signal = new AbortController().signal;
const goName = hostArchitecture === 'aarch64' ? 'arm64' : 'amd64';
let work = '';
let count = 0;
beforeAll(() => {
  work = mkdtempSync(join(tmpdir(), 'image-tree-'));
});
afterAll(() => {
  rmSync(work, { recursive: true });
});

/** Each layer as the lines that `layer` takes. */
type Layers = readonly (readonly string[])[];

function archiveOf(layers: Layers): string {
  const tars = layers.map((lines) => layer(...lines));
  return writeArchive(join(work, `${(count += 1)}.tar`), imageStore({ layers: tars, architecture: goName }));
}

async function treeOf(archive: string): Promise<ImageTree> {
  const store = await openImageStore(archive, 'it');
  try {
    const { layers } = await readOciImage(store, hostArchitecture);
    return (await stackLayers(store, layers, () => true, signal, defaultImageLimits)).tree;
  } finally {
    await store.close();
  }
}

function listing(tree: ImageTree): readonly string[] {
  return [...tree.walk()]
    .map(({ path, node }) =>
      node.kind === 'symlink'
        ? `${path} -> ${node.target}`
        : node.kind === 'file'
          ? `${path} ${node.content?.toString() ?? '?'}`
          : `${path}/`,
    )
    .sort();
}

async function stacked(...layers: Layers): Promise<readonly string[]> {
  return listing(await treeOf(archiveOf(layers)));
}

const examples: readonly (readonly [what: string, layers: Layers, expected: readonly string[]])[] = [
  ['an upper file takes the place of a lower one', [['a 1', 'b 1'], ['a 2']], ['a 2', 'b 1']],
  [
    'directories are merged',
    [
      ['d/', 'd/a 1'],
      ['d/', 'd/b 2'],
    ],
    ['d/', 'd/a 1', 'd/b 2'],
  ],
  ['a file takes the place of a directory', [['d/', 'd/a 1'], ['d 2']], ['d 2']],
  ['a directory takes the place of a file', [['d 1'], ['d/', 'd/a 2']], ['d/', 'd/a 2']],
  [
    'a directory takes the place of a link',
    [
      ['e/', 'e/x 1', 'd -> e'],
      ['d/', 'd/a 2'],
    ],
    ['d/', 'd/a 2', 'e/', 'e/x 1'],
  ],
  ['a whiteout hides a file', [['a 1', 'b 1'], ['.wh.a ']], ['b 1']],
  ['a whiteout hides a directory', [['d/', 'd/e/', 'd/e/a 1'], ['.wh.d ']], []],
  [
    'a whiteout hides what is below, not what its own layer brings',
    [
      ['d/', 'd/a 1'],
      ['d/', '.wh.d ', 'd/b 2'],
    ],
    ['d/', 'd/b 2'],
  ],
  [
    'an opaque directory hides what is below',
    [
      ['d/', 'd/a 1', 'd/e/', 'd/e/b 1'],
      ['d/', 'd/.wh..wh..opq ', 'd/c 2'],
    ],
    ['d/', 'd/c 2'],
  ],
  [
    'an opaque mark may come after the files of its layer',
    [
      ['d/', 'd/a 1'],
      ['d/', 'd/c 2', 'd/.wh..wh..opq '],
    ],
    ['d/', 'd/c 2'],
  ],
  ['what was hidden may come back', [['a 1'], ['.wh.a '], ['a 3']], ['a 3']],
  [
    'a whiteout of nothing brings no more than its directory',
    [['a 1'], ['.wh.b ', 'd/.wh.c ']],
    ['a 1', 'd/'],
  ],
  ['a hard link keeps its file when the other name goes', [['a 1', 'b => a'], ['.wh.a ']], ['b 1']],
  ['missing directories are made', [['d/e/a 1']], ['d/', 'd/e/', 'd/e/a 1']],
];

describe('an image tree', () => {
  it.each(examples)('%s', async (_what, layers, expected) => {
    expect(await stacked(...layers)).toEqual(expected);
  });

  it('has no use for names that mean something to JavaScript', async () => {
    expect(await stacked(['__proto__/', '__proto__/constructor 1'], ['.wh.toString '])).toEqual([
      '__proto__/',
      '__proto__/constructor 1',
    ]);
  });

  it.each([
    ['bin/sh', 'usr/bin/dash'],
    ['usr/sbin/dash', 'usr/bin/dash'],
    ['up', 'usr/bin/dash'],
    ['loop', undefined],
    ['dangling', undefined],
    ['bin/dash/x', undefined],
  ])('leads from %s to %s', async (from, to) => {
    const tree = await treeOf(
      archiveOf([
        ['usr/bin/dash x', 'bin -> usr/bin', 'usr/sbin -> ./bin', 'usr/bin/sh -> dash', 'loop -> /loop'],
        ['up -> ../../../../bin/./sh', 'dangling -> nowhere'],
      ]),
    );
    expect(tree.resolve(from)?.path).toBe(to);
  });

  describe.skipIf(
    !requireThat(process.getuid?.() === 0, 'root, to mount images') || !requireTools('buildah', 'find'),
  )('as buildah mounts it', () => {
    let storage: PrivateStorage;
    beforeAll(() => {
      storage = privateStorage(join(work, 'storage'));
    });
    afterAll(() => {
      storage.remove();
    });

    function mounted(archive: string): readonly string[] {
      const container = storage.buildah(
        'from',
        '--pull-never',
        storage.buildah('pull', '-q', `oci-archive:${archive}`),
      );
      const root = storage.buildah('mount', container);
      const format = (type: string, text: string): string[] => ['(', '-type', type, '-printf', text, ')'];
      const found = execFileSync(
        'find',
        [
          root,
          '-mindepth',
          '1',
          ...format('d', '%P/\\0'),
          '-o',
          ...format('l', '%P -> %l\\0'),
          '-o',
          ...format('f', '%P \\0'),
        ],
        { encoding: 'utf8' },
      );
      const names = found.split('\0').slice(0, -1);
      const lines = names.map((name) =>
        name.endsWith(' ')
          ? name + execFileSync('cat', [join(root, name.slice(0, -1))], { encoding: 'utf8' })
          : name,
      );
      storage.buildah('rm', container);
      return lines.sort();
    }

    it('is the same for the examples', async () => {
      // buildah runs on any file system here: it follows a link in the place of a directory, which an overlay hides.
      const comparable = examples.filter(([what]) => !what.includes('the place of a link'));
      for (const [what, layers] of comparable) {
        const archive = archiveOf(layers);
        expect(listing(await treeOf(archive)), what).toEqual(mounted(archive));
      }
    }, 120_000);

    it('is the same for layers made by chance', async () => {
      const name = fc.constantFrom('a', 'b', 'c');
      const path = fc.array(name, { minLength: 1, maxLength: 3 }).map((parts) => parts.join('/'));
      const line = fc.oneof(
        path.map((where) => ({ where, kind: 'file' as const })),
        path.map((where) => ({ where, kind: 'directory' as const })),
        path.map((where) => ({ where, kind: 'whiteout' as const })),
        path.map((where) => ({ where, kind: 'opaque' as const })),
      );
      const made = fc.array(fc.array(line, { minLength: 1, maxLength: 6 }), { minLength: 2, maxLength: 4 });
      await fc.assert(
        fc.asyncProperty(made, async (layers) => {
          const archive = archiveOf(layers.map(sensible));
          expect(listing(await treeOf(archive))).toEqual(mounted(archive));
        }),
        { numRuns: 25, seed: 177 },
      );
    }, 240_000);
  });
});

interface Line {
  readonly where: string;
  readonly kind: 'file' | 'directory' | 'whiteout' | 'opaque';
}

/**
 * A layer as tools write it: no path twice or below a file, parents listed before their content, no whiteout
 * of a directory that the layer itself brings, the others before the file that takes the place of what they hide.
 */
function sensible(lines: readonly Line[], number: number): readonly string[] {
  const entries = new Map<string, string>();
  const marks = new Set<string>();
  const hidden = new Set<string>();
  const parentsOf = (path: string): readonly string[] =>
    path
      .split('/')
      .slice(0, -1)
      .map((_part, index, parts) => parts.slice(0, index + 1).join('/'));
  for (const { where, kind } of lines) {
    const parents = parentsOf(where);
    if (parents.some((parent) => entries.get(parent)?.endsWith('/') === false)) continue;
    if (kind === 'whiteout' ? entries.has(where) : entries.has(where) && kind !== 'opaque') continue;
    if (kind === 'opaque' && entries.get(where)?.endsWith('/') === false) continue;
    for (const parent of parents) entries.set(parent, `${parent}/`);
    if (kind === 'file') entries.set(where, `${where} ${number}`);
    else if (kind === 'directory') entries.set(where, `${where}/`);
    else if (kind === 'opaque') {
      entries.set(where, `${where}/`);
      marks.add(`${where}/.wh..wh..opq `);
    } else hidden.add(where);
  }
  for (const path of [...hidden].filter((where) => entries.get(where)?.endsWith('/') !== true)) {
    marks.add([...parentsOf(path).slice(-1), `.wh.${path.split('/').at(-1) ?? ''} `].join('/'));
  }
  const listed = [...entries.keys()].sort().map((path) => entries.get(path) ?? '');
  return [
    ...listed.filter((line) => line.endsWith('/')),
    ...marks,
    ...listed.filter((line) => !line.endsWith('/')),
  ];
}
