import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';

import { ociPlatform } from '../image/config.js';
import type { Architecture } from '../support/architecture.js';
import { cannot } from '../support/errors.js';
import { failedCommand, type Exec } from '../support/exec.js';
import { runningDirectory } from './lab.js';
import { inNamespaceOfImages, rootlessEnvironmentOf } from './user-namespace.js';

/** An image in oci-archives, one or more architectures in each. */
export interface FetchedImage {
  /** Where it was found, in the words of containers-transports(5). */
  readonly name: string;
  /** Path of the oci-archive that has the architecture. */
  readonly archives: ReadonlyMap<Architecture, string>;
}

export interface ImageFetch {
  readonly exec: Exec;
  /** The whole environment of the user, whose Podman, registries and passwords are asked. */
  readonly environment: Readonly<Record<string, string>>;
  readonly signal: AbortSignal;
  /** Of the user. */
  readonly uid: number;
  /** Empty, private, and removed by the caller. */
  readonly directory: string;
}

const patience = 600_000;

/**
 * Copies an image out of the user's own Podman storage when it is there, and else from where Podman would pull it. What
 * the user's storage holds stays as it is: images from elsewhere come by way of a storage that is removed again.
 *
 * @param reference name or ID of an image, or one of containers-transports(5)
 * @throws ToolError with exit code 2 when a name that can only be in the user's storage is not there
 */
export async function fetchImage(
  reference: string,
  architectures: readonly Architecture[],
  fetch: ImageFetch,
): Promise<FetchedImage> {
  const [, transport, rest] = /^([a-z-]+):(.*)$/.exec(reference) ?? [];
  const stored =
    transport === 'containers-storage' ? rest : transports.has(transport ?? '') ? undefined : reference;
  if (stored !== undefined) {
    const archive = await save(stored, fetch);
    const name = `containers-storage:${stored}`;
    if (archive !== undefined) return { name, archives: new Map(architectures.map((one) => [one, archive])) };
    if (stored !== reference || isOnlyLocal(stored)) {
      throw cannot('find', `image ${stored}`, 'it is not in this user’s Podman storage', {
        hint: 'see `podman images`; root and every other user have images of their own',
        exitCode: 2,
      });
    }
  }
  const archives = new Map<Architecture, string>();
  for (const one of architectures) archives.set(one, await pull(reference, one, fetch));
  return { name: stored === undefined ? reference : `docker://${reference}`, archives };
}

/** Those of containers-transports(5) beside the user's own storage. */
const transports: ReadonlySet<string> = new Set([
  ...['docker', 'oci', 'oci-archive', 'docker-archive', 'docker-daemon', 'dir'],
]);

/** No registry is called localhost, and none is asked for an ID. */
function isOnlyLocal(reference: string): boolean {
  return reference.startsWith('localhost/') || /^(?:sha256:)?(?:[0-9a-f]{12}|[0-9a-f]{64})$/.test(reference);
}

/** Undefined when the user's Podman does not have it. */
async function save(reference: string, fetch: ImageFetch): Promise<string | undefined> {
  const { exec, signal, directory } = fetch;
  // Where Podman leaves a half-written file.
  const environment = { ...fetch.environment, TMPDIR: directory };
  const podman = (...args: readonly string[]): Promise<unknown> =>
    exec({ argv: ['podman', ...args], environment, signal, timeout: patience });
  const say = podmanFailure('find', `image ${reference}`, signal);
  const there = await podman('image', 'exists', '--', reference).then(
    () => true,
    (error: unknown) => {
      // 125 is every other failure, such as a name that is none.
      if (failedCommand(error)?.exitCode === 1) return false;
      return say(error);
    },
  );
  if (!there) return undefined;
  const archive = join(directory, 'stored.tar');
  const isList = await podman('manifest', 'exists', '--', reference).then(
    () => true,
    () => false,
  );
  // Without a name in the archive, Podman 4.3 gives every architecture of an index the ID of this machine's.
  const named = `oci-archive:${archive}:localhost/image:latest`;
  await (
    isList
      ? podman('manifest', 'push', '--quiet', '--all', '--', reference, named)
      : podman('image', 'save', '--quiet', '--format', 'oci-archive', '--output', archive, '--', reference)
  ).catch(podmanFailure('read', `image ${reference}`, signal));
  return archive;
}

/** @returns path of an oci-archive with this one architecture */
async function pull(reference: string, architecture: Architecture, fetch: ImageFetch): Promise<string> {
  const { exec, signal, uid, directory } = fetch;
  const own = join(directory, architecture);
  const archive = `${own}.tar`;
  await mkdir(own);
  const isRoot = uid === 0;
  const environment = {
    ...{ ...fetch.environment, TMPDIR: own },
    ...(isRoot ? {} : rootlessEnvironmentOf(uid)),
  };
  const run = async (...argv: readonly [string, ...string[]]): Promise<string> => {
    const { stdout } = await exec({
      argv: isRoot ? argv : inNamespaceOfImages(argv),
      ...{ environment, signal, timeout: patience },
    });
    return stdout.trim();
  };
  const podman = (...args: readonly string[]): Promise<string> =>
    run(
      ...(['podman', '--root', join(own, 'storage')] as const),
      // As short as Podman wants it from users, and away with the namespace.
      ...['--runroot', isRoot ? runningDirectory(directory) : '/dev/shm/run', '--tmpdir', join(own, 'tmp')],
      ...['--events-backend', 'none', '--cgroup-manager', 'cgroupfs', '--storage-driver', 'vfs'],
      ...args,
    );
  try {
    const platform = ociPlatform(architecture).architecture;
    const id = await podman('pull', '--quiet', '--arch', platform, reference);
    await podman('image', 'save', '--quiet', '--format', 'oci-archive', '--output', archive, id);
    return archive;
  } catch (error) {
    return podmanFailure('get', `image ${reference}`, signal)(error);
  } finally {
    await (
      isRoot
        ? Promise.all(
            [own, runningDirectory(directory)].map((path) => rm(path, { recursive: true, force: true })),
          )
        : exec({ argv: inNamespaceOfImages(['rm', '-rf', own]), environment, timeout: 30_000 })
    ).catch(() => undefined);
  }
}

/** For `catch`: of what Podman has said, its error in one line; its warnings and its command line are in the cause. */
export function podmanFailure(
  verb: string,
  object: string,
  signal: AbortSignal | undefined,
): (error: unknown) => never {
  return (error) => {
    signal?.throwIfAborted();
    const reason = /^Error: (.*)$/m.exec(failedCommand(error)?.stderr ?? '')?.[1];
    if (reason === undefined) throw error;
    throw cannot(verb, object, reason, {
      cause: error,
      ...hintFor(reason),
      exitCode:
        /invalid reference format|repository name must/.test(reason) || isMissingArchitecture(reason) ? 2 : 1,
    });
  };
}

function isMissingArchitecture(reason: string): boolean {
  return /no image found in (?:image index|manifest list)/.test(reason);
}

function hintFor(reason: string): { readonly hint?: string } {
  if (reason.includes('server gave HTTP response to HTTPS client')) {
    return { hint: 'a registry without TLS must be `insecure` in registries.conf' };
  }
  if (reason.includes('no space left on device')) {
    return { hint: 'set TMPDIR to a directory with more room' };
  }
  if (isMissingArchitecture(reason)) return { hint: 'choose another --arch' };
  if (reason.includes('did not resolve to an alias')) {
    return { hint: 'this user’s Podman storage does not have it either; see `podman images`' };
  }
  return /unauthorized|denied/.test(reason) ? { hint: 'see `podman login`' } : {};
}
