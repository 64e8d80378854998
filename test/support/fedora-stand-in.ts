import { join } from 'node:path';
import {
  readDescription,
  type StandInArchitecture,
  type StandInPackage,
} from '../../build/host/fedora-stand-in/description.js';
import {
  serveStandIn,
  type MirrorKind,
  type StandInServer,
} from '../../build/host/fedora-stand-in/server.js';
import { reasonOf } from '../../build/support/errors.js';
import { run } from '../../build/support/exec.js';
import { buildEnvironment, checkout } from './lab-image.js';
import { requireThat, requireTools } from './tools.js';

/** What making the stand-in takes. */
const standInTools = [
  ...['apt-cache', 'apt-get', 'bash', 'cpio', 'createrepo_c', 'dpkg', 'dpkg-deb', 'flock', 'gpg', 'gpgconf'],
  ...['patchelf', 'rpm', 'rpmbuild', 'rpmsign', 'zstd'],
];

/** Repositories of Fedora for tests: packages with Fedora's names and paths, made of Debian's programs. */
export interface StandIn {
  /** Directory of all its files; not to be changed. `pub` in it is laid out as on Fedora's mirrors. */
  readonly root: string;
  readonly release: number;
  /** Armoured public key of everything but the dhcp-relay of updates, and its upper-case fingerprint. */
  readonly keyFile: string;
  readonly fingerprint: string;
  /** The key of that one package. */
  readonly secondKeyFile: string;
  readonly secondFingerprint: string;
  readonly architectures: readonly StandInArchitecture[];
  readonly packages: readonly StandInPackage[];
  /** Serves it on loopback. @param mirrors those that metalink and mirrorlist name, the preferred first */
  serve(mirrors?: readonly MirrorKind[]): Promise<StandInServer>;
}

/**
 * The stand-in of this machine: made once, which takes up to a minute, and then taken from the user's cache. For the
 * top level of a test file: a hook would run out of time. Any number of processes may ask at the same time.
 *
 * @returns undefined where it cannot be made, except in CI, where that is an error
 */
export async function fedoraStandIn(): Promise<StandIn | undefined> {
  if (!requireTools(...standInTools)) return undefined;
  const root = await makeStandIn().catch((error: unknown) => reasonOf(error));
  const description = await readDescription(root);
  if (description === undefined) {
    requireThat(false, `a stand-in for Fedora, made with the host's apt: ${root}`);
    return undefined;
  }
  const { release, architectures, keys, packages } = description;
  return {
    root,
    release,
    keyFile: join(root, keys.first.file),
    fingerprint: keys.first.fingerprint,
    secondKeyFile: join(root, keys.second.file),
    secondFingerprint: keys.second.fingerprint,
    architectures,
    packages,
    serve: (mirrors) => serveStandIn(root, mirrors),
  };
}

/** Does what `npm run host:fedora` does. @returns the directory that the program prints */
async function makeStandIn(): Promise<string> {
  const { stdout } = await run({
    argv: [process.execPath, join(checkout, 'dist/host/fedora-stand-in.js')],
    cwd: checkout,
    environment: buildEnvironment(),
    timeout: 600_000,
  });
  return stdout.trim();
}
