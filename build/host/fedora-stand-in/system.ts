import type { PackagedFile, PackageSpec, SourceSpec } from './spec.js';
import type { StandInArchitecture } from './description.js';
import type { Files } from './libraries.js';

/** The packages of a Fedora system that have nothing of Debian in them: directories, accounts, names. */

/** What every source has that nothing is special about. */
export const usual = { license: 'MIT', url: 'https://www.example.org/', payload: 'w1.zstdio' } as const;

export function systemSources(architecture: StandInArchitecture, release: number): readonly SourceSpec[] {
  const dist = `fc${release}`;
  const noarch = { ...usual, target: 'noarch' };
  return [
    {
      ...usual,
      name: 'filesystem',
      version: '3.18',
      release: `58.${dist}`,
      target: architecture,
      packages: [filesystem],
    },
    { ...noarch, name: 'setup', version: '2.15.0', release: `30.${dist}`, packages: [setup] },
    {
      ...noarch,
      name: 'fedora-release',
      version: String(release),
      release: '26',
      packages: identity(release),
    },
    {
      ...noarch,
      name: 'crypto-policies',
      version: '20260101',
      release: `1.${dist}`,
      packages: [cryptoPolicies],
    },
  ];
}

const text = (
  content: string,
  more: { readonly mode?: number; readonly flag?: string } = {},
): PackagedFile => ({
  kind: 'text',
  text: content,
  ...more,
});
const link = (target: string): PackagedFile => ({ kind: 'link', target });

/** The directories and the merges of `/usr` (Fedora 17) and of `sbin` (Fedora 42). */
const filesystem: PackageSpec = {
  name: 'filesystem',
  summary: 'The basic directory layout',
  preamble: [
    'Requires(pre): setup',
    'Provides: basesystem',
    'Provides: filesystem(merged-sbin)',
    'Provides: filesystem(unmerged-sbin-symlinks)',
  ],
  files: {
    ...directories(
      ...[
        '/boot',
        '/dev',
        '/etc',
        '/etc/pki',
        '/etc/profile.d',
        '/home',
        '/media',
        '/mnt',
        '/opt',
        '/run',
        '/srv',
      ],
      ...['/usr', '/usr/bin', '/usr/include', '/usr/lib', '/usr/lib/.build-id', '/usr/lib/systemd'],
      ...[
        '/usr/lib/sysusers.d',
        '/usr/lib/tmpfiles.d',
        '/usr/lib64',
        '/usr/libexec',
        '/usr/local',
        '/usr/local/bin',
      ],
      ...['/usr/share', '/usr/share/doc', '/usr/share/licenses', '/usr/share/man', '/usr/share/man/man1'],
      ...[
        '/usr/share/man/man5',
        '/usr/share/man/man8',
        '/var',
        '/var/cache',
        '/var/lib',
        '/var/log',
        '/var/spool',
      ],
    ),
    '/proc': { kind: 'directory', mode: 0o555 },
    '/sys': { kind: 'directory', mode: 0o555 },
    '/root': { kind: 'directory', mode: 0o550 },
    '/tmp': { kind: 'directory', mode: 0o1777 },
    '/var/tmp': { kind: 'directory', mode: 0o1777 },
    '/bin': link('usr/bin'),
    '/sbin': link('usr/sbin'),
    '/lib': link('usr/lib'),
    '/lib64': link('usr/lib64'),
    '/usr/sbin': link('bin'),
    '/usr/local/sbin': link('bin'),
    '/var/run': link('../run'),
  },
};

const setup: PackageSpec = {
  name: 'setup',
  noarch: true,
  summary: 'Accounts and shells that every system has',
  preamble: ['Requires: system-release'],
  files: {
    '/etc/group': text('root:x:0:\nmail:x:12:\nnobody:x:65534:\n', { flag: '%config(noreplace)' }),
    '/etc/passwd': text(
      [
        'root:x:0:0:Super User:/root:/bin/bash',
        'mail:x:8:12:mail:/var/spool/mail:/usr/sbin/nologin',
        'nobody:x:65534:65534:Kernel Overflow User:/:/usr/sbin/nologin',
        '',
      ].join('\n'),
      { flag: '%config(noreplace)' },
    ),
    '/etc/shadow': text('root:!locked::0:99999:7:::\n', { mode: 0, flag: '%config(noreplace)' }),
    '/etc/shells': text('/bin/sh\n/bin/bash\n', { flag: '%config(noreplace)' }),
    '/etc/fstab': text('', { flag: '%ghost %config(noreplace)' }),
  },
};

function identity(release: number): readonly PackageSpec[] {
  const own = `${release}-26`;
  const osRelease = [
    'NAME="Fedora Linux"',
    `VERSION="${release} (Stand-in)"`,
    'RELEASE_TYPE=stable',
    `PLATFORM_ID="platform:f${release}"`,
    'ID=fedora',
    `VERSION_ID=${release}`,
    `PRETTY_NAME="Fedora Linux ${release} (Stand-in)"`,
    `CPE_NAME="cpe:/o:fedoraproject:fedora:${release}"`,
    'DEFAULT_HOSTNAME="fedora"',
    'HOME_URL="https://www.example.org/"',
    'REDHAT_BUGZILLA_PRODUCT="Fedora"',
    `REDHAT_BUGZILLA_PRODUCT_VERSION=${release}`,
    '',
  ].join('\n');
  return [
    {
      name: 'fedora-release-common',
      noarch: true,
      summary: 'Files of the release',
      preamble: [
        `Requires: fedora-release-variant = ${own}`,
        `Provides: system-release = ${own}`,
        `Provides: system-release(${release})`,
        'Suggests: fedora-release',
      ],
      files: {
        '/etc/os-release': link('../usr/lib/os-release'),
        '/etc/fedora-release': link('../usr/lib/fedora-release'),
        '/etc/system-release': link('fedora-release'),
        '/usr/lib/fedora-release': text(`Fedora release ${release} (Stand-in)\n`),
      },
    },
    {
      name: 'fedora-release-identity-basic',
      noarch: true,
      summary: 'What a system without an edition says of itself',
      preamble: [`Provides: fedora-release-variant = ${own}`, `Requires: fedora-release-common = ${own}`],
      files: { '/usr/lib/os-release': text(osRelease) },
    },
  ];
}

const cryptoPolicies: PackageSpec = {
  name: 'crypto-policies',
  noarch: true,
  summary: 'What libraries of cryptography allow',
  files: {
    ...directories('/etc/crypto-policies', '/etc/crypto-policies/back-ends'),
    '/etc/crypto-policies/config': text('DEFAULT\n', { flag: '%config(noreplace)' }),
    '/etc/crypto-policies/back-ends/krb5.config': text('[libdefaults]\n', { flag: '%config(noreplace)' }),
  },
};

function directories(...paths: readonly string[]): Files {
  return Object.fromEntries(paths.map((path) => [path, { kind: 'directory' }]));
}
