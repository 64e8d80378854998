import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { BuiltImage } from '../../build/image/engine.js';
import { formatLock, readLock } from '../../build/repository/lock.js';
import { baseReference, importTinyBase, tinySigner } from '../support/base-image.js';
import { privateStorage, type PrivateStorage } from '../support/buildah.js';
import { errorLines, Place, type RunOptions } from '../support/cli.js';
import { fedoraTools, made, release as treeRelease, serveMirror, Workshop } from '../support/fedora-place.js';
import { hostArchitecture, otherArchitecture } from '../support/host.js';
import { startRegistry, type Registry } from '../support/registry.js';
import { requireThat, requireTools } from '../support/tools.js';

const definition = `name: tiny-fedora
title: Tiny
from: registry.fedoraproject.org/fedora-minimal:45
packages:
  fedora: { release: 45, package: tiny, keys: [${'A'.repeat(40)}] }
roots: [tinyd]
user: { name: tiny, id: 201 }
`;
const chooses = 'the package manager of registry.fedoraproject.org/fedora-minimal:45 chooses it';

/** What is said before anything is pulled. */
describe('an image upon a base', () => {
  const place = new Place({
    'tiny.yaml': definition,
    'host.yaml': definition.replace('release: 45', 'release: host'),
    'both.yaml': definition.replace('packages:', 'packages:\n  debian: { package: tiny }'),
    'debian.yaml': definition.replace(/fedora: .*/, 'debian: { package: tiny }'),
  });
  afterAll(() => {
    place.remove();
  });
  const said = async (...args: readonly string[]): Promise<string> => {
    const { code, stdout, stderr } = await place.run(args);
    expect([code, stdout]).toEqual([2, '']);
    expect(stderr.trimEnd().split('\n')).toHaveLength(1);
    return stderr.replaceAll(`${place.directory}/`, '');
  };

  it.each([
    [
      ['plan'],
      `cannot say what tiny-fedora holds: ${chooses}; build it, and see what is in it with npx dhcpd-scratch compare`,
    ],
    [['why', '/etc/passwd'], `cannot say what tiny-fedora holds: ${chooses}; `],
    [
      ['build', '--engine', 'oci'],
      'cannot build tiny-fedora: an image upon a base is made by buildah; leave --engine out',
    ],
    [
      ['build', '--offline'],
      'cannot build tiny-fedora: its packages are installed over the network; leave --offline out',
    ],
    [
      ['build', '--mirror', 'file:///srv/fedora'],
      'cannot use mirror file:///srv/fedora/: the package manager of the base cannot see files of this machine; serve the directory over http, ',
    ],
    [
      ['build', '--distro', 'debian'],
      'cannot build tiny-fedora: an image upon a base is made of Fedora packages; leave --distro out',
    ],
    [
      ['build', '--locked'],
      'cannot use tiny.lock.yaml: there is no such lock file; run npx dhcpd-scratch lock ./tiny.yaml',
    ],
    [['build', '--reference', 'A:B'], 'cannot '],
  ])('%j is refused', async ([command = '', ...options], message) => {
    expect(await said(command, ...options, './tiny.yaml')).toContain(message);
  });

  it('is made of Fedora packages, whatever else the definition names', async () => {
    const reason = 'cannot build tiny-fedora: an image upon a base is made of Fedora packages; ';
    expect(await said('build', '--distro', 'debian', 'both.yaml')).toContain(`${reason}leave --distro out`);
    expect(await said('lock', '--distro', 'debian', 'both.yaml')).toContain(`${reason}leave --distro out`);
    expect(await said('build', 'debian.yaml')).toContain(`${reason}add fedora under packages`);
  });

  it('has other repositories only where the release is named', async () => {
    expect(await said('build', 'host.yaml', '--mirror', 'http://127.0.0.1:1/')).toContain(
      'cannot choose repositories: the release is that of the base, and their addresses hold it; name it with --suite, ',
    );
  });

  it('is refused for want of a lock entry before anybody is asked', async () => {
    const mirror = await serveMirror(place.directory);
    try {
      const sha256 = createHash('sha256').update(definition).digest('hex');
      place.write('tiny.lock.yaml', formatLock({ definition: sha256, targets: [] }));
      const line = await said('build', 'tiny.yaml', '--locked', '--arch', 's390x', '--mirror', mirror.url);
      expect(line).toMatch(
        /^error: cannot build from tiny\.lock\.yaml: it names no base for s390x; run npx dhcpd-scratch lock tiny\.yaml .*--arch s390x$/m,
      );
      expect(mirror.requests).toEqual([]);
    } finally {
      rmSync(place.path('tiny.lock.yaml'));
      await mirror.close();
    }
  });

  it('comes with the program under its own name, and its lock file stays with the user', async () => {
    expect(await said('build', 'dhcpd-fedora', '--locked')).toContain(
      'cannot use dhcpd-fedora.lock.yaml: there is no such lock file; run npx dhcpd-scratch lock dhcpd-fedora',
    );
    expect(await said('build', 'nosuch-fedora')).toContain(
      'cannot find definition nosuch-fedora: none of that name comes with the program; there are dhcpd, dhcpd-fedora, dnsmasq; for a file of your own give its path, such as ./nosuch-fedora.yaml',
    );
  });
});

const canServe =
  requireTools(...fedoraTools) && requireThat(process.platform === 'linux', 'Linux, for loopback addresses');

describe.skipIf(!canServe)('repositories for a base', () => {
  it('are of no use without a key that counts', async () => {
    const workshop = new Workshop();
    const mirror = await serveMirror(workshop.tree({ [made]: workshop.tiny() }));
    const place = new Place({ 'tiny.yaml': definition.replace('45, p', `${treeRelease}, p`) });
    try {
      const outcome = await place.run(['build', 'tiny.yaml', '--mirror', mirror.url], {
        // Keys are looked for in public places last.
        environment: { https_proxy: 'http://127.0.0.1:1' },
      });
      expect(outcome.code).toBe(1);
      expect(errorLines(outcome).at(-1)).toBe(
        `error: cannot find the keys ${'A'.repeat(40)}: neither this host nor the network has them; give the file that holds them with --keyring FILE`,
      );
    } finally {
      await mirror.close();
      place.remove();
      workshop.remove();
    }
  }, 60_000);
});

const isRoot = process.getuid?.() === 0;
const canBuild = requireTools('buildah', 'docker-registry', 'busybox') && requireThat(isRoot, 'root');
const canBecome = canBuild && requireTools('useradd', 'userdel', 'setpriv', 'newuidmap', 'chown');
const user = 'dhcpd-scratch-base';

describe.skipIf(!canBuild)('an image upon a stand-in base', { timeout: 120_000 }, () => {
  let scratch: string;
  let registry: Registry;
  let storage: PrivateStorage;
  let place: Place;
  let environment: Readonly<Record<string, string>>;
  const text = `name: dhcpd
title: ISC DHCP server
from: ${baseReference}
packages:
  fedora: { release: host, package: dhcp-server, state: /var/lib/dhcpd, keys: [${tinySigner}] }
roots: [dhcpd]
user: { name: dhcpd, id: 177 }
config: /etc/dhcp
state: { volume: leases, files: [dhcpd.leases] }
`;

  /** Gives the tag a base that has never been there. */
  const publish = (making: PrivateStorage, files: Readonly<Record<string, string>>): void => {
    const native = hostArchitecture === 'aarch64' ? 'arm64' : 'amd64';
    const both = (['amd64', 'arm64'] as const).map((architecture) =>
      importTinyBase(making, scratch, architecture === native ? { files, architecture } : { architecture }),
    );
    making.buildah('manifest', 'create', 'both', ...both);
    const name = `docker://${registry.host}/fedora-minimal:45`;
    making.buildah('manifest', 'push', '--all', '--quiet', '--tls-verify=false', 'both', name);
    making.remove();
  };

  beforeAll(async () => {
    scratch = mkdtempSync(join(tmpdir(), 'cli-on-base-'));
    chmodSync(scratch, 0o755);
    registry = await startRegistry(join(scratch, 'registry'));
  });
  afterAll(async () => {
    await registry.close();
    rmSync(scratch, { recursive: true });
  });
  beforeEach(() => {
    publish(privateStorage(join(scratch, 'making')), {});
    storage = privateStorage(join(scratch, 'storage'));
    place = new Place({ 'dhcpd.yaml': text });
    environment = {
      ...storage.environment,
      HOME: place.directory,
      CONTAINERS_REGISTRIES_CONF: registry.configuration,
      BUILDAH_ISOLATION: 'chroot',
    };
  });
  afterEach(() => {
    place.remove();
    storage.remove();
  });
  const build = async (options: readonly string[] = [], how: RunOptions = { environment }) =>
    // The program's own promise of what it prints.
    JSON.parse(await place.ok(['build', 'dhcpd.yaml', '--json', ...options], how)) as BuiltImage & {
      readonly manifests: readonly { readonly upon: string; readonly release: string }[];
    };

  it('of the release that the base has stays upon the base of its lock file', async () => {
    const first = await build();
    expect(first.manifests[0]?.release).toBe('base');
    publish(privateStorage(join(scratch, 'making')), { 'etc/newer': 'x' });
    expect((await build(['--locked'])).digest).toBe(first.digest);
    expect((await build()).digest).toBe(first.digest);

    // All architectures that the file has are renewed, and each is named once.
    await place.ok(['lock', 'dhcpd.yaml', '--arch', `${hostArchitecture},${otherArchitecture}`], {
      environment,
    });
    const renewed = await readLock(place.path('dhcpd.lock.yaml'));
    expect(renewed?.targets.map(({ release, architecture }) => `${release} ${architecture}`)).toEqual(
      [`base ${hostArchitecture}`, `base ${otherArchitecture}`].sort(),
    );
    expect(await place.ok(['lock', 'dhcpd.yaml'], { environment })).toBe(
      'dhcpd.lock.yaml: nothing has changed\n',
    );
    expect(await readLock(place.path('dhcpd.lock.yaml'))).toEqual(renewed);
    const later = await build(['--locked']);
    expect(later.manifests[0]?.upon).not.toBe(first.manifests[0]?.upon);
  });

  it('is refused for another release than the base has', async () => {
    const outcome = await place.run(['build', 'dhcpd.yaml', '--suite', '44'], { environment });
    expect(errorLines(outcome).at(-1)).toMatch(
      new RegExp(
        `cannot build upon ${baseReference}: it is of release 45, not of 44; choose a base of that `,
      ),
    );
    expect(outcome.code).toBe(2);
    expect(place.list('out').filter((name) => name.includes('dhcpd'))).toEqual([]);
  });

  it.skipIf(!canBecome)('is the same for a user without root', async () => {
    const asRoot = await build();
    const home = join(scratch, 'home');
    mkdirSync(join(home, 'run'), { recursive: true });
    removeUser();
    // A system user, so that no range is given unasked.
    execFileSync('useradd', ['--system', '--home-dir', home, '--shell', '/bin/sh', user]);
    try {
      execFileSync('usermod', ['--add-subuids', '800000-865535', '--add-subgids', '800000-865535', user]);
      writeFileSync(join(home, 'storage.conf'), '[storage]\ndriver = "vfs"\n');
      execFileSync('chown', ['-R', `${user}:`, home, place.directory]);
      rmSync(place.out, { recursive: true });
      const theirs: RunOptions = {
        under: ['setpriv', `--reuid=${user}`, `--regid=${user}`, '--init-groups'],
        environment: {
          ...environment,
          HOME: home,
          XDG_RUNTIME_DIR: join(home, 'run'),
          CONTAINERS_STORAGE_CONF: join(home, 'storage.conf'),
          USER: user,
        },
      };
      const rootless = await build([], theirs);
      expect(rootless.manifests.map(({ diffId }) => diffId)).toEqual(
        asRoot.manifests.map(({ diffId }) => diffId),
      );
      expect(rootless.digest).toBe(asRoot.digest);
    } finally {
      removeUser();
    }
  });

  function removeUser(): void {
    try {
      execFileSync('userdel', ['--force', user], { stdio: 'pipe' });
    } catch {
      // It was not there.
    }
  }
});
