import { rfc3339 } from './config.js';
import type { ImageConfig } from './engine.js';
import type { ImageDefinition } from '../definition/definition.js';
import type { Architecture } from '../support/architecture.js';

/** What an image of this definition says of itself. */
export function imageConfig(input: {
  readonly definition: ImageDefinition;
  readonly architecture: Architecture;
  /** Absolute path of the program that the image runs. */
  readonly program: string;
  /** Version of the package that holds it. */
  readonly version: string;
  /** Absolute path of the state directory. */
  readonly state: string | undefined;
  /** Seconds since the epoch. */
  readonly created: number;
  /** What it is built upon; absent for an image from nothing. */
  readonly base?: { readonly reference: string; readonly digest: string };
}): ImageConfig {
  const { definition } = input;
  const annotations = [
    ['title', definition.title],
    ['description', definition.description],
    ['url', definition.url],
    ['licenses', definition.licenses],
    ['version', input.version],
    ['created', rfc3339(input.created)],
    ['base.name', input.base?.reference],
    ['base.digest', input.base?.digest],
  ].flatMap(([key, value]): [string, string][] =>
    value === undefined ? [] : [[`org.opencontainers.image.${key}`, value]],
  );
  return {
    architecture: input.architecture,
    created: input.created,
    user: `${definition.user.id}:${definition.user.id}`,
    entrypoint: [input.program, ...definition.run],
    command: definition.command,
    environment: [...definition.environment].map(([name, value]) => `${name}=${value}`),
    exposedPorts: definition.ports,
    volumes: input.state === undefined ? [] : [input.state],
    workingDirectory: '/',
    stopSignal: definition.stopSignal,
    annotations: new Map(annotations),
  };
}
