import type { DebMetadata, PackageContents } from '../package/contents.js';
import { cannot } from '../support/errors.js';
import { compareBytes } from '../support/order.js';
import { rpmManifestFiles, type InstalledRpm } from './rpm-manifest.js';

/** A Debian package whose files are in the image. */
export interface InstalledPackage {
  readonly name: string;
  /** The package's control file (deb-control(5)). */
  readonly controlText: string;
}

export interface ScannerFile {
  /** Relative to the root. */
  readonly path: string;
  readonly text: string;
}

/** What is recorded of a package, whatever its format. */
export type InstalledContents = Pick<PackageContents, 'name' | 'architecture' | 'built' | 'metadata'>;

/**
 * The files by which scanners know the packages whose files are in the image.
 *
 * @throws ToolError for packages of different formats, and for one that cannot be recorded
 */
export function scannerFiles(packages: readonly InstalledContents[]): readonly ScannerFile[] {
  const debs = packages.filter(isDeb);
  const rpms = packages.filter(isRpm);
  if (debs.length > 0 && rpms.length > 0) {
    throw cannot('record', 'the packages of the image', 'they are of different formats');
  }
  if (rpms.length > 0) return rpmManifestFiles(rpms);
  return dpkgStatusFiles(debs.map(({ name, metadata }) => ({ name, controlText: metadata.controlText })));
}

function isDeb(one: InstalledContents): one is InstalledContents & { readonly metadata: DebMetadata } {
  return one.metadata.format === 'deb';
}

function isRpm(one: InstalledContents): one is InstalledRpm {
  return one.metadata.format === 'rpm';
}

/** deb-control(5), Package. */
const packageName = /^[a-z0-9][a-z0-9+.-]+$/;

/** What dpkg itself would add to a stanza: facts about a machine, not about the package (dpkg-query(1)). */
const databaseFields = /^(status|conffiles|config-version|triggers-pending|triggers-awaited):/i;

/**
 * The files by which vulnerability scanners know Debian packages in an image without dpkg: one control stanza each in
 * `var/lib/dpkg/status.d/`, as the distroless images carry them. Sorted by name.
 *
 * @throws ToolError for a control file that is not one stanza of that package
 */
export function dpkgStatusFiles(packages: readonly InstalledPackage[]): readonly ScannerFile[] {
  const texts = new Map<string, string>();
  for (const { name, controlText } of packages) {
    if (!packageName.test(name))
      throw cannot('record', `the package ${JSON.stringify(name)}`, 'its name is not valid');
    if (texts.has(name)) throw cannot('record', `the package ${name}`, 'it is in the image twice');
    texts.set(name, stanza(name, controlText));
  }
  return [...texts]
    .sort(([a], [b]) => compareBytes(a, b))
    .map(([name, text]) => ({ path: `var/lib/dpkg/status.d/${name}`, text }));
}

function stanza(name: string, controlText: string): string {
  const wrong = (reason: string): Error =>
    cannot('record', `the package ${name}`, `its control file ${reason}`);
  const lines = controlText.replaceAll('\r\n', '\n').split('\n');
  while (lines.at(-1)?.trim() === '') lines.pop();
  while (lines[0]?.trim() === '') lines.shift();
  const kept: string[] = [];
  let dropping = false;
  for (const line of lines) {
    if (/^[ \t]/.test(line)) {
      if (line.trim() === '') throw wrong('has a blank line inside');
      if (kept.length === 0 && !dropping) throw wrong('begins with a continuation line');
    } else {
      if (!/^[!-,.-9;-~][!-9;-~]*:/.test(line))
        throw wrong(`has a line that is no field: ${JSON.stringify(line)}`);
      dropping = databaseFields.test(line);
    }
    if (!dropping) kept.push(line.trimEnd());
  }
  if (!kept.includes(`Package: ${name}`)) throw wrong('is of another package');
  return `${kept.join('\n')}\n`;
}
