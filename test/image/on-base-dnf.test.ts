import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { copyFileSync, createReadStream, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';

import { afterAll, beforeAll, describe, expect, it } from 'vitest';

import { buildOnBase, type BuiltOnBase, type OnBaseInput } from '../../build/image/on-base.js';
import { run } from '../../build/support/exec.js';
import { silentLog } from '../../build/support/log.js';
import { importDnfBase } from '../support/base-image.js';
import { privateStorage, type PrivateStorage } from '../support/buildah.js';
import { hostArchitecture } from '../support/host.js';
import { onBaseInput } from '../support/on-base.js';
import { sampleTarget } from '../support/oci.js';
import { startRegistry, type Registry } from '../support/registry.js';
import { buildRpm, makeSigningKey, type RpmSpec, type SigningKey } from '../support/rpm.js';
import { requireThat, requireTools } from '../support/tools.js';

const canBuild =
  requireTools(
    'buildah',
    'docker-registry',
    'mmdebstrap',
    'flock',
    'rpmbuild',
    'rpmsign',
    'createrepo_c',
    'tar',
  ) && requireThat(process.getuid?.() === 0, 'root');

describe.skipIf(!canBuild)('the real dnf of a base', { timeout: 240_000 }, () => {
  let scratch: string;
  let storage: PrivateStorage;
  let registry: Registry;
  let mirror: Server;
  let sources: NonNullable<OnBaseInput['sources']>;
  let key: SigningKey;
  let stranger: SigningKey;
  let environment: Readonly<Record<string, string>>;

  beforeAll(async () => {
    scratch = mkdtempSync(join(tmpdir(), 'on-base-dnf-'));
    registry = await startRegistry(join(scratch, 'registry'));
    storage = privateStorage(join(scratch, 'storage'));
    environment = {
      ...storage.environment,
      CONTAINERS_REGISTRIES_CONF: registry.configuration,
      BUILDAH_ISOLATION: 'chroot',
    };
    key = makeSigningKey(scratch);
    const repository = join(scratch, 'repository');
    mkdirSync(repository);
    const add = (spec: Omit<RpmSpec, 'directory'>): void => {
      const path = buildRpm({ directory: scratch, version: '4.4.3', release: '27.fc45', ...spec });
      copyFileSync(path, join(repository, basename(path)));
    };
    add({
      name: 'dhcp-server',
      epoch: 12,
      sign: key,
      built: 1_710_000_000,
      requires: ['libdemo', '/bin/sh'],
      preamble: [
        'Recommends: weakling',
        '%pre',
        '/usr/sbin/groupadd -r -g 901 dhcpd && /usr/sbin/useradd -r -u 900 -g dhcpd -d / dhcpd',
      ],
      files: {
        '/usr/bin/dhcpd': { content: '#!/bin/sh\n', mode: 0o755 },
        '/etc/dhcp': { directory: true, mode: 0o750 },
        '/etc/dhcp/dhcpd.conf': { content: '# nothing\n', config: true },
        '/var/lib/dhcpd': { directory: true, user: 'dhcpd', group: 'dhcpd' },
        '/var/lib/dhcpd/dhcpd.leases': { content: '', mode: 0o600, user: 'dhcpd', group: 'dhcpd' },
        '/var/log/dhcpd': { directory: true, mode: 0o750, user: 'dhcpd', group: 'dhcpd' },
        '/var/cache/dhcpd': { directory: true, user: 'root', group: 'dhcpd' },
      },
      macros: { _docdir_fmt: '%%{NAME}' },
    });
    add({ name: 'libdemo', sign: key, files: { '/usr/lib64/libdemo.so.1': 'x' } });
    add({ name: 'weakling', sign: key, files: { '/usr/share/weakling': 'x' } });
    add({ name: 'unsigned', files: { '/usr/bin/dhcpd': { content: 'x', mode: 0o755 } } });
    stranger = makeSigningKey(scratch, 'rsa2048', { subkey: 'rsa2048' });
    add({ name: 'strange', sign: stranger, files: { '/usr/bin/dhcpd': { content: 'x', mode: 0o755 } } });
    execFileSync('createrepo_c', ['--quiet', repository]);

    mirror = createServer((request, response) => {
      const file = createReadStream(join(repository, new URL(request.url ?? '/', 'http://x').pathname));
      file.on('error', () => response.writeHead(404).end());
      file.pipe(response);
    }).listen(0, '127.0.0.1');
    await once(mirror, 'listening');
    const address = mirror.address();
    const port = typeof address === 'object' ? (address?.port ?? 0) : 0;
    sources = { keys: key.publicKey, repositories: [{ id: 'mirror', urls: [`http://127.0.0.1:${port}/`] }] };
    const plain = importDnfBase(storage, scratch, [
      buildRpm({ directory: scratch, name: 'shell', provides: ['/bin/sh'] }),
    ]);
    // The base's own repository, and the keys that the base trusts: more than a definition does.
    const own = join(scratch, 'own');
    mkdirSync(join(own, 'yum.repos.d'), { recursive: true });
    writeFileSync(join(own, 'keys.asc'), `${key.publicKey}\n${stranger.publicKey}`);
    const [served] = sources.repositories;
    writeFileSync(
      join(own, 'yum.repos.d/own.repo'),
      `[own]\nname=own\nbaseurl=${served?.urls[0] ?? ''}\ngpgcheck=1\ngpgkey=file:///etc/keys.asc\n`,
    );
    const container = storage.buildah('from', '--pull=false', plain);
    storage.buildah('copy', '--quiet', container, own, '/etc');
    const base = storage.buildah('commit', '--quiet', '--timestamp', '1700000000', container);
    storage.buildah('rm', container);
    storage.buildah(
      'push',
      '--quiet',
      '--tls-verify=false',
      base,
      `docker://${registry.host}/fedora-minimal:45`,
    );
    storage.buildah('rmi', '--all', '--force');
  }, 240_000);
  afterAll(async () => {
    if (!canBuild) return;
    mirror.close();
    storage.remove();
    await registry.close();
    rmSync(scratch, { recursive: true });
  });

  const build = async (changes: Partial<OnBaseInput> = {}): Promise<BuiltOnBase> => {
    const directory = mkdtempSync(join(scratch, 'out-'));
    const input = { ...onBaseInput(hostArchitecture), sources, signers: [key.fingerprint], ...changes };
    return buildOnBase([input], { exec: run, environment, log: silentLog }, sampleTarget(directory));
  };

  it('installs what is required and signed, gives the account its number, and leaves no trace', async () => {
    const { image, manifests } = await build();
    expect(manifests[0]).toMatchObject({ version: '12:4.4.3-27.fc45', program: '/usr/bin/dhcpd' });
    const names = (packages: readonly { readonly name: string }[] = []) => packages.map(({ name }) => name);
    expect(names(manifests[0]?.before)).toEqual(['ldconfig-trigger', 'shell']);
    expect(names(manifests[0]?.after)).toEqual(['dhcp-server', 'ldconfig-trigger', 'libdemo', 'shell']);

    const layer = (image.manifests[0]?.layerDigest ?? '').replace('sha256:', '');
    const listed = execFileSync(
      'tar',
      ['--numeric-owner', '-tvf', join(image.layout, 'blobs/sha256', layer)],
      {
        encoding: 'utf8',
        env: { PATH: process.env['PATH'], TZ: 'UTC' },
      },
    );
    const entries = listed
      .trimEnd()
      .split('\n')
      .map((line) => /^(\S+) (\S+) +(\d+) (\S+ \S+) (.*)$/.exec(line)?.slice(1) ?? []);
    // Whatever was unpacked when: 2024-03-09 16:00 is when dhcp-server was built.
    expect(new Set(entries.map(([, , , time]) => time))).toEqual(new Set(['2024-03-09 16:00']));
    const ours = entries.filter(([, , , , path = '']) =>
      /dhcp|^(?:usr\/lib64|var\/(?:log|cache)|run|tmp)\/./.test(path),
    );
    expect(ours.map(([mode, owner, , , path]) => [mode, owner, path].join(' '))).toEqual([
      'drwxr-xr-x 0/0 etc/dhcp/',
      '-rw-r--r-- 0/0 etc/dhcp/dhcpd.conf',
      '-rwxr-xr-x 0/0 usr/bin/dhcpd',
      '-rw-r--r-- 0/0 usr/lib64/libdemo.so.1',
      'drwxr-xr-x 0/177 var/cache/dhcpd/',
      'drwxr-xr-x 177/177 var/lib/dhcpd/',
      '-rw-r--r-- 177/177 var/lib/dhcpd/dhcpd.leases',
      'drwxr-x--- 177/177 var/log/dhcpd/',
    ]);
    const others = entries.filter(
      ([mode = '', , , , path = '']) => !mode.startsWith('d') && !path.includes('dhcp'),
    );
    expect(others.map(([, , , , path]) => path).filter((path) => path?.includes('/.wh.') === false)).toEqual([
      ...['etc/group', 'etc/gshadow', 'etc/ld.so.cache', 'etc/passwd', 'etc/shadow'],
      ...['', '-shm', '-wal'].map((suffix) => `usr/lib/sysimage/rpm/rpmdb.sqlite${suffix}`),
      'usr/lib64/libdemo.so.1',
    ]);
  });

  it('gives the same bytes every time', async () => {
    const first = await build();
    const again = await build();
    expect(again.image.digest).toBe(first.image.digest);
    expect(again.manifests).toEqual(first.manifests);
  });

  it.each([
    ['unsigned', /^cannot install unsigned: .*(?:not signed|GPG check FAILED)/],
    ['strange', /^cannot install strange: .*(?:not signed|GPG|Public key)/],
    ['absent', /^cannot install absent: the repositories have no package absent$/],
  ])('does not install the package %s', async (name, message) => {
    await expect(build({ package: name })).rejects.toThrow(message);
  });

  describe('that trusts more keys than count', () => {
    const own = { sources: undefined };

    it('installs what a counting key has signed', async () => {
      const { manifests } = await build(own);
      expect(manifests[0]?.version).toBe('12:4.4.3-27.fc45');
      const other = await build({ ...own, package: 'strange', signers: [stranger.signer] });
      expect(other.manifests[0]?.after.map(({ name }) => name)).toContain('strange');
    });

    it('makes no image of what another has signed, or a subkey that nobody knows', async () => {
      const keyId = stranger.signer.slice(-16);
      const message = `cannot trust package strange 4.4.3-27.fc45: it is signed by key ${keyId}, which does not count`;
      for (const signer of [key.fingerprint, stranger.fingerprint]) {
        await expect(build({ ...own, package: 'strange', signers: [signer] })).rejects.toThrow(message);
      }
      expect(storage.content().filter((line) => line.includes('localhost/'))).toHaveLength(1);
    });
  });
});
