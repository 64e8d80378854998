import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';

import { buildOnBase, resolveBase, type OnBaseHost, type OnBaseInput } from '../../build/image/on-base.js';
import { cannot, ToolError } from '../../build/support/errors.js';
import { run } from '../../build/support/exec.js';
import type { Exec } from '../../build/support/exec.js';
import { silentLog } from '../../build/support/log.js';
import { baseReference, importTinyBase, tinySigner } from '../support/base-image.js';
import { privateStorage, type PrivateStorage } from '../support/buildah.js';
import { listNames } from '../support/extract.js';
import { hostArchitecture, otherArchitecture } from '../support/host.js';
import { sampleTarget } from '../support/oci.js';
import { onBaseInput } from '../support/on-base.js';
import { startRegistry, type Registry } from '../support/registry.js';
import { requireThat, requireTools } from '../support/tools.js';

const canBuild =
  requireTools('buildah', 'docker-registry', 'busybox', 'tar') &&
  requireThat(process.getuid?.() === 0, 'root');
/** This machine in the words of OCI. */
const native = hostArchitecture === 'aarch64' ? 'arm64' : 'amd64';
const name = 'registry.fedoraproject.org/fedora-minimal';
const reference = 'localhost/dhcpd-test:latest';

describe.skipIf(!canBuild)('an image on a base', { timeout: 120_000 }, () => {
  let scratch: string;
  let registry: Registry;
  let storage: PrivateStorage;
  let directory: string;
  let environment: Readonly<Record<string, string>>;
  const bases = new Map<string, string>();

  beforeAll(async () => {
    scratch = mkdtempSync(join(tmpdir(), 'on-base-'));
    registry = await startRegistry(join(scratch, 'registry'));
    const making = privateStorage(join(scratch, 'making'));
    // Programs of this machine under the name of another architecture: they run, and nothing looks closer.
    for (const architecture of ['amd64', 'arm64'] as const) {
      bases.set(
        architecture,
        importTinyBase(making, scratch, {
          architecture,
          config: [
            ...[
              '--env',
              'container=oci',
              '--label',
              'name=fedora',
              '--annotation',
              'a=b',
              '--author',
              'Somebody',
            ],
            ...[
              '--cmd',
              '/bin/bash',
              '--port',
              '80/tcp',
              '--volume',
              '/srv',
              '--user',
              '5',
              '--workingdir',
              '/srv',
            ],
            ...['--entrypoint', '["/bin/sh"]', '--stop-signal', 'SIGUSR1', '--comment', 'c'],
          ],
        }),
      );
    }
    making.buildah('manifest', 'create', 'both', ...bases.values());
    const push = (what: string, to: string, ...more: readonly string[]): void => {
      making.buildah(...more, '--quiet', '--tls-verify=false', what, `docker://${registry.host}/${to}`);
    };
    push('both', 'fedora-minimal:45', 'manifest', 'push', '--all');
    const only = (to: string, options: Parameters<typeof importTinyBase>[2]): void => {
      push(importTinyBase(making, scratch, options), to, 'push');
    };
    only('fedora-minimal:46', { files: { 'etc/newer': 'x' } });
    only('no-manager:1', { without: ['usr/bin/dnf'] });
    only('no-rpm:1', { without: ['usr/bin/rpm'] });
    only('no-shell:1', { without: ['usr/bin/sh'] });
    only('account:1', { files: { 'etc/passwd': 'ntp:x:177:5::/:\n' } });
    only('foreign:1', { architecture: '386' });
    const release = (text: string) => ({ files: { 'etc/os-release': text } });
    only('release:44', release('VERSION_ID=44\n'));
    only('release:9', release('VERSION_ID="9.6"\n'));
    only('release:rawhide', release('VERSION_ID=46\nREDHAT_SUPPORT_PRODUCT_VERSION=rawhide\n'));
    only('release:none', release(''));
    making.remove();
  }, 60_000);
  afterAll(async () => {
    await registry.close();
    rmSync(scratch, { recursive: true });
  });
  beforeEach(() => {
    storage = privateStorage(join(scratch, 'storage'));
    environment = {
      ...storage.environment,
      CONTAINERS_REGISTRIES_CONF: registry.configuration,
      // The quicker one.
      BUILDAH_ISOLATION: 'chroot',
    };
    directory = join(scratch, 'out');
    mkdirSync(directory);
  });
  afterEach(() => {
    storage.remove();
    rmSync(directory, { recursive: true });
  });

  const host = (exec: Exec = run): OnBaseHost => ({ exec, environment, log: silentLog });
  const input = (changes: Partial<OnBaseInput> = {}): OnBaseInput => ({
    ...onBaseInput(hostArchitecture),
    ...changes,
  });
  const from = (base: string, digest?: string): Pick<OnBaseInput, 'base'> => ({
    base: { reference: base, digest },
  });
  const build = (inputs: readonly OnBaseInput[], by = host(), signal?: AbortSignal) =>
    buildOnBase(inputs, by, sampleTarget(directory, signal));
  const failure = async (work: Promise<unknown>): Promise<ToolError> => {
    try {
      await work;
    } catch (error) {
      if (error instanceof ToolError) return error;
      throw error;
    }
    throw new Error('it did not fail');
  };

  interface Image {
    readonly config: {
      readonly config: unknown;
      readonly author?: string;
      readonly rootfs: { readonly diff_ids: readonly string[] };
      readonly history: readonly { readonly created_by: string }[];
    };
    readonly annotations: unknown;
    readonly layers: readonly string[];
  }
  const blob = (layout: string, digest = ''): string =>
    join(layout, 'blobs/sha256', digest.replace('sha256:', ''));
  const imageOf = (layout: string, digest: string): Image => {
    const manifest = JSON.parse(readFileSync(blob(layout, digest), 'utf8')) as {
      config: { digest: string };
      layers: readonly { digest: string }[];
      annotations: unknown;
    };
    return {
      config: JSON.parse(readFileSync(blob(layout, manifest.config.digest), 'utf8')) as Image['config'],
      annotations: manifest.annotations,
      layers: manifest.layers.map((layer) => blob(layout, layer.digest)),
    };
  };
  const fileIn = (layer: string | undefined, path: string): string =>
    execFileSync('tar', ['-xOf', layer ?? '', path], { encoding: 'utf8' });

  it('is one layer above those of the base, and says what the definition says', async () => {
    const { image, manifests } = await build([input()]);
    const { config, annotations, layers } = imageOf(image.layout, image.digest);
    const base = JSON.parse(storage.buildah('inspect', '--type', 'image', bases.get(native) ?? '')) as {
      FromImageDigest: string;
      OCIv1: { rootfs: { diff_ids: readonly string[] }; created: string };
    };
    expect(config.rootfs.diff_ids).toEqual([...base.OCIv1.rootfs.diff_ids, image.manifests[0]?.diffId]);
    expect(layers).toHaveLength(2);
    expect(config.author).toBeUndefined();
    const said = {
      'org.opencontainers.image.base.digest': base.FromImageDigest,
      'org.opencontainers.image.base.name': baseReference,
      'org.opencontainers.image.created': '2024-03-09T16:00:00Z',
      'org.opencontainers.image.title': 'ISC DHCP server',
      'org.opencontainers.image.version': '12:4.4.3-27.fc45',
    };
    expect(annotations).toEqual(said);
    expect(config.config).toEqual({
      User: '177:177',
      ExposedPorts: { '67/udp': {} },
      Entrypoint: ['/usr/bin/dhcpd', '-4', '-f'],
      Volumes: { '/var/lib/dhcpd': {} },
      WorkingDir: '/',
      Labels: said,
      StopSignal: 'SIGTERM',
    });
    expect(manifests).toEqual([
      {
        architecture: hostArchitecture,
        baseDigest: base.FromImageDigest,
        version: '12:4.4.3-27.fc45',
        program: '/usr/bin/dhcpd',
        before: [{ name: 'filesystem', version: '3.18-58.fc45', architecture: 'noarch' }],
        after: [
          { name: 'dhcp-server', version: '12:4.4.3-27.fc45', architecture: 'x86_64' },
          { name: 'filesystem', version: '3.18-58.fc45', architecture: 'noarch' },
        ],
      },
    ]);
    const own = layers[1] ?? '';
    expect(listNames(own).filter((path) => !path.endsWith('/'))).toEqual([
      ...['etc/group', 'etc/passwd', 'usr/bin/dhcpd'],
      ...['usr/share/arguments/dnf', 'usr/share/arguments/epoch', 'usr/share/arguments/ls'],
      ...['var/lib/dhcpd/dhcpd.leases', 'var/lib/packages/dhcp-server'],
    ]);
    expect(fileIn(own, 'etc/passwd')).toBe(
      'root:x:0:0:root:/root:/bin/sh\ndhcpd:x:177:177::/:/sbin/nologin\n',
    );
    expect(fileIn(own, 'etc/group')).toBe('root:x:0:\ndhcpd:x:177:\n');
    expect(fileIn(own, 'usr/share/arguments/dnf').split('\n')).toEqual([
      ...['-y', '--releasever=45', '--setopt=install_weak_deps=0', '--setopt=tsflags=nodocs'],
      ...['--setopt=gpgcheck=1', '--setopt=*.gpgcheck=1', 'install', 'dhcp-server', ''],
    ]);
    expect(fileIn(own, 'usr/share/arguments/epoch')).toBe('1700000000\n');
    const owned = execFileSync('tar', ['--numeric-owner', '-tvf', own, 'etc/dhcp/', 'var/lib/dhcpd/'], {
      encoding: 'utf8',
    });
    expect(owned.replace(/ +/g, ' ').trimEnd().split('\n')).toEqual([
      'drwxr-xr-x 0/0 0 2024-03-09 16:00 etc/dhcp/',
      'drwxr-xr-x 177/177 0 2024-03-09 16:00 var/lib/dhcpd/',
      '-rw-r--r-- 177/177 0 2024-03-09 16:00 var/lib/dhcpd/dhcpd.leases',
    ]);
  });

  it('leaves the named image and its base in the storage, and is the same every time', async () => {
    const first = await build([input()]);
    const id = first.image.manifests[0]?.configDigest ?? '';
    const content = [`${id} ${reference}`, `sha256:${bases.get(native) ?? ''} ${name}:<none>`].sort();
    expect(storage.content()).toEqual(content);
    expect(await build([input()])).toEqual(first);
    expect(storage.content()).toEqual(content);
    // Whatever runs the package manager.
    const otherwise = { ...host(), environment: { ...environment, BUILDAH_ISOLATION: 'oci' } };
    expect(await build([input()], otherwise)).toEqual(first);
    // What SOURCE_DATE_EPOCH says instead.
    const dated = await build([input({ epoch: 86_400 })]);
    const { config, layers } = imageOf(dated.image.layout, dated.image.digest);
    expect(config).toMatchObject({ created: '1970-01-02T00:00:00Z' });
    expect(fileIn(layers[1], 'usr/share/arguments/epoch')).toBe('86400\n');
  });

  it('notices that buildah has lost the end of what a program said', async () => {
    const expected = await build([input()]);
    const asked = new Map<string, number>();
    const losing =
      (often: number): Exec =>
      async (command) => {
        const result = await run(command);
        if (command.argv[1] !== 'run' || result.stdout === '') return result;
        const times = (asked.get(command.argv.join(' ')) ?? 0) + 1;
        asked.set(command.argv.join(' '), times);
        const { stdout } = result;
        return times > often ? result : { ...result, stdout: stdout.slice(0, Math.floor(stdout.length / 2)) };
      };
    expect(await build([input()], host(losing(1)))).toEqual(expected);
    expect([...asked.values()]).toContain(2);
    expect((await failure(build([input()], host(losing(Infinity))))).message).toMatch(
      /^cannot (?:read|install packages in) .*: buildah has lost the end of it$/,
    );
  });

  it('has an index over several architectures', async () => {
    const { image, manifests } = await build([onBaseInput('x86_64'), onBaseInput('aarch64')]);
    const listed = await registry.index('fedora-minimal', '45');
    const index = JSON.parse(listed) as {
      manifests: readonly { digest: string }[];
    };
    expect(manifests.map(({ baseDigest }) => baseDigest)).toEqual(
      index.manifests.map(({ digest }) => digest),
    );
    const top = JSON.parse(readFileSync(blob(image.layout, image.digest), 'utf8')) as {
      manifests: readonly { platform: object }[];
      annotations: object;
    };
    expect(top.manifests.map(({ platform }) => platform)).toEqual([
      { architecture: 'amd64', os: 'linux' },
      { architecture: 'arm64', os: 'linux', variant: 'v8' },
    ]);
    // Each has a base of its own.
    expect(Object.keys(top.annotations)).not.toContain('org.opencontainers.image.base.digest');
    expect(storage.content()).toHaveLength(5);
  });

  it('installs from the mirrors given, with their keys, and leaves neither', async () => {
    const sources = {
      keys: 'these are the keys\n',
      repositories: [
        { id: 'fedora', urls: ['http://127.0.0.1:1/a/', 'http://[::1]:1/b/'] },
        { id: 'updates', urls: ['http://localhost:1/c/'] },
      ],
    };
    const commands: (readonly string[])[] = [];
    const exec: Exec = (command) => {
      commands.push(command.argv);
      return run(command);
    };
    const { image } = await build([input({ sources })], host(exec));
    const own = imageOf(image.layout, image.digest).layers[1];
    expect(fileIn(own, 'usr/share/arguments/dnf')).toContain(
      '--setopt=reposdir=/.dhcpd-scratch/repositories\n',
    );
    expect(fileIn(own, 'usr/share/arguments/sources').split('\n')).toEqual([
      'these are the keys',
      ...[
        '[fedora]',
        'name=fedora',
        'baseurl=http://127.0.0.1:1/a/ http://[::1]:1/b/',
        'enabled=1',
        'gpgcheck=1',
      ],
      ...['gpgkey=file:///.dhcpd-scratch/keys.asc', ''],
      ...['[updates]', 'name=updates', 'baseurl=http://localhost:1/c/', 'enabled=1', 'gpgcheck=1'],
      ...['gpgkey=file:///.dhcpd-scratch/keys.asc', ''],
    ]);
    expect(listNames(own ?? '').filter((path) => path.startsWith('.'))).toEqual([]);
    const networks = commands.filter((argv) => argv.includes('--network'));
    expect(networks.map((argv) => argv.at(-1))).toEqual(['dhcp-server']);

    const [first = { id: '', urls: [] }] = sources.repositories;
    for (const bad of [
      { ...first, id: 'a]\nb' },
      { ...first, urls: ['http://x/\ngpgcheck=0'] },
    ]) {
      const error = await failure(build([input({ sources: { ...sources, repositories: [bad] } })]));
      expect(error.message).toContain('it holds what no file of repositories can');
    }
  });

  it('is of the base that was pinned, whatever the tag has become, and moves no tag of the user', async () => {
    const tagged = `${name}:45`;
    const digest = await resolveBase(tagged, hostArchitecture, host(), new AbortController().signal);
    expect(storage.content()).toEqual([`sha256:${bases.get(native) ?? ''} ${name}:<none>`]);
    const foreign = await resolveBase(tagged, otherArchitecture, host(), new AbortController().signal);
    expect(foreign).not.toBe(digest);
    // The user has the tag for the image of another time.
    storage.buildah('pull', '--quiet', '--tls-verify=false', `docker://${registry.host}/fedora-minimal:46`);
    storage.buildah('tag', `${registry.host}/fedora-minimal:46`, tagged);
    const before = storage.content();
    expect(await resolveBase(tagged, hostArchitecture, host(), new AbortController().signal)).toBe(digest);
    expect(storage.content()).toEqual(before);
    const newer = await build([input({ ...from(`${name}:46`, digest) })]);
    expect(newer.manifests[0]?.baseDigest).toBe(digest);
    expect(storage.content().filter((line) => !before.includes(line))).toHaveLength(1);
    // A name without a tag stands for `latest`, which there is none of.
    const error = await failure(build([input({ ...from(name) })]));
    expect(error.message).toMatch(new RegExp(`^cannot pull ${name}: .*manifest unknown$`));
  });

  it.each([
    ['fedora-minimal:99', `cannot pull registry.fedoraproject.org/fedora-minimal:99: `, 'manifest unknown'],
    [
      'no-manager:1',
      'cannot install packages in registry.fedoraproject.org/no-manager:1: it has no package manager',
    ],
    ['no-rpm:1', 'cannot install packages in registry.fedoraproject.org/no-rpm:1: it has no package manager'],
    ['no-shell:1', 'cannot install packages in registry.fedoraproject.org/no-shell:1: ', '/bin/sh'],
    ['account:1', 'cannot make account dhcpd: the user ntp of the base has the number 177'],
    [
      'foreign:1',
      `cannot build upon registry.fedoraproject.org/foreign:1: it is an image for 386, not for ${native}`,
    ],
  ])('says what is wrong with the base %s', async (base, ...parts) => {
    const error = await failure(build([input(from(`registry.fedoraproject.org/${base}`))]));
    for (const part of parts) expect(error.message).toContain(part);
    expect(error.hint).toBeDefined();
    expect(storage.content().filter((line) => !line.endsWith(`/${base.split(':')[0] ?? ''}:<none>`))).toEqual(
      [],
    );
  });

  it.each([
    ['44', undefined],
    ['9', '9'],
    ['rawhide', 'rawhide'],
    ['rawhide', '46'],
    ['none', '45'],
  ])('is made of a base of release %s for packages of %s', async (tag, release) => {
    const { image } = await build([input({ ...from(`registry.fedoraproject.org/release:${tag}`), release })]);
    const own = imageOf(image.layout, image.digest).layers[1];
    const asked = fileIn(own, 'usr/share/arguments/dnf').match(/^--releasever.*$/gm) ?? [];
    expect(asked).toEqual(release === undefined ? [] : [`--releasever=${release}`]);
  });

  it.each([
    ['44', '45', '44'],
    ['9', '9.4', '9.6'],
    ['rawhide', '45', '46'],
    ['44', 'rawhide', '44'],
  ])('is not made of a base of release %s for packages of %s', async (tag, release, said) => {
    const base = `registry.fedoraproject.org/release:${tag}`;
    const commands: (readonly string[])[] = [];
    const exec: Exec = (command) => {
      commands.push(command.argv);
      return run(command);
    };
    expect(await failure(build([input({ ...from(base), release })], host(exec)))).toMatchObject({
      message: `cannot build upon ${base}: it is of release ${said}, not of ${release}`,
      hint: expect.stringContaining('--suite') as unknown,
      exitCode: 2,
    });
    expect(commands.some((argv) => argv.includes('install'))).toBe(false);
  });

  it('holds no package that a key which does not count has signed', async () => {
    const keyId = tinySigner.slice(-16);
    const other = (digit: string) => `${digit.repeat(24)}${keyId.slice(0, 15)}${digit}`;
    expect(await failure(build([input({ signers: [other('A'), other('B')] })]))).toMatchObject({
      message: `cannot trust package dhcp-server 12:4.4.3-27.fc45: it is signed by key ${keyId}, which does not count`,
      hint: expect.stringContaining('--keyring FILE') as unknown,
    });
    // The ID of a key of version 6 is the beginning of its fingerprint.
    const { manifests } = await build([input({ signers: [other('A'), keyId + 'C'.repeat(48)] })]);
    expect(manifests[0]?.after).toHaveLength(2);
  });

  it.each([
    ['(none)', 'it is not signed'],
    ['(not an OpenPGP signature)', 'its signature cannot be read: (not an OpenPGP signature)'],
    [
      `RSA, Key ID ${tinySigner.slice(-16)} ${'A'.repeat(16)}`,
      `its signature cannot be read: RSA, Key ID ${tinySigner.slice(-16)} ${'A'.repeat(16)}`,
    ],
    // Of several, every one has to count: which of them was verified is not told.
    [
      `RSA, Key ID ${tinySigner.slice(-16)}\tRSA, Key ID ${'a'.repeat(16)}`,
      `it is signed by key ${'A'.repeat(16)}, which does not count`,
    ],
  ])('holds no package whose signature is %j', async (signature, reason) => {
    const exec: Exec = async (command) => {
      const result = await run(command);
      if (!command.argv.some((word) => word.includes('querytags'))) return result;
      return { ...result, stdout: result.stdout.replace(/RSA\/SHA256, .*Key ID \w{16}$/m, signature) };
    };
    expect((await failure(build([input()], host(exec)))).message).toBe(
      `cannot trust package dhcp-server 12:4.4.3-27.fc45: ${reason}`,
    );
  });

  it.each([
    ['nosuch', 'cannot install nosuch: the repositories have no package nosuch'],
    ['broken', 'cannot install broken: - nothing provides soap needed by broken'],
    ['full', 'cannot install full: no space is left on the device that holds the container storage'],
  ])('says why the package %s cannot be installed', async (wanted, message) => {
    const error = await failure(build([input({ package: wanted })]));
    expect(error.message).toBe(message);
    expect(error.hint).toBeDefined();
  });

  it('says that a program is not there', async () => {
    const changed = (root: string) => ({ definition: { ...input().definition, roots: [root] as const } });
    expect(await failure(build([input(changed('dhcp'))]))).toMatchObject({
      message: 'cannot find program dhcp: package dhcp-server has no program of that name',
      hint: 'did you mean dhcpd?',
    });
    expect(await failure(build([input(changed('omshell'))]))).toMatchObject({
      message: 'cannot find program omshell: package dhcp-server has no program of that name',
    });
  });

  it('says that buildah is not there, that the registry is not, or that an interpreter is missing', async () => {
    const absent = { ...host(), environment: { PATH: '/nowhere' } };
    expect((await failure(build([input()], absent))).message).toBe('cannot run buildah: it is not installed');
    const gone = await startRegistry(join(scratch, 'gone'));
    await gone.close();
    const closed = {
      ...host(),
      environment: { ...environment, CONTAINERS_REGISTRIES_CONF: gone.configuration },
    };
    expect((await failure(build([input()], closed))).message).toMatch(
      /^cannot pull registry\.fedoraproject\.org\/fedora-minimal:45: .*connection refused$/,
    );
    rmSync(join(scratch, 'gone'), { recursive: true });
    const says =
      (line: string): Exec =>
      (command) =>
        run(
          command.argv[1] === 'run'
            ? { ...command, argv: ['sh', '-c', 'echo "$0" >&2; echo "exit status 1" >&2; exit 1', line] }
            : command,
        );
    expect((await failure(build([input()], host(says('exec /bin/sh: Exec format error'))))).message).toBe(
      `cannot install packages in ${baseReference}: this machine cannot run programs of that architecture`,
    );
    const network = says('failed to read from slirp4netns sync pipe: EOF');
    expect(await failure(build([input()], host(network)))).toMatchObject({
      message: expect.stringContaining('buildah cannot run programs in a container here: failed') as unknown,
      hint: 'set BUILDAH_ISOLATION=chroot, which needs less of the machine',
    });
  });

  it('undoes everything that a failure or interruption at any step left', async () => {
    // What is somebody else's: a working container, an image under the tag of the base, one without a name.
    storage.buildah('from', '--name', 'somebodys-work', 'scratch');
    storage.buildah('commit', '--quiet', '--timestamp', '0', 'somebodys-work', baseReference);
    storage.buildah('config', '--label', 'a=b', 'somebodys-work');
    storage.buildah('commit', '--quiet', '--timestamp', '0', 'somebodys-work');
    const foreign = storage.content();
    const kept = `sha256:${bases.get(native) ?? ''} ${name}:<none>`;
    let built = 0;
    let step = 0;
    while (built < 2) {
      step += 1;
      const fails = step % 2 === 0;
      const abort = new AbortController();
      let count = 0;
      const exec: Exec = async (command) => {
        count += 1;
        if (count === step && fails) throw cannot('run', command.argv.join(' '), 'the test says so');
        const result = await run(command);
        if (count === step) abort.abort();
        return result;
      };
      const result = await build([input()], host(exec), abort.signal).then(
        () => 'built',
        (error: unknown) => String(error),
      );
      if (result === 'built') built += 1;
      else expect(result).toMatch(fails ? 'the test says so' : 'it was interrupted');
      const content = storage.content().filter((line) => line !== kept);
      const named = content.filter((line) => line.endsWith(` ${reference}`));
      expect([step, content.filter((line) => !named.includes(line))]).toEqual([step, foreign]);
      expect([step, result === 'built' && named.length !== 1]).toEqual([step, false]);
      if (named.length > 0) storage.buildah('rmi', reference);
    }
    expect(step).toBeGreaterThan(20);
  }, 240_000);
});
