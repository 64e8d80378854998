import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { checkConfiguration } from '../../build/dhcpd-conf/check.js';

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'dhcpd-conf-'));
});
afterEach(() => {
  rmSync(directory, { recursive: true });
});

/** Writes files into the directory, and checks it. */
async function check(files: Readonly<Record<string, string>>): Promise<{
  readonly files: readonly string[];
  readonly problems: readonly string[];
}> {
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(directory, name)), { recursive: true });
    writeFileSync(join(directory, name), text);
  }
  const report = await checkConfiguration(directory, []);
  return {
    files: report.files.map((file) => relative(directory, file)),
    problems: report.problems.map(({ place: { file, line, column }, text }) =>
      `${relative(directory, file)}:${String(line)}:${String(column)}: ${text}`.replaceAll(directory, 'DIR'),
    ),
  };
}

describe('include', () => {
  it('reads files by their path in the container, in the place where it stands', async () => {
    expect(
      await check({
        'dhcpd.conf': `include "/etc/dhcp/classes.conf";
subnet 192.0.2.0 netmask 255.255.255.0 { include "/etc/dhcp/nets/../nets/a.conf"; }`,
        'classes.conf': 'class "x" { }',
        'nets/a.conf': 'pool { allow members of "x"; range 192.0.2.3; }\nrange 192.0.9.9;',
      }),
    ).toEqual({
      files: ['dhcpd.conf', 'classes.conf', 'nets/a.conf'],
      problems: ['nets/a.conf:2:1: range 192.0.9.9 is not within 192.0.2.0/24'],
    });
  });

  it('is followed as often as it stands there', async () => {
    const { files, problems } = await check({
      'dhcpd.conf': 'include "/etc/dhcp/a"; include "/etc/dhcp/a";',
      a: 'host a { }',
    });
    expect(files).toEqual(['dhcpd.conf', 'a']);
    expect(problems).toEqual(['a:1:1: host a is declared already, line 1']);
  });

  it('is an error where it leads out of the directory, into a circle or to nothing', async () => {
    symlinkSync('/etc/hostname', join(directory, 'link'));
    symlinkSync('inside', join(directory, 'other'));
    expect(
      await check({
        'dhcpd.conf': `include "/etc/dhcpd.d/a";
include "/etc/dhcp/../passwd";
include "relative";
include "/etc/dhcp/link";
include "/etc/dhcp/missing";
include "/etc/dhcp/circle";
include "/etc/dhcp/other";
include /etc/dhcp/other;`,
        circle: '\n  include "/etc/dhcp/dhcpd.conf";',
        inside: 'authoritative;',
      }),
    ).toEqual({
      files: ['dhcpd.conf', 'circle', 'other'],
      problems: [
        'dhcpd.conf:1:1: include of /etc/dhcpd.d/a, which the container does not see: it sees /etc/dhcp alone',
        'dhcpd.conf:2:1: include of /etc/dhcp/../passwd, which the container does not see: it sees /etc/dhcp alone',
        'dhcpd.conf:3:1: include of relative, which the container does not see: it sees /etc/dhcp alone',
        'dhcpd.conf:4:1: /etc/dhcp/link is a link to /etc/hostname, which the container does not see: it sees /etc/dhcp alone',
        'dhcpd.conf:5:1: cannot read /etc/dhcp/missing (here DIR/missing): no such file or directory',
        'dhcpd.conf:8:1: expected include and the path of a file in quotes',
        'circle:2:3: /etc/dhcp/dhcpd.conf includes itself: the server would never end reading',
      ],
    });
  });

  it('shows mistakes in the included file, which is complete in itself', async () => {
    expect(
      await check({
        'dhcpd.conf': 'subnet 192.0.2.0 netmask 255.255.255.0 {\n  include "/etc/dhcp/a"; }',
        a: 'range 192.0.2.3;\n}',
      }),
    ).toEqual({ files: ['dhcpd.conf', 'a'], problems: ['a:2:1: this brace closes nothing'] });
  });

  it('is not needed: a directory without dhcpd.conf is no configuration', async () => {
    await expect(check({})).rejects.toMatchObject({
      message: expect.stringMatching(/^cannot read .*dhcpd\.conf: no such file or directory$/) as unknown,
      hint: 'name the directory that holds dhcpd.conf with --config',
      exitCode: 2,
    });
  });
});

describe('a hostile file', () => {
  it.each([
    ['braces', 'a {'.repeat(100_000), /at most 60 blocks/],
    ['includes', 'include "/etc/dhcp/dhcpd.conf"; '.repeat(1000), /includes itself/],
    ['mistakes', '@'.repeat(200_000), /found @/],
    ['hosts', 'host a { fixed-address 192.0.2.1; } '.repeat(30_000), /is declared already/],
    ['bytes', Buffer.from([0xff, 0xfe, 0x00, 0x80]).toString('latin1'), /found/],
  ])('of %s is no trouble', async (_, text, says) => {
    expect((await check({ 'dhcpd.conf': text })).problems.join('\n')).toMatch(says);
  });

  it('of files that include one another again and again comes to an end', async () => {
    const level = (number: number): string => `include "/etc/dhcp/${String(number + 1)}";\n`.repeat(2);
    const files = Object.fromEntries(
      Array.from({ length: 40 }, (_, number): [string, string] => [String(number), level(number)]),
    );
    const { problems } = await check({ ...files, 'dhcpd.conf': 'include "/etc/dhcp/0";', '40': '' });
    expect(problems).toEqual([expect.stringMatching(/^\d+:\d:1: expected at most 5000 includes/)]);
  });
});

describe('dhcpd.conf', () => {
  it('is an error where it is a link out of the directory, and none where it is one within', async () => {
    symlinkSync('real.conf', join(directory, 'dhcpd.conf'));
    expect((await check({ 'real.conf': 'authoritative;' })).problems).toEqual([]);
    rmSync(join(directory, 'dhcpd.conf'));
    symlinkSync('/etc/hostname', join(directory, 'dhcpd.conf'));
    const { problems } = await check({});
    expect(problems[0]).toBe(
      'dhcpd.conf:1:1: dhcpd.conf is a link to /etc/hostname, which the container does not see: it sees /etc/dhcp alone',
    );
  });

  it('is text as the server reads it', async () => {
    expect((await check({ 'dhcpd.conf': '\uFEFFauthoritative;\r\nrange 1;\r\n' })).problems).toEqual([
      'dhcpd.conf:1:1: a byte order mark stands before the text: save the file as UTF-8 without it',
    ]);
    for (const text of ['authoritative;', '\uFEFFauthoritative;']) {
      writeFileSync(join(directory, 'dhcpd.conf'), Buffer.from(text, 'utf16le'));
      expect((await check({})).problems).toEqual([
        'dhcpd.conf:1:1: this is UTF-16, which the server cannot read: save the file as UTF-8',
      ]);
    }
    expect((await check({ 'dhcpd.conf': 'authoritative;\r\nddns-update-style none;\r\n' })).problems).toEqual(
      [],
    );
  });
});
