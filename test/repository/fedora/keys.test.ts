import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { generateKey, readKey } from 'openpgp';
import { afterAll, describe, expect, it } from 'vitest';
import type { Fetcher } from '../../../build/repository/fetch.js';
import { packageKeys, type KeySources } from '../../../build/repository/fedora/keys.js';
import { openCache } from '../../../build/support/cache.js';
import { silentLog } from '../../../build/support/log.js';

const place = await mkdtemp(join(tmpdir(), 'keys-'));
afterAll(() => rm(place, { recursive: true }));

interface Key {
  readonly armoured: string;
  readonly fingerprint: string;
  readonly id: string;
  /** Of its subkey. */
  readonly subkey: string;
}

async function makeKey(name: string): Promise<Key> {
  const { publicKey } = await generateKey({ userIDs: [{ name }], format: 'armored' });
  const key = await readKey({ armoredKey: publicKey });
  return {
    armoured: publicKey,
    fingerprint: key.getFingerprint().toUpperCase(),
    id: key.getKeyID().toHex(),
    subkey: key.getSubkeys()[0]?.getKeyID().toHex() ?? '',
  };
}
const [fedora, other] = await Promise.all([makeKey('fedora'), makeKey('other')]);

/** A network that has some documents, and keeps what it was asked for. */
function network(documents: Readonly<Record<string, string>>): { fetcher: Fetcher; asked: string[] } {
  const asked: string[] = [];
  return {
    asked,
    fetcher: {
      document: (url) => {
        asked.push(url);
        const text = documents[url];
        return Promise.resolve(text === undefined ? undefined : Buffer.from(text));
      },
      blob: () => Promise.reject(new Error('no blobs here')),
      close: () => Promise.resolve(),
    },
  };
}

let caches = 0;
async function sourcesOf(changes: Partial<KeySources>): Promise<KeySources> {
  return {
    pinned: [fedora.fingerprint],
    keyring: undefined,
    configured: () => Promise.resolve([]),
    release: '45',
    connect: () => Promise.resolve(network({}).fetcher),
    offline: false,
    cache: await openCache(join(place, `cache-${(caches += 1)}`)),
    log: silentLog,
    directories: [],
    ...changes,
  };
}

async function file(name: string, text: string): Promise<string> {
  const path = join(place, name);
  await mkdir(join(path, '..'), { recursive: true });
  await writeFile(path, text);
  return path;
}

const source = 'https://src.fedoraproject.org/rpms/fedora-repos/raw/f45/f/RPM-GPG-KEY-fedora-45-primary';

describe('packageKeys', () => {
  it('takes the keys of --keyring in place of the pinned ones, and no others', async () => {
    const keyring = await file('keyring.asc', other.armoured);
    const keys = await packageKeys(await sourcesOf({ keyring }));
    expect(keys.pinned).toEqual([other.fingerprint]);
    expect((await keys.keys(other.id)).map((key) => key.getFingerprint().toUpperCase())).toEqual([
      other.fingerprint,
    ]);
    expect(await keys.keys(fedora.id)).toEqual([]);
    await expect(packageKeys(await sourcesOf({ keyring: join(place, 'none') }))).rejects.toThrow(
      `cannot read keyring ${join(place, 'none')}: `,
    );
    const broken = await file('broken.asc', 'no key');
    await expect(packageKeys(await sourcesOf({ keyring: broken }))).rejects.toThrow(
      'it holds no OpenPGP keys',
    );
  });

  it('finds keys in the files of the host by the ID of the key or of its subkey', async () => {
    const keys = await packageKeys(
      await sourcesOf({
        configured: async () => [
          'file:///nowhere/RPM-GPG-KEY-fedora-45-x86_64',
          `file://${await file('RPM GPG.asc', other.armoured)}`.replace(' ', '%20'),
        ],
        directories: [join(place, 'nowhere'), join(await file('pki/fedora', fedora.armoured), '..')],
      }),
    );
    expect(keys.pinned).toEqual([fedora.fingerprint]);
    expect(await keys.keys(fedora.id)).toHaveLength(1);
    expect(await keys.keys(fedora.subkey.toUpperCase())).toHaveLength(1);
    // It is not pinned: that is for who verifies to say, with its fingerprint.
    expect(await keys.keys(other.id)).toHaveLength(1);
  });

  it('downloads pinned keys over https alone, once, and keeps them', async () => {
    const { fetcher, asked } = network({
      'https://example.org/keys': other.armoured,
      [source]: fedora.armoured,
    });
    const sources = await sourcesOf({
      configured: () => Promise.resolve(['http://example.org/plain', 'https://example.org/keys']),
      connect: () => Promise.resolve(fetcher),
    });
    const keys = await packageKeys(sources);
    expect(await Promise.all([keys.keys(fedora.id), keys.keys(fedora.id)])).toHaveLength(2);
    expect(asked).toEqual(['https://example.org/keys', source]);
    const again = await packageKeys({ ...sources, offline: true });
    expect(await again.keys(fedora.id)).toHaveLength(1);
    expect(asked).toHaveLength(2);
  });

  it('takes no downloaded key that is not pinned, and asks nobody offline', async () => {
    const { fetcher, asked } = network({ [source]: other.armoured });
    const sources = await sourcesOf({ connect: () => Promise.resolve(fetcher) });
    expect(await (await packageKeys({ ...sources, offline: true })).keys(other.id)).toEqual([]);
    expect(asked).toEqual([]);
    expect(await (await packageKeys(sources)).keys(other.id)).toEqual([]);
    expect(asked).toEqual([source, 'https://fedoraproject.org/fedora.gpg']);
  });
});
