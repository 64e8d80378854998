import { execFileSync } from 'node:child_process';
import {
  linkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';

/** One path of a package: text of a regular file, or what it is. Owners are root where none is named. */
export type RpmFile = string | Buffer | (RpmFileKind & RpmAttributes);

type RpmFileKind =
  | { readonly content: string | Buffer }
  | { readonly link: string }
  /** Path of another file of the package. */
  | { readonly hardlink: string }
  | { readonly directory: true };

export interface RpmAttributes {
  /** Permission bits; default 0o644, directories 0o755. */
  readonly mode?: number;
  readonly user?: string;
  readonly group?: string;
  /** Text of cap_from_text(3), such as `cap_net_raw=ep`. */
  readonly capabilities?: string;
  /** Owned, not shipped. */
  readonly ghost?: boolean;
  readonly config?: boolean;
}

export interface RpmSpec {
  /** Where to work; the package file is left below it. */
  readonly directory: string;
  readonly name: string;
  readonly version?: string;
  readonly release?: string;
  readonly epoch?: number;
  /** Default `noarch`. */
  readonly arch?: string;
  readonly files?: Readonly<Record<string, RpmFile>>;
  readonly provides?: readonly string[];
  readonly requires?: readonly string[];
  /** Further lines of the preamble, such as `Recommends: x`. */
  readonly preamble?: readonly string[];
  /** Whether rpm reads sonames and the like out of the files (it takes longer). */
  readonly automaticDependencies?: boolean;
  /** rpm's own spelling, such as `w19.zstdio`; default `w6.gzdio`. */
  readonly payload?: string;
  /** BUILDTIME, and the times of all files. */
  readonly built?: number;
  /** Further macros. */
  readonly macros?: Readonly<Record<string, string>>;
  readonly sign?: SigningKey;
}

/** A key pair in a GnuPG directory of its own. */
export interface SigningKey {
  /** GNUPGHOME. */
  readonly home: string;
  /** Upper-case fingerprint of the primary key. */
  readonly fingerprint: string;
  /** Upper-case fingerprint of the key or subkey that signs. */
  readonly signer: string;
  /** Armoured. */
  readonly publicKey: string;
}

/** Builds a package with rpmbuild from plain files, the same bytes each time. @returns path of the .rpm */
export function buildRpm(spec: RpmSpec): string {
  const work = mkdtempSync(join(spec.directory, 'rpm-'));
  const tree = join(work, 'tree');
  mkdirSync(tree);
  const built = spec.built ?? 1_700_000_000;
  const lines = Object.entries(spec.files ?? {}).map(([path, file]) => {
    const at = join(tree, path);
    mkdirSync(dirname(at), { recursive: true });
    return fileLine(path, plant(tree, at, file, built));
  });
  const specFile = join(work, 'package.spec');
  writeFileSync(
    specFile,
    [
      `Name: ${spec.name}`,
      `Version: ${spec.version ?? '1.0'}`,
      `Release: ${spec.release ?? '1'}`,
      ...(spec.epoch === undefined ? [] : [`Epoch: ${spec.epoch}`]),
      'Summary: Sample package',
      'License: MIT',
      ...((spec.arch ?? 'noarch') === 'noarch' ? ['BuildArch: noarch'] : []),
      ...(spec.automaticDependencies === true ? [] : ['AutoReqProv: no']),
      ...(spec.provides ?? []).map((line) => `Provides: ${line}`),
      ...(spec.requires ?? []).map((line) => `Requires: ${line}`),
      ...(spec.preamble ?? []),
      '%description',
      'A sample.',
      '%install',
      `cp -a '${tree}/.' %{buildroot}`,
      '%files',
      ...lines,
      '',
    ].join('\n'),
  );
  const macros = {
    _topdir: join(work, 'top'),
    _tmppath: work,
    _rpmdir: work,
    _rpmfilename: '%%{NAME}-%%{VERSION}-%%{RELEASE}.%%{ARCH}.rpm',
    _buildhost: 'localhost',
    _binary_payload: spec.payload ?? 'w6.gzdio',
    _build_id_links: 'none',
    __os_install_post: '%{nil}',
    __spec_install_post: '%{nil}',
    debug_package: '%{nil}',
    use_source_date_epoch_as_buildtime: '1',
    clamp_mtime_to_source_date_epoch: '1',
    ...spec.macros,
  };
  execFileSync(
    'rpmbuild',
    [
      '-bb',
      '--quiet',
      ...(spec.arch === undefined ? [] : ['--target', spec.arch]),
      ...Object.entries(macros).flatMap(([name, value]) => ['--define', `${name} ${value}`]),
      specFile,
    ],
    {
      cwd: work,
      stdio: 'pipe',
      env: {
        PATH: process.env['PATH'],
        HOME: work,
        SOURCE_DATE_EPOCH: String(built),
        LC_ALL: 'C.UTF-8',
        TZ: 'UTC',
      },
    },
  );
  const output = readdirSync(work).find((name) => name.endsWith('.rpm'));
  if (output === undefined) throw new Error(`rpmbuild made no package ${spec.name}`);
  const path = join(work, output);
  if (spec.sign !== undefined) signRpm(path, spec.sign);
  return path;
}

/** Puts a signature into a package, in place. */
function signRpm(path: string, key: SigningKey, ...options: readonly string[]): void {
  const macros = [
    `_gpg_name ${key.signer}`,
    `_gpg_path ${key.home}`,
    '__gpg /usr/bin/gpg',
    '_gpg_digest_algo sha256',
  ];
  execFileSync(
    'rpmsign',
    ['--addsign', ...macros.flatMap((macro) => ['--define', macro]), ...options, path],
    { stdio: 'pipe', env: { PATH: process.env['PATH'], HOME: key.home } },
  );
  stopAgent(key.home);
}

/** A detached signature, binary. @param options such as `--digest-algo=sha1` */
export function detachedSignature(data: Buffer, key: SigningKey, ...options: readonly string[]): Buffer {
  const args = [
    '--homedir',
    key.home,
    '--batch',
    '--quiet',
    '-u',
    `${key.signer}!`,
    ...options,
    '--detach-sign',
  ];
  const signature = execFileSync('gpg', args, {
    input: data,
    maxBuffer: 2 ** 20,
    stdio: ['pipe', 'pipe', 'pipe'],
    env: { PATH: process.env['PATH'], HOME: key.home },
  });
  stopAgent(key.home);
  return signature;
}

/** The agent would outlive the test. */
function stopAgent(home: string): void {
  execFileSync('gpgconf', ['--homedir', home, '--kill', 'all'], { stdio: 'ignore' });
}

export type KeyAlgorithm = 'rsa2048' | 'rsa4096' | 'ed25519';

/**
 * Makes a throw-away key pair.
 *
 * @param directory the key's GNUPGHOME is made below it
 * @param options `subkey`: another key, of this kind, signs for the primary; `expiredYear`: the one year it held for
 */
export function makeSigningKey(
  directory: string,
  algorithm: KeyAlgorithm = 'rsa2048',
  options: { readonly subkey?: KeyAlgorithm; readonly expiredYear?: number } = {},
): SigningKey {
  const home = mkdtempSync(join(directory, 'gnupg-'));
  const gpg = (...args: readonly string[]) =>
    execFileSync('gpg', ['--homedir', home, '--batch', '--quiet', '--passphrase', '', ...args], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { PATH: process.env['PATH'], HOME: home },
    });
  const year = options.expiredYear;
  const usage = options.subkey === undefined ? 'sign' : 'cert';
  const clock = year === undefined ? [] : ['--faked-system-time', `${year}0101T000000`];
  const end = year === undefined ? 'never' : `${year + 1}-01-01`;
  gpg(...clock, '--quick-gen-key', 'Sample <sample@example.org>', algorithm, usage, end);
  const fingerprints = () =>
    [...gpg('--with-colons', '--with-subkey-fingerprints', '-K').matchAll(/^fpr:+([0-9A-F]{40}):/gm)].map(
      ([, fingerprint = '']) => fingerprint,
    );
  const [fingerprint = ''] = fingerprints();
  if (options.subkey !== undefined) gpg('--quick-add-key', fingerprint, options.subkey, 'sign', 'never');
  const signer = fingerprints().at(-1) ?? '';
  const publicKey = gpg('--armor', '--export', fingerprint);
  stopAgent(home);
  return { home, fingerprint, signer, publicKey };
}

/** Makes what rpmbuild is to pack. @returns its line's attributes */
function plant(tree: string, at: string, file: RpmFile, time: number): RpmLine {
  const spec = typeof file === 'string' || Buffer.isBuffer(file) ? { content: file } : file;
  if ('link' in spec) {
    symlinkSync(spec.link, at);
    return { ...spec, kind: 'symlink' };
  }
  if ('hardlink' in spec) linkSync(join(tree, spec.hardlink), at);
  else if ('directory' in spec) mkdirSync(at, { recursive: true });
  else writeFileSync(at, spec.content);
  utimesSync(at, time, time);
  return { ...spec, kind: 'directory' in spec ? 'directory' : 'file' };
}

interface RpmLine extends RpmAttributes {
  readonly kind: 'file' | 'directory' | 'symlink';
}

/** A line of %files. */
function fileLine(path: string, { kind, mode, user, group, capabilities, ghost, config }: RpmLine): string {
  const bits = kind === 'symlink' ? '-' : (mode ?? (kind === 'directory' ? 0o755 : 0o644)).toString(8);
  const plain = path.replaceAll('%', '%%');
  return [
    `%attr(${bits}, ${user ?? 'root'}, ${group ?? 'root'})`,
    ...(capabilities === undefined ? [] : [`%caps(${capabilities})`]),
    ...(kind === 'directory' ? ['%dir'] : []),
    ...(ghost === true ? ['%ghost'] : []),
    ...(config === true ? ['%config(noreplace)'] : []),
    // A pattern takes neither quotes nor escapes: any character may stand in the place of the special ones.
    /[\\*?[\]{}"]/.test(path) ? `/${plain.replace(/[\\*?[\]{}"'\s]/g, '?')}` : `"/${plain}"`,
  ].join(' ');
}
