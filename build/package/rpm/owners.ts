import type { RpmHeader } from './header.js';
import { tags } from './tags.js';

/** The numbers of the accounts that a package defines by name. */
export interface Owners {
  user(name: string): number | undefined;
  group(name: string): number | undefined;
}

/** UINT32_MAX means "no such account" to the kernel. */
const maxId = 0xfffffffe;

/**
 * The accounts of a package: `root`, what its sysusers.d files define, and what it states that it defines with
 * `Provides: user(NAME) = BASE64`, whose version is a line of such a file (rpm's docs/manual/users_and_groups.md).
 *
 * @param files texts of usr/lib/sysusers.d/*.conf in the order of their names
 */
export function packageOwners(files: readonly string[], header: RpmHeader): Owners {
  const users = new Map([['root', 0]]);
  const groups = new Map([['root', 0]]);
  /** Groups that users bring along, which a line of their own overrides (sysusers.d(5)). */
  const implied = new Map<string, number>();
  const lines = [...files.flatMap((text) => text.split('\n')), ...providedLines(header)];
  for (const line of lines) {
    const [type, name = '', id = ''] = words(line);
    // A line that comes first wins, as with systemd-sysusers(8).
    if (type === 'g') define(groups, name, id);
    if (type === 'u' || type === 'u!') {
      const [uid = '', gid] = id.split(':');
      define(users, name, uid);
      // Without a group, it is one of the same name and number; with a name, that group.
      if (gid === undefined) define(implied, name, uid);
    }
  }
  return {
    user: (name) => users.get(name),
    group: (name) => groups.get(name) ?? implied.get(name),
  };
}

function define(accounts: Map<string, number>, name: string, id: string): void {
  if (!/^\d{1,10}$/.test(id) || Number(id) > maxId || accounts.has(name)) return;
  accounts.set(name, Number(id));
}

function providedLines(header: RpmHeader): readonly string[] {
  const names = header.texts(tags.provideName) ?? [];
  const versions = header.texts(tags.provideVersion) ?? [];
  return names.flatMap((name, index) => {
    const account = /^(user|group)\((.+)\)$/.exec(name)?.[2];
    const version = versions[index] ?? '';
    if (account === undefined || !/^[A-Za-z0-9+/]+$/.test(version)) return [];
    // The line is filled up with NUL, because a version cannot hold the padding of base64.
    const [line = ''] = Buffer.from(version, 'base64')
      .toString()
      .split(/[\n\0]/);
    return words(line)[1] === account ? [line] : [];
  });
}

/** The fields of a line, quotes taken off; none of a comment. */
function words(line: string): readonly string[] {
  if (/^\s*(#|$)/.test(line)) return [];
  return [...line.matchAll(/"([^"]*)"|'([^']*)'|(\S+)/g)].map(
    ([, double, single, plain]) => double ?? single ?? plain ?? '',
  );
}
