import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { join } from 'node:path';
import { readFile } from 'node:fs/promises';
import { measure } from './process.js';

/** What making and serving the stand-in takes beside apt and its dpkg. */
export const standInTools = [
  ...['apt-get', 'bash', 'cpio', 'createrepo_c', 'dpkg-deb', 'flock', 'gpg', 'patchelf', 'rpm', 'rpmbuild'],
  ...['rpmsign', 'zstd'],
] as const;

/** The stand-in of Fedora while it is served on loopback. */
export interface ServedStandIn {
  /** Its list of mirrors, without a query. */
  readonly metalink: string;
  /** File of the key that signs its packages. */
  readonly keyring: string;
  readonly release: string;
  readonly close: () => Promise<void>;
}

const built = (path: string): URL => new URL(`../dist/host/${path}`, import.meta.url);

/**
 * Makes the stand-in, which takes up to a minute the first time on a machine, and serves it: from a process of its own,
 * with one good mirror.
 */
export async function serveStandIn(cwd: string): Promise<ServedStandIn> {
  const { stdout } = await measure(
    { argv: [process.execPath, fileURLToPath(built('fedora-stand-in.js'))], cwd },
    undefined,
  );
  const root = stdout.trim();
  const { release, keys } = JSON.parse(
    await readFile(join(root, 'stand-in.json'), 'utf8'),
  ) as StandInDescription;
  const { url, close } = await serve(root, cwd);
  return {
    metalink: `${url}/metalink`,
    keyring: join(root, keys.first.file),
    release: String(release),
    close,
  };
}

/** The part of the stand-in's description that is needed here. */
interface StandInDescription {
  readonly release: number;
  readonly keys: { readonly first: { readonly file: string } };
}

/** Prints the server's URL, and ends with its input: when this process ends, whatever the reason. */
const script = `
import { serveStandIn } from ${JSON.stringify(built('fedora-stand-in/server.js').href)};
const server = await serveStandIn(process.argv[1], ['current']);
process.stdin.resume().on('end', () => process.exit());
console.log(server.url);
`;

async function serve(
  root: string,
  cwd: string,
): Promise<{ readonly url: string; readonly close: () => Promise<void> }> {
  const server = spawn(process.execPath, ['--input-type=module', '--eval', script, root], {
    cwd,
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const exit = once(server, 'exit');
  for await (const url of createInterface(server.stdout)) {
    return {
      url,
      close: async () => {
        server.stdin.end();
        await exit;
      },
    };
  }
  throw new Error('the stand-in of Fedora cannot be served');
}
