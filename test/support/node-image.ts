import { chmod, mkdir, mkdtemp, readdir, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { run } from '../../build/support/exec.js';
import { downloadDebs } from './deb.js';
import { buildEnvironment } from './lab-image.js';

/** The programs that this module runs. */
export const nodeImageTools = ['npm', 'tar', 'sh', 'apt-get', 'dpkg-deb'] as const;

/** What docker.io/library/node:22 has: this Node.js, and the npm that comes with it. */
const nodeVersion = '22.23.3';
const npmVersion = '10.9.8';

/** Beside Node.js: its libraries, a shell with the usual programs, and git, which can clone a directory. */
const debianPackages = [
  ...['libc6', 'libgcc-s1', 'libstdc++6', 'busybox-static'],
  ...['git', 'libpcre2-8-0', 'zlib1g'],
];

/**
 * A file system that does for the documents what docker.io/library/node:22 does, without a registry of images: the same
 * programs, Node.js and npm in the same places.
 *
 * @param directory existing directory to work in
 * @returns path of a tar, for `podman import`
 */
export async function nodeImage(directory: string): Promise<string> {
  const work = await mkdtemp(join(directory, 'node-image-'));
  const [root, debs, archive] = [join(work, 'root'), join(work, 'debs'), join(work, 'root.tar')];
  const [bin, modules] = [join(root, 'usr/local/bin'), join(root, 'usr/local/lib/node_modules')];
  for (const path of [debs, bin, join(modules, 'npm'), join(root, 'root'), join(root, 'tmp')]) {
    await mkdir(path, { recursive: true });
  }
  await chmod(join(root, 'tmp'), 0o1777);
  for (const name of ['bin', 'sbin', 'lib', 'lib64']) {
    await mkdir(join(root, 'usr', name), { recursive: true });
    await symlink(`usr/${name}`, join(root, name));
  }
  const packages = downloadDebs(debs, debianPackages);
  if (packages === undefined) throw new Error(`apt-get cannot download ${debianPackages.join(', ')}`);
  for (const path of packages.values()) {
    // dpkg-deb --extract would replace the links by directories.
    const script = 'dpkg-deb --fsys-tarfile "$1" | tar --extract --keep-directory-symlink --directory "$2"';
    await run({ argv: ['sh', '-c', script, 'sh', path, root], environment: buildEnvironment() });
  }
  const busybox = join(root, 'usr/bin/busybox');
  const applets = await run({ argv: [busybox, '--list'], environment: buildEnvironment() });
  const present = new Set(await readdir(join(root, 'usr/bin')));
  for (const name of applets.stdout.split('\n').filter((applet) => applet !== '' && !present.has(applet))) {
    await symlink('busybox', join(root, 'usr/bin', name));
  }
  await unpack(await fetchNodeArchive(nodeVersion, work), join(root, 'usr/local'), {
    members: ['package/bin/node'],
    strip: 1,
  });
  await unpack(await packNpmPackage(`npm@${npmVersion}`, work), join(modules, 'npm'), { strip: 1 });
  for (const name of ['npm', 'npx']) {
    await symlink(`../lib/node_modules/npm/bin/${name}-cli.js`, join(bin, name));
  }
  const owner = ['--numeric-owner', '--owner=0', '--group=0'];
  await run({
    argv: ['tar', '--create', '--file', archive, '--directory', root, ...owner, '.'],
    environment: buildEnvironment(),
  });
  return archive;
}

/**
 * Node.js of another version or architecture: the npm packages `node-linux-*` hold the plain executable.
 *
 * @param architecture in the words of `process.arch`
 * @param directory existing directory to work in
 * @returns path of the executable
 */
export async function fetchNode(version: string, architecture: string, directory: string): Promise<string> {
  const own = await mkdtemp(join(directory, 'node-'));
  await unpack(await fetchNodeArchive(version, own, architecture), own, { members: ['package/bin/node'] });
  return join(own, 'package/bin/node');
}

function fetchNodeArchive(
  version: string,
  directory: string,
  architecture: string = process.arch,
): Promise<string> {
  return packNpmPackage(`node-linux-${architecture}@${version}`, directory);
}

/** @returns path of the package's archive */
async function packNpmPackage(specification: string, directory: string): Promise<string> {
  const own = await mkdtemp(join(directory, 'npm-'));
  const argv = ['npm', 'pack', '--pack-destination', own, specification] as const;
  await run({ argv, cwd: own, environment: buildEnvironment() });
  const [archive] = await readdir(own);
  if (archive === undefined) throw new Error(`npm pack ${specification} has made no archive`);
  return join(own, archive);
}

/** @param choice members to unpack, otherwise all; leading parts of their paths to leave out */
async function unpack(
  archive: string,
  directory: string,
  { members = [], strip = 0 }: { readonly members?: readonly string[]; readonly strip?: number },
): Promise<void> {
  await run({
    argv: [
      ...(['tar', '--extract', '--file', archive, '--directory', directory] as const),
      ...[`--strip-components=${strip}`, '--no-same-owner', ...members],
    ],
    environment: buildEnvironment(),
  });
}
