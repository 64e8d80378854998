import type { Architecture } from '../support/architecture.js';
import type { Layer } from '../rootfs/layer.js';
import type { RootfsPlan } from '../rootfs/plan.js';

/** What the OCI image configuration says, in the words of image-spec config.md. */
export interface ImageConfig {
  readonly architecture: Architecture;
  /** Seconds since the epoch; `created` of the image and of its own history entry. */
  readonly created: number;
  /** `uid:gid`, numeric. */
  readonly user: string;
  readonly entrypoint: readonly string[];
  readonly command: readonly string[];
  /** `NAME=value`. */
  readonly environment: readonly string[];
  /** Such as `67/udp`. */
  readonly exposedPorts: readonly string[];
  /** Absolute paths. */
  readonly volumes: readonly string[];
  readonly workingDirectory: string;
  /** Such as `SIGTERM`. */
  readonly stopSignal: string;
  /** Standard org.opencontainers.image.* keys: labels of the configuration and annotations of the manifest. */
  readonly annotations: ReadonlyMap<string, string>;
}

/** One architecture's image, ready to be written. */
export interface ImageInput {
  readonly config: ImageConfig;
  /** Its `epoch` is `config.created`: buildah gives the files no other time than the image. */
  readonly plan: RootfsPlan;
  readonly layer: Layer;
}

export interface BuiltManifest {
  readonly architecture: Architecture;
  readonly digest: string;
  /** Bytes of the manifest. */
  readonly size: number;
  /** Digest of the configuration: the image ID that podman shows. */
  readonly configDigest: string;
  /** Of the image's own layer; those of a base lie below it. */
  readonly layerDigest: string;
  readonly diffId: string;
  /** Compressed bytes of the layer. */
  readonly layerSize: number;
}

export interface BuiltImage {
  readonly engine: 'oci' | 'buildah';
  /** Digest of the manifest, or of the index when there are several architectures. */
  readonly digest: string;
  /** Such as `localhost/dhcpd:latest`. */
  readonly reference: string;
  readonly manifests: readonly BuiltManifest[];
  /** OCI layout directory, absolute path. */
  readonly layout: string;
  /** oci-archive tar that `podman load` takes, absolute path. */
  readonly archive: string;
}

export interface ImageEngine {
  readonly name: 'oci' | 'buildah';
  /**
   * Writes `<directory>/<name>.oci/` and `<directory>/<name>.oci.tar`, each whole or not at all.
   * One input gives a manifest, several give an OCI index over them.
   */
  build(inputs: readonly ImageInput[], target: ImageTarget): Promise<BuiltImage>;
}

export interface ImageTarget {
  readonly name: string;
  readonly reference: string;
  /** Existing directory, absolute path. */
  readonly directory: string;
  /** Aborted on SIGINT and SIGTERM: the engine undoes what it began and throws. */
  readonly signal: AbortSignal;
}
