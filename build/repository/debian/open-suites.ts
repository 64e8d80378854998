import { cannot, ToolError } from '../../support/errors.js';
import { shownUrl } from '../../support/url.js';
import { fetchRelease, type Release } from './release.js';
import type { ReleaseContext } from './signed-release.js';
import type { Source } from './sources.js';
import { belongsTo, securitySuite } from './suites.js';

/** A suite of a source, its Release verified. */
export interface OpenSuite {
  readonly source: Source;
  readonly release: Release;
}

/** The cache holds the Releases as they were last accepted; offline, the fetcher must be offline too. */
export interface SuitesOptions extends ReleaseContext {
  /** Codename, or the suite that was asked for. */
  readonly release: string;
  /** Debian's name of the architecture; undefined: whatever they are for. */
  readonly debian: string | undefined;
  /** What has been fetched for other architectures of the same run. */
  readonly releases?: Map<string, Promise<Release | undefined>>;
}

/**
 * Fetches and verifies the Release of every source, in parallel. Sources that are not of the wanted release or
 * architecture are left out, and so is an archive that lacks what another one has.
 * @throws ToolError
 */
export async function openSuites(
  sources: readonly Source[],
  options: SuitesOptions,
): Promise<readonly OpenSuite[]> {
  const { debian, log, release: wanted } = options;
  const usable = mergeSources(sources)
    .filter((source) => {
      if (debian === undefined || (source.architectures?.includes(debian) ?? true)) return true;
      log.debug(`${source.configuredAt}: left out, it is not for ${debian}`);
      return false;
    })
    .map((source) =>
      debian === undefined ? source : { ...source, suite: source.suite.replaceAll('$(ARCH)', debian) },
    );
  const results = await Promise.all(
    usable.map(async (source) => {
      try {
        return { source, release: await releaseOf(source, options), error: undefined };
      } catch (thrown) {
        const error = thrown instanceof Error ? thrown : new Error(String(thrown));
        return { source, release: undefined, error };
      }
    }),
  );
  const suites: OpenSuite[] = [];
  for (const { source, release, error } of results) {
    if (release !== undefined) {
      if (isOfRelease(source, release, wanted)) suites.push({ source, release });
      else
        log.debug(
          `${source.configuredAt}: left out, ${source.suite} is ${release.codename ?? 'another release'}`,
        );
      continue;
    }
    // Another archive of the same suite answers for an unreachable one; nothing answers for a false signature.
    const replaced = results.some(
      (other) => other.release !== undefined && other.source.suite === source.suite,
    );
    if (
      error !== undefined &&
      !(replaced && error instanceof ToolError && error.message.startsWith('cannot fetch '))
    ) {
      throw error;
    }
    if (error instanceof ToolError) log.warn(`${source.configuredAt}: left out, ${error.message}`);
    else if (replaced) log.debug(`${shownUrl(source.uri)} has no ${source.suite}, another archive has it`);
    else if (source.optional) log.info(`${shownUrl(source.uri)} has no ${source.suite}, left out`);
    else {
      throw cannot(
        'find',
        `the suite ${source.suite}`,
        `${shownUrl(source.uri)} has neither InRelease nor Release of it`,
        {
          hint: `correct ${source.configuredAt}, or choose another archive with --mirror URL`,
        },
      );
    }
  }
  warnOfMissingSecurity(usable, suites, options);
  return suites;
}

/** Where an archive was only guessed to have the security updates, as with --mirror, their absence is no error. */
function warnOfMissingSecurity(
  sources: readonly Source[],
  suites: readonly OpenSuite[],
  { release, log }: SuitesOptions,
): void {
  const security = securitySuite(release);
  if (security === undefined || suites.some(({ source }) => source.suite === security)) return;
  if (!sources.some(({ suite, optional }) => optional && suite === security)) return;
  log.warn(
    `no archive has ${security}, so security updates are left out; name the one that has it with one more --mirror URL`,
  );
}

/** Every architecture of a run asks for the same Releases. */
function releaseOf(source: Source, options: SuitesOptions): Promise<Release | undefined> {
  const key = JSON.stringify(source);
  const release = options.releases?.get(key) ?? fetchRelease(source, options);
  options.releases?.set(key, release);
  return release;
}

/** A moving name such as `stable` may have come to mean another release than the one wanted. */
function isOfRelease(source: Source, { codename }: Release, wanted: string): boolean {
  if (source.suite.endsWith('/') || belongsTo(source.suite, wanted)) return true;
  return codename !== undefined && belongsTo(codename, wanted);
}

/** apt takes entries of one URI and suite for one source; they may differ in their components only. */
function mergeSources(sources: readonly Source[]): readonly Source[] {
  const merged = new Map<string, Source>();
  for (const source of sources) {
    const key = `${source.uri} ${source.suite} ${source.architectures?.join(' ') ?? ''}`;
    const known = merged.get(key);
    if (known !== undefined && JSON.stringify(known.keyring) !== JSON.stringify(source.keyring)) {
      throw cannot(
        'use',
        `${shownUrl(source.uri)} ${source.suite}`,
        'two of its entries have different Signed-By values',
        {
          hint: `make ${known.configuredAt} and ${source.configuredAt} equal`,
        },
      );
    }
    const components = [...new Set([...(known?.components ?? []), ...source.components])];
    merged.set(key, { ...source, ...known, components });
  }
  return [...merged.values()];
}
