import { readFileSync } from 'node:fs';

/** Whether root of this process is root of the machine: user_namespaces(7). */
export function isInUserNamespace(): boolean {
  return !/^\s*0\s+0\s+4294967295\s*$/.test(readFileSync('/proc/self/uid_map', 'utf8'));
}

/** Of programs that run beside this one: empty for real root. */
export function rootlessEnvironment(): Readonly<Record<string, string>> {
  if (!isInUserNamespace()) return {};
  const user = /^\s*0\s+(\d+)\s/m.exec(readFileSync('/proc/self/uid_map', 'utf8'))?.[1] ?? '0';
  return rootlessEnvironmentOf(Number(user));
}

/** What `podman unshare` sets: that the user namespace is there already, and whose it is. */
export function rootlessEnvironmentOf(uid: number): Readonly<Record<string, string>> {
  return {
    _CONTAINERS_USERNS_CONFIGURED: 'done',
    _CONTAINERS_ROOTLESS_UID: String(uid),
    _CONTAINERS_ROOTLESS_GID: String(uid),
  };
}

/**
 * Runs a program as root of a user namespace, with the caller's subordinate IDs (subuid(5)) and a network and mounts of
 * its own: unshare(1). Where the machine's root has made files, there are empty ones in their place.
 */
export function inUserNamespace(argv: readonly string[]): [string, ...string[]] {
  return unshare(['--net'], ['/run', '/dev/shm'], argv);
}

/** The same with the machine's network, and everything that says how to reach a registry. */
export function inNamespaceOfImages(argv: readonly string[]): [string, ...string[]] {
  return unshare([], ['/dev/shm'], argv);
}

function unshare(
  more: readonly string[],
  hidden: readonly string[],
  argv: readonly string[],
): [string, ...string[]] {
  const mounts = hidden.map((path) => `mount -t tmpfs tmpfs ${path}`).join(' && ');
  return [
    ...(['unshare', '--user', '--map-auto', '--map-root-user', ...more, '--mount'] as const),
    ...['sh', '-c', `${mounts} && exec "$@"`, 'sh', ...argv],
  ];
}
