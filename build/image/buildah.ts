import { randomBytes } from 'node:crypto';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';

import { cannot, hintOf, reasonOf, ToolError } from '../support/errors.js';
import { baseEnvironment } from '../support/exec.js';
import type { Exec } from '../support/exec.js';
import { configBlob, createdBy, layerType, ociPlatform } from './config.js';
import type { Compression } from '../rootfs/layer.js';
import type { BuiltImage, ImageConfig, ImageEngine, ImageInput, ImageTarget } from './engine.js';
import { copyBlob, publish, stopIfAborted } from './layout.js';
import type { FinishedImage } from './layout.js';

/** How buildah is run: the command runner and the environment of this process. */
export interface BuildahHost {
  readonly exec: Exec;
  readonly environment: Readonly<Record<string, string | undefined>>;
}

/**
 * Builds with buildah, and leaves the image in the user's container storage under its reference. Nothing else there
 * changes: working containers and images without a name go away on success, error and interruption. A command is never
 * interrupted, because a killed buildah leaves halves behind; the signal is looked at between commands.
 */
export function createBuildahEngine(host: BuildahHost): ImageEngine {
  return {
    name: 'buildah',
    async build(inputs, target) {
      let scratch: string | undefined;
      try {
        scratch = await mkdtemp(join(tmpdir(), 'dhcpd-scratch-'));
        return await buildWith(host, inputs, target, scratch);
      } catch (error) {
        if (error instanceof ToolError) throw error;
        const hint = hintOf(error);
        throw cannot('build', target.reference, reasonOf(error), {
          cause: error,
          ...(hint === undefined ? {} : { hint }),
        });
      } finally {
        if (scratch !== undefined) await rm(scratch, { recursive: true, force: true });
      }
    },
  };
}

/** @param scratch empty directory for copies of the layers and for what buildah hands out */
async function buildWith(
  host: BuildahHost,
  inputs: readonly ImageInput[],
  target: ImageTarget,
  scratch: string,
): Promise<BuiltImage> {
  const storage = await Storage.open(host, target);
  try {
    const images: StoredBuild[] = [];
    for (const [index, input] of inputs.entries()) {
      const id = await commitImage(storage, input, join(scratch, `layer-${index}`));
      const finished = await pushImage(storage, id, input, join(scratch, `image-${index}`));
      images.push({ id, input, finished });
    }
    const finished = images.map((image) => image.finished);
    const built = await publish('buildah', finished, target);
    await storage.nameResult(images);
    return built;
  } finally {
    await storage.clean();
  }
}

/**
 * What buildah may see of this process's environment: where its storage and configuration are, and the marks of
 * `buildah unshare`. Not what would change an image, such as BUILDAH_HISTORY or SOURCE_DATE_EPOCH.
 */
export function buildahEnvironment(environment: BuildahHost['environment']): Record<string, string> {
  const kept = [
    ...['CONTAINERS_CONF', 'CONTAINERS_STORAGE_CONF', 'STORAGE_DRIVER', 'STORAGE_OPTS', 'BUILDAH_ISOLATION'],
    ...['_CONTAINERS_USERNS_CONFIGURED', '_CONTAINERS_ROOTLESS_UID', '_CONTAINERS_ROOTLESS_GID'],
    ...['USER', 'LOGNAME'],
  ].flatMap((name): [string, string][] => {
    const value = environment[name];
    return value === undefined ? [] : [[name, value]];
  });
  return { ...baseEnvironment(environment), ...Object.fromEntries(kept) };
}

interface StoredBuild {
  readonly id: string;
  readonly input: ImageInput;
  readonly finished: FinishedImage;
}

/** The user's container storage, and what this build has made in it so far. */
class Storage {
  readonly #run: (...argv: readonly string[]) => Promise<string>;
  readonly #target: ImageTarget;
  readonly #before: ReadonlyMap<string, readonly string[]>;
  /** Working containers and manifest lists of this build, by name; images by ID. */
  readonly #containers = new Set<string>();
  readonly #lists = new Set<string>();
  readonly #images = new Set<string>();

  private constructor(
    run: (...argv: readonly string[]) => Promise<string>,
    target: ImageTarget,
    before: ReadonlyMap<string, readonly string[]>,
  ) {
    this.#run = run;
    this.#target = target;
    this.#before = before;
  }

  static async open({ exec, environment }: BuildahHost, target: ImageTarget): Promise<Storage> {
    const run = async (...argv: readonly string[]): Promise<string> => {
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

  /** Runs `work` on an empty working container, which is gone afterwards. Gives the ID of the image it commits. */
  async inContainer(work: (name: string) => Promise<void>, commit: readonly string[]): Promise<string> {
    const name = temporaryName();
    this.#containers.add(name);
    await this.buildah('from', '--name', name, 'scratch');
    await work(name);
    const id = (await this.buildah('commit', ...commit, name)).replace('sha256:', '');
    if (!/^[0-9a-f]{64}$/.test(id)) {
      throw cannot('build', this.#target.reference, `buildah commit answered ${JSON.stringify(id)}`);
    }
    this.#images.add(id);
    await this.buildah('rm', name);
    this.#containers.delete(name);
    return id;
  }

  /** Moves the reference to the image, or to a manifest list of the images, and keeps them. */
  async nameResult(images: readonly StoredBuild[]): Promise<void> {
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
    for (const { id, input } of images) {
      const { os, architecture, variant } = ociPlatform(input.config.architecture);
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
    const attempt = (...argv: readonly string[]): Promise<unknown> =>
      this.#run(...argv).catch(() => undefined);
    for (const name of this.#containers) await attempt('rm', name);
    for (const name of this.#lists) await attempt('manifest', 'rm', name);
    if (this.#images.size === 0) return;
    const stored = await storedImages(this.#run).catch(() => new Map<string, readonly string[]>());
    for (const id of this.#images) {
      // An equal image may have been there before, or got a name from another build meanwhile.
      if (!this.#before.has(id) && stored.get(id)?.length === 0) await attempt('rmi', id);
    }
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

/** Unpacks the layer into a working container, configures it and commits it. */
async function commitImage(
  storage: Storage,
  { config, plan, layer }: ImageInput,
  copy: string,
): Promise<string> {
  if (plan.epoch !== config.created) {
    throw cannot('build', 'the image', 'buildah gives every file the creation time of the image', {
      hint: 'choose --engine oci',
    });
  }
  // Under a plain name: buildah takes wildcards in the path of a layer.
  await copyBlob(layer.path, copy, layer.digest);
  return storage.inContainer(
    async (container) => {
      await storage.buildah('add', '--quiet', container, copy, '/');
      await storage.buildah('config', ...configArguments(config), container);
    },
    [
      ...['--quiet', '--format', 'oci', '--squash', '--disable-compression', '--identity-label=false'],
      ...['--timestamp', String(config.created)],
    ],
  );
}

function configArguments(config: ImageConfig): readonly string[] {
  const { os, architecture, variant } = ociPlatform(config.architecture);
  const annotations = [...config.annotations].flatMap(([key, value]) => [
    ...['--annotation', `${key}=${value}`],
    ...['--label', `${key}=${value}`],
  ]);
  return [
    ...['--os', os, '--arch', architecture, '--variant', variant ?? '', '--created-by', createdBy],
    ...['--user', config.user, '--workingdir', config.workingDirectory, '--stop-signal', config.stopSignal],
    ...config.exposedPorts.flatMap((port) => ['--port', port]),
    ...config.volumes.flatMap((volume) => ['--volume', volume]),
    ...environmentArguments(config.environment),
    ...(config.entrypoint.length === 0 ? [] : ['--entrypoint', JSON.stringify(config.entrypoint)]),
    ...(config.command.length === 0 ? [] : ['--cmd', config.command.map(quote).join(' ')]),
    // Buildah states these of an image from nothing too, with empty values.
    ...['--annotation', 'org.opencontainers.image.base.name-'],
    ...['--annotation', 'org.opencontainers.image.base.digest-'],
    ...annotations,
  ];
}

/** Buildah expands variables in the values, as in a Dockerfile: a `$` is written as the value of a variable `$`. */
function environmentArguments(environment: readonly string[]): readonly string[] {
  const literal = environment.flatMap((entry) => ['--env', entry.replaceAll('$', '$$$$')]);
  return environment.some((entry) => entry.includes('$'))
    ? ['--env', '$=$', ...literal, '--env', '$-']
    : literal;
}

/** A word for `buildah config --cmd`, which splits like a POSIX shell. */
function quote(word: string): string {
  return `'${word.replaceAll("'", `'\\''`)}'`;
}

/** Copies the image out of the storage with the layer compressed as asked, and checks what buildah made of it. */
async function pushImage(
  storage: Storage,
  id: string,
  { config, layer }: ImageInput,
  directory: string,
): Promise<FinishedImage> {
  await storage.buildah(
    'push',
    '--quiet',
    ...compressionArguments(layer.compression),
    id,
    `dir:${directory}`,
  );
  const manifest = await readFile(join(directory, 'manifest.json'));
  const said = parse(manifest.toString());
  const [blob] = arrayAt(said, 'layers');
  const layerDigest = digestAt(blob);
  const configuration = await readFile(join(directory, digestAt(memberOf(said, 'config')).slice(7)));
  const found = parse(configuration.toString());
  const [diffId] = arrayAt(memberOf(found, 'rootfs'), 'diff_ids').map(String);
  if (diffId === undefined) throw unexpected('rootfs');

  const expected = parse(configBlob(config, diffId).toString());
  for (const field of new Set([...namesOf(expected), ...namesOf(found)])) {
    if (!isDeepStrictEqual(memberOf(found, field), memberOf(expected, field))) throw unexpected(field);
  }
  const annotations = memberOf(said, 'annotations') ?? {};
  if (!isDeepStrictEqual(annotations, Object.fromEntries(config.annotations)))
    throw unexpected('annotations');
  const mediaType = layerType(layer.compression);
  if (textAt(blob, 'mediaType') !== mediaType || arrayAt(said, 'layers').length !== 1)
    throw unexpected('layers');
  return {
    config,
    manifest,
    configuration,
    layer: { mediaType, digest: layerDigest, size: Number(memberOf(blob, 'size')) },
    layerPath: join(directory, layerDigest.slice(7)),
    diffId,
  };
}

function compressionArguments(compression: Compression): readonly string[] {
  switch (compression) {
    case 'none':
      return ['--disable-compression'];
    case 'gzip':
      return ['--compression-format', 'gzip'];
    case 'zstd':
      return ['--compression-format', 'zstd', '--compression-level', '19'];
  }
}

/** Images of the storage: ID without `sha256:`, and names. */
async function storedImages(
  run: (...argv: readonly string[]) => Promise<string>,
): Promise<ReadonlyMap<string, readonly string[]>> {
  const listed = parse(await run('images', '--all', '--no-trunc', '--json'));
  if (!Array.isArray(listed)) return new Map(); // `null`: there are none
  return new Map(
    listed.map((image: unknown) => {
      const names = memberOf(image, 'names');
      return [textAt(image, 'id').replace('sha256:', ''), Array.isArray(names) ? names.map(String) : []];
    }),
  );
}

/** A name nothing else has, for a working container or a manifest list. */
function temporaryName(): string {
  return `dhcpd-scratch-${randomBytes(8).toString('hex')}`;
}

function parse(json: string): unknown {
  try {
    return JSON.parse(json);
  } catch {
    throw unexpected('answer');
  }
}

function memberOf(value: unknown, name: string): unknown {
  return typeof value === 'object' && value !== null ? Reflect.get(value, name) : undefined;
}

function namesOf(value: unknown): readonly string[] {
  return typeof value === 'object' && value !== null ? Object.keys(value) : [];
}

function digestAt(value: unknown): string {
  const digest = textAt(value, 'digest');
  if (!/^sha256:[0-9a-f]{64}$/.test(digest)) throw unexpected('digest');
  return digest;
}

function textAt(value: unknown, name: string): string {
  const member = memberOf(value, name);
  if (typeof member !== 'string') throw unexpected(name);
  return member;
}

function arrayAt(value: unknown, name: string): readonly unknown[] {
  const member = memberOf(value, name);
  if (!Array.isArray(member)) throw unexpected(name);
  return member;
}

function unexpected(field: string): Error {
  return cannot('build', 'the image', `this version of buildah wrote an unexpected ${field}`, {
    hint: 'choose --engine oci',
  });
}
