import { cannot } from '../../support/errors.js';

/** Texts of /etc/passwd and /etc/group: passwd(5), group(5). */
export interface Accounts {
  readonly passwd: string;
  readonly group: string;
}

export interface AccountChange extends Accounts {
  /** Numbers that the account had, where they were others: files may belong to them. */
  readonly oldUser: number | undefined;
  readonly oldGroup: number | undefined;
}

/**
 * Gives the service's account its number, as user and as group.
 *
 * @returns undefined when it has them already
 * @throws ToolError when another account has the number
 */
export function withAccount(
  { passwd, group }: Accounts,
  { name, id }: { readonly name: string; readonly id: number },
): AccountChange | undefined {
  const users = readLines(passwd);
  const groups = readLines(group);
  for (const [kind, lines] of [
    ['user', users],
    ['group', groups],
  ] as const) {
    const other = lines.find(([found, , number]) => Number(number) === id && found !== name);
    if (other !== undefined) {
      throw cannot(
        'make',
        `account ${name}`,
        `the ${kind} ${other[0] ?? ''} of the base has the number ${id}`,
        {
          hint: 'choose another id under user in the definition',
        },
      );
    }
  }
  const user = users.find(([found]) => found === name);
  const own = groups.find(([found]) => found === name);
  const numbers = [user?.[2], user?.[3], own?.[2]];
  if (numbers.every((number) => number === String(id))) return undefined;
  const [, userPassword = 'x', , , ...about] = user ?? [];
  const [, groupPassword = 'x', , members = ''] = own ?? [];
  const rest = about.length === 3 ? about : ['', '/', '/sbin/nologin'];
  return {
    passwd: replaceOrAdd(users, user, [name, userPassword, `${id}`, `${id}`, ...rest]),
    group: replaceOrAdd(groups, own, [name, groupPassword, `${id}`, members]),
    oldUser: otherNumber(user?.[2], id),
    oldGroup: otherNumber(own?.[2], id),
  };
}

type Line = readonly string[];

function readLines(text: string): readonly Line[] {
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => line.split(':'));
}

function replaceOrAdd(lines: readonly Line[], old: Line | undefined, line: Line): string {
  const all = old === undefined ? [...lines, line] : lines.map((each) => (each === old ? line : each));
  return all.map((each) => `${each.join(':')}\n`).join('');
}

function otherNumber(text: string | undefined, id: number): number | undefined {
  // A line that is none may hold anything; root's files are never the service's.
  const number = /^\d{1,10}$/.test(text ?? '') ? Number(text) : 0;
  return number === 0 || number === id ? undefined : number;
}
