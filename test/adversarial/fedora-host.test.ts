import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { Place, type RunOptions } from '../support/cli.js';
import {
  fedoraDefinition,
  fedoraTools,
  made,
  neighbours,
  placeOf,
  refusal,
  release,
  serverPackage,
  urlOf,
  Workshop,
} from '../support/fedora-place.js';
import { detachedSignature, type SigningKey } from '../support/rpm.js';
import { repomdOf } from '../support/rpm-repository.js';
import { requireThat, requireTools } from '../support/tools.js';

const isReady =
  requireTools(...fedoraTools, 'unshare', 'mount') &&
  requireThat(process.getuid?.() === 0, 'root, to give the program another /etc');

/** What the files of a host say: whose repositories, with which keys, under which conditions. */
describe.skipIf(!isReady)('a host of Fedora', { timeout: 120_000 }, () => {
  let workshop: Workshop;
  let stranger: SigningKey;
  let tiny: readonly string[];
  let repository: string;
  let place: Place;
  beforeAll(() => {
    workshop = new Workshop();
    stranger = workshop.makeKey();
    tiny = workshop.tiny();
    repository = workshop.repository(tiny);
  }, 120_000);
  afterAll(() => {
    workshop.remove();
  });
  beforeEach(() => {
    place = new Place({ 'tiny.yaml': definition() });
  });
  afterEach(() => {
    place.remove();
  });

  const definition = (pinned = workshop.key.fingerprint, wanted = 'host'): string =>
    fedoraDefinition(pinned).replace(`release: ${release}`, `release: ${wanted}`);

  interface Host {
    readonly osRelease?: string;
    /** Text of /etc/yum.repos.d/test.repo. */
    readonly repo?: string;
    /** Files below /etc/pki/rpm-gpg. */
    readonly keys?: Readonly<Record<string, string>>;
  }
  /** Runs the program where /etc is that of such a host. */
  function on({ osRelease = `ID=fedora\nVERSION_ID=${release}\n`, repo = '', keys = {} }: Host): RunOptions {
    const etc = mkdtempSync(join(workshop.directory, 'etc-'));
    for (const directory of ['yum.repos.d', 'pki/rpm-gpg'])
      mkdirSync(join(etc, directory), { recursive: true });
    writeFileSync(join(etc, 'os-release'), osRelease);
    writeFileSync(join(etc, 'yum.repos.d/test.repo'), repo);
    for (const [name, text] of Object.entries(keys)) writeFileSync(join(etc, 'pki/rpm-gpg', name), text);
    const script = 'mount --bind "$1" /etc && shift && exec "$@"';
    return { under: ['unshare', '--mount', 'sh', '-c', script, 'sh', etc] };
  }
  /** @param lines further options of the repository */
  const repo = (directory: string, ...lines: readonly string[]): string =>
    ['[fedora]', 'name=Test', `baseurl=${urlOf(directory)}`, ...lines, ''].join('\n');
  const expected = `RPM-GPG-KEY-fedora-${release}-primary`;
  const gpgKey = (name = expected): string => `gpgkey=file:///etc/pki/rpm-gpg/${name}`;
  const own = (): Readonly<Record<string, string>> => ({ [expected]: workshop.key.publicKey });
  const args = ['build', 'tiny.yaml', '--compression', 'none', '--distro', 'fedora'];

  it('gives the release, the repositories and the keys', async () => {
    const how = on({ repo: repo(repository, gpgKey()), keys: own() });
    expect(await place.ok(args, how)).toContain(`packages (${release})`);
    // By what the host is, without being told.
    expect(await place.ok(['plan', 'tiny.yaml', '--distro', 'auto'], how)).toContain(`fedora ${release}`);
    const doctor = await place.ok(['doctor', '--suite', release], how);
    expect(doctor).toContain('/etc/yum.repos.d/test.repo [fedora]');
  });

  it('has no say where it is of another kind: exit 2 and --suite', async () => {
    for (const osRelease of ['ID=debian\nVERSION_ID="12"\n', 'ID=arch\n', '']) {
      const line = await refusal(place, 2, args, on({ osRelease }));
      expect(line).toMatch(
        /^cannot choose packages of Fedora: no release is named, and this host is no Fedora; name one with --suite, /,
      );
    }
    const how = on({ osRelease: 'ID=debian\n', keys: own() });
    await place.ok([...args, '--suite', release, '--mirror', urlOf(repository)], how);
  });

  it('cannot lead out of a mirror with its release', async () => {
    for (const version of ['../../../etc', '9/../8', '', '9?x=', 'a b']) {
      const how = on({ osRelease: `ID=fedora\nVERSION_ID="${version}"\n` });
      expect(await refusal(place, 2, [...args, '--mirror', urlOf(repository)], how)).toMatch(
        /^cannot choose .*Fedora.*; name one with --suite/,
      );
    }
  });

  it('cannot switch signatures off with gpgcheck=0, nor with anything else', async () => {
    const unsigned = workshop.repository([serverPackage({ signer: 'nobody' }), ...tiny.slice(1)]);
    for (const lines of [
      ['gpgcheck=0'],
      ['gpgcheck=0', 'repo_gpgcheck=0', 'pkg_gpgcheck=0', 'localpkg_gpgcheck=0', 'sslverify=0'],
      ['gpgcheck=no', `[main]`, 'gpgcheck=0', 'assumeyes=1', 'tsflags=nocrypto'],
    ]) {
      const how = on({ repo: repo(unsigned, gpgKey(), ...lines), keys: own() });
      const outcome = await place.run([...args, '-q'], how);
      expect(outcome.code).toBe(1);
      expect(outcome.stderr).toContain(
        'warning: /etc/yum.repos.d/test.repo [fedora]: gpgcheck=0 is not followed',
      );
      expect(outcome.stderr).toMatch(
        /^error: cannot trust package tiny-server 1\.0-1: it is not signed; use a repository whose packages are signed$/m,
      );
      expect(place.list('out')).toEqual([]);
    }
  });

  it('has a key that is not pinned: it is named', async () => {
    const other = workshop.repository([serverPackage({ signer: stranger }), ...tiny.slice(1)]);
    const keys = { ...own(), other: stranger.publicKey };
    const how = on({ repo: repo(other, gpgKey(), gpgKey('other')), keys });
    expect(await refusal(place, 1, args, how)).toBe(
      `cannot trust package tiny-server 1.0-1: it is signed by ${stranger.fingerprint}, which is none of the keys asked for; if you trust that key, add its fingerprint to keys in the definition`,
    );
    // What the line says to do helps.
    const both = `${workshop.key.fingerprint}, ${stranger.fingerprint}`;
    place.write('tiny.yaml', definition(both));
    await place.ok(args, how);
    // And who takes the pin back is heard, whatever the cache remembers.
    rmSync(place.path('tiny.lock.yaml'));
    rmSync(place.out, { recursive: true });
    place.write('tiny.yaml', definition());
    expect(await refusal(place, 1, args, how)).toContain(`it is signed by ${stranger.fingerprint}, `);
  });

  it('has another key under the expected name', async () => {
    const how = on({
      repo: repo(repository, gpgKey()),
      keys: { [expected]: stranger.publicKey, broken: 'no key', empty: '' },
    });
    const line = await refusal(place, 1, [...args, '--offline'], how);
    expect(line).toMatch(
      new RegExp(
        `^cannot trust package \\S+ 1\\.0-1: it is signed by key ${workshop.key.fingerprint.slice(-16)}, which is not at hand; .*--keyring`,
      ),
    );
  });

  it.each([
    'file:///a%2Fb',
    'file:///dev/zero',
    'file:///etc/pki',
    'file:///%00',
    '/dev/zero',
    'https://',
    ':',
  ])('names %s as its key', async (place_) => {
    const how = on({ repo: repo(repository, `gpgkey=${place_}`), keys: own() });
    await place.ok([...args, '--offline'], how);
    const line = await refusal(
      place,
      1,
      ['lock', 'tiny.yaml', '--offline', '--distro', 'fedora'],
      on({ repo: repo(repository, `gpgkey=${place_}`, 'repo_gpgcheck=1'), keys: own() }),
    );
    expect(line).toMatch(/^cannot (?:use|trust|fetch|read) /);
  });

  describe('that asks for a signature of repomd.xml', () => {
    const signed = (key: SigningKey | undefined, of?: Buffer): string => {
      const directory = mkdtempSync(join(workshop.directory, 'signed-'));
      cpSync(repository, directory, { recursive: true });
      if (key !== undefined) {
        const signature = detachedSignature(of ?? repomdOf(directory), key);
        writeFileSync(join(directory, 'repodata/repomd.xml.asc'), signature);
      }
      return directory;
    };
    const asking = (directory: string, ...lines: readonly string[]): RunOptions =>
      on({ repo: repo(directory, gpgKey(), 'repo_gpgcheck=1', ...lines), keys: own() });

    it('gets one', async () => {
      const how = asking(signed(workshop.key));
      await place.ok(args, how);
      expect(await place.ok(['doctor', '--suite', release], how)).toContain('vouched for by keys of ');
    });

    it('gets none', async () => {
      expect(await refusal(place, 1, args, asking(signed(undefined)))).toMatch(
        /^cannot trust \S+repomd\.xml: it has no signature: there is no repomd\.xml\.asc; ./,
      );
    });

    it('gets that of a stranger, or of another document, or no signature under its name', async () => {
      expect(await refusal(place, 1, args, asking(signed(stranger)))).toMatch(
        new RegExp(
          `^cannot trust \\S+repomd\\.xml: key ${stranger.fingerprint.slice(-16)} is not in the keyring; .`,
        ),
      );
      expect(await refusal(place, 1, args, asking(signed(workshop.key, Buffer.from('other'))))).toMatch(
        /^cannot trust \S+repomd\.xml: the signature of key \w+ does not fit .*; ./,
      );
      for (const text of ['', 'hello', '-----BEGIN PGP SIGNATURE-----\n\n-----END PGP SIGNATURE-----\n']) {
        const directory = signed(undefined);
        writeFileSync(join(directory, 'repodata/repomd.xml.asc'), text);
        expect(await refusal(place, 1, args, asking(directory))).toMatch(
          /^cannot trust \S+repomd\.xml: .*; ./,
        );
      }
    });

    it('names no key', async () => {
      const how = on({ repo: repo(signed(workshop.key), 'repo_gpgcheck=1'), keys: own() });
      expect(await refusal(place, 1, args, how)).toMatch(
        /^cannot trust \S+repomd\.xml: key \w+ is not in the keyring; ./,
      );
    });

    it('names a key that anybody on the way could exchange', async () => {
      const how = on({
        repo: repo(signed(workshop.key), 'gpgkey=http://127.0.0.1:1/key', 'repo_gpgcheck=1'),
        keys: own(),
      });
      expect(await refusal(place, 1, args, how)).toMatch(
        /^cannot use \/etc\/yum\.repos\.d\/test\.repo \[fedora\]: its key http:\/\/127\.0\.0\.1:1\/key is neither a file nor an https URL; ./,
      );
    });
  });

  it('has two repositories, of which one is dead, until it is disabled', async () => {
    const dead = '[dead]\nname=Dead\nbaseurl=file:///nowhere/\n';
    const line = await refusal(
      place,
      1,
      args,
      on({ repo: `${repo(repository, gpgKey())}${dead}`, keys: own() }),
    );
    expect(line).toMatch(/^cannot fetch file:\/\/\/nowhere\/repodata\/repomd\.xml: .*; ./);
    expect(line).toMatch(/; or switch it off with enabled=0 in \/etc\/yum\.repos\.d\/test\.repo \[dead\]$/);
    await place.ok(args, on({ repo: `${repo(repository, gpgKey())}${dead}enabled=0\n`, keys: own() }));
  });

  it('has dead repositories that it may do without, but not without all', async () => {
    const skip = 'skip_if_unavailable=1\n';
    const dead = `[dead]\nbaseurl=file:///nowhere/\n${skip}`;
    const how = on({ repo: `${repo(repository, gpgKey())}${dead}`, keys: own() });
    const outcome = await place.run([...args, '-q'], how);
    expect(outcome.code).toBe(0);
    expect(outcome.stderr).toMatch(
      /^warning: cannot fetch file:\/\/\/nowhere\/\S+: .*; \/etc\/yum\.repos\.d\/test\.repo \[dead\] is left out, it has skip_if_unavailable$/m,
    );
    place.remove();
    place = new Place({ 'tiny.yaml': definition() });
    const none = await place.run([...args, '-q'], on({ repo: dead.replace('dead', 'fedora') }));
    expect(none.code).toBe(1);
    expect(none.stderr).toMatch(/^error: cannot find packages: none of the repositories can be had; ./m);
  });

  it('puts its release and architecture into the addresses', async () => {
    const top = workshop.tree({ [made]: [serverPackage(), ...neighbours()] });
    const address = `${urlOf(top)}${placeOf('$basearch').replace(`/${release}/`, '/$releasever/')}`;
    await place.ok(args, on({ repo: `[fedora]\nbaseurl=${address}\n${gpgKey()}\n`, keys: own() }));
  });
});
