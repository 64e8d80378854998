import { readdirSync } from 'node:fs';
import { basename, isAbsolute, join, resolve } from 'node:path';
import type { Context } from './context.js';
import type { ImageRequest, LockMode } from '../pipeline.js';
import { pathFrom } from './path-from.js';
import { parseArchitecture } from '../support/architecture.js';
import { cannot } from '../support/errors.js';
import { shownUrl } from '../support/url.js';

/** The options that say which image: shared by build, plan, why and lock. */
export interface ImageOptions {
  readonly arch?: string;
  readonly mirror?: string;
  readonly suite?: string;
  readonly keyring?: string;
  readonly lockFile?: string;
  readonly locked?: boolean;
  readonly offline?: boolean;
  readonly json?: boolean;
}

/** Turns the command line into the pipeline's request. @throws ToolError with exit code 2 */
export function requestOf(
  definition: string,
  options: ImageOptions,
  context: Context,
  renew = false,
): ImageRequest {
  const named = /^[a-z0-9-]+$/.test(definition);
  const file = named ? bundledDefinition(definition, context) : resolve(context.cwd, definition);
  const name = basename(file).replace(/\.ya?ml$/, '');
  // A definition that comes with the program may lie where nobody may write: its lock file stays with the user.
  const lockFile = named
    ? resolve(context.cwd, `${name}.lock.yaml`)
    : file.replace(/(\.ya?ml)?$/, '.lock.yaml');
  return {
    // As a user in this directory would write it: errors begin with it.
    definition: pathFrom(context.cwd, file),
    lockFile: options.lockFile === undefined ? lockFile : resolve(context.cwd, options.lockFile),
    architectures: architecturesOf(options.arch ?? context.hostArchitecture),
    mirror: options.mirror === undefined ? undefined : mirrorOf(options.mirror),
    suite: options.suite,
    keyring: options.keyring === undefined ? undefined : resolve(context.cwd, options.keyring),
    mode: modeOf(options, renew),
    offline: options.offline === true,
    // Shown in hints, as the user would type it.
    definitionArgument: isAbsolute(definition) || named ? definition : definition.replace(/^\.\//, ''),
  };
}

/** A definition that comes with the program, by its name. */
function bundledDefinition(name: string, { packageDirectory }: Context): string {
  const directory = join(packageDirectory, 'images/scratch');
  const names = readdirSync(directory)
    .filter((file) => file.endsWith('.yaml') && !file.endsWith('.lock.yaml'))
    .map((file) => basename(file, '.yaml'));
  if (names.includes(name)) return join(directory, `${name}.yaml`);
  throw cannot('find', `definition ${name}`, 'none of that name comes with the program', {
    hint: `there are ${names.sort().join(' and ')}; for a file of your own give its path, such as ./${name}.yaml`,
    exitCode: 2,
  });
}

function modeOf(options: ImageOptions, renew: boolean): LockMode {
  if (renew) return 'renew';
  return options.locked === true ? 'locked' : 'prefer';
}

function architecturesOf(list: string): ImageRequest['architectures'] {
  const found = list.split(',').map((name) => parseArchitecture(name.trim()));
  const [first, ...rest] = [...new Set(found)];
  if (first === undefined) throw cannot('build', 'an image', '--arch names no architecture', { exitCode: 2 });
  return [first, ...rest];
}

/** @returns the URL with one slash at its end. @throws ToolError with exit code 2 */
export function mirrorOf(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url === undefined || !['http:', 'https:', 'file:'].includes(url.protocol)) {
    throw cannot('use', `mirror ${JSON.stringify(shownUrl(text))}`, 'it is no http, https or file URL', {
      hint: 'give the directory that holds dists/ and pool/, such as https://HOST/debian',
      exitCode: 2,
    });
  }
  return text.replace(/\/*$/, '/');
}
