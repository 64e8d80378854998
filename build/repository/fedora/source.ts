/** One repository, as a `.repo` file of the host or the command line names it. */
export interface RpmSource {
  /** Such as `updates`. */
  readonly id: string;
  /** Base URLs with a slash at the end: http, https or file, in order of preference. Not used beside the next two. */
  readonly bases: readonly string[];
  /** URL of the list of mirrors with the hashes of repomd.xml, or undefined; it goes before `mirrorlist`. */
  readonly metalink: string | undefined;
  readonly mirrorlist: string | undefined;
  /** URLs and paths of its keys, as written. */
  readonly gpgKeys: readonly string[];
  /** Whether repomd.xml must be signed by those keys. */
  readonly repoGpgCheck: boolean;
  /** Shell patterns of packages that are not to be seen. */
  readonly excludes: readonly string[];
  /** Lower goes first: packages hide those of the same name in repositories of a higher number. */
  readonly priority: number;
  /** Of equal packages in repositories of equal priority, the one of the lowest cost is taken. */
  readonly cost: number;
  /** Whether packages of modules count like all others. */
  readonly moduleHotfixes: boolean;
  /** Whether it may be left out, with a warning, when it cannot be had. */
  readonly skipIfUnavailable: boolean;
  /** Whether a file of the host names it, where it can be disabled. */
  readonly isOfHost: boolean;
  /** Where it was configured, such as `/etc/yum.repos.d/fedora.repo [updates]`. */
  readonly configuredAt: string;
}

/** The values of dnf.conf(5) for what a repository does not say. */
export const plainSource = {
  gpgKeys: [],
  repoGpgCheck: false,
  excludes: [],
  priority: 99,
  cost: 1000,
  moduleHotfixes: false,
  skipIfUnavailable: false,
  isOfHost: false,
} as const satisfies Partial<RpmSource>;
