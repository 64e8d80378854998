import { describe, expect, it } from 'vitest';

import { withAccount } from '../../build/image/on-base/accounts.js';

const root = { passwd: 'root:x:0:0:Super User:/root:/bin/bash\n', group: 'root:x:0:\nmail:x:12:\n' };
const user = { name: 'dhcpd', id: 177 };

describe('withAccount', () => {
  it('adds an account that there is not', () => {
    expect(withAccount(root, user)).toEqual({
      passwd: `${root.passwd}dhcpd:x:177:177::/:/sbin/nologin\n`,
      group: `${root.group}dhcpd:x:177:\n`,
      oldUser: undefined,
      oldGroup: undefined,
    });
    // A last line need not end.
    expect(withAccount({ passwd: root.passwd.trimEnd(), group: '' }, user)).toMatchObject({
      passwd: `${root.passwd}dhcpd:x:177:177::/:/sbin/nologin\n`,
      group: 'dhcpd:x:177:\n',
    });
  });

  it('leaves one that has its number', () => {
    const passwd = `${root.passwd}dhcpd:!:177:177:DHCP server:/:/sbin/nologin\n`;
    const group = `${root.group}dhcpd:x:177:somebody\n`;
    expect(withAccount({ passwd, group }, user)).toBeUndefined();
    expect(withAccount({ passwd, group: root.group }, user)).toMatchObject({
      passwd,
      group: expect.any(String) as unknown,
    });
  });

  it('gives its number to one that has another, and keeps the rest', () => {
    const accounts = {
      passwd: `dhcpd:!:990:12:DHCP server:/var/lib/dhcpd:/sbin/nologin\n${root.passwd}`,
      group: `${root.group}dhcpd:!:989:somebody\n`,
    };
    expect(withAccount(accounts, user)).toEqual({
      passwd: `dhcpd:!:177:177:DHCP server:/var/lib/dhcpd:/sbin/nologin\n${root.passwd}`,
      group: `${root.group}dhcpd:!:177:somebody\n`,
      oldUser: 990,
      oldGroup: 989,
    });
  });

  it.each([
    { ...root, passwd: `${root.passwd}ntp:x:177:5::/:\n` },
    { ...root, group: `${root.group}ntp:x:177:\n` },
  ])('refuses the number of another account', (accounts) => {
    expect(() => withAccount(accounts, user)).toThrow(
      /^cannot make account dhcpd: the (user|group) ntp of the base has the number 177$/,
    );
  });

  it.each(['::::::', 'dhcpd', 'dhcpd:x:0:0::/:', 'dhcpd:x:-1:1e3::/:', '\t:x:x'])(
    'gets over the line %j',
    (line) => {
      const change = withAccount({ passwd: `${line}\n`, group: `${line}\n` }, user);
      expect(change).toMatchObject({ oldUser: undefined, oldGroup: undefined });
      expect(change?.passwd).toMatch(/^dhcpd:[^:]*:177:177:/m);
      expect(change?.group).toMatch(/^dhcpd:[^:]*:177:/m);
    },
  );
});
