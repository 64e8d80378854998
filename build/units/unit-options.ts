import type { PodmanVersion } from './podman-version.js';

/** What the units depend on beside the service. */
export interface UnitOptions {
  readonly podman: PodmanVersion;
  /** A network for containers that get their addresses from this server. */
  readonly macvlan: Macvlan | undefined;
  /** Text of the script that the units run. */
  readonly script: string;
}

/**
 * Containers with addresses of their own on the network of an interface (macvlan). They cannot talk to the host over
 * the interface itself, so the server listens on a macvlan of the host as well: the shim. Some clients ask on the one,
 * others on the other, therefore both are served.
 */
export interface Macvlan {
  /** The interface that is on the network. */
  readonly parent: string;
  /** Address of the shim with the length of its prefix, in the network: 192.0.2.3/24. */
  readonly shimAddress: string;
}
