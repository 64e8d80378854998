import type { PackageContents } from '../package/contents.js';
import { cannot } from '../support/errors.js';
import type { LockedPackage } from './lock.js';

type Identity = Pick<LockedPackage, 'name' | 'version' | 'architecture'>;

/**
 * Whether a package file is the package that an index or a lock file says it is. The hash alone would let a lock file
 * call an old package by a new version.
 *
 * @throws ToolError when not
 */
export function checkIdentity(contents: PackageContents, record: Identity): void {
  const [found, stated] = [contents, record].map(
    ({ name, version, architecture }: Identity) => `${name} ${version} (${architecture})`,
  );
  if (found === stated) return;
  throw cannot('use', `package ${stated ?? ''}`, `the file of that hash is ${found ?? ''}`, {
    hint: 'the lock file or the archive is not honest: choose the packages again',
  });
}
