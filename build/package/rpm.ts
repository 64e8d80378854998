import { evrText } from '../repository/fedora/evr.js';
import type { Cache } from '../support/cache.js';
import { cannot } from '../support/errors.js';
import { readAt } from './bytes.js';
import { defaultPackageLimits, type FileEntry, type PackageContents, type RpmMetadata } from './contents.js';
import type { CollectedEntries } from './entries.js';
import type { OpenOptions } from './open-options.js';
import { readContainer } from './rpm/container.js';
import { headerFiles } from './rpm/files.js';
import type { RpmHeader } from './rpm/header.js';
import { packageOwners, type Owners } from './rpm/owners.js';
import { ghostLinks } from './rpm/payload.js';
import type { SignaturePolicy } from './rpm/signature.js';
import { findVerified, openPayload, rememberVerified, type PayloadSpool } from './rpm/spool.js';
import { tags } from './rpm/tags.js';
import { payloadDigests, verifyPackage } from './rpm/verify.js';
import { openFile, spoolAccess, type Spool } from './spool.js';

/**
 * Opens a binary RPM package, of the formats 4 and 6. Its payload is verified, and unpacked once, into the cache;
 * opening the same package again verifies and decompresses nothing, as long as its signer is asked for. The file's
 * bytes must have been verified to have the hash.
 *
 * @param sha256 of the package file, lower-case hexadecimal
 * @param policy whose signature it must have
 * @throws ToolError `cannot read NAME: reason` for anything the package should not be, `cannot trust NAME: reason`
 * for a wrong digest, and for a signature that is missing, wrong, or of another key
 */
export async function openRpm(
  file: string,
  sha256: string,
  cache: Cache,
  policy: SignaturePolicy,
  { name = file, limits = defaultPackageLimits }: OpenOptions = {},
): Promise<PackageContents> {
  const rpm = await openFile(file);
  let spool: PayloadSpool | undefined;
  try {
    const container = await readContainer(rpm, name, limits.controlBytes);
    const { header } = container;
    const digests = payloadDigests(header, name);
    const known = await findVerified(cache, sha256);
    const isTrusted =
      known !== undefined &&
      (policy === 'unsigned' || (known.signer !== undefined && policy.pinned.includes(known.signer)));
    const signer = isTrusted ? known.signer : await verifyPackage(rpm, name, container, digests, policy);
    const identity = identityOf(header, name);
    const files = headerFiles(header, name, limits.entries);
    spool = await openPayload({ rpm, name, container, digests, files, cache, limits }, known?.payload);
    if (!isTrusted || known.payload !== spool.payload) {
      await rememberVerified(cache, sha256, { payload: spool.payload, signer });
    }
    const owners = packageOwners(await sysusersTexts(spool, name), header);
    const metadata: RpmMetadata = {
      ...identity.metadata,
      signer: policy === 'unsigned' ? undefined : signer,
      ghostLinks: ghostLinks(files).map((entry) => withNumbers(entry, owners)),
    };
    const owned = { ...spool, collected: withOwners(spool.collected, owners) };
    return {
      ...identity,
      metadata,
      entries: owned.collected.entries,
      ...spoolAccess(owned, `${identity.name} ${identity.version}`),
    };
  } catch (error) {
    await spool?.handle.close();
    throw error;
  } finally {
    if (spool?.handle !== rpm) await rpm.close();
  }
}

type Identity = Pick<PackageContents, 'name' | 'version' | 'architecture' | 'built'> & {
  readonly metadata: RpmMetadata;
};

/** What rpmbuild lets into names; a version or release has no `-` (rpm's docs/manual/spec.md). */
const nameSyntax = /^[A-Za-z0-9_][A-Za-z0-9+._-]*$/;
const versionSyntax = /^[A-Za-z0-9+._~^]+$/;
const architectureSyntax = /^[a-z0-9_]+$/;

function identityOf(header: RpmHeader, name: string): Identity {
  const fail = (reason: string) => cannot('read', name, reason);
  if (header.has(tags.sourcePackage)) throw fail('it is a source package');
  const required = (tag: number, what: string, syntax: RegExp): string => {
    const value = header.text(tag);
    if (value === undefined) throw fail(`its header has no ${what}`);
    if (value.length > 255 || !syntax.test(value)) {
      throw fail(`its ${what} ${JSON.stringify(value.slice(0, 80))} is not valid`);
    }
    return value;
  };
  const version = required(tags.version, 'version', versionSyntax);
  const release = required(tags.release, 'release', versionSyntax);
  const epoch = header.number(tags.epoch);
  const built = header.number(tags.buildTime);
  if (built === undefined) throw fail('its header has no build time');
  return {
    name: required(tags.name, 'name', nameSyntax),
    // Repositories do not tell an epoch of 0 from none.
    version: evrText({ epoch: epoch ?? 0, version, release }),
    architecture: required(tags.architecture, 'architecture', architectureSyntax),
    built,
    metadata: {
      format: 'rpm',
      epoch,
      version,
      release,
      vendor: header.text(tags.vendor) ?? '',
      license: header.text(tags.license) ?? '',
      sourceRpm: header.text(tags.sourceRpm) ?? '',
      installedSize: header.number(tags.longSize) ?? header.number(tags.size) ?? 0,
      signer: undefined,
      ghostLinks: [],
    },
  };
}

const sysusersFile = /^usr\/lib\/sysusers\.d\/[^/]+\.conf$/;
/** Bytes; real ones have a few hundred. */
const maxSysusersBytes = 64 * 1024;

/** The sysusers.d files of a payload, in the order of their names. */
async function sysusersTexts({ handle, offset, collected }: Spool, name: string): Promise<readonly string[]> {
  const found = [...collected.offsets]
    .filter(([{ path, size }]) => sysusersFile.test(path) && size <= maxSysusersBytes)
    .sort(([a], [b]) => (a.path < b.path ? -1 : 1));
  const texts: string[] = [];
  for (const [{ size }, start] of found) {
    texts.push((await readAt(handle, name, offset + start, size)).toString());
  }
  return texts;
}

function withOwners({ entries, offsets }: CollectedEntries, owners: Owners): CollectedEntries {
  const moved = new Map<FileEntry, number>();
  const numbered = entries.map((entry) => {
    const result = withNumbers(entry, owners);
    const start = entry.kind === 'file' ? offsets.get(entry) : undefined;
    if (result.kind === 'file' && start !== undefined) moved.set(result, start);
    return result;
  });
  return { entries: numbered, offsets: moved };
}

function withNumbers<Entry extends { readonly userName: string; readonly groupName: string }>(
  entry: Entry,
  owners: Owners,
): Entry {
  return { ...entry, uid: owners.user(entry.userName), gid: owners.group(entry.groupName) };
}
