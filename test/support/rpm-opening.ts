import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { PackageContents } from '../../build/package/contents.js';
import type { OpenOptions } from '../../build/package/open-options.js';
import { openRpm } from '../../build/package/rpm.js';
import type { SignaturePolicy, SignerPolicy } from '../../build/package/rpm/signature.js';
import { readPublicKeys } from '../../build/repository/signature.js';
import { openCache, type Cache } from '../../build/support/cache.js';
import { sha256Of } from './deb.js';
import { buildRpm, type RpmSpec, type SigningKey } from './rpm.js';

/** A directory and a cache to open packages with; what was opened is closed with it. */
export class RpmOpening {
  readonly directory = mkdtempSync(join(tmpdir(), 'rpm-'));
  readonly #cache: Promise<Cache> = openCache(join(this.directory, 'cache'));
  readonly #opened: PackageContents[] = [];
  #serial = 0;

  cache(): Promise<Cache> {
    return this.#cache;
  }

  build(spec: Partial<RpmSpec>): string {
    return buildRpm({ directory: this.directory, name: 'sample', ...spec });
  }

  async path(
    path: string,
    policy: SignaturePolicy = 'unsigned',
    options?: OpenOptions,
  ): Promise<PackageContents> {
    const contents = await openRpm(path, sha256Of(readFileSync(path)), await this.#cache, policy, options);
    this.#opened.push(contents);
    return contents;
  }

  async bytes(
    bytes: Buffer,
    policy: SignaturePolicy = 'unsigned',
    options?: OpenOptions,
  ): Promise<PackageContents> {
    const path = join(this.directory, `${++this.#serial}.rpm`);
    writeFileSync(path, bytes);
    try {
      return await this.path(path, policy, options);
    } finally {
      rmSync(path);
    }
  }

  async closeAll(): Promise<void> {
    for (const contents of this.#opened.splice(0)) await contents.close();
  }

  async remove(): Promise<void> {
    await this.closeAll();
    rmSync(this.directory, { recursive: true });
  }
}

/** Asks for a signature of one of the keys. */
export async function policyOf(...keys: readonly SigningKey[]): Promise<SignerPolicy> {
  const all = (await Promise.all(keys.map((key) => readPublicKeys(Buffer.from(key.publicKey))))).flat();
  return { pinned: keys.map((key) => key.fingerprint), keys: () => Promise.resolve(all) };
}

/** Text of a file of the package. */
export async function textOf(contents: PackageContents, path: string): Promise<string> {
  const entry = contents.entries.find((candidate) => candidate.path === path);
  if (entry?.kind !== 'file' && entry?.kind !== 'hardlink') throw new Error(`${path} is no file`);
  return (await contents.read(entry)).toString();
}
