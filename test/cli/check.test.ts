import { chmodSync, mkdirSync } from 'node:fs';
import { networkInterfaces } from 'node:os';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { errorLines, Place } from '../support/cli.js';

const good = `# A network
subnet 192.0.2.0 netmask 255.255.255.0 {
  range 192.0.2.100 192.0.2.199;
}
host printer { hardware ethernet 2:0:0:0:0:10; fixed-address 192.0.2.10; }
`;
const bad = `subnet 192.0.2.0 netmask 255.255.255.0 {
  range 192.0.3.100 192.0.3.199;
  omapi-port 7911;
}
include "/etc/dhcp/more";
`;

describe('check', () => {
  let place: Place;
  beforeAll(() => {
    place = new Place();
    for (const name of ['good', 'bad', 'broken', 'empty']) mkdirSync(place.path(name));
    place.write('good/dhcpd.conf', good);
    place.write('bad/dhcpd.conf', bad);
    place.write('bad/more', 'host a { fixed-address 192.0.9.9; }\n');
    place.write('broken/dhcpd.conf', 'authoritative\n\u001b[2J');
  });
  afterAll(() => {
    place.remove();
  });

  it('prints what a good configuration holds', async () => {
    expect(await place.run(['check', '--config', 'good'])).toEqual({
      code: 0,
      signal: null,
      stdout: 'good/dhcpd.conf: 1 subnet, 100 addresses to lend, 1 host; 0 errors, 0 warnings\n',
      stderr: 'no interface was checked: name those to serve with --interface\n',
    });
  });

  it('prints the problems, each with its place, and ends with exit code 1', async () => {
    expect(await place.run(['check', '--config', 'bad', '--interface', 'eth0=192.0.2.1/24'])).toEqual({
      code: 1,
      signal: null,
      stdout: [
        'bad/dhcpd.conf:2:3: error: range 192.0.3.100 192.0.3.199 is not within 192.0.2.0/24',
        'bad/dhcpd.conf:3:3: warning: omapi-port opens TCP port 7911 on every address of the host: whoever reaches it can ask for leases and change them',
        'bad/more:1:10: error: fixed-address 192.0.9.9 of host a is in no declared subnet: it is never given',
        'eth0 serves 192.0.2.0/24',
        'bad/dhcpd.conf: 1 subnet, 0 addresses to lend, 1 host; 2 errors, 1 warning',
        '',
      ].join('\n'),
      stderr: '',
    });
  });

  it('prints no control characters of the configuration', async () => {
    const { code, stdout } = await place.run(['check', '-q', '--config', 'broken']);
    expect([code, stdout]).toEqual([
      1,
      [
        'broken/dhcpd.conf:2:1: error: expected a word, a string or a mark, found ?',
        'broken/dhcpd.conf:2:2: error: expected a word, a string or a mark, found [',
        'broken/dhcpd.conf:2:5: error: expected a semicolon after 2J',
        'broken/dhcpd.conf: 1 file; 3 errors, 0 warnings',
        '',
      ].join('\n'),
    ]);
  });

  it('checks several interfaces', async () => {
    const args = ['check', '--config', 'good', '--interface', 'eth0=192.0.2.1/24'];
    expect(await place.ok(args)).toMatch(/^eth0 serves 192\.0\.2\.0\/24$/m);
    const { code, stdout } = await place.run([...args, '--interface', 'eth1=203.0.113.1/24']);
    expect(code).toBe(1);
    expect(stdout).toMatch(
      /^good\/dhcpd\.conf:1:1: error: no subnet is declared for interface eth1, which has 203\.0\.113\.1\/24$/m,
    );
  });

  it('takes the addresses of an interface of this host', async () => {
    const [name, cidr] = Object.entries(networkInterfaces())
      .flatMap(([key, all = []]) => all.map(({ family, cidr: text }) => [key, family, text] as const))
      .flatMap(([key, family, text]) => (family === 'IPv4' && text !== null ? [[key, text] as const] : []))
      .at(0) ?? ['lo', '127.0.0.1/8'];
    const { stdout } = await place.run(['check', '--config', 'good', '--interface', name, '--json']);
    expect(JSON.parse(stdout)).toMatchObject({
      interfaces: [{ name, addresses: expect.arrayContaining([cidr]) as unknown }],
    });
  });

  it('prints one JSON document in which every key is there', async () => {
    const { code, stdout } = await place.run([
      ...['check', '--json', '--config', 'bad', '--interface', 'eth0=192.0.2.1/24'],
      ...['--interface', 'eth1=203.0.113.1/24'],
    ]);
    expect(code).toBe(1);
    const file = place.path('bad/dhcpd.conf');
    const problem = { severity: 'error', file, line: 1, column: 1, text: expect.any(String) as unknown };
    expect(JSON.parse(stdout)).toEqual({
      files: [file, place.path('bad/more')],
      subnets: ['192.0.2.0/24'],
      ranges: [],
      hosts: [{ name: 'a', hardware: null, addresses: ['192.0.9.9'] }],
      interfaces: [
        { name: 'eth0', addresses: ['192.0.2.1/24'], subnet: '192.0.2.0/24' },
        { name: 'eth1', addresses: ['203.0.113.1/24'], subnet: null },
      ],
      errors: 3,
      warnings: 1,
      problems: [
        problem,
        { ...problem, line: 2, column: 3 },
        { ...problem, severity: 'warning', line: 3, column: 3 },
        { ...problem, file: place.path('bad/more'), column: 10 },
      ],
    });
    const broken = await place.run(['check', '--json', '--config', 'broken']);
    expect(JSON.parse(broken.stdout)).toMatchObject({
      files: [place.path('broken/dhcpd.conf')],
      subnets: null,
      ranges: null,
      hosts: null,
      interfaces: [],
      errors: 3,
    });
    expect(JSON.parse((await place.run(['check', '--json', '--config', 'good'])).stdout)).toMatchObject({
      ranges: [{ first: '192.0.2.100', last: '192.0.2.199' }],
      hosts: [{ name: 'printer', hardware: 'ethernet 02:00:00:00:00:10', addresses: ['192.0.2.10'] }],
      problems: [],
    });
  });

  it.each([
    [
      ['--config', 'nothing'],
      /nothing\/dhcpd\.conf: no such file or directory; name the directory that holds/,
    ],
    [['--config', 'empty'], /empty\/dhcpd\.conf: no such file or directory; name the directory that holds/],
    [['--config', 'good/dhcpd.conf'], /a part of the path is not a directory; name the directory that holds/],
    [
      ['--config', 'good', '--interface', 'none0'],
      /interface none0: this host has no such interface .*none0=192/,
    ],
    [
      ['--config', 'good', '--interface', 'eth0=192.0.2.1'],
      /192\.0\.2\.1 is no address with its length; write eth0=/,
    ],
    [['--config', 'good', '--interface', 'eth0='], /is no address with its length/],
    [['--config', 'good', '--interface', '=192.0.2.1/24'], /it is no name of an interface; write NAME/],
    [['--config', 'good', '--interface', '../x'], /it is no name of an interface; write NAME/],
    [
      ['--config', 'good', 'more'],
      /cannot read the command line: too many arguments.*npx dhcpd-scratch check --help/,
    ],
  ])('says in one line what is wrong with the command line: %j', async (args, message) => {
    const outcome = await place.run(['check', ...args]);
    expect(outcome.code).toBe(2);
    const lines = errorLines(outcome);
    expect(lines).toHaveLength(1);
    expect(lines[0]).toMatch(message);
  });

  it.skipIf(process.getuid?.() !== 0)('says when it may not read the file', async () => {
    mkdirSync(place.path('private'));
    place.write('private/dhcpd.conf', good);
    chmodSync(place.path('private'), 0o700);
    chmodSync(place.directory, 0o755);
    const outcome = await place.run(['check', '--config', place.path('private')], {
      under: ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups'],
    });
    expect(outcome.code).toBe(2);
    expect(errorLines(outcome)).toEqual([
      `error: cannot read ${place.path('private/dhcpd.conf')}: permission denied; let others read the directory and its files: the server is not root either`,
    ]);
  });
});
