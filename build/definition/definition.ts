/** Distribution families whose packages an image can come from, under the names the definition gives them. */
export const families = ['fedora', 'debian'] as const;
export type Family = (typeof families)[number];

/** One image for every distribution family it can come from. Readonly; validation never changes it. */
export interface ImageDefinition {
  /** Absolute path of the YAML file. */
  readonly file: string;
  /** sha256 of the file's bytes, lower-case hexadecimal. */
  readonly sha256: string;
  /** Lower-case name of the image and of the service: `[a-z0-9]+(-[a-z0-9]+)*`. */
  readonly name: string;
  readonly title: string;
  readonly description: string | undefined;
  /** Home page of the service's software. */
  readonly url: string | undefined;
  /** SPDX licence expression of the service's own software. */
  readonly licenses: string | undefined;
  /** Undefined for an image from nothing; else the reference of the image it is built upon, without a digest. */
  readonly base: string | undefined;
  /** At least one family. */
  readonly packages: { readonly fedora?: FedoraPackage; readonly debian?: FamilyPackage };
  /** Programs that must run, by file name; found in the package wherever the distribution puts them. First = entrypoint. */
  readonly roots: readonly [string, ...string[]];
  /** What is loaded at run time and no DT_NEEDED names. */
  readonly dlopen: readonly DeclaredDlopen[];
  /** Further files of the locked packages, absolute paths. */
  readonly files: readonly string[];
  readonly user: { readonly name: string; readonly id: number };
  /** Directory the administrator mounts read-only, absolute path. */
  readonly config: string | undefined;
  readonly state: StateDefinition | undefined;
  /** Such as `67/udp`. */
  readonly ports: readonly string[];
  /** Without the CAP_ prefix. */
  readonly capabilities: readonly string[];
  /** Arguments that always follow the program: part of the entrypoint. Exactly as the file spells them. */
  readonly run: readonly string[];
  /** Default arguments, which the user's own replace: the image's command. */
  readonly command: readonly string[];
  /** Arguments that name one interface to serve: `{interface}` in them stands for its name. */
  readonly listen: readonly string[];
  /** Arguments that make the program check its configuration and end; none when it cannot. */
  readonly check: readonly string[];
  /** In the order of the file. */
  readonly environment: ReadonlyMap<string, string>;
  readonly stopSignal: string;
  /** Scanner files: os-release and package records. */
  readonly inventory: boolean;
}

export interface FamilyPackage {
  /** `host` (the release of the host, or --suite), a codename of Debian or a number of Fedora. */
  readonly release: string;
  readonly package: string;
  /** Directory of the state, absolute path; required when `state` is declared. */
  readonly state: string | undefined;
}

export interface FedoraPackage extends FamilyPackage {
  /** Upper-case OpenPGP fingerprints of the primary keys whose signatures on packages count; at least one. */
  readonly keys: readonly string[];
  /** Packages to take where several provide one library. */
  readonly prefer: readonly string[];
}

export interface DeclaredDlopen {
  /** soname or file name of the object that calls dlopen. */
  readonly by: string;
  /** sonames it loads; empty when it is known to load nothing the service needs, in whatever image it is. */
  readonly loads: readonly string[];
}

interface StateDefinition {
  /** Name of the volume. */
  readonly volume: string;
  /** Empty files made in the directory for the service's account. */
  readonly files: readonly string[];
}

/** A definition of an image upon another. */
export type BasedDefinition = ImageDefinition & { readonly base: string };

export function isBased(definition: ImageDefinition): definition is BasedDefinition {
  return definition.base !== undefined;
}
