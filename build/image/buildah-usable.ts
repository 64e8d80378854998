import { hintOf, reasonOf } from '../support/errors.js';
import { buildahEnvironment } from './buildah-storage.js';
import type { BuildahHost } from './buildah-storage.js';

/** Whether buildah can build here; when not, one line why and one line what helps. */
export type BuildahUsable =
  | { readonly usable: true; readonly version: string }
  | { readonly usable: false; readonly reason: string; readonly hint: string };

/** The oldest version that the tests have built with: Debian 12's. */
const oldest = [1, 28] as const;

/** Without root, the user's own ID and at least so many more must exist inside the user namespace. */
const neededIds = 1000;

const patience = 30_000;

/** Asks buildah itself: its version, whether its storage opens, and whether layers may have other owners. */
export async function buildahUsable({ exec, environment }: BuildahHost): Promise<BuildahUsable> {
  const run = async (...argv: readonly string[]): Promise<string> => {
    const command = ['buildah', ...argv] as const;
    return (await exec({ argv: command, environment: buildahEnvironment(environment), timeout: patience }))
      .stdout;
  };
  const oci = 'choose --engine oci, which needs nothing but Node';
  try {
    const answer = await run('--version');
    const found = /version (\d+)\.(\d+)(?:\.\d+)?/.exec(answer);
    const [major, minor] = [Number(found?.[1]), Number(found?.[2])];
    if (!(major > oldest[0] || (major === oldest[0] && minor >= oldest[1]))) {
      const reason = `buildah ${oldest.join('.')} or newer is needed, and it says ${JSON.stringify(answer.trim())}`;
      return { usable: false, reason, hint: `install a newer buildah, or ${oci}` };
    }
    await run('info');
    if (process.getuid?.() !== 0) {
      const ids = countIds(await run('unshare', 'cat', '/proc/self/uid_map', '/proc/self/gid_map'));
      if (ids < neededIds) {
        const reason = 'the user has no subordinate user and group IDs';
        return { usable: false, reason, hint: `give ranges in /etc/subuid and /etc/subgid, or ${oci}` };
      }
    }
    return { usable: true, version: found?.[0].replace('version ', '') ?? '' };
  } catch (error) {
    return { usable: false, reason: reasonOf(error), hint: hintOf(error) ?? oci };
  }
}

/** IDs in the smaller of the two maps of user_namespaces(7): lines `inside outside count`, user IDs first. */
function countIds(maps: string): number {
  const lines = maps
    .split('\n')
    .filter((line) => line.trim() !== '')
    .map((line) => line.trim().split(/\s+/).map(Number));
  // Each map begins with ID 0.
  const groups = lines.findLastIndex(([inside]) => inside === 0);
  const total = (part: readonly (readonly number[])[]): number =>
    part.reduce((sum, [, , count = 0]) => sum + count, 0);
  return Math.min(total(lines.slice(0, groups)), total(lines.slice(groups)));
}
