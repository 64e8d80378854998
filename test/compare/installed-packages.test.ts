import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ImageTree } from '../../build/compare/image-tree.js';
import {
  countPackages,
  tellsOfPackages,
  type InstalledPackages,
} from '../../build/compare/installed-packages.js';
import { buildRpm, makeSigningKey } from '../support/rpm.js';
import { requireTools } from '../support/tools.js';

let work = '';
beforeAll(() => {
  work = mkdtempSync(join(tmpdir(), 'packages-'));
});
afterAll(() => {
  rmSync(work, { recursive: true });
});

/** What is said of an image with these files; undefined for a file whose content was not kept. */
function count(
  files: Readonly<Record<string, string | Buffer | undefined>>,
  links: Readonly<Record<string, string>> = {},
): InstalledPackages {
  const tree = new ImageTree('it', 1000);
  tree.beginLayer();
  for (const [path, target] of Object.entries(links)) tree.add(path, { kind: 'symlink', target });
  for (const [path, data] of Object.entries(files)) {
    const content = data === undefined || !tellsOfPackages(path) ? undefined : Buffer.from(data);
    const size = data?.length ?? 1;
    tree.add(path, { kind: 'file', mode: 0o644, size, role: 'other', capable: false, content });
  }
  tree.endLayer();
  return countPackages(tree);
}

const stanza = (name: string, status: string): string =>
  `Package: ${name}\nStatus: ${status}\nArchitecture: amd64\nDescription: a\n b\n .\n c\n`;

describe('the packages of an image', () => {
  it('are those that dpkg has installed', () => {
    const status = [
      stanza('a', 'install ok installed'),
      stanza('b', 'deinstall ok config-files'),
      stanza('c', 'hold ok installed'),
    ].join('\n');
    expect(count({ 'var/lib/dpkg/status': status })).toEqual({ count: 2, from: ['var/lib/dpkg/status'] });
  });

  it('are those of status.d, together with those of status, each once', () => {
    const files = {
      'var/lib/dpkg/status': stanza('a', 'install ok installed'),
      'var/lib/dpkg/status.d/a': 'Package: a\nArchitecture: amd64\n',
      'var/lib/dpkg/status.d/b': 'Package: b\nArchitecture: amd64\n\n\nPackage: c\nArchitecture: all\n',
      'var/lib/dpkg/status.d/b.md5sums': 'd41d8cd98f00b204e9800998ecf8427e  usr/bin/b\n',
    };
    expect(count(files)).toEqual({
      count: 3,
      from: ['var/lib/dpkg/status and var/lib/dpkg/status.d'],
    });
  });

  it('are the lines of rpm’s list where there is no database', () => {
    const path = 'var/lib/rpmmanifest/container-manifest-2';
    expect(count({ [path]: 'a\t1-1\nb\t2-1\n' })).toEqual({ count: 2, from: [path] });
  });

  it('are unknown where nothing says it, or nothing that can be read', () => {
    expect(count({ 'etc/passwd': '' })).toEqual({ count: undefined, reason: 'there is no package database' });
    expect(count({ 'var/lib/dpkg/status': undefined })).toEqual({
      count: undefined,
      reason: 'var/lib/dpkg/status cannot be read',
    });
    expect(count({ 'var/lib/rpm/Packages': 'x' })).toEqual({
      count: undefined,
      reason: 'var/lib/rpm/Packages is in an older format',
    });
    const database = 'usr/lib/sysimage/rpm/rpmdb.sqlite';
    expect(count({ [database]: 'x' })).toEqual({
      count: undefined,
      reason: `${database} cannot be read: it is no SQLite database`,
    });
    expect(count({ [database]: 'x', [`${database}-wal`]: 'x' })).toEqual({
      count: undefined,
      reason: `${database} has a write-ahead log`,
    });
  });

  it.skipIf(!requireTools('rpm', 'rpmbuild', 'gpg', 'gpgconf'))('are those of rpm’s own database', () => {
    const directory = join(work, 'rpmdb');
    mkdirSync(directory);
    const rpm = (...args: readonly string[]): string =>
      execFileSync('rpm', ['--dbpath', directory, '--define', '_db_backend sqlite', ...args], {
        encoding: 'utf8',
      });
    rpm('--initdb');
    const packages = Array.from({ length: 12 }, (_, index) =>
      buildRpm({ directory: work, name: `package-${index}`, files: { [`/usr/share/${index}`]: 'x' } }),
    );
    rpm('--install', '--justdb', '--nodeps', ...packages);
    rpm('--erase', '--justdb', '--nodeps', 'package-3');
    const installed = rpm('-qa').trim().split('\n');
    expect(installed).toHaveLength(11);
    // A key that rpm is told to trust is among its packages, and is none.
    const key = join(work, 'key');
    writeFileSync(key, makeSigningKey(work).publicKey);
    rpm('--import', key);
    expect(rpm('-qa')).toContain('gpg-pubkey');
    const files = Object.fromEntries(
      readdirSync(directory).map((name) => [
        `usr/lib/sysimage/rpm/${name}`,
        readFileSync(join(directory, name)),
      ]),
    );
    // As Fedora has it: the old place leads to the new one.
    expect(count(files, { 'var/lib/rpm': '../../usr/lib/sysimage/rpm' })).toEqual({
      count: installed.length,
      from: ['usr/lib/sysimage/rpm/rpmdb.sqlite'],
    });
  });
});
