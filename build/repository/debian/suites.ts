import { access } from 'node:fs/promises';
import { cannot } from '../../support/errors.js';
import type { Log } from '../../support/log.js';
import { shownUrl } from '../../support/url.js';
import { plainDefaults, type AptConfiguration } from './apt-config.js';
import { archiveUri, isSuite, type Source } from './sources.js';

export interface SuiteChoice {
  /** The host's apt, or undefined on a host without it. */
  readonly apt: AptConfiguration | undefined;
  /** Codename of the host's own release, if it is a Debian-like host. */
  readonly hostRelease: string | undefined;
  /** `--suite`, or the release the definition names; undefined for the host's. */
  readonly suite: string | undefined;
  /** `--mirror`, as often as it is given; none: the sources of apt. */
  readonly mirrors: readonly string[];
  /** `--keyring`, absolute path. */
  readonly keyring: string | undefined;
  /** Keyring of the distribution itself, for a mirror without `--keyring`. */
  readonly distributionKeyring?: string;
}

export interface ChosenSources {
  /** Codename of the release. */
  readonly release: string;
  readonly sources: readonly Source[];
}

/** Suites that name different releases over time; the Release file tells which one. */
const movingSuite = /^(?:stable|oldstable|oldoldstable|testing|unstable)(?=$|[-/])/;

/**
 * Chooses the sources of one release: those of the host's apt whose suite belongs to it, the host's own with the
 * suite exchanged, or a mirror. Other sources are not consulted, so that they cannot break a build.
 * @throws ToolError with exit code 2 when nothing says where packages come from
 */
export async function chooseSources(choice: SuiteChoice, log: Log): Promise<ChosenSources> {
  const release = choice.suite ?? choice.hostRelease;
  if (release === undefined || !isSuite(release) || release.includes('/')) {
    throw cannot(
      'choose',
      'a Debian release',
      release === undefined ? 'the host is not Debian' : 'not a codename',
      {
        hint: 'name the release with --suite CODENAME',
        exitCode: 2,
      },
    );
  }
  if (choice.mirrors.length > 0) return { release, sources: await mirrorSources(choice, release, log) };
  if (choice.apt === undefined) {
    throw cannot('find', `packages of ${release}`, 'the host has no apt', {
      hint: 'name an archive with --mirror URL, and its keys with --keyring FILE',
      exitCode: 2,
    });
  }
  const configured = choice.apt.sources;
  // Moving names such as `stable` may be the host's release; its Release file decides when it is read.
  const moving = release === choice.hostRelease;
  let sources = configured.filter(
    ({ suite }) => belongsTo(suite, release) || (moving && movingSuite.test(suite)),
  );
  const host = choice.hostRelease;
  if (sources.length === 0 && host !== undefined && host !== release) {
    sources = configured.flatMap((source) => exchangeSuite(source, host, release));
  }
  for (const source of configured) {
    if (!sources.some(({ configuredAt }) => configuredAt === source.configuredAt)) {
      log.debug(`${source.configuredAt}: left out, ${source.suite} does not belong to ${release}`);
    }
  }
  if (sources.length === 0) {
    throw cannot('find', `packages of ${release}`, 'no apt source of the host names it', {
      hint: 'name an archive with --mirror URL, or another release with --suite CODENAME',
      exitCode: 2,
    });
  }
  const { keyring } = choice;
  if (keyring === undefined) return { release, sources };
  const only = { files: [keyring], blocks: [], fingerprints: [] };
  return { release, sources: sources.map((source) => ({ ...source, keyring: only })) };
}

/** Whether a suite is the release or one of its companions, such as `bookworm-security` or `buster/updates`. */
export function belongsTo(suite: string, release: string): boolean {
  return (
    suite === release ||
    suite.startsWith(`${release}-`) ||
    (suite.startsWith(`${release}/`) && !suite.endsWith('/'))
  );
}

function exchangeSuite(source: Source, from: string, to: string): Source[] {
  if (!belongsTo(source.suite, from)) return [];
  const suite = to + source.suite.slice(from.length);
  // The release itself must be there; not every release has every companion.
  return [{ ...source, suite, optional: suite !== to }];
}

/** These get security updates in the suite itself. */
const withoutSecurity = new Set(['sid', 'unstable', 'experimental']);

/** The suite of security updates of a release, where it has one. */
export function securitySuite(release: string): string | undefined {
  return withoutSecurity.has(release) ? undefined : `${release}-security`;
}

/** Every archive is asked for every suite: which archive holds the security updates differs. */
async function mirrorSources(choice: SuiteChoice, release: string, log: Log): Promise<Source[]> {
  const uris = choice.mirrors.map((mirror) => {
    const uri = archiveUri(mirror, '--mirror', log);
    if (uri !== undefined) return uri;
    throw cannot('use', `--mirror ${shownUrl(mirror)}`, 'it is neither http, https nor file', {
      exitCode: 2,
    });
  });
  const defaults = choice.apt?.defaults ?? plainDefaults;
  const { distributionKeyring = '/usr/share/keyrings/debian-archive-keyring.gpg' } = choice;
  const files =
    choice.keyring !== undefined
      ? [choice.keyring]
      : [...((await exists(distributionKeyring)) ? [distributionKeyring] : []), ...defaults.keyrings];
  if (files.length === 0) {
    throw cannot('trust', uris.map(shownUrl).join(' and '), 'the host has no keys of the distribution', {
      hint: 'give the keys of the archive with --keyring FILE',
      exitCode: 2,
    });
  }
  const security = securitySuite(release);
  const suites = [release, `${release}-updates`, ...(security === undefined ? [] : [security])];
  return [...new Set(uris)].flatMap((uri) =>
    suites.map((suite) => ({
      uri,
      suite,
      components: ['main'],
      architectures: undefined,
      keyring: { files, blocks: [], fingerprints: [] },
      trusted: undefined,
      checks: defaults.checks,
      byHash: defaults.byHash,
      optional: suite !== release,
      configuredAt: '--mirror',
    })),
  );
}

async function exists(path: string): Promise<boolean> {
  try {
    await access(path);
    return true;
  } catch {
    return false;
  }
}
