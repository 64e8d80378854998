import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { requireThat, requireTools } from '../support/tools.js';

export interface UnpackedPackage {
  /** Directory that holds the package's files. */
  readonly root: string;
  readonly remove: () => void;
}

/**
 * Fetches a package from the archive that the host's apt uses, and unpacks it beside the system: nothing is installed.
 * Says why and gives undefined where that cannot be done; throws in CI.
 */
export function unpackPackage(name: string): UnpackedPackage | undefined {
  if (!requireTools('apt-get', 'dpkg-deb')) return undefined;
  const directory = mkdtempSync(join(tmpdir(), 'package-'));
  const remove = (): void => {
    rmSync(directory, { recursive: true, force: true });
  };
  const download = spawnSync('apt-get', ['-q', 'download', name], { cwd: directory, encoding: 'utf8' });
  const archive = readdirSync(directory).find((file) => file.endsWith('.deb'));
  if (archive === undefined) {
    remove();
    const reason = download.stderr.trim().split('\n').at(-1) ?? '';
    requireThat(false, `the package ${name} from the host's archive: ${reason}`);
    return undefined;
  }
  const root = join(directory, 'root');
  execFileSync('dpkg-deb', ['-x', join(directory, archive), root]);
  return { root, remove };
}

/** Path of a program of the package that can run here, or undefined with a line that says why not. */
export function programOf(unpacked: UnpackedPackage | undefined, name: string): string | undefined {
  if (unpacked === undefined) return undefined;
  const path = ['usr/sbin', 'usr/bin', 'sbin', 'bin']
    .map((directory) => join(unpacked.root, directory, name))
    .find((candidate) => existsSync(candidate));
  if (path === undefined) throw new Error(`the package holds no program ${name}`);
  const { stderr, status } = spawnSync(path, ['--version'], { encoding: 'utf8' });
  return requireThat(status === 0, `${name} to run here: ${stderr.trim()}`) ? path : undefined;
}
