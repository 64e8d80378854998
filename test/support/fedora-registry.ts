import { join } from 'node:path';
import { importDnfBase } from './base-image.js';
import { privateStorage } from './buildah.js';
import type { StandIn } from './fedora-stand-in.js';
import { hostArchitecture } from './host.js';
import { startRegistry, type Registry } from './registry.js';

/** What Debian's files are there for, in Fedora's words. */
const present: ReadonlySet<string> = new Set([
  ...['filesystem', 'setup', 'fedora-release-common', 'fedora-release-identity-basic'],
  ...['glibc', 'glibc-common', 'bash', 'coreutils', 'coreutils-common', 'grep', 'sed'],
]);

/** What making the base and serving it takes. */
export const fedoraRegistryTools = ['buildah', 'docker-registry', 'mmdebstrap', 'flock', 'rpmbuild', 'tar'];

export interface FedoraRegistry extends Registry {
  /** Digests of the base's layers, uncompressed. */
  readonly baseLayers: readonly string[];
}

/**
 * A registry that has a stand-in of Fedora's minimal image, with a real dnf in it, for the host's architecture.
 *
 * @param directory existing, for its files and for the storage in which the base is made
 */
export async function startFedoraRegistry(standIn: StandIn, directory: string): Promise<FedoraRegistry> {
  const registry = await startRegistry(join(directory, 'registry'));
  const storage = privateStorage(join(directory, 'base-storage'));
  try {
    const packages = standIn.packages.filter(
      ({ repository, architecture, nevra }) =>
        repository === 'fedora' &&
        architecture === hostArchitecture &&
        !nevra.endsWith('.i686') &&
        present.has(nevra.replace(/-[^-]*-[^-]*$/, '')),
    );
    const files = packages.map(({ file }) => join(standIn.root, file));
    const base = importDnfBase(storage, directory, files);
    const name = `docker://${registry.host}/fedora-minimal:45`;
    storage.buildah('push', '--quiet', '--tls-verify=false', base, name);
    const inspected = JSON.parse(storage.buildah('inspect', '--type', 'image', base)) as {
      readonly OCIv1: { readonly rootfs: { readonly diff_ids: readonly string[] } };
    };
    return { ...registry, baseLayers: inspected.OCIv1.rootfs.diff_ids };
  } finally {
    storage.remove();
  }
}
