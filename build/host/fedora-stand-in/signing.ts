import { rmSync } from 'node:fs';
import { mkdtemp, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { $ } from 'zx';

/** Two keys that nobody keeps: their secret halves are gone after `close`. */
export interface Signer {
  readonly fingerprints: Readonly<Record<KeyName, string>>;
  /** Writes the armoured public key. */
  writePublicKey(key: KeyName, path: string): Promise<void>;
  sign(key: KeyName, packages: readonly string[]): Promise<void>;
  close(): Promise<void>;
}

export type KeyName = 'first' | 'second';

const keys: Readonly<Record<KeyName, readonly [user: string, algorithm: string]>> = {
  first: ['Stand-in for Fedora <stand-in@example.org>', 'rsa4096'],
  second: ['Second key of the stand-in <second@example.org>', 'ed25519'],
};

export async function makeKeys(): Promise<Signer> {
  // gpg-agent's socket is in it, whose path must be short. mkdtemp gives it mode 0700, as GnuPG wants.
  const home = await mkdtemp(join(tmpdir(), 'stand-in-gpg-'));
  const env = { ...process.env, GNUPGHOME: home, LC_ALL: 'C.UTF-8', GPG_TTY: '' };
  const gpg = $({ quiet: true, env });
  // gpg-agent ends by itself, though not at once, when its directory is gone.
  const forget = (): void => {
    rmSync(home, { recursive: true, force: true });
  };
  process.once('exit', forget);
  const close = async (): Promise<void> => {
    await $({ quiet: true, nothrow: true, env })`gpgconf --kill all`;
    forget();
    process.off('exit', forget);
  };
  const make = async (key: KeyName): Promise<string> => {
    const [user, algorithm] = keys[key];
    await gpg`gpg --batch --quiet --pinentry-mode loopback --passphrase ${''} --quick-generate-key ${user} ${algorithm} sign never`;
    const { stdout } = await gpg`gpg --batch --with-colons --list-keys ${`=${user}`}`;
    return /^fpr:+([0-9A-F]{40}):/m.exec(stdout)?.[1] ?? '';
  };
  try {
    const fingerprints = { first: await make('first'), second: await make('second') };
    return {
      fingerprints,
      writePublicKey: async (key, path) => {
        const { stdout } = await gpg`gpg --batch --armor --export ${fingerprints[key]}`;
        await writeFile(path, stdout);
      },
      sign: async (key, packages) => {
        // rpm's own configuration names a program that not every distribution has.
        const program = (await $({ quiet: true })`command -v gpg`).stdout.trim();
        const definitions = [
          `__gpg ${program}`,
          `_gpg_name ${fingerprints[key]}`,
          `_gpg_path ${home}`,
          '_gpg_digest_algo sha256',
        ];
        await gpg`rpmsign ${definitions.flatMap((each) => ['--define', each])} --addsign ${packages}`;
      },
      close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}
