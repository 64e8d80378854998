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
  const names = namesOf(release);
  if (names.some((name) => ['fedora', 'rhel', 'centos'].includes(name))) return 'fedora';
  return names.includes('debian') ? 'debian' : undefined;
}

/** Systems of Fedora's family that have packages and release numbers of their own; the others take Fedora's. */
const enterprises = ['rhel', 'centos', 'ol', 'amzn'];

/** Whether Fedora's own packages are those of a system, or another distribution's of the family. */
export function isEnterprise(release: OsRelease): boolean {
  return namesOf(release).some((name) => enterprises.includes(name));
}

/** Whether a Fedora is the one that becomes the next release: it has that one's number already. */
export function isRawhide(release: OsRelease): boolean {
  const fields = ['VERSION', 'PRETTY_NAME', 'VARIANT', 'REDHAT_SUPPORT_PRODUCT_VERSION'];
  return (
    release.get('ID') === 'fedora' && fields.some((name) => /\brawhide\b/i.test(release.get(name) ?? ''))
  );
}

function namesOf(release: OsRelease): readonly string[] {
  return [release.get('ID') ?? '', ...(release.get('ID_LIKE') ?? '').split(' ')];
}
