import type { RpmMetadata } from '../package/contents.js';
import { cannot } from '../support/errors.js';
import { compareBytes } from '../support/order.js';
import type { ScannerFile } from './scanner-files.js';

/** An RPM package whose files are in the image. */
export interface InstalledRpm {
  readonly name: string;
  readonly architecture: string;
  /** Seconds since the epoch. */
  readonly built: number;
  readonly metadata: RpmMetadata;
}

/** How rpm's query formats print a tag that the package does not have. */
const none = '(none)';

/**
 * The files by which vulnerability scanners know RPM packages in an image without rpm, as the distroless images of
 * Azure Linux carry them: the output of `rpm -qa`, and of `rpm -qa` with ten fields separated by tabs
 * (https://github.com/microsoft/azurelinux, toolkit/docs/how_it_works/5_misc.md). Sorted by name.
 *
 * A package counts as installed when it was built, so that the same packages give the same files.
 *
 * @throws ToolError for a package that is there twice
 */
export function rpmManifestFiles(packages: readonly InstalledRpm[]): readonly ScannerFile[] {
  const sorted = [...packages].sort((a, b) => compareBytes(a.name, b.name));
  sorted.forEach(({ name }, index) => {
    if (sorted[index - 1]?.name === name) {
      throw cannot('record', `the package ${name}`, 'it is in the image twice');
    }
  });
  const manifest = (line: (one: InstalledRpm) => string) => sorted.map((one) => `${line(one)}\n`).join('');
  return [
    { path: 'var/lib/rpmmanifest/container-manifest-1', text: manifest(shortLine) },
    { path: 'var/lib/rpmmanifest/container-manifest-2', text: manifest(longLine) },
  ];
}

function shortLine({ name, architecture, metadata: { version, release } }: InstalledRpm): string {
  return `${name}-${version}-${release}.${architecture}`;
}

/** NAME, VERSION-RELEASE, INSTALLTIME, BUILDTIME, VENDOR, EPOCH, SIZE, ARCH, EPOCHNUM, SOURCERPM. */
function longLine({ name, architecture, built, metadata }: InstalledRpm): string {
  const { epoch, version, release, vendor, installedSize, sourceRpm } = metadata;
  return [
    name,
    `${version}-${release}`,
    built,
    built,
    field(vendor),
    epoch ?? none,
    installedSize,
    architecture,
    epoch ?? 0,
    field(sourceRpm),
  ].join('\t');
}

/** Free text of the package must not make further fields or lines. */
function field(text: string): string {
  return text === '' ? none : text.replace(/\p{Cc}+/gu, ' ');
}
