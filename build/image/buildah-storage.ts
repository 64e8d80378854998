import { randomBytes } from 'node:crypto';

import { cannot } from '../support/errors.js';
import { baseEnvironment } from '../support/exec.js';
import type { Exec } from '../support/exec.js';
import { memberOf, parse, textAt } from './buildah-answer.js';
import { ociPlatform } from './config.js';
import type { ImageConfig, ImageTarget } from './engine.js';
import { stopIfAborted } from './layout.js';

/** How buildah is run: the command runner and the environment of this process. */
export interface BuildahHost {
  readonly exec: Exec;
  readonly environment: Readonly<Record<string, string | undefined>>;
}

/**
 * What buildah may see of this process's environment: where its storage and configuration are, the way to registries,
 * and the marks of `buildah unshare`. Not what would change an image, such as BUILDAH_HISTORY or SOURCE_DATE_EPOCH.
 */
export function buildahEnvironment(environment: BuildahHost['environment']): Record<string, string> {
  const kept = [
    ...['CONTAINERS_CONF', 'CONTAINERS_STORAGE_CONF', 'STORAGE_DRIVER', 'STORAGE_OPTS', 'BUILDAH_ISOLATION'],
    ...['CONTAINERS_REGISTRIES_CONF', 'REGISTRY_AUTH_FILE', 'DOCKER_CONFIG', 'SSL_CERT_FILE', 'SSL_CERT_DIR'],
    ...['http_proxy', 'https_proxy', 'no_proxy', 'HTTP_PROXY', 'HTTPS_PROXY', 'NO_PROXY'],
    ...['_CONTAINERS_USERNS_CONFIGURED', '_CONTAINERS_ROOTLESS_UID', '_CONTAINERS_ROOTLESS_GID'],
    ...['USER', 'LOGNAME'],
  ].flatMap((name): [string, string][] => {
    const value = environment[name];
    return value === undefined ? [] : [[name, value]];
  });
  return { ...baseEnvironment(environment), ...Object.fromEntries(kept) };
}

/** An image of the storage that is one of the result's. */
export interface StoredImage {
  /** Without `sha256:`. */
  readonly id: string;
  readonly config: ImageConfig;
}

/** What of the target the storage has to do with. */
type StorageTarget = Pick<ImageTarget, 'reference' | 'signal'>;

type Run = (...argv: readonly string[]) => Promise<string>;

/** The user's container storage, and what this build has made in it so far. */
export class Storage {
  readonly #run: Run;
  readonly #target: StorageTarget;
  readonly #before: ReadonlyMap<string, readonly string[]>;
  /** Working containers and manifest lists of this build, by name; images by ID. */
  readonly #containers = new Set<string>();
  readonly #lists = new Set<string>();
  readonly #images = new Set<string>();
  /** Names that pulling moves, each with the image that had it before. */
  readonly #moved = new Map<string, string | undefined>();

  private constructor(run: Run, target: StorageTarget, before: ReadonlyMap<string, readonly string[]>) {
    this.#run = run;
    this.#target = target;
    this.#before = before;
  }

  static async open({ exec, environment }: BuildahHost, target: StorageTarget): Promise<Storage> {
    const run: Run = async (...argv) => {
      const result = await exec({ argv: ['buildah', ...argv], environment: buildahEnvironment(environment) });
      return result.stdout.trim();
    };
    stopIfAborted(target);
    return new Storage(run, target, await storedImages(run));
  }

  async buildah(...argv: readonly string[]): Promise<string> {
    stopIfAborted(this.#target);
    return this.#run(...argv);
  }

  /**
   * Runs `work` on a working container, which is gone afterwards. Gives the ID of the image it commits.
   *
   * @param from arguments of `buildah from`: `scratch`, or an image
   * @param work gives the arguments of `buildah commit`
   */
  async inContainer(
    from: readonly string[],
    work: (name: string) => Promise<readonly string[]>,
  ): Promise<string> {
    const name = temporaryName();
    this.#containers.add(name);
    await this.buildah('from', '--name', name, ...from);
    const commit = await work(name);
    const id = idOf(await this.buildah('commit', ...commit, name), 'commit');
    this.#images.add(id);
    await this.buildah('rm', name);
    this.#containers.delete(name);
    return id;
  }

  /** Pulls an image, unless it is there and `policy` lets that do; it stays under that name. Gives its ID. */
  async pull(reference: string, policy: 'always' | 'missing', platform: readonly string[]): Promise<string> {
    const answer = await this.buildah('pull', '--quiet', '--policy', policy, ...platform, reference);
    const id = idOf(answer, `pull ${reference}`);
    this.#images.add(id);
    return id;
  }

  /** Runs `work`, which pulls images under this name; the name is afterwards what it was before. */
  async keepingName<Result>(reference: string, work: () => Promise<Result>): Promise<Result> {
    const [previous] = [...this.#before].find(([, names]) => names.includes(reference)) ?? [];
    this.#moved.set(reference, previous);
    const result = await work();
    await this.#moveBack(reference, previous);
    this.#moved.delete(reference);
    return result;
  }

  /** Moves the reference to the image, or to a manifest list of the images, and keeps them. */
  async nameResult(images: readonly StoredImage[]): Promise<void> {
    const { reference } = this.#target;
    const [only] = images;
    if (images.length === 1 && only !== undefined) {
      await this.buildah('tag', only.id, reference);
      this.#images.clear();
      return;
    }
    const list = temporaryName();
    this.#lists.add(list);
    await this.buildah('manifest', 'create', list);
    for (const { id, config } of images) {
      const { os, architecture, variant } = ociPlatform(config.architecture);
      const platform = ['--os', os, '--arch', architecture, '--variant', variant ?? ''];
      await this.buildah('manifest', 'add', ...platform, list, id);
    }
    await this.buildah('tag', list, reference);
    this.#images.clear();
    await this.#run('manifest', 'rm', list);
    this.#lists.delete(list);
    await this.#dropReplacedList();
  }

  /** Removes what has no place in the result. Runs on every way out, whatever the signal says. */
  async clean(): Promise<void> {
    // A failure here must not hide why the build failed; what was never made cannot be removed.
    const attempt = (work: Promise<unknown>): Promise<unknown> => work.catch(() => undefined);
    for (const name of this.#containers) await attempt(this.#run('rm', name));
    for (const name of this.#lists) await attempt(this.#run('manifest', 'rm', name));
    for (const [name, previous] of this.#moved) await attempt(this.#moveBack(name, previous));
    if (this.#images.size === 0) return;
    const stored = await storedImages(this.#run).catch(() => new Map<string, readonly string[]>());
    for (const id of this.#images) {
      // An equal image may have been there before, or got a name from another build meanwhile.
      if (!this.#before.has(id) && stored.get(id)?.length === 0) await attempt(this.#run('rmi', id));
    }
  }

  async #moveBack(reference: string, previous: string | undefined): Promise<void> {
    if (previous !== undefined) await this.#run('tag', previous, reference);
    // Takes the image along only when it has no other name.
    else await this.#run('rmi', reference);
  }

  /** A list gets a random ID, so every build would leave the one before it behind without a name. */
  async #dropReplacedList(): Promise<void> {
    const named = [...this.#before].find(([, names]) => names.includes(this.#target.reference));
    if (named === undefined) return;
    const [id] = named;
    if ((await storedImages(this.#run)).get(id)?.length !== 0) return;
    // Refused for anything but a list: the images of before stay, as after any other rebuild.
    await this.#run('manifest', 'rm', id).catch(() => undefined);
  }
}

/** Images of the storage: ID without `sha256:`, and names. */
async function storedImages(run: Run): Promise<ReadonlyMap<string, readonly string[]>> {
  const listed = parse(await run('images', '--all', '--no-trunc', '--json'));
  if (!Array.isArray(listed)) return new Map(); // `null`: there are none
  return new Map(
    listed.map((image: unknown) => {
      const names = memberOf(image, 'names');
      return [textAt(image, 'id').replace('sha256:', ''), Array.isArray(names) ? names.map(String) : []];
    }),
  );
}

function idOf(answer: string, command: string): string {
  const id = answer.replace('sha256:', '');
  if (/^[0-9a-f]{64}$/.test(id)) return id;
  throw cannot('build', 'the image', `buildah ${command} answered ${JSON.stringify(answer)}`);
}

/** A name nothing else has, for a working container or a manifest list. */
function temporaryName(): string {
  return `dhcpd-scratch-${randomBytes(8).toString('hex')}`;
}
