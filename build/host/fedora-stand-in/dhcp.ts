import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import type { DebianPackage } from './debian.js';
import type { Files } from './libraries.js';
import type { PackagedFile, PackageSpec } from './spec.js';

/** The packages of dhcp as Fedora cuts them. */

const account = 'dhcpd';
const sysusers = ['g dhcpd 177', 'u dhcpd 177 "DHCP server" / /sbin/nologin'];

/** @param own version and release, with the epoch */
export function dhcpServer(input: {
  readonly own: string;
  readonly program: PackagedFile;
  /** Debian's isc-dhcp-server, for its documentation. */
  readonly server: DebianPackage;
  readonly schema: string;
  readonly programs: Files;
}): PackageSpec {
  const { own, server, programs } = input;
  const omshell = programs['/usr/bin/omshell'];
  const owned = { owner: account };
  return {
    name: 'dhcp-server',
    summary: 'Provides the ISC DHCP server',
    preamble: [
      `Requires: dhcp-common = ${own}`,
      'Requires(post): coreutils grep sed',
      ...['post', 'preun', 'postun'].map((when) => `Requires(${when}): systemd`),
      'Requires(pre): grep',
      'Recommends: dhcp-server-extras',
      'Obsoletes: dhcp < 12:4.4.0',
      'Provides: deprecated()',
      `Provides: user(${account}) = ${encoded(sysusers[1] ?? '')}`,
      `Provides: user(${account})`,
      `Provides: group(${account}) = ${encoded(sysusers[0] ?? '')}`,
      `Provides: group(${account})`,
      `Requires: user(${account}) group(${account})`,
    ],
    scriptlets: {
      '%pre': [
        "grep -qs '^dhcpd:' /etc/group || echo 'dhcpd:x:177:' >>/etc/group",
        "grep -qs '^dhcpd:' /etc/passwd || echo 'dhcpd:x:177:177:DHCP server:/:/sbin/nologin' >>/etc/passwd",
        'exit 0',
      ].join('\n'),
      '%post': updateHelper('$1 -eq 1', 'install-system-units'),
      '%preun': updateHelper('$1 -eq 0', 'remove-system-units'),
      '%postun': updateHelper('$1 -ge 1', 'mark-restart-system-units'),
    },
    files: {
      '/usr/bin/dhcpd': input.program,
      ...(omshell === undefined ? {} : { '/usr/bin/omshell': omshell }),
      '/etc/dhcp': { kind: 'directory', mode: 0o750 },
      '/etc/dhcp/dhcpd.conf': config('# DHCP Server Configuration file.\n'),
      '/etc/dhcp/dhcpd6.conf': config('# DHCPv6 Server Configuration file.\n'),
      '/etc/sysconfig/dhcpd': config('# Arguments belong in the unit now.\n'),
      '/etc/openldap/schema': { kind: 'directory' },
      '/etc/openldap/schema/dhcp.schema': config(input.schema),
      '/usr/lib/systemd/system/dhcpd.service': { kind: 'text', text: unit('') },
      '/usr/lib/systemd/system/dhcpd6.service': { kind: 'text', text: unit('6') },
      '/usr/lib/sysusers.d/dhcp.conf': { kind: 'text', text: `${sysusers.join('\n')}\n` },
      '/usr/lib/tmpfiles.d/dhcp.conf': { kind: 'text', text: 'd /var/lib/dhcpd 0755 dhcpd dhcpd - -\n' },
      '/var/lib/dhcpd': { kind: 'directory', ...owned },
      '/var/lib/dhcpd/dhcpd.leases': { ...config(''), ...owned },
      '/var/lib/dhcpd/dhcpd6.leases': { ...config(''), ...owned },
      // What dhcpd leaves of the lease file before the last time it wrote it anew.
      '/var/lib/dhcpd/dhcpd.leases~': { kind: 'text', text: '', flag: '%ghost', ...owned },
      ...manuals(server, 'man5/dhcpd.conf.5', 'man5/dhcpd.leases.5', 'man8/dhcpd.8'),
      '/usr/share/doc/dhcp-server': { kind: 'directory' },
      '/usr/share/doc/dhcp-server/dhcpd.conf.example': {
        kind: 'text',
        text: '# An example.\n',
        flag: '%doc',
      },
    },
  };
}

/** What several packages of dhcp share: documentation and licence. */
export function dhcpCommon(server: DebianPackage): PackageSpec {
  return {
    name: 'dhcp-common',
    noarch: true,
    summary: 'Common files used by ISC dhcp client, server and relay agent',
    files: {
      '/usr/share/licenses/dhcp-common': { kind: 'directory' },
      '/usr/share/licenses/dhcp-common/LICENSE': {
        kind: 'copy',
        from: join(server.root, 'usr/share/doc', server.name, 'copyright'),
        flag: '%license',
      },
      '/usr/share/doc/dhcp-common': { kind: 'directory' },
      '/usr/share/doc/dhcp-common/README': { kind: 'text', text: 'Common files.\n', flag: '%doc' },
    },
  };
}

export function dhcpRelay(own: string, programs: Files): PackageSpec {
  const program = programs['/usr/bin/dhcrelay'];
  if (program === undefined) throw new Error('isc-dhcp-relay has no dhcrelay');
  return {
    name: 'dhcp-relay',
    summary: 'Provides the ISC DHCP relay agent',
    preamble: [`Requires: dhcp-common = ${own}`],
    files: { '/usr/bin/dhcrelay': program },
  };
}

/** The schema for LDAP among the documentation of Debian's package. */
export async function readSchema(ldap: DebianPackage): Promise<string> {
  const path = join(ldap.root, 'usr/share/doc', ldap.name, 'dhcp.schema.gz');
  return gunzipSync(await readFile(path)).toString('utf8');
}

function manuals(server: DebianPackage, ...names: readonly string[]): Files {
  return Object.fromEntries(
    names.map((name) => [
      `/usr/share/man/${name}.gz`,
      { kind: 'copy', from: join(server.root, 'usr/share/man', `${name}.gz`), flag: '%doc' },
    ]),
  );
}

function config(text: string): PackagedFile {
  return { kind: 'text', text, flag: '%config(noreplace)' };
}

function unit(family: '' | '6'): string {
  return [
    '[Unit]',
    `Description=DHCPv${family === '' ? '4' : '6'} Server Daemon`,
    'Wants=network-online.target',
    'After=network-online.target',
    '',
    '[Service]',
    'Type=notify',
    `ExecStart=/usr/bin/dhcpd -f ${family === '' ? '' : '-6 '}-cf /etc/dhcp/dhcpd${family}.conf -user dhcpd -group dhcpd --no-pid`,
    '',
    '[Install]',
    'WantedBy=multi-user.target',
    '',
  ].join('\n');
}

function updateHelper(condition: string, verb: string): string {
  const helper = '/usr/lib/systemd/systemd-update-helper';
  return [
    `if [ ${condition} ] && [ -x ${helper} ]; then`,
    `  ${helper} ${verb} dhcpd.service dhcpd6.service || :`,
    'fi',
    'exit 0',
  ].join('\n');
}

/**
 * A line of sysusers.d as the version of `user(NAME)`, which rpm reads to make the account (rpm-sysusers(7)): base64,
 * filled up with NULs because a version cannot hold the `=` that would do it.
 */
function encoded(line: string): string {
  const bytes = Buffer.from(line);
  return Buffer.concat([bytes, Buffer.alloc((3 - (bytes.length % 3)) % 3)]).toString('base64');
}
