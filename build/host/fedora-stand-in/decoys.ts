import type { StandInArchitecture } from './description.js';
import type { LibraryPackage } from './libraries.js';
import type { SourceSpec } from './spec.js';
import { usual } from './system.js';

/** Packages that a tool which reads the repositories carelessly would choose. */

/** Name and stream of the module; see `modulesDocument`. */
const module = { name: 'keyutils', stream: 'next', version: 20260101, context: 'abcdef12' } as const;
const moduleLabel = `${module.name}:${module.stream}:${module.version}:${module.context}`;

export function decoys(
  architecture: StandInArchitecture,
  release: number,
  libraries: readonly LibraryPackage[],
): readonly SourceSpec[] {
  const dist = `fc${release}`;
  const common = { ...usual, version: '1.0', release: `1.${dist}`, target: architecture };
  const ldap = find(libraries, /^\/usr\/lib64\/libldap[-.\d]*\.so\.\d+(\..*)?$/);
  const keyutils = libraries.find(({ from }) => from.source === 'keyutils')?.from.upstreamVersion ?? '1';
  return [
    {
      // Provides the soname, in a directory where no loader looks, and comes first in every order.
      ...{ ...common, name: 'aaa-vendor-runtime' },
      packages: [
        {
          name: 'aaa-vendor-runtime',
          summary: 'Libraries that a program brings for itself',
          files: {
            '/usr/lib64/aaa-vendor': { kind: 'directory' },
            ...Object.fromEntries(
              Object.entries(ldap).map(([path, file]) => [
                path.replace('/lib64/', '/lib64/aaa-vendor/'),
                file,
              ]),
            ),
          },
        },
      ],
    },
    {
      ...{ ...common, name: 'dhcp-server-extras' },
      packages: [
        {
          name: 'dhcp-server-extras',
          summary: 'What the server only recommends',
          files: { '/usr/lib/dhcp-server-extras': { kind: 'text', text: 'not needed\n' } },
        },
        {
          name: 'dhcp-server-langpack',
          summary: 'What comes by itself where the server is',
          preamble: ['Supplements: dhcp-server'],
          files: { '/usr/lib/dhcp-server-langpack': { kind: 'text', text: 'not needed\n' } },
        },
        {
          name: 'rich-dependencies',
          summary: 'Asks for packages under conditions',
          preamble: [
            'Requires: (dhcp-server-extras if dhcp-server)',
            'Requires: ((bash or dhcp-server-extras) if grep else sed)',
            'Recommends: (dhcp-server-langpack and no-such-package)',
          ],
          files: { '/usr/lib/rich-dependencies': { kind: 'text', text: 'conditions\n' } },
        },
      ],
    },
    {
      // Newer than any other, and in a stream that nobody has asked for.
      ...{ ...common, name: 'keyutils', version: '99', release: moduleRelease(release) },
      packages: [
        {
          name: 'keyutils-libs',
          summary: 'A library of a module',
          noAutomaticDependencies: true,
          preamble: [`ModularityLabel: ${moduleLabel}`, 'Provides: libkeyutils.so.1()(64bit)'],
          files: { '/usr/lib64/libkeyutils.so.1': { kind: 'text', text: 'not a library\n' } },
        },
      ],
    },
    ...(architecture === 'x86_64' ? thirtyTwoBits(keyutils, dist) : []),
  ];
}

/** Fedora has packages of i686 beside those of x86_64. */
function thirtyTwoBits(keyutils: string, dist: string): readonly SourceSpec[] {
  const common = { ...usual, release: `1.${dist}`, target: 'i686' };
  const library = (soname: string): SourceSpec['packages'][number]['files'] => ({
    [`/usr/lib/${soname}`]: { kind: 'text', text: 'not a library\n' },
  });
  return [
    {
      ...{ ...common, name: 'keyutils', version: keyutils },
      packages: [
        {
          name: 'keyutils-libs',
          summary: 'A library for 32 bits',
          noAutomaticDependencies: true,
          preamble: ['Provides: libkeyutils.so.1'],
          files: library('libkeyutils.so.1'),
        },
      ],
    },
    {
      ...{ ...common, name: 'only-i686', version: '9.0' },
      packages: [
        {
          name: 'only-i686',
          summary: 'A package that there is for 32 bits alone',
          noAutomaticDependencies: true,
          preamble: ['Provides: libkrb5.so.3'],
          files: library('libkrb5.so.3'),
        },
      ],
    },
  ];
}

/** A document of modulemd (version 2) that lists the modular package. */
export function modulesDocument(architecture: StandInArchitecture, release: number): string {
  return [
    '---',
    'document: modulemd',
    'version: 2',
    'data:',
    `  name: ${module.name}`,
    `  stream: "${module.stream}"`,
    `  version: ${module.version}`,
    `  context: ${module.context}`,
    `  arch: ${architecture}`,
    '  summary: A stream that is not the default',
    '  description: >-',
    '    A stream that is not the default.',
    '  license:',
    '    module: [MIT]',
    '  artifacts:',
    '    rpms:',
    `    - keyutils-libs-0:99-${moduleRelease(release)}.${architecture}`,
    '...',
    '',
  ].join('\n');
}

function moduleRelease(release: number): string {
  return `1.module_f${release}+1234+${module.context}`;
}

function find(libraries: readonly LibraryPackage[], path: RegExp): LibraryPackage['files'] {
  for (const { files } of libraries) {
    const found = Object.entries(files).filter(([name]) => path.test(name));
    if (found.length > 0) return Object.fromEntries(found);
  }
  throw new Error(`no library matches ${String(path)}`);
}
