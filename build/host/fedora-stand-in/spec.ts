/** One binary package of the stand-in. */
export interface PackageSpec {
  readonly name: string;
  readonly noarch?: boolean;
  readonly summary: string;
  /** Lines of the preamble, such as `Requires: sed`. */
  readonly preamble?: readonly string[];
  /** Sections such as `%post`, each with its body. */
  readonly scriptlets?: Readonly<Record<string, string>>;
  /** Absolute path to what is there. */
  readonly files: Readonly<Record<string, PackagedFile>>;
  /** Whether rpm's generators leave the package alone. */
  readonly noAutomaticDependencies?: boolean;
}

export type PackagedFile = (
  | { readonly kind: 'text'; readonly text: string }
  /** Copied from this path. */
  | { readonly kind: 'copy'; readonly from: string }
  | { readonly kind: 'bytes'; readonly bytes: Buffer }
  | { readonly kind: 'link'; readonly target: string }
  | { readonly kind: 'directory' }
) & {
  /** Permission bits; default 0o644, directories 0o755. */
  readonly mode?: number;
  /** User and group. */
  readonly owner?: string;
  /** Such as `%config(noreplace)`, `%ghost`, `%doc` or `%license`. */
  readonly flag?: string;
};

/** What one run of rpmbuild makes: the packages of one source for one target. */
export interface SourceSpec {
  readonly name: string;
  readonly epoch?: number;
  readonly version: string;
  readonly release: string;
  readonly license: string;
  readonly url: string;
  /** What `rpmbuild --target` is told. */
  readonly target: string;
  readonly packages: readonly PackageSpec[];
  /** rpm's own spelling, such as `w19.zstdio`. */
  readonly payload: string;
}

/**
 * The spec file of a source whose files are already in place.
 *
 * @param stage directory that holds the files of all its packages
 */
export function specText(source: SourceSpec, stage: string): string {
  // The package that has the name of its source is the main one.
  const [main] = source.packages.filter(({ name }) => name === source.name);
  const others = source.packages.filter((each) => each !== main);
  const lines = [
    `Name: ${source.name}`,
    ...(source.epoch === undefined ? [] : [`Epoch: ${source.epoch}`]),
    `Version: ${source.version}`,
    `Release: ${source.release}`,
    `License: ${source.license}`,
    `URL: ${source.url}`,
    ...(source.packages.every(({ noarch }) => noarch === true) ? ['BuildArch: noarch'] : []),
    // Binaries are made elsewhere: nothing to strip, no debugging information.
    '%global debug_package %{nil}',
    '%global __os_install_post %{nil}',
    ...(main === undefined ? ['Summary: Source', '%description', 'Source.'] : preamble(main, '')),
    ...others.flatMap((each) => [
      `%package -n ${each.name}`,
      ...(each.noarch === true ? ['BuildArch: noarch'] : []),
      ...preamble(each, ` -n ${each.name}`),
    ]),
    '%install',
    `cp -a '${stage}/.' '%{buildroot}'`,
    ...(main === undefined ? [] : sections(main, '')),
    ...others.flatMap((each) => sections(each, ` -n ${each.name}`)),
  ];
  return `${lines.join('\n')}\n`;
}

/** @param which how the sections of a spec file say which package they are about */
function preamble(each: PackageSpec, which: string): readonly string[] {
  return [
    `Summary: ${each.summary}`,
    ...(each.noAutomaticDependencies === true ? ['AutoReqProv: no'] : []),
    ...(each.preamble ?? []),
    `%description${which}`,
    `${each.summary}. A stand-in to test with.`,
  ];
}

function sections(each: PackageSpec, which: string): readonly string[] {
  return [
    ...Object.entries(each.scriptlets ?? {}).flatMap(([section, body]) => [`${section}${which}`, body]),
    `%files${which}`,
    ...Object.entries(each.files).map(([path, file]) => fileLine(path, file)),
  ];
}

function fileLine(path: string, file: PackagedFile): string {
  const owner = file.owner ?? 'root';
  const mode =
    file.kind === 'link'
      ? '-'
      : (file.mode ?? (file.kind === 'directory' ? 0o755 : 0o644)).toString(8).padStart(4, '0');
  return [
    `%attr(${mode},${owner},${owner})`,
    ...(file.flag === undefined ? [] : [file.flag]),
    ...(file.kind === 'directory' ? ['%dir'] : []),
    `"${path}"`,
  ].join(' ');
}
