import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { BuiltImage } from '../../build/image/engine.js';
import { run } from '../../build/support/exec.js';
import { buildEnvironment, buildImage, checkout } from '../support/lab-image.js';
import { fetchNode } from '../support/node-image.js';
import { requireTools } from '../support/tools.js';

/**
 * The digest is the same on every machine: other versions of Node.js, and Node.js on the other architecture, whose
 * libraries are an image that the program itself makes.
 */
const foreign = process.arch === 'arm64' ? ['x64', 'x86_64'] : ['arm64', 'aarch64'];
const [foreignNode = '', foreignMachine = ''] = foreign;
const emulator = `qemu-${foreignMachine}-static`;
const ready = requireTools('npm', 'tar', 'apt-config', emulator);
const definition = join(checkout, 'images/scratch/dhcpd.yaml');

describe.skipIf(!ready)('another Node.js', () => {
  let work = '';
  let cache = '';
  let ours: BuiltImage;

  beforeAll(async () => {
    work = await mkdtemp(join(tmpdir(), 'dhcpd-other-node-'));
    cache = join(work, 'cache');
    await mkdir(cache);
    ours = await buildImage(run, work, cache, [definition, '--arch', 'x86_64,aarch64']);
  });
  afterAll(async () => {
    await rm(work, { recursive: true, force: true });
  });

  it.each(['22.23.3', '24.21.0'])('of version %s makes the same digest', async (version) => {
    const node = await fetchNode(version, process.arch, work);
    expect((await digestBy([node])).digest).toBe(ours.digest);
  });

  it(`of ${foreignMachine} makes the same digest`, async () => {
    const root = await librariesOfNode();
    const node = await fetchNode('22.23.3', foreignNode, work);
    expect((await digestBy([emulator, '-L', root, node])).digest).toBe(ours.digest);
  }, 240_000);

  /** Builds the same image from the same lock file with another Node.js. */
  async function digestBy(node: readonly [string, ...string[]]): Promise<BuiltImage> {
    const directory = await mkdtemp(join(work, 'by-'));
    const { stdout } = await run({
      argv: [
        ...node,
        ...[join(checkout, 'dist/cli.js'), 'build', definition, '--arch', 'x86_64,aarch64', '--json'],
        ...['--output', directory, '--lock-file', join(work, 'lock.yaml'), '--locked', '--offline'],
      ],
      cwd: checkout,
      environment: { ...buildEnvironment(), XDG_CACHE_HOME: cache },
    });
    return JSON.parse(stdout) as BuiltImage;
  }

  /** The libraries that Node.js needs on the other architecture: a scratch image of Debian's own package. */
  async function librariesOfNode(): Promise<string> {
    const directory = join(work, 'libraries');
    const root = join(directory, 'root');
    await mkdir(root, { recursive: true });
    const libraries = ['libdl.so.2', 'libm.so.6', 'libpthread.so.0'];
    await writeFile(
      join(directory, 'node.yaml'),
      [
        'name: node',
        'title: Node.js',
        'from: scratch',
        'packages: {debian: {release: host, package: nodejs}}',
        'roots: [node]',
        `files: [${libraries.map((name) => `/lib/${foreignMachine}-linux-gnu/${name}`).join(', ')}]`,
        'user: {name: node, id: 1000}',
        '',
      ].join('\n'),
    );
    const image = await buildImage(run, directory, cache, [
      join(directory, 'node.yaml'),
      ...['--arch', foreignMachine, '--compression', 'none'],
    ]);
    const layer = image.manifests[0]?.layerDigest.replace('sha256:', '') ?? '';
    await run({
      argv: ['tar', '-xf', join(image.layout, 'blobs/sha256', layer), '-C', root],
      environment: buildEnvironment(),
    });
    return root;
  }
});
