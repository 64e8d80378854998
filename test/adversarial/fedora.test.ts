import { createHash, randomBytes } from 'node:crypto';
import { copyFileSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import type { ServerResponse } from 'node:http';
import { basename, join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { readLock } from '../../build/repository/lock.js';
import { Place } from '../support/cli.js';
import {
  fedoraDefinition,
  fedoraTools,
  library,
  libraryPackage,
  made,
  placeOf,
  program,
  refusal,
  rewritePrimary,
  serverPackage,
  serveMirror,
  urlOf,
  Workshop,
  type MirrorServer,
  type Spec,
} from '../support/fedora-place.js';
import { metalinkXml, repomdOf, repomdXml } from '../support/rpm-repository.js';
import { binaryTag, partsOf, resealed, rpmOf, textTag, withTags } from '../support/rpm-bytes.js';
import { requireTools } from '../support/tools.js';

const patience = { timeout: 120_000 };
const fast = ['--compression', 'none'];

/** Repositories, mirrors and packages of people who wish us ill, or have made a mistake. */
describe.skipIf(!requireTools(...fedoraTools))('of Fedora', patience, () => {
  let workshop: Workshop;
  let definition: string;
  /** The server, then what it needs. */
  let tiny: readonly string[];
  let place: Place;
  beforeAll(() => {
    workshop = new Workshop();
    definition = fedoraDefinition(workshop.key.fingerprint);
    tiny = workshop.tiny();
  }, 120_000);
  afterAll(() => {
    workshop.remove();
  });
  beforeEach(() => {
    place = new Place({ 'tiny.yaml': definition });
  });
  afterEach(() => {
    place.remove();
  });

  const others = (): readonly string[] => tiny.slice(1);
  /** Of a repository's directory or URL. */
  const from = (repository: string): readonly string[] => [
    ...['--mirror', repository.startsWith('/') ? urlOf(repository) : repository],
    ...['--keyring', workshop.keyring],
  ];
  const refused = (repository: string, ...options: readonly string[]): Promise<string> =>
    refusal(place, 1, ['build', 'tiny.yaml', ...fast, ...from(repository), ...options]);
  const built = (repository: string, ...options: readonly string[]): Promise<string> =>
    place.ok(['build', 'tiny.yaml', ...fast, ...from(repository), ...options]);
  /** The server with these changes, beside all the others. */
  const withServer = (more: Partial<Spec>, ...further: readonly (string | Spec)[]): string =>
    workshop.repository([serverPackage(more), ...others(), ...further]);
  /** The server's file changed, with an index that is right about it. */
  const withBytes = (change: (rpm: Buffer) => Buffer): string => {
    const path = join(workshop.directory, `changed-${randomBytes(4).toString('hex')}.rpm`);
    writeFileSync(path, change(readFileSync(tiny[0] ?? '')));
    return workshop.repository([path, ...others()]);
  };
  /** Changes what an index says of the server. */
  const rewriteServer = (directory: string, change: (xml: string) => string): void => {
    rewritePrimary(directory, (xml) =>
      xml.replace(/<package type="rpm">\n {2}<name>tiny-server<[^]*?<\/package>/, change),
    );
  };
  /** An index that lies about the server, whose file is what it was. */
  const withRecord = (change: (xml: string) => string): string => {
    const directory = workshop.repository(tiny);
    rewriteServer(directory, change);
    return directory;
  };
  describe('a package', () => {
    const named = /^cannot trust (?:\S+ )?tiny-server\S* 1\.0-1: /;

    it('without a signature', async () => {
      const line = await refused(withServer({ signer: 'nobody' }));
      expect(line).toMatch(named);
      expect(line).toContain(': it is not signed; ');
    });

    it('whose payload was changed', async () => {
      const line = await refused(
        withBytes((rpm) => {
          const last = rpm.length - 20;
          rpm[last] = (rpm[last] ?? 0) ^ 1;
          return rpm;
        }),
      );
      expect(line).toMatch(named);
      expect(line).toContain(': the sha256 digest of its payload is wrong; ');
    });

    it('whose header was changed, with right digests and the old signature', async () => {
      const line = await refused(
        withBytes((rpm) => {
          const parts = partsOf(rpm);
          const changed = partsOf(
            resealed({ ...parts, header: withTags(parts.header, textTag(1004, 'Evil package')) }),
          );
          const signature = parts.signatures.find(({ tag }) => tag === 268);
          return rpmOf({
            ...changed,
            signatures: withTags(changed.signatures, binaryTag(268, signature?.data ?? Buffer.alloc(0))),
          });
        }),
      );
      expect(line).toMatch(named);
      expect(line).toContain(
        `: the signature of key ${workshop.key.fingerprint.slice(-16)} does not fit: it was changed; `,
      );
    });

    it('signed by a stranger', async () => {
      const stranger = workshop.makeKey();
      const line = await refused(withServer({ signer: stranger }));
      expect(line).toMatch(named);
      expect(line).toContain(
        `: it is signed by key ${stranger.fingerprint.slice(-16)}, which is not at hand; `,
      );
      expect(line).toContain('--keyring');
      // The same repository is right for who asks for that key.
      const both = workshop.keyFile(workshop.key, stranger);
      await place.ok([
        ...['build', 'tiny.yaml', ...fast, '--keyring', both],
        ...['--mirror', urlOf(withServer({ signer: stranger }))],
      ]);
      // And what has been taken once for one is not taken for another.
      expect(await refused(withServer({ signer: stranger }), '--locked')).toMatch(named);
    });

    it('cut off, under an index that is right about what is left', async () => {
      expect(await refused(withBytes((rpm) => rpm.subarray(0, rpm.length - 100)))).toMatch(named);
      for (const size of [0, 50, 96, 500, 2000]) {
        const directory = workshop.repository(tiny);
        const path = join(directory, basename(tiny[0] ?? ''));
        const left = readFileSync(path).subarray(0, size);
        const sum = createHash('sha256').update(left).digest('hex');
        writeFileSync(path, left);
        rewriteServer(directory, (xml) =>
          xml
            .replace(/(<checksum type="sha256" pkgid="YES">)\w+/, `$1${sum}`)
            .replace(/<size package="\d+"/, `<size package="${size}"`),
        );
        expect(await refused(directory)).toMatch(/^cannot (?:read|fetch) .*tiny-server/);
      }
    });

    it.each([
      ['version', 'ver="1.0"', 'ver="9.9"'],
      ['release', 'rel="1"', 'rel="9"'],
      ['epoch', 'epoch="0"', 'epoch="7"'],
      ['architecture', `<arch>${made}<`, '<arch>noarch<'],
    ])('of another %s than the index says', async (_, truth, lie) => {
      expect(await refused(withRecord((xml) => xml.replace(truth, lie)))).toMatch(
        /^cannot use package tiny-server .*: the file of that hash is tiny-server 1\.0-1 \(/,
      );
    });

    it('of another name than the index says', async () => {
      const directory = workshop.repository(others());
      rewritePrimary(directory, (xml) => xml.replace('<name>libinner<', '<name>tiny-server<'));
      expect(await refused(directory)).toMatch(
        /^cannot use package tiny-server 1\.0-1 .*: the file of that hash is libinner 1\.0-1 /,
      );
    });

    it('of an older version that is still signed, under the number of a newer one', async () => {
      const old = workshop.rpm(serverPackage());
      const directory = withServer({ version: '2.0' });
      const file = `tiny-server-2.0-1.${made}.rpm`;
      copyFileSync(old, join(directory, file));
      const bytes = readFileSync(old);
      rewriteServer(directory, (xml) =>
        xml
          .replace(/(pkgid="YES">)\w+/, `$1${createHash('sha256').update(bytes).digest('hex')}`)
          .replace(/<size package="\d+"/, `<size package="${bytes.length}"`),
      );
      expect(await refused(directory)).toMatch(
        /^cannot use package tiny-server 2\.0-1 .*: the file of that hash is tiny-server 1\.0-1 /,
      );
    });

    it('of another hash than the index says, or of another size', async () => {
      const hash = await refused(withRecord((xml) => xml.replace(/(pkgid="YES">)\w{8}/, '$100000000')));
      expect(hash).toMatch(/^cannot fetch \S+tiny-server\S+: expected sha256 00000000\w+, got \w+; ./);
      const size = await refused(withRecord((xml) => xml.replace(/<size package="\d/, '$&1')));
      expect(size).toMatch(/^cannot fetch \S+tiny-server\S+: expected \d+ bytes, got \d+; ./);
    });

    it.each(['../../../etc/passwd', '/etc/passwd', 'http://127.0.0.1:1/x.rpm', 'a/%2e%2e/b', 'a\\..\\b'])(
      'at %s',
      async (location) => {
        const directory = withRecord((xml) =>
          xml.replace(/location href="[^"]*"/, () => `location href="${location}"`),
        );
        expect(await refused(directory)).toMatch(
          /^cannot read \S+ at tiny-server: the location .* leaves the repository; /,
        );
      },
    );

    it('at a place with blanks and the like, which a lock file can name', async () => {
      const directory = workshop.repository(tiny);
      const odd = 'odd #1 ? 100%.rpm';
      renameSync(join(directory, basename(tiny[0] ?? '')), join(directory, odd));
      rewriteServer(directory, (xml) => xml.replace(/location href="[^"]*"/, `location href="${odd}"`));
      await built(directory);
      rmSync(place.cache, { recursive: true });
      await built(directory, '--locked');
    });

    it('whose epoch 0 is written down, which an index does not tell from none', async () => {
      const directory = withServer({ epoch: 0 });
      await built(directory);
      await built(directory, '--locked');
    });

    it('without anything that is asked for', async () => {
      place.write('tiny.yaml', definition.replace('[tinyd]', '[tinid]'));
      expect(await refused(workshop.repository(tiny))).toBe(
        'cannot find program tinid: package tiny-server has no program of that name; did you mean tinyd?',
      );
    });
  });

  describe('a repository', () => {
    it('without the package, or with one of nearly the name', async () => {
      expect(await refused(workshop.repository(others()))).toMatch(
        new RegExp(
          `^cannot find package tiny-server: Fedora 9 has none of that name for ${made}; choose another release with --suite, or correct packages in the definition$`,
        ),
      );
      const line = await refused(workshop.repository([serverPackage({ name: 'tiny-serve' }), ...others()]));
      expect(line).toMatch(/ \(did you mean tiny-serve\?\)$/);
    });

    it('for another architecture', async () => {
      const foreign = made === 'x86_64' ? 'aarch64' : 'x86_64';
      const directory = workshop.repository(tiny);
      expect(await refused(directory, '--arch', foreign)).toMatch(
        new RegExp(`^cannot find package tiny-server: Fedora 9 has none of that name for ${foreign}; `),
      );
    });

    it('without a list of packages', async () => {
      const directory = workshop.repository(tiny);
      const repomd = join(directory, 'repodata/repomd.xml');
      writeFileSync(repomd, readFileSync(repomd, 'utf8').replaceAll('type="primary"', 'type="primal"'));
      expect(await refused(directory)).toMatch(
        /^cannot read \S+repomd\.xml: it names no primary, which is the list of packages; ./,
      );
    });

    it.each([
      ['nothing', ''],
      ['a web page', '<!DOCTYPE html><html><body>Please log in</body></html>'],
      ['half a document', '<?xml version="1.0"?><repomd xmlns="http://linux.duke.edu/metadata/repo"><data'],
      ['entities', '<!DOCTYPE r [<!ENTITY a "&a;&a;">]><repomd><revision>&a;</revision></repomd>'],
      ['no text', Buffer.from([0xff, 0xfe, 0, 0x80])],
      ['too much', Buffer.alloc(2 * 1024 ** 2, ' ')],
      ['no depth', Buffer.from(`<repomd>${'<data>'.repeat(100_000)}`)],
    ])('whose repomd.xml is %s', async (_, text) => {
      const directory = workshop.repository(tiny);
      writeFileSync(join(directory, 'repodata/repomd.xml'), text);
      expect(await refused(directory)).toMatch(/^cannot \w+ \S+repomd\.xml: .*; ./);
    });

    it('whose list of packages is no XML, or is cut off, or is not packed as it says', async () => {
      for (const change of [
        () => 'hello',
        (xml: string) => xml.slice(0, -30),
        (xml: string) => xml.replace('<name>', '<name'),
        (xml: string) => `BZh9${xml}`,
      ]) {
        const directory = workshop.repository(tiny);
        rewritePrimary(directory, change);
        expect(await refused(directory)).toMatch(/^cannot read \S+primary\.xml: .*; ./);
      }
    });

    it('of a time that no calendar has', async () => {
      const directory = workshop.repository(tiny);
      const repomd = join(directory, 'repodata/repomd.xml');
      const text = readFileSync(repomd, 'utf8');
      writeFileSync(repomd, text.replaceAll(/<timestamp>\d+/g, '<timestamp>999999999999999'));
      await built(directory);
      const doctor = await place.ok(['doctor', '--distro', 'fedora', '--suite', '9', ...from(directory)]);
      expect(doctor).toContain('mirror of a day that is none');
      // That time is not remembered: the right one is good still.
      writeFileSync(repomd, text);
      await place.ok(['lock', 'tiny.yaml', ...from(directory)]);
    });

    it('of the past', async () => {
      const directory = workshop.repository(tiny, 1_700_000_000);
      await built(directory);
      workshop.fill(directory, [], 1_600_000_000);
      const line = await refusal(place, 1, ['lock', 'tiny.yaml', ...from(directory)]);
      expect(line).toMatch(
        /^cannot use \S+repomd\.xml: it is dated 2020-09-13T12:26:40Z, but one of 2023-11-14T22:13:20Z has been seen; ./,
      );
      // What is locked is good, whatever the repository says now.
      await built(directory, '--locked');
    });

    it('whose files belong to two packages, which have the same', async () => {
      const outer = libraryPackage('libouter', 'libouter.so.1', ['libinner.so.2', 'libc.so.6']);
      const directory = workshop.repository([
        ...tiny.filter((path) => !/lib(?:inner|outer)/.test(path)),
        { ...outer, files: { ...outer.files, 'usr/share/shared': 'the same\n' } },
        libraryPackage('libinner', 'libinner.so.2', [], {
          files: {
            'usr/lib64/libinner.so.2': { content: library(made, 'libinner.so.2'), mode: 0o755 },
            'usr/share/shared': 'the same\n',
          },
        }),
      ]);
      place.write('tiny.yaml', `${definition}files: [/usr/share/shared]\n`);
      expect(await place.ok(['plan', 'tiny.yaml', ...from(directory)])).toMatch(
        /\/usr\/share\/shared +libinner 1\.0-1 /,
      );
    });

    it('whose order of packages is another', async () => {
      const orders = [tiny, [...tiny].reverse()].map((order) => {
        const directory = workshop.repository(tiny);
        rewritePrimary(directory, (xml) => {
          const packages = xml.match(/<package type="rpm">[^]*?<\/package>\n/g) ?? [];
          expect(packages).toHaveLength(tiny.length);
          const sorted = order.map(
            (path) => packages.find((one) => one.includes(`href="${basename(path)}"`)) ?? '',
          );
          return `${xml.slice(0, xml.indexOf('<package'))}${sorted.join('\n')}\n</metadata>\n`;
        });
        return directory;
      });
      const digests: string[] = [];
      const locks: string[] = [];
      for (const directory of orders) {
        rmSync(place.cache, { recursive: true, force: true });
        rmSync(place.path('tiny.lock.yaml'), { force: true });
        digests.push(/^digest +(\S+)$/m.exec(await built(directory))?.[1] ?? '');
        locks.push(readFileSync(place.path('tiny.lock.yaml'), 'utf8'));
      }
      expect(digests[0]).toMatch(/^sha256:/);
      expect(new Set(digests).size).toBe(1);
      expect(new Set(locks).size).toBe(1);
    });
  });

  describe('an address', () => {
    it('with an encoded slash', async () => {
      expect(await refused(`${urlOf(workshop.directory)}a%2Fb/`)).toMatch(/^cannot \w+ file:.*; ./);
      const directory = workshop.repository(tiny);
      await built(directory);
      rmSync(place.cache, { recursive: true });
      const lock = readFileSync(place.path('tiny.lock.yaml'), 'utf8');
      place.write(
        'tiny.lock.yaml',
        lock.replace(/path: .*/, () => 'path: "a%2f..%2f..%2fetc%2fpasswd"'),
      );
      expect(await refused(directory, '--locked')).toMatch(/^cannot fetch file:.*; ./);
    });

    it('of a mirror that is dead, beside one that is not', async () => {
      const top = workshop.tree({ [made]: tiny });
      for (const dead of ['http://127.0.0.1:1/', 'file:///dev/null/']) {
        expect(await refused(dead)).toMatch(/^cannot \w+ \S+repomd\.xml: .*; ./);
        await built(dead, '--mirror', urlOf(top));
        rmSync(place.cache, { recursive: true });
        await built(urlOf(top), '--mirror', dead, '--locked');
        rmSync(place.path('tiny.lock.yaml'));
        rmSync(place.out, { recursive: true });
      }
      // Single repositories complete each other: none of them may be left out in silence.
      const single = urlOf(workshop.repository(tiny));
      expect(await refused(single, '--mirror', 'http://127.0.0.1:1/')).toMatch(
        /^cannot fetch \S+repomd\.xml: /,
      );
    });
  });

  describe('a release and its updates', () => {
    it('give the newest, and the lock file knows where it was', async () => {
      const top = workshop.tree({ [made]: tiny }, [
        serverPackage({ version: '1.1' }),
        libraryPackage('libinner', 'libinner.so.2', [], { version: '0.9' }),
      ]);
      await built(top);
      const locked = (await readLock(place.path('tiny.lock.yaml')))?.targets[0]?.packages ?? [];
      expect(locked.map(({ name, version, suite }) => `${name} ${version} ${suite}`)).toEqual(
        expect.arrayContaining(['tiny-server 1.1-1 updates', 'libinner 1.0-1 fedora']),
      );
      rmSync(place.cache, { recursive: true });
      await built(top, '--locked');
    });

    it('of which one is missing are none', async () => {
      const top = workshop.tree({ [made]: tiny });
      rmSync(join(top, 'updates'), { recursive: true });
      expect(await refused(top)).toMatch(
        /^cannot fetch \S+updates\/9\/\S+repomd\.xml: the server does not have it; ./,
      );
      expect(await refused(top, '--arch', 'x86_64,aarch64')).toMatch(/^cannot fetch \S+repomd\.xml: /);
    });
  });

  describe('a layout', () => {
    const notLayout = (): readonly string[] => tiny.filter((path) => !path.includes('filesystem'));
    const directories = Object.fromEntries(
      ['usr', 'usr/bin', 'usr/lib', 'usr/lib64'].map((path) => [path, { directory: true } as const]),
    );
    const withLayout = (links: Readonly<Record<string, string>>): string =>
      workshop.repository([
        ...notLayout(),
        {
          name: 'filesystem',
          arch: made,
          files: {
            ...directories,
            ...Object.fromEntries(Object.entries(links).map(([path, link]) => [path, { link }])),
          },
        },
      ]);

    it('of absolute links, or links over links', async () => {
      await built(withLayout({ lib: '/usr/lib', lib64: '/usr/lib64' }));
      rmSync(place.path('tiny.lock.yaml'));
      await built(withLayout({ lib: 'usr/lib', x: 'y', y: 'usr/lib64', lib64: 'x' }));
    });

    it.each([
      [{ lib64: '.' }],
      [{ lib64: '/' }],
      [{ lib64: '../../../../usr/lib' }],
      [{ lib64: 'usr/bin/../nothing' }],
      [{ lib64: 'usr/'.repeat(900) }],
      [{ 'usr/lib64/x': '..', lib64: 'usr/lib64/x/x/x' }],
    ])('that leads nowhere: %j', async (links) => {
      expect(await refused(withLayout(links))).toMatch(/^cannot .*; ./);
    });
  });

  describe('a library', () => {
    const preferring = (name: string): void => {
      place.write('tiny.yaml', definition.replace('    keys:', `    prefer: [${name}]\n    keys:`));
    };
    const twin = (name: string, more: Partial<Spec> = {}): Spec =>
      libraryPackage(name, 'libinner.so.2', [], more);

    it('that two packages provide: nobody guesses, prefer decides', async () => {
      const directory = workshop.repository([...tiny, twin('libinner-ng')]);
      expect(await refused(directory)).toBe(
        'cannot choose the package of libinner.so.2: libinner and libinner-ng all provide it; name one of them under packages.fedora.prefer in the definition',
      );
      for (const name of ['libinner', 'libinner-ng']) {
        preferring(name);
        await built(directory);
        const lock = await readLock(place.path('tiny.lock.yaml'));
        const names = lock?.targets[0]?.packages.map((locked) => locked.name) ?? [];
        expect(names.filter((one) => one.startsWith('libinner'))).toEqual([name]);
      }
    });

    it('that two packages provide, of which one is required by its name', async () => {
      const needs = ['libinner.so.2', 'libc.so.6'];
      const outer = libraryPackage('libouter', 'libouter.so.1', needs);
      const directory = workshop.repository([
        ...tiny.filter((path) => !path.includes('libouter')),
        { ...outer, requires: [...(outer.requires ?? []), 'libinner-ng >= 1.0'] },
        twin('libinner-ng'),
      ]);
      const plan = await place.ok(['plan', 'tiny.yaml', ...from(directory)]);
      expect(plan).toMatch(/libinner\.so\.2 +libinner-ng 1\.0-1 /);
    });

    it('that a package only says it provides', async () => {
      const directory = workshop.repository([
        ...tiny,
        twin('libinner-empty', { files: { 'usr/share/nothing': '' } }),
      ]);
      expect(await place.ok(['plan', 'tiny.yaml', ...from(directory)])).toMatch(
        /libinner\.so\.2 +libinner 1\.0-1 /,
      );
      const alone = workshop.repository([
        ...tiny.filter((path) => !path.includes('libinner')),
        twin('libinner-empty', { files: { 'usr/share/nothing': '' } }),
      ]);
      expect(await refused(alone)).toMatch(/libinner\.so\.2.*; ./);
    });

    it('that nobody provides', async () => {
      const directory = workshop.repository(tiny.filter((path) => !path.includes('libinner')));
      const line = await refused(directory);
      expect(line).toMatch(/^cannot .*libinner\.so\.2.*; ./);
      expect(line).toContain('libouter.so.1');
    });

    it('that needs one which needs it', async () => {
      const directory = workshop.repository([
        ...tiny.filter((path) => !/lib(?:inner|outer)/.test(path)),
        libraryPackage('libouter', 'libouter.so.1', ['libinner.so.2', 'libouter.so.1'], {
          requires: ['libinner', 'tiny-server'],
        }),
        libraryPackage('libinner', 'libinner.so.2', ['libouter.so.1'], { requires: ['libouter'] }),
      ]);
      const plan = await place.ok(['plan', 'tiny.yaml', ...from(directory)]);
      expect(plan).toMatch(/^.*libinner\.so\.2 .*libouter\.so\.1 /m);
    });

    it('for another processor in the package of this one', async () => {
      const foreign = made === 'x86_64' ? 'aarch64' : 'x86_64';
      const directory = workshop.repository([
        ...tiny.filter((path) => !path.includes('libinner')),
        twin('libinner', { files: { 'usr/lib64/libinner.so.2': library(foreign, 'libinner.so.2') } }),
      ]);
      expect(await refused(directory)).toMatch(/libinner\.so\.2.*; ./);
    });
  });

  describe('a file', () => {
    const executable = (): Buffer => program(made, 'libouter.so.1', 'libc.so.6');
    const wanting = (path: string): void => {
      place.write('tiny.yaml', `${definition}files: [${path}]\n`);
    };

    it.each([
      ['setuid', 0o4755],
      ['setgid', 0o2755],
    ])('that is the program and %s', async (_, mode) => {
      const directory = withServer({ files: { 'usr/bin/tinyd': { content: executable(), mode } } });
      expect(await refused(directory)).toMatch(
        /^cannot put \/usr\/bin\/tinyd of package tiny-server in the image: it is setuid or setgid, .*; ./,
      );
    });

    it('of an account that nobody defines, where it is wanted', async () => {
      const files = {
        'usr/bin/tinyd': { content: executable(), mode: 0o755 },
        'usr/share/secret': { content: 'secret', user: 'stranger', group: 'strangers' },
      };
      const directory = withServer({ files });
      await built(directory);
      rmSync(place.path('tiny.lock.yaml'));
      wanting('/usr/share/secret');
      expect(await refused(directory)).toMatch(
        /^cannot put \/usr\/share\/secret of package tiny-server in the image: it belongs to stranger:strangers, which the package does not define; ./,
      );
    });

    it('with a capability that the definition does not declare', async () => {
      const capable = (capabilities: string): string =>
        withServer({ files: { 'usr/bin/tinyd': { content: executable(), mode: 0o755, capabilities } } });
      expect(await refused(capable('cap_sys_admin=ep'))).toMatch(
        /^cannot put \/usr\/bin\/tinyd of package tiny-server in the image: it carries the file capability SYS_ADMIN, .*; ./,
      );
      await built(capable('cap_net_raw=ep'));
    });

    it('that everybody may write to', async () => {
      const directory = withServer({ files: { 'usr/bin/tinyd': { content: executable(), mode: 0o777 } } });
      expect(await refused(directory)).toMatch(/: everybody may write to it, the service too; ./);
    });

    it('that is owned and not shipped', async () => {
      const directory = withServer({
        files: {
          'usr/bin/tinyd': { content: executable(), mode: 0o755 },
          'usr/share/ghost': { content: 'boo', ghost: true },
        },
      });
      wanting('/usr/share/ghost');
      expect(await refused(directory)).toMatch(
        /^cannot put \/usr\/share\/ghost in the image: no package of this image holds it; ./,
      );
    });
  });

  describe('a mirror', () => {
    let liar: MirrorServer;
    let honest: MirrorServer;
    let top: string;
    beforeAll(async () => {
      top = workshop.tree({ [made]: tiny });
      liar = await serveMirror(top);
      honest = await serveMirror(top);
    });
    afterEach(() => {
      liar.lie = undefined;
    });
    afterAll(async () => {
      await Promise.all([liar.close(), honest.close()]);
    });

    const both = (): readonly string[] => ['--mirror', honest.url];
    const lieAbout = (part: string, answer: (bytes: Buffer, response: ServerResponse) => void): void => {
      liar.lie = (path, response) => {
        if (!path.includes(part)) return false;
        answer(readFileSync(join(top, path)), response);
        return true;
      };
    };
    const announce = (length: number, response: ServerResponse): ServerResponse =>
      response.writeHead(200, { 'content-length': length });

    const lies: readonly [string, (bytes: Buffer, response: ServerResponse) => void][] = [
      [
        'more',
        (bytes, response) =>
          announce(bytes.length + 3, response).end(Buffer.concat([bytes, bytes.subarray(0, 3)])),
      ],
      ['less', (bytes, response) => announce(bytes.length - 3, response).end(bytes.subarray(0, -3))],
      ['nothing', (_, response) => announce(0, response).end()],
      [
        'more than it announces',
        (bytes, response) => {
          response.socket?.end(
            Buffer.concat([
              Buffer.from(`HTTP/1.1 200 OK\r\ncontent-length: ${bytes.length}\r\nconnection: close\r\n\r\n`),
              bytes,
              bytes,
            ]),
          );
        },
      ],
      [
        'less than it announces',
        (bytes, response) => {
          announce(bytes.length, response).write(bytes.subarray(0, -3), () => response.destroy());
        },
      ],
      [
        'more, without announcing it',
        (bytes, response) => {
          response.writeHead(200).write(bytes);
          response.end(bytes);
        },
      ],
      [
        'less, without announcing it',
        (bytes, response) => response.writeHead(200).end(bytes.subarray(0, -3)),
      ],
      [
        'other bytes',
        (bytes, response) => announce(bytes.length, response).end(Buffer.alloc(bytes.length, 'x')),
      ],
      [
        'a web page',
        (_, response) => response.writeHead(200, { 'content-type': 'text/html' }).end('<html>Log in</html>'),
      ],
    ];
    describe.each([
      ['a package', 'tiny-server-'],
      ['the list of packages', 'primary.xml'],
    ])('that sends of %s', (_, part) => {
      it.each(lies)('%s', async (how, lie) => {
        lieAbout(part, lie);
        if (how === 'more than it announces') {
          // Nobody reads what comes after the announced end.
          await built(liar.url);
          return;
        }
        expect(await refused(liar.url)).toMatch(/^cannot fetch \S+: .*; ./);
        await built(liar.url, ...both());
      });
    });

    it('that sends nothing of use as repomd.xml', async () => {
      lieAbout(`${placeOf()}/repodata/repomd.xml`, (bytes, response) =>
        response.writeHead(200).end(bytes.subarray(0, 100)),
      );
      expect(await refused(liar.url)).toMatch(/^cannot read \S+repomd\.xml: .*; ./);
      await built(liar.url, ...both());
    });

    it.each([404, 403, 500, 301])('that answers %d', async (status) => {
      liar.lie = (_, response) => {
        response.writeHead(status).end();
        return true;
      };
      expect(await refused(liar.url)).toMatch(/^cannot fetch \S+repomd\.xml: .*; ./);
      if (status !== 403) await built(liar.url, ...both());
    });

    describe('of a metalink', () => {
      /** Answers as Fedora's own list of mirrors does. @param versions of the release's repomd.xml */
      const listing = (
        versions: readonly Buffer[],
        mirrors: readonly string[],
        change = (text: string): string => text,
      ): void => {
        liar.lie = (path, response) => {
          if (path !== 'metalink') return false;
          const repo = new URL(response.req.url ?? '', 'http://localhost').searchParams.get('repo') ?? '';
          const isRelease = repo === 'fedora-9';
          const directory = isRelease ? placeOf() : `updates/9/Everything/${made}`;
          const known = isRelease ? versions : [repomdOf(join(top, directory))];
          const bases = mirrors.map((mirror) => `${mirror}${directory}/`);
          response.end(change(metalinkXml(known, bases)));
          return true;
        };
      };
      const list = (): string => `${liar.url}metalink`;
      const right = (): Buffer => repomdOf(join(top, placeOf()));
      const older = (): Buffer => Buffer.from(repomdXml({}, 1_600_000_000));

      it('that all have the right repomd.xml', async () => {
        listing([right()], [honest.url]);
        await built(list());
      });

      it('none of which has it', async () => {
        listing([older()], [honest.url, liar.url]);
        expect(await refused(list())).toMatch(
          /^cannot trust \S+repomd\.xml: its hash is none of those that the metalink lists; ./,
        );
      });

      it('that are behind, where the metalink lists what they have', async () => {
        listing([older(), right()], [honest.url]);
        await built(list());
      });

      it('of which the first is false', async () => {
        listing([right()], [`${liar.url}none/`, honest.url]);
        await built(list());
      });

      it('that names none, or is none', async () => {
        listing([right()], []);
        expect(await refused(list())).toMatch(/^cannot use \S+metalink: it names no mirror .*; ./);
        listing([right()], ['rsync://127.0.0.1/', 'ftp://127.0.0.1/']);
        expect(await refused(list())).toMatch(/^cannot use \S+metalink: it names no mirror .*; ./);
        for (const text of ['', '<metalink', '<!DOCTYPE html><html></html>', 'http://127.0.0.1/\n']) {
          liar.lie = (_, response) => {
            response.end(text);
            return true;
          };
          expect(await refused(list())).toMatch(/^cannot read \S+metalink: .*; ./);
        }
      });

      it('without a hash that is safe', async () => {
        listing([right()], [honest.url], (text) =>
          text.replace(/<hash type="sha(?:256|512)">\w+<\/hash>/g, ''),
        );
        expect(await refused(list())).toMatch(
          /^cannot trust \S+metalink: it has no SHA-256 or SHA-512 hash .*; ./,
        );
      });
    });
  });
});
