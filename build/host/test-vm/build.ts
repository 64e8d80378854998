import { createHash } from 'node:crypto';
import { chmod, mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { $ } from 'zx';
import { finishDirectory, takePlaces } from '../../support/atomic.js';
import { cannot } from '../../support/errors.js';
import { cacheHome, forgetIdle, locked } from '../cached.js';
import { ownArchitecture } from './accelerator.js';
import { readImage, vmArchitectures, type VmArchitecture, type VmImage } from './description.js';
import {
  customize,
  guestFiles,
  guestPackages,
  kernelPackage,
  label,
  namedPackages,
  selinuxPackages,
} from './guest.js';
import { sourcesOf } from './sources.js';

/** The release that the guest is of: the oldest with a Podman that knows Quadlet. */
const suite = 'trixie';
const diskSize = '3G';

const debianNames: Readonly<Record<VmArchitecture, string>> = { x86_64: 'amd64', aarch64: 'arm64' };

/**
 * The machine's disk, kernel and first file system from the user's cache: built there once for each state of the
 * recipe, in a minute or, under an emulator, in ten. Needs root.
 *
 * @param say receives progress
 * @throws ToolError
 */
export async function openImage(architecture: VmArchitecture, say: (text: string) => void): Promise<VmImage> {
  const cache = join(cacheHome(), 'dhcpd-scratch-test-vm');
  const root = join(cache, `${architecture}-${(await keyOf()).slice(0, 16)}`);
  await mkdir(cache, { recursive: true });
  await locked(`${root}.lock`, async () => {
    if ((await readImage(root, architecture)) !== undefined) return;
    say(`building the ${architecture} machine of Debian ${suite}`);
    await takePlaces([await finishDirectory(root, (aside) => fill(aside, architecture))]);
  });
  await forgetIdle(cache, root);
  const image = await readImage(root, architecture);
  if (image === undefined) throw cannot('build', root, 'it is not complete');
  return image;
}

/** Which of the known architectures a name means. @throws Error */
export function vmArchitecture(name: string): VmArchitecture {
  const found = vmArchitectures.find((known) => known === name);
  if (found === undefined) throw new Error(`--arch takes ${vmArchitectures.join(' or ')}`);
  return found;
}

/** A hash over everything that says what the machine is like, but for the archive's own progress. */
async function keyOf(): Promise<string> {
  const hash = createHash('sha256');
  for (const name of (await readdir(import.meta.dirname)).sort()) {
    if (/^(build|description|guest|sources)\.js$/.test(name))
      hash.update(await readFile(join(import.meta.dirname, name)));
  }
  return hash.digest('hex');
}

async function fill(root: string, architecture: VmArchitecture): Promise<void> {
  const work = await mkdtemp(join(tmpdir(), 'test-vm-'));
  // apt in there is not root when it fetches.
  await chmod(work, 0o755);
  try {
    const tree = join(work, 'root');
    const hook = join(work, 'customize');
    await writeFile(hook, await hookScript(work));
    const debian = debianNames[architecture];
    const { lines, environment } = await sourcesOf(suite, debian, work);
    const unneeded = ['doc/*', 'info/*', 'locale/*', 'man/*'].map(
      (path) => `--dpkgopt=path-exclude=/usr/share/${path}`,
    );
    const own = architecture === ownArchitecture;
    const more = own ? selinuxPackages : [];
    const argv = [
      ...['--mode=root', '--variant=apt', '--format=directory', `--architectures=${debian}`, '--quiet'],
      // Asks for a program that the kernel's register of emulators makes unnecessary.
      '--skip=check/qemu',
      // The first file system is made by the hook below, from a file or two.
      '--dpkgopt=path-exclude=/etc/kernel/postinst.d/initramfs-tools',
      ...[`--include=${[...guestPackages, ...more, kernelPackage(debian)].join(',')}`, ...unneeded],
      ...['--aptopt=Apt::Install-Recommends "false"', `--customize-hook=sh ${hook} "$1"`],
      ...[suite, tree, ...lines],
    ];
    await $({ quiet: true, env: environment })`mmdebstrap ${argv}`;
    const packages = await versions(tree);
    for (const name of ['kernel', 'initrd'])
      await rename(join(tree, 'boot', name), join(root, name)).catch(
        () => $`cp ${join(tree, 'boot', name)} ${join(root, name)}`,
      );
    // Not in the hook: there it would follow what is mounted.
    if (own) await $({ quiet: true })`chroot ${tree} ${label}`;
    // Without tables that the guest's kernel would fill in the background.
    const options = ['-q', '-t', 'ext4', '-E', 'lazy_itable_init=0,lazy_journal_init=0', '-d', tree];
    await $({ quiet: true })`mke2fs ${options} ${join(root, 'disk')} ${diskSize}`;
    await writeFile(join(root, 'packages'), `${packages.join('\n')}\n`);
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

/** Puts the files into the root and runs the rest in there. */
async function hookScript(work: string): Promise<string> {
  const tree = join(work, 'files');
  for (const [path, text] of guestFiles) {
    await mkdir(join(tree, dirname(path)), { recursive: true });
    await writeFile(join(tree, path), text);
  }
  await writeFile(join(work, 'inside'), customize);
  return `set -eu
cp -r --no-preserve=ownership ${tree}/. "$1"
chroot "$1" sh -s <${join(work, 'inside')}
`;
}

async function versions(tree: string): Promise<readonly string[]> {
  const { stdout } = await $({
    quiet: true,
  })`dpkg-query --admindir=${join(tree, 'var/lib/dpkg')} --show --showformat ${'${Package} ${Version}\\n'}`;
  return stdout
    .split('\n')
    .filter((line) =>
      namedPackages.some(
        (name) => line.startsWith(`${name} `) || (name === 'linux-image' && /^linux-image-[0-9]/.test(line)),
      ),
    );
}
