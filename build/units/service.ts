import type { Family, ImageDefinition } from '../definition/definition.js';
import { cannot } from '../support/errors.js';

/** One service of a host: what its units say of the container, and what the smoke lab runs. */
export interface Service {
  /** Of the container, of the units, and the first part of the volume's name. */
  readonly name: string;
  readonly title: string;
  readonly url: string | undefined;
  /** File name of the program that the image starts, such as `dhcpd`. */
  readonly program: string;
  /** Such as `67/udp`. */
  readonly ports: readonly string[];
  /** Reference of the image, as Podman takes it. */
  readonly image: string;
  /** The service's account: user and group. */
  readonly account: number;
  /** Without the CAP_ prefix. */
  readonly capabilities: readonly string[];
  /** At least one; in the order of the command line. */
  readonly interfaces: readonly [string, ...string[]];
  /** Arguments after the image's entrypoint. */
  readonly command: readonly string[];
  /** Arguments after the image's entrypoint that check the configuration and end; none when the program cannot. */
  readonly check: readonly string[];
  /** Mounted read-only; other containers may read it as well. Absolute paths of a directory here and there. */
  readonly config: { readonly host: string; readonly container: string } | undefined;
  readonly state: ServiceState | undefined;
}

/** The directory that outlives the container, private to it. */
export interface ServiceState {
  /** A named volume, or an absolute path of a directory of the host. */
  readonly from: { readonly volume: string } | { readonly directory: string };
  /** Absolute path in the container. */
  readonly container: string;
  /** Files without which the service does not start: empty ones are made. */
  readonly files: readonly string[];
}

/** What an administrator says of the service on one host. */
export interface ServiceChoice {
  readonly name: string | undefined;
  readonly image: string;
  readonly interfaces: readonly [string, ...string[]];
  /** Whose packages are in the image: decides where the state is. */
  readonly family: Family;
  /** Host's directory of the configuration; default: the same path as in the image. */
  readonly config: string | undefined;
  /** Host's directory for the state in place of a named volume. */
  readonly state: string | undefined;
}

/**
 * Joins the definition of an image with what one host wants of it.
 *
 * @throws ToolError with exit code 2 when the definition has no package of the family, or its program takes no interface
 */
export function serviceOf(definition: ImageDefinition, choice: ServiceChoice): Service {
  const name = choice.name ?? definition.name;
  const chosen = definition.packages[choice.family];
  if (chosen === undefined) {
    throw cannot('run', name, `the definition names no package of ${choice.family}`, {
      hint: 'choose another family with --distro',
      exitCode: 2,
    });
  }
  const { config, state } = definition;
  return {
    name,
    title: definition.title,
    url: definition.url,
    program: definition.roots[0],
    ports: definition.ports,
    image: choice.image,
    account: definition.user.id,
    capabilities: definition.capabilities,
    interfaces: choice.interfaces,
    command: [
      ...choice.interfaces.flatMap((own) =>
        definition.listen.map((argument) => argument.replaceAll('{interface}', own)),
      ),
      ...definition.command,
    ],
    check: definition.check,
    config: config === undefined ? undefined : { host: choice.config ?? config, container: config },
    state:
      state === undefined || chosen.state === undefined
        ? undefined
        : {
            from:
              choice.state === undefined
                ? { volume: `${name}-${state.volume}` }
                : { directory: choice.state },
            container: chosen.state,
            files: state.files,
          },
  };
}

/** Whether the image is one that no registry has: built or loaded on the host. */
export function isLocal({ image }: Service): boolean {
  return image.startsWith('localhost/');
}

/** Whether the service gives leases that it could not record, and so must always have room for them. */
export function keepsRoom({ program, state }: Service): boolean {
  return program === 'dhcpd' && state !== undefined;
}
