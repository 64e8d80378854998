import { mkdtemp, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { missing } from './part.js';
import { measure, type Command } from './process.js';
import type { ServedStandIn } from './stand-in.js';

/** @returns what keeps the forerunner from being measured */
export async function missingForForerunner(cwd: string): Promise<readonly string[]> {
  const notes = await missing('forerunner', 'bash', 'cpio', 'dnf', 'readelf', 'rpm2cpio', 'sed', 'tar');
  if (notes.length > 0) return notes;
  return measure({ argv: ['dnf', 'download', '--help'], cwd }, undefined).then(
    () => [],
    () => ['forerunner not measured: dnf has no command "download", which is one of its core plugins'],
  );
}

const script = fileURLToPath(new URL('../bench/forerunner.sh', import.meta.url));

/** The archive file that the forerunner writes, in the command's directory. */
export const forerunnerArchive = 'forerunner.tar';

/**
 * The command of forerunner.sh, with an empty directory to work in, which the caller removes.
 *
 * @param more directory of a further repository
 * @param cache what dnf keeps, and its package files; a run leaves it filled for the next
 */
export async function forerunnerCommand(
  cwd: string,
  cache: string,
  more: string | undefined,
  { metalink, release }: ServedStandIn,
  architecture: string,
): Promise<Command & { readonly directory: string }> {
  const directory = await mkdtemp(join(cwd, 'forerunner-'));
  const configuration = join(directory, 'dnf.conf');
  await writeFile(
    configuration,
    [
      '[main]',
      // Nothing of the host's.
      ...['reposdir', 'varsdir'].map((name) => `${name}=${join(directory, 'none')}`),
      ...['cachedir', 'logdir', 'persistdir'].map((name) => `${name}=${join(cache, name)}`),
      ...[`fedora-${release}`, `updates-released-f${release}`].flatMap((name) => [
        `[${name}]`,
        `name=${name}`,
        `metalink=${metalink}?repo=${name}&arch=${architecture}`,
      ]),
      ...(more === undefined ? [] : ['[more]', 'name=more', `baseurl=${pathToFileURL(more).href}`]),
      '',
    ].join('\n'),
  );
  const rpms = join(cache, 'rpms');
  return {
    argv: [
      'bash',
      script,
      ...[configuration, release, architecture, 'dhcp-server', 'usr/bin/dhcpd', rpms, forerunnerArchive],
    ],
    cwd: directory,
    // Its messages are for a person.
    environment: { LC_ALL: 'C' },
    directory,
  };
}
