import { readdirSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import type { Context } from './context.js';
import type { ImageRequest } from '../request.js';
import type { FamilyChoice } from '../family.js';
import type { LockMode } from '../repository/lock-use.js';
import { pathFrom } from './path-from.js';
import { parseArchitecture, type Architecture } from '../support/architecture.js';
import { cannot } from '../support/errors.js';
import { quoteCommand } from '../support/exec.js';
import { shownUrl } from '../support/url.js';

/** The options that say which image: shared by build, plan, why and lock. */
export interface ImageOptions {
  readonly arch?: string;
  /** As often as the option is given. */
  readonly mirror?: readonly string[];
  readonly distro: FamilyChoice;
  readonly suite?: string;
  readonly keyring?: string;
  readonly lockFile?: string;
  readonly locked?: boolean;
  readonly offline?: boolean;
  readonly json?: boolean;
}

/** The file that the user means by a definition's path or name. @throws ToolError with exit code 2 */
export function definitionFile(definition: string, context: Context): string {
  return isName(definition) ? bundledDefinition(definition, context) : resolve(context.cwd, definition);
}

/** One that comes with the program. */
function isName(definition: string): boolean {
  return /^[a-z0-9-]+$/.test(definition);
}

/** Turns the command line into the pipeline's request. @throws ToolError with exit code 2 */
export function requestOf(
  definition: string,
  options: ImageOptions,
  context: Context,
  renew = false,
): ImageRequest {
  const file = definitionFile(definition, context);
  // A definition that comes with the program may lie where nobody may write: its lock file stays with the user.
  const lockFile = isName(definition)
    ? resolve(context.cwd, `${definition}.lock.yaml`)
    : file.replace(/(\.ya?ml)?$/, '.lock.yaml');
  const host = parseArchitecture(context.hostArchitecture);
  return {
    // As a user in this directory would write it: errors begin with it.
    definition: pathFrom(context.cwd, file),
    lockFile: options.lockFile === undefined ? lockFile : resolve(context.cwd, options.lockFile),
    // `lock` renews what the file has; the others are about this machine's image unless told otherwise.
    architectures: options.arch === undefined ? (renew ? undefined : [host]) : architecturesOf(options.arch),
    hostArchitecture: host,
    distro: options.distro,
    mirrors: (options.mirror ?? []).map(mirrorOf),
    suite: options.suite,
    keyring: options.keyring === undefined ? undefined : resolve(context.cwd, options.keyring),
    mode: modeOf(options, renew),
    offline: options.offline === true,
    renewal: renewalOf(definition, options),
  };
}

/** Definitions that come with the program: directory, and what their names have at the end. */
const bundles = [
  ['images/scratch', ''],
  ['images/fedora', '-fedora'],
] as const;

/** A definition that comes with the program, by its name. */
function bundledDefinition(name: string, { packageDirectory }: Context): string {
  const files = new Map(
    bundles.flatMap(([directory, ending]) =>
      readdirSync(join(packageDirectory, directory))
        .filter((file) => file.endsWith('.yaml') && !file.endsWith('.lock.yaml'))
        .map(
          (file) => [`${basename(file, '.yaml')}${ending}`, join(packageDirectory, directory, file)] as const,
        ),
    ),
  );
  const found = files.get(name);
  if (found !== undefined) return found;
  throw cannot('find', `definition ${name}`, 'none of that name comes with the program', {
    hint: `there are ${[...files.keys()].sort().join(', ')}; for a file of your own give its path, such as ./${name}.yaml`,
    exitCode: 2,
  });
}

/** What the user would type to renew the lock file that this command line is about. */
function renewalOf(definition: string, options: ImageOptions): string {
  const given = [
    ['--distro', options.distro === 'auto' ? undefined : options.distro],
    ['--suite', options.suite],
    // Without passwords: a hint is shown.
    ...(options.mirror ?? []).map((url) => ['--mirror', shownUrl(url)]),
    ['--keyring', options.keyring],
    ['--lock-file', options.lockFile],
  ].flatMap(([name, value]) => (name === undefined || value === undefined ? [] : [name, value]));
  return quoteCommand(['npx', 'dhcpd-scratch', 'lock', definition, ...given]);
}

function modeOf(options: ImageOptions, renew: boolean): LockMode {
  if (renew) return 'renew';
  return options.locked === true ? 'locked' : 'prefer';
}

/** @throws ToolError with exit code 2 */
export function architecturesOf(list: string): readonly Architecture[] {
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
      hint: 'give the directory that holds dists/ and pool/, or releases/ and updates/, such as https://HOST/debian',
      exitCode: 2,
    });
  }
  return text.replace(/\/*$/, '/');
}
