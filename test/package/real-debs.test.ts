import { execFileSync } from 'node:child_process';
import { lstatSync, mkdtempSync, readFileSync, readlinkSync, realpathSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { openDeb } from '../../build/package/deb.js';
import { createPackageTree } from '../../build/package/tree.js';
import { mergedUsr } from '../../build/repository/debian/layout.js';
import { openCache } from '../../build/support/cache.js';
import { controlOf, downloadDebs, sha256Of } from '../support/deb.js';
import { hostLoader } from '../support/elf-host.js';
import { listingLine, listingLines } from '../support/tar-builder.js';
import { requireThat, requireTools } from '../support/tools.js';

// Set-user-ID programs, many links, hard links, and the loader; base-files owns the directories of the root.
const names = ['libc6', 'isc-dhcp-server', 'iputils-ping', 'sudo', 'dnsmasq-base', 'base-files', 'perl-base'];

const directory = mkdtempSync(join(tmpdir(), 'real-debs-'));
const debs = requireTools('apt-get', 'dpkg-deb', 'tar') ? downloadDebs(directory, names) : undefined;
const ready = requireThat(debs !== undefined, 'packages from the host’s Debian mirror');

afterAll(() => {
  rmSync(directory, { recursive: true });
});

describe.skipIf(!ready)('openDeb beside dpkg-deb', () => {
  for (const name of names) {
    it(`reads ${name} entry by entry`, async () => {
      const path = debs?.get(name) ?? '';
      const cache = await openCache(join(directory, 'cache'));
      const sha256 = sha256Of(readFileSync(path));
      for (const time of ['first', 'second']) {
        const begin = performance.now();
        const contents = await openDeb(path, sha256, cache);
        const took = performance.now() - begin;

        const fields = execFileSync('dpkg-deb', ['-f', path, 'Package', 'Version', 'Architecture'], {
          encoding: 'utf8',
        });
        expect(
          `Package: ${contents.name}\nVersion: ${contents.version}\nArchitecture: ${contents.architecture}\n`,
        ).toBe(fields);
        expect(contents.metadata).toMatchObject({
          controlText: execFileSync('dpkg-deb', ['-I', path, 'control'], { encoding: 'utf8' }),
        });
        for (const field of controlOf(contents).keys()) {
          const value = execFileSync('dpkg-deb', ['-f', path, field], { encoding: 'utf8' });
          expect(controlOf(contents).get(field)?.replaceAll('\n', '\n '), field).toBe(value.slice(0, -1));
        }

        const list = (...options: string[]) =>
          execFileSync(
            'sh',
            [
              '-c',
              `dpkg-deb --fsys-tarfile "$0" | tar --utc --full-time --quoting-style=literal "$@" -tv`,
              path,
              ...options,
            ],
            { encoding: 'utf8', maxBuffer: 2 ** 26 },
          );
        expect(contents.entries.map(listingLine)).toEqual(listingLines(list('--numeric-owner')).slice(1));
        const owners = listingLines(list()).map((line) => line.split(' ')[1]);
        expect(contents.entries.map(({ userName, groupName }) => `${userName}/${groupName}`)).toEqual(
          owners.slice(1),
        );

        const root = join(directory, `${name}-${time}`);
        execFileSync('dpkg-deb', ['-x', path, root]);
        for (const entry of contents.entries) {
          const real = join(root, entry.path);
          if (entry.kind === 'file' || entry.kind === 'hardlink') {
            expect((await contents.read(entry)).equals(readFileSync(real)), entry.path).toBe(true);
            expect(lstatSync(real).mode & 0o7777, entry.path).toBe(entry.mode);
          } else if (entry.kind === 'symlink') {
            expect(readlinkSync(real)).toBe(entry.target);
          } else {
            expect(lstatSync(real).isDirectory(), entry.path).toBe(true);
          }
        }
        await contents.close();
        process.stdout.write(
          `${name}, ${time} opening: ${contents.entries.length} entries, ${Math.round(took)} ms\n`,
        );
      }
    });
  }

  it('makes one tree of them, as the running system has it', async () => {
    const cache = await openCache(join(directory, 'cache'));
    const tree = createPackageTree(mergedUsr);
    for (const name of names) {
      const path = debs?.get(name) ?? '';
      await tree.add(await openDeb(path, sha256Of(readFileSync(path)), cache));
    }
    const shell = tree.lookup('/usr/sbin/dhcpd');
    expect(shell?.owner.name).toBe('isc-dhcp-server');
    // Its first directory is a link of the merged /usr; behind it, the loader is a link to its real place.
    const loader = hostLoader();
    const [, top = ''] = loader.split('/');
    const found = tree.lookup(loader);
    expect(found).toMatchObject({ path: realpathSync(loader).slice(1), owner: { name: 'libc6' } });
    expect(found?.links[0]).toMatchObject({ path: top, target: `usr/${top}` });
    expect(found?.links[1]).toMatchObject({ path: `usr${loader}`, owner: { name: 'libc6' } });
    expect(tree.list(`usr/${top}`)).toContain(basename(loader));
    for (const contents of tree.packages) await contents.close();
  });
});
