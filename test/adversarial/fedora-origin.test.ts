import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { decompressFile } from '../../build/package/decompress.js';
import { openRpm } from '../../build/package/rpm.js';
import { FedoraOrigin } from '../../build/repository/fedora/origin.js';
import { openCache } from '../../build/support/cache.js';
import { run } from '../../build/support/exec.js';
import { silentLog } from '../../build/support/log.js';
import { fedoraTools, made, serverPackage, urlOf, Workshop } from '../support/fedora-place.js';
import type { SigningKey } from '../support/rpm.js';
import { requireTools } from '../support/tools.js';

/** The files of a host below a directory of ours: no user's right is needed for them. */
describe.skipIf(!requireTools(...fedoraTools))('the .repo files of a host', { timeout: 60_000 }, () => {
  let workshop: Workshop;
  let stranger: SigningKey;
  let root: string;
  beforeAll(() => {
    workshop = new Workshop();
    stranger = workshop.makeKey();
  }, 60_000);
  afterAll(() => {
    workshop.remove();
  });
  beforeEach(async () => {
    root = await mkdtemp(join(tmpdir(), 'host-'));
    mkdirSync(join(root, 'etc/yum.repos.d'), { recursive: true });
    writeFileSync(join(root, 'etc/os-release'), 'ID=fedora\nVERSION_ID=9\n');
  });
  afterEach(() => {
    rmSync(root, { recursive: true });
  });

  /** What comes of asking such a host for the server. */
  async function ask(signer: SigningKey | 'nobody', ...lines: readonly string[]) {
    const repository = workshop.repository([serverPackage({ signer })]);
    const repo = ['[fedora]', `baseurl=${urlOf(repository)}`, ...lines, ''].join('\n');
    writeFileSync(join(root, 'etc/yum.repos.d/test.repo'), repo);
    const cache = await openCache(join(root, 'cache'));
    const warnings: string[] = [];
    const origin = new FedoraOrigin({
      root,
      cache,
      exec: run,
      release: 'host',
      pinned: [workshop.key.fingerprint],
      prefer: [],
      suite: undefined,
      keyring: undefined,
      mirrors: [],
      mode: 'renew',
      lockFile: '',
      renewal: '',
      offline: true,
      environment: {},
      now: new Date(),
      signal: new AbortController().signal,
      log: { ...silentLog, warn: (text) => warnings.push(text) },
      decompressFile,
      openPackage: (path, sha256, keys, name) => openRpm(path, sha256, cache, keys, { name }),
    });
    try {
      const archive = await origin.archive(made);
      const packages = await archive.select(['tiny-server']);
      return { warnings, packages: packages.map(({ contents }) => contents.name) };
    } finally {
      await origin.close();
    }
  }
  const keyOf = (...keys: readonly SigningKey[]): string => `gpgkey=file://${workshop.keyFile(...keys)}`;

  it('give keys, which count where they are pinned', async () => {
    expect(await ask(workshop.key, keyOf(workshop.key))).toEqual({ warnings: [], packages: ['tiny-server'] });
    await expect(ask(stranger, keyOf(workshop.key, stranger))).rejects.toThrow(
      `cannot trust package tiny-server 1.0-1: it is signed by ${stranger.fingerprint}, which is none of the keys asked for`,
    );
  });

  it.each([[['gpgcheck=0']], [['gpgcheck=0', 'repo_gpgcheck=0', 'pkg_gpgcheck=0', 'sslverify=0']]])(
    'cannot switch signatures off with %j',
    async (lines) => {
      await expect(ask('nobody', keyOf(workshop.key), ...lines)).rejects.toThrow(
        'cannot trust package tiny-server 1.0-1: it is not signed',
      );
      const { warnings } = await ask(workshop.key, keyOf(workshop.key), ...lines);
      expect(warnings.join()).toMatch(/gpgcheck=0 is not followed/);
    },
  );
});
