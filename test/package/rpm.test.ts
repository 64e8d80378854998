import { execFileSync } from 'node:child_process';
import { copyFileSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { openRpm } from '../../build/package/rpm.js';
import { sha256Of } from '../support/deb.js';
import type { RpmSpec } from '../support/rpm.js';
import { partsOf } from '../support/rpm-bytes.js';
import { RpmOpening, textOf } from '../support/rpm-opening.js';
import { expectAsRpmSays, queryRpm, rpmMetadataOf } from '../support/rpm-oracle.js';
import { requireTools } from '../support/tools.js';

const opening = new RpmOpening();
const { directory } = opening;
const build = (spec: Partial<RpmSpec>) => opening.build(spec);
afterAll(() => opening.remove());

/** As rpm writes a line of sysusers.d into a version: with NUL in place of base64's padding. */
function sysusersVersion(line: string): string {
  return Buffer.from(line.padEnd(Math.ceil(line.length / 3) * 3, '\0')).toString('base64');
}

const files: RpmSpec['files'] = {
  'usr/bin/tool': { content: '#!/bin/sh\n', mode: 0o4755 },
  'usr/bin/alias': { link: 'tool' },
  'etc/sample.conf': { content: 'x\n', config: true },
  'usr/lib/big': 'line of text\n'.repeat(100_000),
  'var/lib/sample': { directory: true, mode: 0o750 },
  'var/empty': '',
};

describe.skipIf(!requireTools('rpm', 'rpmbuild', 'rpm2cpio', 'rpm2archive', 'cpio', 'setcap'))(
  'openRpm',
  () => {
    for (const payload of [
      'w6.gzdio',
      'w9.gzdio',
      'w.ufdio',
      'w2.xzdio',
      'w9.xzdio',
      'w6.lzdio',
      'w9.lzdio',
      'w3.zstdio',
      'w19.zstdio',
    ]) {
      it(`opens what rpmbuild compresses with ${payload}`, async () => {
        const path = build({
          files,
          payload,
          epoch: 2,
          version: '1.0~rc1^git',
          release: '3.fc45',
          arch: 'x86_64',
        });
        for (const time of ['cold', 'warm']) {
          const contents = await opening.path(path);
          expect(contents, time).toMatchObject({
            name: 'sample',
            version: '2:1.0~rc1^git-3.fc45',
            architecture: 'x86_64',
            built: 1_700_000_000,
          });
          await expectAsRpmSays(contents, path);
        }
      });
    }

    it('says that it cannot unpack bzip2', async () => {
      await expect(opening.path(build({ files, payload: 'w9.bzdio' }))).rejects.toThrow(
        'the compression of its payload, "bzip2", is not supported',
      );
    });

    it('takes an epoch of 0 for none, as repositories do', async () => {
      const path = build({ epoch: 0, files });
      expect(queryRpm(path, '%{EPOCH} %{EVR}')).toBe('0 0:1.0-1');
      const contents = await opening.path(path);
      expect(contents.version).toBe('1.0-1');
      expect(rpmMetadataOf(contents).epoch).toBe(0);
    });

    it('opens hard links, ghosts, capabilities, accounts and weird names', async () => {
      const path = build({
        provides: [
          `user(base) = ${sysusersVersion('u base 301 "Base" / -')}`,
          `group(base) = ${sysusersVersion('g base 302')}`,
          `user(lying) = ${sysusersVersion('u other 99')}`,
          'user(plain) = 1.0',
        ],
        files: {
          'a/z': 'same bytes',
          'a/b': { hardlink: 'a/z' },
          'b/c': { hardlink: 'a/z' },
          'e/one': '',
          'e/two': { hardlink: 'e/one' },
          'run/link': { link: '/somewhere', ghost: true },
          'run/file': { content: 'not shipped', ghost: true },
          'usr/bin/ping': { content: 'ping', mode: 0o755, capabilities: 'cap_net_raw,cap_net_admin=ep' },
          'usr/bin/inherit': { content: 'x', capabilities: 'cap_chown=p cap_checkpoint_restore+i' },
          'usr/lib/sysusers.d/sample.conf':
            '# accounts\ng dhcpd 177\nu dhcpd 178 "DHCP server" / -\nu solo 300\nu pair 310:311\nu none -\nu! lock 303\n',
          'w/with space': '1',
          'w/quote\'d"': '2',
          'w/star*[x]{y}?': '3',
          'w/ünïcode-☃': '4',
          'w/per%cent$(x)': '5',
          'w/-dash': '6',
          'o/dhcpd': { content: '', user: 'dhcpd', group: 'dhcpd' },
          'o/solo': { content: '', user: 'solo', group: 'solo' },
          'o/pair': { content: '', user: 'pair', group: 'pair' },
          'o/none': { content: '', user: 'none', group: 'none' },
          'o/lock': { content: '', user: 'lock', group: 'root' },
          'o/base': { content: '', user: 'base', group: 'base' },
          'o/lying': { content: '', user: 'lying', group: 'stranger' },
          'o/dir': { directory: true, user: 'dhcpd', group: 'root', mode: 0o2775 },
        },
      });
      const contents = await opening.path(path);
      await expectAsRpmSays(contents, path);

      const links = contents.entries.filter(({ kind }) => kind === 'hardlink');
      expect(links).toHaveLength(3);
      for (const name of ['a/z', 'a/b', 'b/c']) expect(await textOf(contents, name)).toBe('same bytes');
      expect(await textOf(contents, 'e/two')).toBe('');
      expect(rpmMetadataOf(contents).ghostLinks).toMatchObject([
        { path: 'run/link', target: '/somewhere', uid: 0 },
      ]);

      const owners = contents.entries.flatMap(({ path: name, uid, gid }) =>
        name.startsWith('o/') ? [`${name.slice(2)} ${uid} ${gid}`] : [],
      );
      expect(owners.sort()).toEqual([
        'base 301 302',
        'dhcpd 178 177',
        'dir 178 0',
        'lock 303 0',
        'lying undefined undefined',
        'none undefined undefined',
        'pair 310 undefined',
        'solo 300 300',
      ]);

      // What setcap(8) makes of the same texts.
      for (const [name, text] of [
        ['usr/bin/ping', 'cap_net_raw,cap_net_admin=ep'],
        ['usr/bin/inherit', 'cap_chown=p cap_checkpoint_restore+i'],
      ] as const) {
        const entry = contents.entries.find((one) => one.path === name);
        if (entry?.kind !== 'file') throw new Error('no file');
        const probe = join(directory, 'probe');
        writeFileSync(probe, '');
        execFileSync('setcap', [text, probe]);
        const attribute = execFileSync('getfattr', [
          '--absolute-names',
          '-n',
          'security.capability',
          '--only-values',
          probe,
        ]);
        expect(entry.capability?.equals(attribute)).toBe(true);
        rmSync(probe);
      }
    });
  },
);

describe.skipIf(!requireTools('rpmbuild'))('openRpm and the cache', () => {
  it('unpacks once: the second opening reads the cache alone', async () => {
    const cache = await opening.cache();
    const path = build({ files: { 'a/file': 'from the cache' }, payload: 'w2.xzdio' });
    const sha256 = sha256Of(readFileSync(path));
    await (await openRpm(path, sha256, cache, 'unsigned')).close();
    const broken = readFileSync(path);
    broken.fill(0xff, broken.length - partsOf(broken).payload.length + 20);
    copyFileSync(path, `${path}.whole`);
    writeFileSync(path, broken);
    const again = await openRpm(path, sha256, cache, 'unsigned');
    expect(await textOf(again, 'a/file')).toBe('from the cache');
    await again.close();

    // A damaged blob counts as missing, and the package is unpacked anew.
    for (const name of readdirSync(join(directory, 'cache/blobs'), { recursive: true, encoding: 'utf8' })) {
      if (/[0-9a-f]{62}$/.test(name)) writeFileSync(join(directory, 'cache/blobs', name), 'damaged');
    }
    await expect(openRpm(path, sha256, cache, 'unsigned')).rejects.toThrow(
      'cannot decompress the payload of',
    );
    const unpacked = await openRpm(`${path}.whole`, sha256, cache, 'unsigned');
    expect(await textOf(unpacked, 'a/file')).toBe('from the cache');
    await unpacked.close();
  });

  it('opens one package several times at once', async () => {
    const big = 'line\n'.repeat(200_000);
    const path = build({ files: { 'a/file': 'at once', 'a/big': big }, payload: 'w3.zstdio' });
    const all = await Promise.all(Array.from({ length: 8 }, () => opening.path(path)));
    for (const contents of all) expect(await textOf(contents, 'a/file')).toBe('at once');
    expect(readdirSync(join(directory, 'cache', 'tmp'))).toEqual([]);
  });

  it.each(['w.ufdio', 'w6.gzdio'])('gives back what it opened, also when it fails (%s)', async (payload) => {
    await opening.closeAll();
    const path = build({ files: { file: payload }, payload });
    const before = readdirSync('/proc/self/fd').length;
    const contents = await opening.path(path);
    const [entry] = contents.entries;
    if (entry?.kind !== 'file') throw new Error('no file');
    await expect((await opening.path(path)).read(entry)).rejects.toThrow('it is no file of this package');
    await contents.close();
    await contents.close();
    await expect(contents.read(entry)).rejects.toThrow(
      'cannot read file of sample 1.0-1: the package has been closed',
    );
    const nobody = { pinned: [], keys: () => Promise.resolve([]) };
    await expect(opening.path(path, nobody)).rejects.toThrow('it is not signed');
    await expect(opening.bytes(readFileSync(path).subarray(0, -20))).rejects.toThrow('cannot trust');
    await opening.closeAll();
    expect(readdirSync('/proc/self/fd').length).toBe(before);
    expect(readdirSync(join(directory, 'cache', 'tmp'))).toEqual([]);
  });

  it('calls the package what it is told to in every error', async () => {
    const name = 'sample 1.0-1';
    const path = build({ files: { file: 'text'.repeat(100) }, payload: 'w6.lzdio' });
    const whole = readFileSync(path);
    const nobody = { pinned: [], keys: () => Promise.resolve([]) };
    await expect(opening.path(path, nobody, { name })).rejects.toThrow(
      'cannot trust sample 1.0-1: it is not signed',
    );
    await expect(opening.bytes(whole.subarray(0, 90), 'unsigned', { name })).rejects.toThrow(
      'cannot read sample 1.0-1: it is too short to be an RPM package',
    );
    await expect(opening.bytes(whole.subarray(0, -9), 'unsigned', { name })).rejects.toThrow(
      'cannot trust sample 1.0-1: the sha256 digest of its payload is wrong',
    );
    const limits = { unpackedBytes: 300, entries: 9, controlBytes: 2 ** 20 };
    await expect(opening.path(path, 'unsigned', { name, limits })).rejects.toThrow(
      'cannot decompress the payload of sample 1.0-1: it unpacks to more than 300 bytes',
    );
    await expect(opening.path(path, 'unsigned', { name, limits: { ...limits, entries: 0 } })).rejects.toThrow(
      'cannot read sample 1.0-1: it has more than 0 entries',
    );
  });

  it('opens a package without files', async () => {
    expect((await opening.path(build({ files: {} }))).entries).toEqual([]);
  });

  it('keeps to its limits', async () => {
    const path = build({ files: { a: 'text', b: 'text'.repeat(1000) } });
    const limits = { unpackedBytes: 4800, entries: 2, controlBytes: 2 ** 20 };
    const open = (change: Partial<typeof limits>) =>
      opening.path(path, 'unsigned', { limits: { ...limits, ...change } });
    await open({});
    await expect(open({ entries: 1 })).rejects.toThrow('it has more than 1 entries');
    await expect(open({ controlBytes: 1000 })).rejects.toThrow(
      'its signature header has more than 1000 bytes',
    );
    await expect(open({ unpackedBytes: 4000 })).rejects.toThrow('it unpacks to more than 4000 bytes');
  });
});
