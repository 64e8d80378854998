import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import {
  dpkgStatusFiles,
  scannerFiles,
  type InstalledContents,
} from '../../build/inventory/scanner-files.js';
import type { RpmMetadata } from '../../build/package/contents.js';
import { ToolError } from '../../build/support/errors.js';
import { RpmOpening } from '../support/rpm-opening.js';
import { queryRpm } from '../support/rpm-oracle.js';
import { requireTools } from '../support/tools.js';

const libc = [
  'Package: libc6',
  'Source: glibc',
  'Version: 2.36-9+deb12u13',
  'Architecture: amd64',
  'Maintainer: GNU Libc Maintainers <debian-glibc@lists.debian.org>',
  'Description: GNU C Library: Shared libraries',
  ' Contains the standard libraries.',
  ' .',
  ' And more.',
  '',
].join('\n');
const server = [
  'Package: isc-dhcp-server',
  'Version: 4.4.3-P1-2',
  'Architecture: amd64',
  'Status: install ok installed',
  'Maintainer: Debian ISC DHCP Maintainers <isc-dhcp@packages.debian.org>',
  'Conffiles:',
  ' /etc/dhcp/dhcpd.conf 0123456789abcdef0123456789abcdef',
  'Description: ISC DHCP server for automatic IP address assignment',
].join('\r\n');

describe('dpkgStatusFiles', () => {
  it('writes one stanza a package, sorted, without the fields of a machine', () => {
    const files = dpkgStatusFiles([
      { name: 'libc6', controlText: libc },
      { name: 'isc-dhcp-server', controlText: server },
    ]);
    expect(files.map((file) => file.path)).toEqual([
      'var/lib/dpkg/status.d/isc-dhcp-server',
      'var/lib/dpkg/status.d/libc6',
    ]);
    expect(files[1]?.text).toBe(libc);
    expect(files[0]?.text).toBe(
      [
        'Package: isc-dhcp-server',
        'Version: 4.4.3-P1-2',
        'Architecture: amd64',
        'Maintainer: Debian ISC DHCP Maintainers <isc-dhcp@packages.debian.org>',
        'Description: ISC DHCP server for automatic IP address assignment',
        '',
      ].join('\n'),
    );
  });

  it.skipIf(!requireTools('dpkg-query'))('makes, joined, a database that dpkg-query lists', () => {
    const directory = mkdtempSync(join(tmpdir(), 'scanner-files-'));
    try {
      mkdirSync(join(directory, 'info'));
      const files = dpkgStatusFiles([
        { name: 'libc6', controlText: libc },
        { name: 'isc-dhcp-server', controlText: server },
      ]);
      const installed = files.map(({ text }) => `${text}Status: install ok installed\n`);
      writeFileSync(join(directory, 'status'), installed.join('\n'));
      expect(query(directory, '${Package} ${Version} ${Architecture} ${db:Status-Abbrev}\\n')).toBe(
        'isc-dhcp-server 4.4.3-P1-2 amd64 ii \nlibc6 2.36-9+deb12u13 amd64 ii \n',
      );
    } finally {
      rmSync(directory, { recursive: true });
    }
  });

  const hasDatabase = requireTools('dpkg-query', 'dpkg') && readdirSync('/var/lib/dpkg').includes('status');
  it.skipIf(!hasDatabase)('keeps what dpkg knows of every package of this machine', () => {
    // The machine's own database: its stanzas as if they came from control files.
    const directory = mkdtempSync(join(tmpdir(), 'scanner-files-'));
    try {
      mkdirSync(join(directory, 'info'));
      const names = query('/var/lib/dpkg', '${db:Status-Abbrev}${Package}\\n')
        .split('\n')
        .flatMap((line) => (line.startsWith('ii ') ? [line.slice(3)] : []))
        .slice(0, 150);
      const stanzas = execFileSync('dpkg-query', ['--status', ...names], { encoding: 'utf8' })
        .trimEnd()
        .split('\n\n');
      const packages = stanzas.map((controlText) => ({
        name: /^Package: (.*)$/m.exec(controlText)?.[1] ?? '',
        controlText,
      }));
      const installed = dpkgStatusFiles(packages).map(({ text }) => `${text}Status: install ok installed\n`);
      writeFileSync(join(directory, 'status'), installed.join('\n'));
      const format =
        '${Package} ${Version} ${Architecture} ${source:Package} ${source:Version} ${Depends}\\n';
      const sorted = (text: string): string[] => text.trim().split('\n').sort();
      expect(sorted(query(directory, format))).toEqual(sorted(query('/var/lib/dpkg', format, names)));
    } finally {
      rmSync(directory, { recursive: true });
    }
  });

  it.each([
    ['a second stanza', 'a1', 'Package: a1\nVersion: 1\n\nPackage: b1\nVersion: 2\n', 'no field'],
    ['a blank continuation', 'a1', 'Package: a1\n \nVersion: 2\n', 'blank line'],
    ['another package', 'a1', 'Package: b1\nVersion: 2\n', 'another package'],
    ['nothing', 'a1', '', 'another package'],
    ['a continuation first', 'a1', ' x\nPackage: a1\n', 'continuation'],
    ['a path', '../../etc/passwd', 'Package: ../../etc/passwd\n', 'name is not valid'],
  ])('refuses %s', (_, name, controlText, reason) => {
    expect(() => dpkgStatusFiles([{ name, controlText }])).toThrow(reason);
  });

  it('refuses a package twice', () => {
    const twice = { name: 'libc6', controlText: libc };
    expect(() => dpkgStatusFiles([twice, twice])).toThrow(
      'cannot record the package libc6: it is in the image twice',
    );
  });

  it('gives one stanza or a ToolError for any text', () => {
    fc.assert(
      fc.property(
        fc.string({ unit: fc.constantFrom('P', ':', ' ', '\n', '\r', '\t', 'é', '\0', '-') }),
        (text) => {
          try {
            const [file] = dpkgStatusFiles([{ name: 'a1', controlText: `Package: a1\n${text}` }]);
            expect(file?.text).toMatch(/^Package: a1\n/);
            expect(file?.text).not.toMatch(/\n[ \t]*\n./);
          } catch (error) {
            if (!(error instanceof ToolError)) throw error;
          }
        },
      ),
    );
  });
});

const deb: InstalledContents = {
  name: 'libc6',
  architecture: 'amd64',
  built: 1,
  metadata: { format: 'deb', control: new Map(), controlText: libc },
};
const rpm = (name: string, change: Partial<RpmMetadata> = {}): InstalledContents => ({
  name,
  architecture: 'x86_64',
  built: 1_700_000_000,
  metadata: {
    format: 'rpm',
    epoch: undefined,
    version: '2.42',
    release: '4.fc45',
    vendor: 'Fedora Project',
    license: 'LGPL',
    sourceRpm: 'glibc-2.42-4.fc45.src.rpm',
    installedSize: 1234,
    signer: undefined,
    ghostLinks: [],
    ...change,
  },
});

describe('scannerFiles', () => {
  it('knows both formats, and does not mix them', () => {
    expect(scannerFiles([])).toEqual([]);
    expect(scannerFiles([deb])).toEqual(dpkgStatusFiles([{ name: 'libc6', controlText: libc }]));
    expect(() => scannerFiles([deb, rpm('glibc')])).toThrow(
      'cannot record the packages of the image: they are of different formats',
    );
    expect(() => scannerFiles([rpm('glibc'), rpm('glibc')])).toThrow(
      'cannot record the package glibc: it is in the image twice',
    );
  });

  it('writes RPM packages sorted, one a line, whatever their texts hold', () => {
    const packages = [rpm('zlib', { vendor: 'A\tB\nC', epoch: 0 }), rpm('glibc', { vendor: '', epoch: 2 })];
    const line = (name: string, vendor: string, epoch: string, number: number) =>
      `${name}\t2.42-4.fc45\t1700000000\t1700000000\t${vendor}\t${epoch}\t1234\tx86_64\t${number}\tglibc-2.42-4.fc45.src.rpm\n`;
    expect(scannerFiles(packages)).toEqual([
      {
        path: 'var/lib/rpmmanifest/container-manifest-1',
        text: 'glibc-2.42-4.fc45.x86_64\nzlib-2.42-4.fc45.x86_64\n',
      },
      {
        path: 'var/lib/rpmmanifest/container-manifest-2',
        text: line('glibc', '(none)', '2', 2) + line('zlib', 'A B C', '0', 0),
      },
    ]);
  });

  it.skipIf(!requireTools('rpm', 'rpmbuild'))('writes what rpm prints of the packages', async () => {
    const opening = new RpmOpening();
    try {
      const paths = [
        opening.build({ name: 'one', files: { a: 'text' }, arch: 'x86_64', preamble: ['Vendor: Some One'] }),
        opening.build({ name: 'two', files: {}, epoch: 12, version: '4.4.3', release: '27.fc45' }),
      ];
      const contents = [];
      for (const path of paths) contents.push(await opening.path(path));
      // There is no install time in a package file.
      const format =
        '%{NAME}\t%{VERSION}-%{RELEASE}\t%{BUILDTIME}\t%{BUILDTIME}\t%{VENDOR}\t%{EPOCH}\t%{SIZE}\t%{ARCH}\t%{EPOCHNUM}\t%{SOURCERPM}\n';
      expect(scannerFiles(contents).map(({ text }) => text)).toEqual([
        paths.map((path) => queryRpm(path, '%{NVRA}\n')).join(''),
        paths.map((path) => queryRpm(path, format)).join(''),
      ]);
    } finally {
      await opening.remove();
    }
  });
});

function query(database: string, format: string, names: readonly string[] = []): string {
  return execFileSync('dpkg-query', ['--admindir', database, '--show', '--showformat', format, ...names], {
    encoding: 'utf8',
  });
}
