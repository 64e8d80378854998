import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { measure, type Command } from './process.js';

/** The package of the measured image, as the definition names it for Debian. */
const packageName = 'isc-dhcp-server';

/** The archive file that mmdebstrap writes, in the command's directory. */
export const peerArchive = 'peer.tar';

/**
 * mmdebstrap(1) from the host's own sources of its own release, the nearest tool there is: it unpacks the package and
 * its dependencies, and runs no maintainer script.
 *
 * @returns a function that makes the command for a directory, or undefined when the host has no such sources
 */
export async function findPeer(cwd: string): Promise<((cwd: string) => Command) | undefined> {
  const release = await readFile('/etc/os-release', 'utf8').catch(() => '');
  const suite = /^VERSION_CODENAME="?([a-z0-9.-]+)"?$/m.exec(release)?.[1];
  if (suite === undefined) return undefined;
  const sources = await aptSources(cwd, suite);
  if (sources.length === 0) return undefined;
  return (directory) => ({
    argv: [
      'mmdebstrap',
      '--quiet',
      '--variant=extract',
      `--include=${packageName}`,
      suite,
      join(directory, peerArchive),
      ...sources,
    ],
    cwd: directory,
  });
}

/** The host's sources of one release, in the one-line form of sources.list(5). */
async function aptSources(cwd: string, suite: string): Promise<readonly string[]> {
  const format = 'deb $(REPO_URI) $(RELEASE) $(COMPONENT)';
  const { stdout } = await measure(
    { argv: ['apt-get', 'indextargets', '--format', format, 'Created-By: Packages'], cwd },
    undefined,
  );
  const lines = stdout.split('\n').filter((line) => {
    const of = line.split(' ')[2] ?? '';
    return of === suite || of.startsWith(`${suite}-`);
  });
  return [...new Set(lines)];
}
