import { existsSync } from 'node:fs';
import { chmod, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { $ } from 'zx';
import { withFedoraDirectories, withFedoraLeases } from './binaries.js';
import type { DebianPackage } from './debian.js';
import { decoys } from './decoys.js';
import type { RepositoryName, StandInArchitecture } from './description.js';
import { dhcpCommon, dhcpRelay, dhcpServer, readSchema } from './dhcp.js';
import { loadedBy, loaders, programFiles, type Files, type LibraryPackage } from './libraries.js';
import { fedoraLibrary } from './names.js';
import type { PackagedFile, PackageSpec, SourceSpec } from './spec.js';
import { systemSources, usual } from './system.js';

/** A source, and where its packages go. */
export interface PlacedSource {
  readonly source: SourceSpec;
  readonly repository: RepositoryName;
  readonly signedBy: 'first' | 'second';
}

/** What Fedora's dhcpd is linked to and Debian's is not. */
const linkedOnFedora = ['libkrb5.so.3', 'libsystemd.so.0'];

/** All packages for one architecture. @param work directory for what is made of Debian's files */
export async function sourcesFor(
  architecture: StandInArchitecture,
  release: number,
  debian: readonly DebianPackage[],
  work: string,
): Promise<readonly PlacedSource[]> {
  const dhcpd = await fedoraProgram(debian, work);
  const shell = await Promise.all(
    ['bash', 'coreutils', 'grep', 'sed'].map(async (name) => {
      const from = named(debian, name);
      return { from, files: await programFiles(from) };
    }),
  );
  const relay = await programFiles(named(debian, 'isc-dhcp-relay'));
  const server = await programFiles(named(debian, 'isc-dhcp-server'));
  const libraries = await loadedBy(
    [{ dhcpd }, relay, server, ...shell.map(({ files }) => files)],
    debian,
    // The C library opens it to end a thread.
    ['libgcc_s.so.1'],
  );
  const dist = `fc${release}`;
  const dhcp = async (revision: number): Promise<SourceSpec> => {
    const from = named(debian, 'isc-dhcp-server');
    const version = from.upstreamVersion;
    const own = `12:${version}-${revision}.${dist}`;
    const ldap = named(debian, 'isc-dhcp-server-ldap');
    const schema = await readSchema(ldap);
    return {
      ...{ name: 'dhcp', epoch: 12, version, release: `${revision}.${dist}`, target: architecture },
      ...{ license: 'MPL-2.0', url: 'https://www.isc.org/dhcp/', payload: usual.payload },
      packages: [
        dhcpServer({ own, program: dhcpd, server: from, schema, programs: server }),
        dhcpCommon(from),
        dhcpRelay(own, relay),
      ],
    };
  };
  const first: PlacedSource[] = [
    ...systemSources(architecture, release),
    await dhcp(26),
    ...shell.map(({ from, files }) => programSource(from, files, architecture, dist)),
    systemdSource(libraries, architecture, dist),
    ...(await librarySources(libraries, architecture, dist)),
    ...decoys(architecture, release, libraries),
  ].map((source) => ({ source, repository: 'fedora', signedBy: 'first' }));
  const newer = await dhcp(27);
  const openldap = first.find(({ source }) => source.name === 'openldap')?.source;
  const relayAlone = ({ name }: PackageSpec): boolean => name === 'dhcp-relay';
  const updates: PlacedSource[] = [
    { ...newer, packages: newer.packages.filter((each) => !relayAlone(each)) },
    ...(openldap === undefined ? [] : [{ ...openldap, release: `2.${dist}` }]),
  ].map((source) => ({ source, repository: 'updates-released', signedBy: 'first' }));
  const relayUpdate: PlacedSource = {
    source: { ...newer, packages: newer.packages.filter(relayAlone) },
    repository: 'updates-released',
    signedBy: 'second',
  };
  return [...first, ...updates, relayUpdate];
}

/** Debian's dhcpd with the lease file and the libraries of Fedora's. */
async function fedoraProgram(debian: readonly DebianPackage[], work: string): Promise<PackagedFile> {
  const path = join(work, 'dhcpd');
  await mkdir(work, { recursive: true });
  const original = await readFile(join(named(debian, 'isc-dhcp-server-ldap').root, 'usr/sbin/dhcpd'));
  await writeFile(path, withFedoraLeases(original));
  await chmod(path, 0o755);
  await $({ quiet: true })`patchelf ${linkedOnFedora.flatMap((soname) => ['--add-needed', soname])} ${path}`;
  return { kind: 'copy', from: path, mode: 0o755 };
}

function programSource(from: DebianPackage, files: Files, target: string, dist: string): SourceSpec {
  const isShell = from.name === 'bash';
  return {
    ...{ ...usual, name: from.name, version: from.upstreamVersion, release: `1.${dist}`, target },
    license: 'GPL-3.0-or-later',
    packages: [
      {
        name: from.name,
        summary: `The programs of ${from.name}`,
        preamble: isShell ? ['Provides: /bin/sh', 'Provides: /bin/bash'] : [],
        files: {
          ...files,
          ...(isShell ? { '/usr/bin/sh': { kind: 'link', target: 'bash' } } : {}),
          ...license(from.name, from),
        },
      },
    ],
  };
}

/** systemd itself does nothing here but be required by scriptlets. */
function systemdSource(libraries: readonly LibraryPackage[], target: string, dist: string): SourceSpec {
  const version = libraries.find(({ from }) => from.source === 'systemd')?.from.upstreamVersion ?? '1';
  return {
    ...{ ...usual, name: 'systemd', version, release: `1.${dist}`, target },
    packages: [
      {
        name: 'systemd',
        summary: 'System and service manager',
        files: {
          '/usr/lib/systemd/systemd-update-helper': {
            kind: 'text',
            text: '#!/bin/sh\nexit 0\n',
            mode: 0o755,
          },
        },
      },
    ],
  };
}

async function librarySources(
  libraries: readonly LibraryPackage[],
  architecture: StandInArchitecture,
  dist: string,
): Promise<readonly SourceSpec[]> {
  const bySource = new Map<string, LibraryPackage[]>();
  for (const library of libraries) {
    bySource.set(library.from.source, [...(bySource.get(library.from.source) ?? []), library]);
  }
  return Promise.all(
    [...bySource].map(async ([debianSource, members]): Promise<SourceSpec> => {
      const { source, name, epoch } = fedoraLibrary(debianSource);
      const from = members[0]?.from;
      if (from === undefined) throw new Error(`${debianSource} has no packages`);
      const entries = members.flatMap((member) => Object.entries(member.files));
      const files = { ...Object.fromEntries(entries), ...license(name, from) };
      const library: PackageSpec = {
        name,
        summary: `Libraries of ${source}`,
        files,
        preamble: requirements.get(name) ?? [],
      };
      return {
        ...{
          ...usual,
          name: source,
          version: from.upstreamVersion,
          release: `1.${dist}`,
          target: architecture,
        },
        ...(epoch === undefined ? {} : { epoch }),
        license: 'LGPL-2.1-or-later',
        // As Fedora compresses everything; for all of them it would take too long.
        ...(name === 'krb5-libs' ? { payload: 'w19.zstdio' } : {}),
        packages: name === 'glibc' ? await glibc(library, architecture) : [library],
      };
    }),
  );
}

/** What packages of Fedora require beside what is in their files. */
const requirements = new Map<string, readonly string[]>([
  [
    'krb5-libs',
    [
      'Requires: coreutils',
      'Requires: /etc/crypto-policies/back-ends/krb5.config',
      'Requires: (dhcp-server-extras if no-such-package)',
    ],
  ],
]);

async function glibc(
  library: PackageSpec,
  architecture: StandInArchitecture,
): Promise<readonly PackageSpec[]> {
  const { name, path } = loaders[architecture];
  const { [`/usr/lib64/${name}`]: loader, ...others } = library.files;
  if (loader?.kind !== 'copy') throw new Error(`Debian's C library has no ${name}`);
  const own = '%{version}-%{release}';
  return [
    {
      ...library,
      preamble: [
        'Requires: basesystem',
        `Requires: glibc-common = ${own}`,
        `Requires: glibc-langpack = ${own}`,
        'Requires: libgcc%{?_isa}',
        'Provides: rtld(GNU_HASH)',
        'Provides: ldconfig',
      ],
      files: {
        ...others,
        [path]: { kind: 'bytes', bytes: withFedoraDirectories(await readFile(loader.from)), mode: 0o755 },
        '/etc/ld.so.conf': {
          kind: 'text',
          text: 'include ld.so.conf.d/*.conf\n',
          flag: '%config(noreplace)',
        },
        '/etc/ld.so.conf.d': { kind: 'directory' },
        '/etc/ld.so.cache': { kind: 'text', text: '', flag: '%ghost' },
        '/etc/nsswitch.conf': {
          kind: 'text',
          text: 'passwd: files\ngroup: files\nhosts: files dns\n',
          flag: '%config(noreplace)',
        },
      },
    },
    {
      name: 'glibc-common',
      summary: 'Common files of the C library',
      preamble: [`Requires: glibc = ${own}`],
      files: { '/usr/share/doc/glibc-common': { kind: 'directory' } },
    },
    {
      name: 'glibc-minimal-langpack',
      summary: 'No language but C',
      preamble: [`Requires: glibc = ${own}`, `Provides: glibc-langpack = ${own}`],
      files: {},
    },
  ];
}

function license(name: string, from: DebianPackage): Files {
  const copyright = join(from.root, 'usr/share/doc', from.name, 'copyright');
  return {
    [`/usr/share/licenses/${name}`]: { kind: 'directory' },
    [`/usr/share/licenses/${name}/copyright`]: {
      // Some packages of Debian have it in another one that they depend upon.
      ...(existsSync(copyright)
        ? { kind: 'copy', from: copyright }
        : { kind: 'text', text: 'see the source\n' }),
      flag: '%license',
    },
  };
}

function named(debian: readonly DebianPackage[], name: string): DebianPackage {
  const found = debian.find((each) => each.name === name);
  if (found === undefined) throw new Error(`apt-get fetched no ${name}`);
  return found;
}
