import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { dpkgStatusFiles } from '../../build/inventory/scanner-files.js';
import { ToolError } from '../../build/support/errors.js';
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

function query(database: string, format: string, names: readonly string[] = []): string {
  return execFileSync('dpkg-query', ['--admindir', database, '--show', '--showformat', format, ...names], {
    encoding: 'utf8',
  });
}
