import { readFile } from 'node:fs/promises';
import type { Family } from '../definition/definition.js';
import { isCode } from '../support/atomic.js';
import { cannot, reasonOf } from '../support/errors.js';

/** What os-release(5) says of a system, unquoted. */
export type OsRelease = ReadonlyMap<string, string>;

/** @returns no fields when there is no such file. @throws ToolError when it cannot be read */
export async function readOsRelease(path = '/etc/os-release'): Promise<OsRelease> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    if (isCode(error, 'ENOENT')) return new Map();
    throw cannot('read', path, reasonOf(error), { cause: error });
  }
  const fields = text.matchAll(/^([A-Z][A-Z0-9_]*)=(["']?)(.*)\2[ \t]*$/gm);
  return new Map([...fields].map(([, name = '', , value = '']) => [name, value]));
}

/** The family whose packages a system is made of, by its own name or that of a system it is like. */
export function familyOfSystem(release: OsRelease): Family | undefined {
  const names = [release.get('ID') ?? '', ...(release.get('ID_LIKE') ?? '').split(' ')];
  if (names.some((name) => ['fedora', 'rhel', 'centos'].includes(name))) return 'fedora';
  return names.includes('debian') ? 'debian' : undefined;
}
