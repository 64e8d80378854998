import { mkdir, mkdtemp, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Closure } from './program.js';
import type { Command } from './process.js';

/** Unpacks every package, then packs the image's files: as little as any way through the distribution's tools does. */
const script = `
set -eu
root=$1 list=$2 layer=$3
shift 3
for package do dpkg-deb --extract "$package" "$root"; done
tar --create --no-recursion --directory="$root" --files-from="$list" | gzip -6 >"$layer"
`;

/** The command of one floor measurement, with an empty directory to unpack into, which the caller removes. */
export async function floorCommand(
  cwd: string,
  closure: Closure,
): Promise<Command & { readonly directory: string }> {
  const directory = await mkdtemp(join(cwd, 'floor-'));
  const root = join(directory, 'root');
  // A merged /usr, which is where the plan's paths point; dpkg-deb keeps links to directories.
  for (const name of ['bin', 'lib', 'lib64', 'sbin']) {
    await mkdir(join(root, 'usr', name), { recursive: true });
    await symlink(`usr/${name}`, join(root, name));
  }
  const list = join(directory, 'list');
  await writeFile(list, closure.paths.map((path) => `${path}\n`).join(''));
  const layer = join(directory, 'layer.tar.gz');
  return {
    argv: ['sh', '-c', script, 'floor', root, list, layer, ...closure.packages],
    cwd: directory,
    directory,
  };
}
