import type { PackageTree } from './tree.js';
import { cannot } from '../support/errors.js';
import { nearest } from '../support/nearest.js';

/** Where distributions put programs, in the order of hier(7); merged directories are the same place. */
const programDirectories = ['usr/sbin', 'usr/bin', 'usr/libexec', 'usr/local/sbin', 'usr/local/bin'];

/**
 * Finds a program by its file name, wherever the package puts it.
 *
 * @param packageName for the error
 * @returns absolute path
 * @throws ToolError naming the nearest program there is
 */
export function locateProgram(tree: PackageTree, packageName: string, name: string): string {
  const places = programDirectories.flatMap((directory) => {
    const found = tree.lookup(`${directory}/${name}`);
    if (found === undefined || (found.entry.mode & 0o111) === 0) return [];
    return [{ path: `/${directory}/${name}`, merged: found.links.some(({ path }) => path === directory) }];
  });
  // The directory itself rather than a link to it: the image then needs no such link.
  const place = places.find(({ merged }) => !merged) ?? places[0];
  if (place !== undefined) return place.path;
  const close = nearest(
    name,
    programDirectories.flatMap((directory) => tree.list(directory)),
  );
  throw cannot('find', `program ${name}`, `package ${packageName} has no program of that name`, {
    hint: close === undefined ? 'correct roots or packages in the definition' : `did you mean ${close}?`,
  });
}
