import { afterAll, describe, expect, it } from 'vitest';
import { RealDhcpd, shown } from './real-dhcpd.js';

const real = new RealDhcpd();
afterAll(() => {
  real.remove();
});

const subnet = 'subnet 192.0.2.0 netmask 255.255.255.0 {';
const peer = `failover peer "p" {
  primary; address 192.0.2.2; port 647; peer address 192.0.2.3; peer port 647; mclt 60; split 128;
  load balance max seconds 3;
}`;

/** A configuration, whether dhcpd takes it, and all that the check says of it. */
type Case = readonly [text: string, dhcpd: 'accepts' | 'refuses', says: readonly string[]];

function cases(title: string, all: readonly Case[]): void {
  describe(title, () => {
    it.each(all)('%s', async (text, verdict, says) => {
      expect(shown(await real.problems(text))).toEqual(says);
      if (real.isThere) expect(real.test(text)).toMatchObject({ accepts: verdict === 'accepts' });
    });
  });
}

cases('syntax is shown where it is wrong', [
  ['default-lease-time 600\nmax-lease-time 700;', 'refuses', ['1:23: error: expected a semicolon after 600']],
  ['authoritative', 'refuses', ['1:14: error: expected a semicolon after authoritative']],
  [`${subnet}\n  range 192.0.2.3 }`, 'refuses', ['2:18: error: expected a semicolon after 3']],
  [
    `host a\n  hardware ethernet 2:0:0:0:0:1;\n  fixed-address 192.0.2.9;\n}\n${subnet} }`,
    'refuses',
    ['1:7: error: expected { after host a'],
  ],
  ['host a;', 'refuses', ['1:7: error: expected { after host a']],
  [
    `${subnet}\n  pool {\n    range 192.0.2.3;\n}\n`,
    'refuses',
    ['1:40: error: the block of subnet 192.0.2.0 netmask 255.255.255.0 is never closed'],
  ],
  [
    `host a {\n  hardware ethernet 2:0:0:0:0:1;\n\nhost b { }\n`,
    'refuses',
    ['1:8: error: the block of host a is never closed'],
  ],
  [`${subnet} }\n}`, 'refuses', ['2:1: error: this brace closes nothing']],
  [`${subnet} };`, 'refuses', ['1:43: error: expected a statement before this semicolon']],
  ['{ }', 'refuses', ['1:1: error: expected a declaration before this brace, such as subnet or host']],
  ['authoritative { }', 'refuses', ['1:14: error: expected a semicolon after authoritative']],
  [
    'option domain-name "home.arpa;\noption domain-search "home.arpa";',
    'refuses',
    ['1:20: error: this string has no closing quote'],
  ],
  ['# "\noption domain-name "x', 'refuses', ['2:20: error: this string has no closing quote']],
  [
    `option domain-name "${'x'.repeat(1500)}";`,
    'refuses',
    ['1:20: error: this string is longer than 1500 bytes'],
  ],
  ['option domain-name \\x;', 'refuses', ['1:20: error: expected a word, a string or a mark, found \\']],
  [
    'option domain-name “x”;',
    'refuses',
    [
      '1:20: error: expected a word, a string or a mark, found “',
      '1:22: error: expected a word, a string or a mark, found ”',
    ],
  ],
]);

cases('subnets and ranges', [
  [
    `${subnet} range 192.0.3.9 192.0.3.20; }`,
    'refuses',
    ['1:42: error: range 192.0.3.9 192.0.3.20 is not within 192.0.2.0/24'],
  ],
  [
    `${subnet} range 192.0.2.9 192.0.3.20; }`,
    'refuses',
    ['1:42: error: range 192.0.2.9 192.0.3.20 is not within 192.0.2.0/24'],
  ],
  [
    `shared-network a { ${subnet} }\n  pool { range 192.0.3.9; } }`,
    'refuses',
    ['2:10: error: range 192.0.3.9 is not within 192.0.2.0/24'],
  ],
  [`shared-network a { ${subnet} }\n  pool { range 192.0.2.9; } }`, 'accepts', []],
  [
    `${subnet} range 192.0.2.9 192.0.2.5; }`,
    'accepts',
    ['1:42: warning: the range begins with its last address: write range 192.0.2.5 192.0.2.9'],
  ],
  [
    `${subnet}\n  range 192.0.2.9 192.0.2.12;\n  pool { range 192.0.2.12; } }`,
    'refuses',
    ['3:10: error: range 192.0.2.12 overlaps range 192.0.2.9 192.0.2.12, line 2'],
  ],
  [
    `${subnet} range 192.0.2.0 192.0.2.255; }`,
    'accepts',
    [
      '1:42: warning: range 192.0.2.0 192.0.2.255 holds 192.0.2.0, the base of 192.0.2.0/24',
      '1:42: warning: range 192.0.2.0 192.0.2.255 holds 192.0.2.255, the broadcast address of 192.0.2.0/24',
    ],
  ],
  ['subnet 192.0.2.4 netmask 255.255.255.254 { range 192.0.2.4 192.0.2.5; }', 'accepts', []],
  [
    `${subnet} range 192.0.2.9 192.0.2.20;\n  option routers 192.0.2.10; }`,
    'accepts',
    [
      '2:3: warning: the router 192.0.2.10 is in the range 192.0.2.9 192.0.2.20, and could be lent to a client',
    ],
  ],
  [`${subnet} }\n${subnet} }`, 'accepts', ['2:1: error: subnet 192.0.2.0/24 is declared already, line 1']],
  [
    `${subnet} }\nsubnet 192.0.2.128 netmask 255.255.255.128 { range 192.0.2.130; }`,
    'accepts',
    ['2:1: warning: subnet 192.0.2.128/25 overlaps 192.0.2.0/24, line 1'],
  ],
  [
    'subnet 192.0.2.1 netmask 255.255.255.0 { }',
    'refuses',
    ['1:1: error: 192.0.2.1 is not the base of a network with netmask 255.255.255.0; that is 192.0.2.0'],
  ],
  [
    'subnet 192.0.2.0 netmask 255.0.255.0 { }',
    'accepts',
    ['1:1: error: netmask 255.0.255.0 is none: its ones must come before its zeros'],
  ],
  [
    'subnet 192.0.2.0 netmask 255.255.255.300 { }',
    'refuses',
    ['1:1: error: expected subnet ADDRESS netmask MASK, such as subnet 192.0.2.0 netmask 255.255.255.0'],
  ],
  ['subnet 0.0.0.0 netmask 0.0.0.0 { }', 'accepts', []],
  [
    'subnet6 2001:db8::/32 { }',
    'refuses',
    ['1:1: error: subnet6 is of DHCPv6, and this server is one for IPv4'],
  ],
]);

cases('hosts', [
  [
    `${subnet} }\nhost a { hardware ethernet 2:0:0:0:0:1; fixed-address 198.51.100.9; }`,
    'accepts',
    ['2:41: error: fixed-address 198.51.100.9 of host a is in no declared subnet: it is never given'],
  ],
  [
    `${subnet} range 192.0.2.9 192.0.2.20; }\nhost a { hardware ethernet 2:0:0:0:0:1; fixed-address 192.0.2.9; }`,
    'accepts',
    [
      '2:41: warning: fixed-address 192.0.2.9 of host a is in the range 192.0.2.9 192.0.2.20: it may be lent to somebody else',
    ],
  ],
  [`host a { fixed-address a.example.org; }`, 'accepts', []],
  ['host a { }\ngroup { host a { } }', 'refuses', ['2:9: error: host a is declared already, line 1']],
  [
    'host a { hardware ethernet 02:0:0:0:0:a1; }\nhost b { hardware ethernet 2:00:00:00:00:A1; }',
    'accepts',
    ['2:1: warning: ethernet 02:00:00:00:00:a1 is the hardware of host a already, line 1'],
  ],
  [
    `${subnet} }\nsubnet 198.51.100.0 netmask 255.255.255.0 { }
host a { hardware ethernet 2:0:0:0:0:1; fixed-address 192.0.2.9; }
host b { hardware ethernet 2:0:0:0:0:1; fixed-address 198.51.100.9; }`,
    'accepts',
    [],
  ],
  [
    `${subnet} }
host a { hardware ethernet 2:0:0:0:0:1; fixed-address 192.0.2.9; }
host b { hardware ethernet 2:0:0:0:0:2; fixed-address 192.0.2.9; }`,
    'accepts',
    ['3:41: warning: 192.0.2.9 is the address of host a already, line 2'],
  ],
]);

cases('declarations', [
  [
    `${subnet}\n  ${subnet} } }`,
    'refuses',
    [
      '2:3: error: subnet cannot be in subnet: a closing brace may be missing before it',
      '2:3: error: subnet 192.0.2.0/24 is declared already, line 1',
    ],
  ],
  [
    'host a { host b { } }',
    'refuses',
    ['1:10: error: host cannot be in host: a closing brace may be missing before it'],
  ],
  ['range 192.0.2.3;', 'refuses', ['1:1: error: range must be in subnet or pool']],
  ['pool { range 192.0.2.3; }', 'refuses', ['1:1: error: pool must be in subnet or shared-network']],
  ['fixed-address 192.0.2.3;', 'refuses', ['1:1: error: fixed-address must be in host']],
  ['group { hardware ethernet 2:0:0:0:0:1; }', 'refuses', ['1:9: error: hardware must be in host']],
  [`${subnet} pool { } }`, 'refuses', ['1:42: error: this pool has no range']],
  ['shared-network a { }', 'refuses', ['1:1: error: shared-network a has no subnet']],
  [
    `${subnet} pool { range 192.0.2.3; allow members of "x"; } }\nclass "x" { }`,
    'refuses',
    ['1:66: error: no class "x" is declared before this'],
  ],
  [`class "x" { }\n${subnet} pool { range 192.0.2.3; allow members of "x"; } }`, 'accepts', []],
  ['subclass "x" 1;', 'refuses', ['1:1: error: no class "x" is declared before this']],
  ['zone a. { primary 127.0.0.1; key k; }', 'refuses', ['1:30: error: no key k is declared before this']],
  [peer, 'refuses', ['1:1: error: no pool has failover peer "p": the server does not start']],
  [`${peer}\n${subnet} pool { failover peer "p"; range 192.0.2.3; } }`, 'accepts', []],
  [
    `${subnet} pool { failover peer "p"; range 192.0.2.3; } }`,
    'refuses',
    ['1:49: error: no failover peer "p" is declared before this'],
  ],
]);

cases('settings', [
  [
    'default-lease-time 7200;\nmax-lease-time 3600;',
    'accepts',
    ['1:1: warning: default-lease-time 7200 is above max-lease-time 3600'],
  ],
  [
    `max-lease-time 3600;\n${subnet}\n  default-lease-time 7200; }`,
    'accepts',
    ['3:3: warning: default-lease-time 7200 is above max-lease-time 3600'],
  ],
  [
    `default-lease-time 7200;\n${subnet}\n  max-lease-time 3600;\n  pool { range 192.0.2.3; } }`,
    'accepts',
    ['3:3: warning: default-lease-time 7200 is above max-lease-time 3600'],
  ],
  [
    'min-lease-time 7200; max-lease-time 3600;',
    'accepts',
    ['1:1: warning: min-lease-time 7200 is above max-lease-time 3600'],
  ],
  [
    'default-lease-time 604800;',
    'accepts',
    [
      '1:1: warning: default-lease-time 604800 is above max-lease-time 86400, the server’s own: set max-lease-time as well',
    ],
  ],
  ['default-lease-time 604800; max-lease-time infinite;', 'accepts', []],
  [`default-lease-time 600; max-lease-time 600;\n${subnet} max-lease-time 900; }`, 'accepts', []],
  [
    'lease-file-name "/tmp/dhcpd.leases";',
    'accepts',
    [
      '1:1: error: lease-file-name /tmp/dhcpd.leases is outside of the volume (/var/lib/dhcp or /var/lib/dhcpd): the leases cannot be kept',
    ],
  ],
  ['lease-file-name "/var/lib/dhcp/dhcpd.leases";', 'accepts', []],
  [
    'lease-file-name "/var/lib/dhcp/../x";',
    'accepts',
    [
      '1:1: error: lease-file-name /var/lib/dhcp/../x is outside of the volume (/var/lib/dhcp or /var/lib/dhcpd): the leases cannot be kept',
    ],
  ],
  [
    'pid-file-name "/run/dhcpd.pid";',
    'accepts',
    ['1:1: warning: pid-file-name has no effect: the image’s server runs with --no-pid'],
  ],
  [
    'omapi-port 7911;',
    'accepts',
    [
      '1:1: warning: omapi-port opens TCP port 7911 on every address of the host: whoever reaches it can ask for leases and change them',
    ],
  ],
  [
    'on commit {\n  execute("/bin/true");\n}',
    'accepts',
    ['2:3: warning: execute runs a program, and the image holds none but the server'],
  ],
  ['# execute("x")\nset a = "execute(";', 'accepts', []],
]);

const id = 'c0ffee00'.repeat(8);
const idBytes = Buffer.from(id)
  .toString('hex')
  .replace(/..(?=.)/g, '$&:');
const isContainer =
  'warning: this identifier is the ID of a container, which has another one each time it is made: write hardware and its MAC address';

cases('containers', [
  [`host a {\n  option dhcp-client-identifier "\\000${id}";\n}`, 'accepts', [`2:3: ${isContainer}`]],
  [`host a {\n  option dhcp-client-identifier 0:${idBytes};\n}`, 'accepts', [`2:3: ${isContainer}`]],
  [`host a { hardware ethernet 2:0:0:0:0:1; option dhcp-client-identifier "\\000${id}"; }`, 'accepts', []],
  ['host a { option dhcp-client-identifier "c0ffee00"; }', 'accepts', []],
  ['host a { option dhcp-client-identifier 1:2:0:0:0:0:10; }', 'accepts', []],
]);

cases('what is not known is left to the server', [
  ['ping-check maybe;', 'refuses', []],
  ['nonsense of-mine 1;', 'refuses', []],
  ['option nonsense "x";', 'refuses', []],
  ['nonsense { of-mine; }', 'refuses', []],
]);
