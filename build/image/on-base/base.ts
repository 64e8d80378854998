import type { Architecture } from '../../support/architecture.js';
import { cannot } from '../../support/errors.js';
import { arrayAt, digestOf, memberOf, parse, textAt } from '../buildah-answer.js';
import type { Storage } from '../buildah-storage.js';
import { ociPlatform, type BaseLayers } from '../config.js';
import { commandFailure } from './failure.js';

/** A base image in the storage, pinned. */
export interface Base extends BaseLayers {
  /** As the definition names it. */
  readonly reference: string;
  /** Digest of the manifest for one architecture, which names the same bytes for ever. */
  readonly digest: string;
  /** Image ID, without `sha256:`. */
  readonly id: string;
  /** When it was made, seconds since the epoch. */
  readonly created: number;
}

/**
 * Brings a base image into the storage, where it stays under its digest. A tag that the user has for another image,
 * or for another architecture, stays what it was.
 *
 * @param digest what the base must be; undefined for what the registry gives now
 * @throws ToolError
 */
export async function pullBase(
  storage: Storage,
  reference: string,
  architecture: Architecture,
  digest: string | undefined,
): Promise<Base> {
  const { os, architecture: name, variant } = ociPlatform(architecture);
  const platform = ['--os', os, '--arch', name, ...(variant === undefined ? [] : ['--variant', variant])];
  try {
    const pinned = digest ?? (await currentDigest(storage, reference, platform));
    const id = await storage.pull(`${withoutTag(reference)}@${pinned}`, 'missing', platform);
    const base = await inspectImage(storage, id);
    if (base.architecture !== name) {
      throw cannot('build upon', reference, `it is an image for ${base.architecture}, not for ${name}`, {
        hint: `choose another architecture, or a base that there is for ${architecture}`,
      });
    }
    // The storage may know one image under several digests; the one asked for is what the bytes have.
    return { ...base, reference, digest: pinned, id };
  } catch (error) {
    throw commandFailure(error, 'pull', reference, () => ({
      hint: 'check its name and tag, the network, and that its registry has it for the architecture',
    }));
  }
}

/** Asks the registry, under whatever name: a tag may be moved at any time. */
async function currentDigest(
  storage: Storage,
  reference: string,
  platform: readonly string[],
): Promise<string> {
  return storage.keepingName(withTag(reference), async () => {
    const id = await storage.pull(reference, 'always', platform);
    const digest = digestOf(
      await storage.buildah('inspect', '--type', 'image', '--format', '{{.FromImageDigest}}', id),
    );
    // Again under its digest: that is the name it keeps. Nothing is transferred twice.
    await storage.pull(`${withoutTag(reference)}@${digest}`, 'always', platform);
    return digest;
  });
}

async function inspectImage(
  storage: Storage,
  id: string,
): Promise<BaseLayers & { readonly architecture: string; readonly created: number }> {
  const said = memberOf(parse(await storage.buildah('inspect', '--type', 'image', id)), 'OCIv1');
  const created = Date.parse(String(memberOf(said, 'created')));
  const history = memberOf(said, 'history');
  return {
    architecture: textAt(said, 'architecture'),
    // An image need not say.
    created: Number.isNaN(created) ? 0 : Math.max(0, Math.floor(created / 1000)),
    diffIds: arrayAt(memberOf(said, 'rootfs'), 'diff_ids').map((diffId) => digestOf(String(diffId))),
    history: Array.isArray(history) ? history : [],
  };
}

const tag = /:[^:/]*$/;

function withoutTag(reference: string): string {
  return reference.replace(tag, '');
}

function withTag(reference: string): string {
  return tag.test(reference) ? reference : `${reference}:latest`;
}
