import { constants } from 'node:fs';
import { open, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { PublicKey } from 'openpgp';
import { isCode } from '../../support/atomic.js';
import type { Cache } from '../../support/cache.js';
import { cannot, reasonOf, ToolError } from '../../support/errors.js';
import type { Log } from '../../support/log.js';
import { shownUrl } from '../../support/url.js';
import type { Fetcher } from '../fetch.js';
import { readPublicKeys } from '../signature.js';

/** Where distributions keep the keys of their packages. */
const hostDirectories = [
  '/etc/pki/rpm-gpg',
  '/usr/share/pki/rpm-gpg',
  '/usr/share/distribution-gpg-keys/fedora',
];

/** Kind of the cache records that hold downloaded keys, armoured, by key ID. */
const keyRecords = 'rpm-key';
/** Bytes; a file of all keys of Fedora has a tenth of it. */
const largestFile = 1024 ** 2;

export interface KeySources {
  /** Upper-case fingerprints that the definition pins. */
  readonly pinned: readonly string[];
  /** `--keyring`: its keys take the place of the pinned ones. Absolute path. */
  readonly keyring: string | undefined;
  /** `gpgkey` of the repositories: file and https URLs, and paths. */
  readonly configured: () => Promise<readonly string[]>;
  /** Such as `45`. */
  readonly release: string;
  readonly connect: () => Promise<Fetcher>;
  readonly offline: boolean;
  readonly cache: Cache;
  readonly log: Log;
  /** Default: those of Fedora. */
  readonly directories?: readonly string[];
}

/** Which keys may sign packages, and where the keys themselves are: what package/rpm.ts `SignaturePolicy` asks. */
export interface PackageKeys {
  /** Upper-case fingerprints of primary keys. */
  readonly pinned: readonly string[];
  /** Keys that have the ID, their own or a subkey's; whether they are pinned is not looked at. */
  readonly keys: (keyId: string) => Promise<readonly PublicKey[]>;
}

/**
 * The keys of a run. They come from `--keyring` alone when that is given; else from the host's files, from what was
 * downloaded before, and at last over https. Where a key comes from does not matter: its fingerprint decides.
 *
 * @throws ToolError with exit code 2 when the keyring cannot be read
 */
export async function packageKeys(sources: KeySources): Promise<PackageKeys> {
  if (sources.keyring !== undefined) return keysOfFile(sources.keyring);
  const known = new Map<string, Promise<readonly PublicKey[]>>();
  return {
    pinned: sources.pinned,
    keys: (keyId) => {
      const found = known.get(keyId) ?? search(keyId, sources);
      known.set(keyId, found);
      return found;
    },
  };
}

async function keysOfFile(path: string): Promise<PackageKeys> {
  try {
    const keys = await readPublicKeys(await readBounded(path));
    return {
      pinned: keys.map((key) => key.getFingerprint().toUpperCase()),
      keys: (keyId) => Promise.resolve(keys.filter((key) => hasId(key, keyId))),
    };
  } catch (error) {
    throw cannot('read', `keyring ${path}`, reasonOf(error), {
      cause: error,
      hint: 'name a file of OpenPGP public keys with --keyring FILE',
      exitCode: 2,
    });
  }
}

async function search(keyId: string, sources: KeySources): Promise<readonly PublicKey[]> {
  const fits = (keys: readonly PublicKey[]): readonly PublicKey[] => keys.filter((key) => hasId(key, keyId));
  for await (const keys of hostKeys(sources)) {
    if (fits(keys).length > 0) return fits(keys);
  }
  const cached = await sources.cache.readRecord(keyRecords, keyId);
  if (cached !== undefined) return fits(await readPublicKeys(Buffer.from(cached)));
  if (sources.offline) return [];
  for await (const keys of publishedKeys(sources)) {
    const pinned = fits(keys).filter((key) => sources.pinned.includes(key.getFingerprint().toUpperCase()));
    if (pinned.length === 0) continue;
    await sources.cache.writeRecord(keyRecords, keyId, pinned.map((key) => key.armor()).join('\n'));
    return pinned;
  }
  return [];
}

/** Keys of the host's files, file by file: those that the repositories name first. */
async function* hostKeys({ configured, directories = hostDirectories, log }: KeySources) {
  const named = (await configured()).flatMap((place) => keyFile(place) ?? []);
  const listed: string[] = [];
  for (const directory of directories) {
    const entries = await readdir(directory).catch(() => []);
    listed.push(...entries.sort().map((name) => join(directory, name)));
  }
  for (const path of new Set([...named, ...listed])) {
    try {
      yield await readPublicKeys(await readBounded(path));
    } catch (error) {
      if (!isCode(error, 'ENOENT')) log.debug(`key file ${path}: ${reasonOf(error)}`);
    }
  }
}

/** Keys that are to be had over https: where the repositories say, then where Fedora publishes them. */
async function* publishedKeys({ configured, release, connect, log }: KeySources) {
  const urls = [
    ...(await configured()).filter((place) => /^https:\/\//i.test(place)),
    ...(/^\d+$/.test(release)
      ? [
          `https://src.fedoraproject.org/rpms/fedora-repos/raw/f${release}/f/RPM-GPG-KEY-fedora-${release}-primary`,
        ]
      : []),
    'https://fedoraproject.org/fedora.gpg',
  ];
  const fetcher = await connect();
  for (const url of new Set(urls)) {
    try {
      const bytes = await fetcher.document(url, largestFile);
      if (bytes !== undefined) yield await readPublicKeys(bytes);
    } catch (error) {
      // The next place may have it; the error of a signature without its key says what to do.
      if (error instanceof ToolError) log.warn(reasonOf(error));
      else log.warn(`${shownUrl(url)}: ${reasonOf(error)}`);
    }
  }
}

/** The path of a key file that is named by its path or a file URL, or undefined. */
export function keyFile(place: string): string | undefined {
  if (place.startsWith('/')) return place;
  if (!/^file:\/\/\//i.test(place)) return undefined;
  try {
    return fileURLToPath(place);
  } catch {
    return undefined; // such as one with an encoded slash
  }
}

async function readBounded(path: string): Promise<Buffer> {
  // A FIFO must not make us wait for its writer.
  const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    const stats = await file.stat();
    if (stats.isDirectory()) throw new Error('it is a directory');
    if (!stats.isFile()) throw new Error('it is no regular file');
    if (stats.size > largestFile) throw new Error(`it is larger than ${largestFile} bytes`);
    return await file.readFile();
  } finally {
    await file.close();
  }
}

function hasId(key: PublicKey, keyId: string): boolean {
  return key.getKeys().some((part) => part.getKeyID().toHex() === keyId.toLowerCase());
}
