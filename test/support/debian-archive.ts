import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import {
  chmod,
  copyFile,
  link,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rm,
  stat,
  symlink,
  writeFile,
} from 'node:fs/promises';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { tmpdir } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { gzipSync } from 'node:zlib';
import { run, type Command, type CommandResult } from '../../build/support/exec.js';

/** Programs the builder needs: `describe.skipIf(!requireTools(...debianArchiveTools))`. */
export const debianArchiveTools = ['dpkg-deb', 'apt-ftparchive', 'gpg', 'gpgconf', 'xz'] as const;

/** What a path of a package is: bytes, text, a link, or bytes with a mode. */
export type FileSpec =
  | Buffer
  | string
  | { readonly symlink: string }
  /** Path in the same package. */
  | { readonly hardlink: string }
  | { readonly content: Buffer | string; readonly mode: number };

export interface PackageSpec {
  readonly name: string;
  readonly version: string;
  /** Default `amd64`. */
  readonly architecture?: string;
  readonly section?: string;
  readonly priority?: string;
  readonly depends?: string;
  readonly preDepends?: string;
  readonly provides?: string;
  /** By path relative to the root, without a slash in front. */
  readonly files?: Readonly<Record<string, FileSpec>>;
  /** Further control fields. */
  readonly fields?: Readonly<Record<string, string>>;
  /** Compression of the .deb's members; default `gzip`, which is quickest. */
  readonly compression?: 'gzip' | 'xz' | 'zstd' | 'none';
}

export interface SuiteSpec {
  /** Directory below dists/, such as `bookworm-security`. */
  readonly name: string;
  /** Default: the name. */
  readonly codename?: string;
  /** Field Suite; default: the name. */
  readonly suite?: string;
  /** Default `main`. */
  readonly component?: string;
  /** Default `['amd64']`; packages of Architecture: all are in each of their indexes. */
  readonly architectures?: readonly string[];
  readonly packages: readonly PackageSpec[];
  /** Default: now. */
  readonly date?: Date;
  readonly validUntil?: Date;
  /** Endings of the index files; default gz and xz. */
  readonly compressions?: readonly ('gz' | 'xz' | 'none')[];
  /** Publish by-hash copies and say so; default true. */
  readonly byHash?: boolean;
  /** Write Contents indexes; default true. */
  readonly contents?: boolean;
  /** Default `inline`: InRelease. `detached`: Release and Release.gpg. */
  readonly sign?: 'inline' | 'detached' | 'none';
  /** Default: the archive's own key. */
  readonly signers?: readonly SigningKey[];
  /** Digest of the signature; default gpg's own choice. */
  readonly digest?: string;
  /** Changes the text of Release before it is signed. */
  readonly editRelease?: (text: string) => string;
  /** Changes the text of a Packages index before it is published. */
  readonly editPackages?: (text: string) => string;
}

export interface SigningKey {
  readonly fingerprint: string;
  /** Binary OpenPGP. */
  readonly publicKey: Buffer;
  readonly armoured: string;
}

export interface TestArchive {
  /** Base of the archive: holds dists/ and pool/. */
  readonly directory: string;
  /** `file:` URL of the directory, slash at its end. */
  readonly url: string;
  /** Binary keyring file with the archive's own key. */
  readonly keyring: string;
  readonly key: SigningKey;
  /** Path of a built package file. */
  deb(name: string, version: string): string;
  /** Builds, or builds again with changes, one suite. */
  publish(suite: SuiteSpec): Promise<void>;
  /** Serves the directory over HTTP on a loopback address. */
  serve(): Promise<ArchiveServer>;
  /** Removes everything, servers too. */
  remove(): Promise<void>;
}

export interface ArchiveServer {
  /** Slash at its end. */
  readonly url: string;
  /** Paths asked for so far, decoded, without a slash in front. */
  readonly requests: string[];
  /** Decides over a path before the file is looked up: other bytes, a status, or undefined for the file. */
  intercept: ((path: string) => Buffer | number | undefined) | undefined;
  close(): Promise<void>;
}

/** Throw-away keys in a GNUPGHOME of their own. */
export interface Keys {
  readonly home: string;
  make(name: string, options?: KeyOptions): Promise<SigningKey>;
  /** Revokes a key; gives the key with its revocation. */
  revoke(key: SigningKey): Promise<SigningKey>;
  sign(
    text: Buffer,
    form: 'inline' | 'detached',
    signers: readonly SigningKey[],
    digest?: string,
  ): Promise<Buffer>;
  /** Signs on another day: with a key that has expired since. */
  signAt(
    date: Date,
    text: Buffer,
    form: 'inline' | 'detached',
    signers: readonly SigningKey[],
  ): Promise<Buffer>;
  remove(): Promise<void>;
}

export interface KeyOptions {
  /** Default `ed25519`. */
  readonly algorithm?: 'ed25519' | 'rsa2048' | 'rsa3072';
  /** Such as `1d`; default never. */
  readonly expires?: string;
  /** When the key was made; default now. */
  readonly made?: Date;
}

export async function makeKeys(): Promise<Keys> {
  const home = await mkdtemp(join(tmpdir(), 'keys-'));
  await chmod(home, 0o700);
  // One gpg at a time: it makes its key box without a lock.
  let queue: Promise<unknown> = Promise.resolve();
  const runGpg = (command: Command): Promise<CommandResult> => {
    const result = queue.then(() => run(command));
    queue = result.catch(() => undefined);
    return result;
  };
  const gpg = async (args: readonly string[], input?: Buffer): Promise<Buffer> => {
    const output = join(home, `output-${counter++}`);
    const common = [
      '--homedir',
      home,
      '--batch',
      '--yes',
      '--quiet',
      '--pinentry-mode',
      'loopback',
      '--passphrase',
      '',
    ];
    await runGpg({
      argv: ['gpg', ...common, '--output', output, ...args],
      environment: toolEnvironment(),
      ...(input === undefined ? {} : { input }),
    });
    return readFile(output).catch(() => Buffer.alloc(0));
  };
  let counter = 0;
  const exported = async (fingerprint: string): Promise<SigningKey> => ({
    fingerprint,
    publicKey: await gpg(['--export', fingerprint]),
    armoured: (await gpg(['--armor', '--export', fingerprint])).toString(),
  });
  const signWith = (
    time: readonly string[],
    text: Buffer,
    form: 'inline' | 'detached',
    signers: readonly SigningKey[],
    digest?: string,
  ): Promise<Buffer> => {
    const users = signers.flatMap(({ fingerprint }) => ['--local-user', `${fingerprint}!`]);
    const hash = digest === undefined ? [] : ['--digest-algo', digest];
    const how = form === 'inline' ? '--clearsign' : '--detach-sign';
    return gpg([...time, ...users, ...hash, '--armor', how], text);
  };
  return {
    home,
    make: async (name, { algorithm = 'ed25519', expires = '0', made } = {}) => {
      const time =
        made === undefined ? [] : ['--faked-system-time', String(Math.floor(made.getTime() / 1000))];
      const { stdout } = await runGpg({
        argv: [
          ...(['gpg', '--homedir', home, '--batch', '--quiet', '--status-fd', '1'] as const),
          ...['--pinentry-mode', 'loopback', '--passphrase', '', ...time],
          ...['--quick-generate-key', `${name} <${name}@example.invalid>`, algorithm, 'sign', expires],
        ],
        environment: toolEnvironment(),
      });
      const fingerprint = /KEY_CREATED \S+ ([0-9A-F]{40})/.exec(stdout)?.[1];
      if (fingerprint === undefined) throw new Error(`gpg made no key: ${stdout}`);
      return exported(fingerprint);
    },
    revoke: async ({ fingerprint }) => {
      const certificate = await readFile(join(home, 'openpgp-revocs.d', `${fingerprint}.rev`), 'utf8');
      // gpg puts a colon before the armour so that nobody imports it by mistake.
      const usable = join(home, `${fingerprint}.rev`);
      await writeFile(usable, certificate.replace(':-----BEGIN', '-----BEGIN'));
      await gpg(['--import', usable]);
      return exported(fingerprint);
    },
    sign: (text, form, signers, digest) => signWith([], text, form, signers, digest),
    signAt: (date, text, form, signers) => signWith(fakedTime(date), text, form, signers),
    remove: async () => {
      await run({ argv: ['gpgconf', '--homedir', home, '--kill', 'all'], environment: toolEnvironment() });
      await rm(home, { recursive: true, force: true });
    },
  };
}

function fakedTime(date: Date): readonly string[] {
  return ['--faked-system-time', String(Math.floor(date.getTime() / 1000))];
}

/** Builds a real archive in a temporary directory: dpkg-deb, apt-ftparchive, gpg. */
export async function makeArchive(
  spec: { readonly suites: readonly SuiteSpec[] },
  keys?: Keys,
): Promise<TestArchive> {
  const own = keys ?? (await makeKeys());
  const key = await own.make(`archive${Math.random().toString(36).slice(2)}`);
  const top = await mkdtemp(join(tmpdir(), 'archive-'));
  const directory = join(top, 'archive');
  await mkdir(directory);
  const keyring = join(top, 'keyring.gpg');
  await writeFile(keyring, key.publicKey);
  const debs = new Map<string, string>();
  const servers: ArchiveServer[] = [];
  const publish = async (suite: SuiteSpec): Promise<void> => {
    await buildSuite(directory, top, suite, own, key, debs);
  };
  for (const suite of spec.suites) await publish(suite);
  return {
    directory,
    url: `file://${directory}/`,
    keyring,
    key,
    deb: (name, version) => {
      const path = debs.get(`${name} ${version}`);
      if (path === undefined) throw new Error(`no package ${name} ${version} was built`);
      return path;
    },
    publish,
    serve: async () => {
      const server = await serveDirectory(directory);
      servers.push(server);
      return server;
    },
    remove: async () => {
      await Promise.all(servers.map((server) => server.close()));
      if (keys === undefined) await own.remove();
      await rm(top, { recursive: true, force: true });
    },
  };
}

async function buildSuite(
  directory: string,
  top: string,
  suite: SuiteSpec,
  keys: Keys,
  key: SigningKey,
  debs: Map<string, string>,
): Promise<void> {
  const { name, component = 'main', architectures = ['amd64'], compressions = ['gz', 'xz'] } = suite;
  const flat = name.endsWith('/');
  const pool = flat ? name.replace(/\/$/, '') : `pool/${name}/${component}`;
  const dist = flat ? join(directory, name) : join(directory, 'dists', name);
  await rm(join(directory, pool), { recursive: true, force: true });
  await rm(dist, { recursive: true, force: true });
  await mkdir(join(directory, pool), { recursive: true });
  await mkdir(dist, { recursive: true });
  await Promise.all(
    suite.packages.map(async (spec) => {
      debs.set(`${spec.name} ${spec.version}`, await buildDeb(spec, join(directory, pool), top));
    }),
  );
  for (const architecture of architectures) {
    const ftparchive = async (command: string): Promise<string> =>
      (
        await run({
          argv: ['apt-ftparchive', '--arch', architecture, command, pool],
          cwd: directory,
          environment: toolEnvironment(),
        })
      ).stdout;
    const text = await ftparchive('packages');
    const packages = suite.editPackages === undefined ? text : suite.editPackages(text);
    const path = flat ? 'Packages' : join(component, `binary-${architecture}`, 'Packages');
    await publishIndex(join(dist, path), packages, compressions);
    if (suite.contents !== false && !flat) {
      const contents = await ftparchive('contents');
      await publishIndex(join(dist, component, `Contents-${architecture}`), contents, ['gz']);
    }
  }
  await publishRelease(dist, suite, keys, key);
}

async function publishIndex(path: string, text: string, compressions: readonly string[]): Promise<void> {
  await mkdir(dirname(path), { recursive: true });
  // The plain file is listed in Release and removed afterwards, as real archives do.
  await writeFile(path, text);
  if (compressions.includes('gz')) await writeFile(`${path}.gz`, gzipSync(text));
  if (compressions.includes('xz')) {
    await run({ argv: ['xz', '--keep', '--force', '-1', path], environment: toolEnvironment() });
  }
}

async function publishRelease(dist: string, suite: SuiteSpec, keys: Keys, key: SigningKey): Promise<void> {
  const { name, component = 'main', architectures = ['amd64'], date = new Date(), byHash = true } = suite;
  const flat = name.endsWith('/');
  const fields: Record<string, string | undefined> = {
    Origin: 'Test',
    Label: 'Test',
    Suite: flat ? undefined : (suite.suite ?? name),
    Codename: flat ? undefined : (suite.codename ?? name),
    Date: releaseDate(date),
    'Valid-Until': suite.validUntil === undefined ? undefined : releaseDate(suite.validUntil),
    'Acquire-By-Hash': byHash ? 'yes' : undefined,
    Architectures: architectures.join(' '),
    Components: flat ? undefined : component,
  };
  const options = Object.entries(fields).flatMap(([field, value]) =>
    value === undefined || field === 'Date' || field === 'Valid-Until' || field === 'Acquire-By-Hash'
      ? []
      : ['-o', `APT::FTPArchive::Release::${field}=${value}`],
  );
  const { stdout } = await run({
    argv: ['apt-ftparchive', ...options, 'release', '.'],
    cwd: dist,
    environment: toolEnvironment(),
  });
  // apt-ftparchive takes dates from the clock; a test says which.
  const extra = ['Date', 'Valid-Until', 'Acquire-By-Hash'].flatMap((field) =>
    fields[field] === undefined ? [] : [`${field}: ${fields[field]}`],
  );
  const plain = stdout.replace(/^(?:Date|Valid-Until|Acquire-By-Hash): .*\n/gm, '');
  const text = plain.replace(/^(?=(?:MD5Sum|SHA1|SHA256|SHA512):)/m, `${extra.join('\n')}\n`);
  const edited = suite.editRelease === undefined ? text : suite.editRelease(text);
  const files = await readdir(dist, { recursive: true });
  for (const file of files) {
    const path = join(dist, file);
    if (!/(?:Packages|Contents-[^/.]+)(?:\.gz|\.xz)?$/.test(file) || !(await stat(path)).isFile()) continue;
    if (byHash) {
      const hash = createHash('sha256')
        .update(await readFile(path))
        .digest('hex');
      const copy = join(dirname(path), 'by-hash', 'SHA256', hash);
      await mkdir(dirname(copy), { recursive: true });
      await copyFile(path, copy);
    }
    const plainWanted = suite.compressions?.includes('none') === true;
    if (!/\.(?:gz|xz)$/.test(file) && !plainWanted) await rm(path);
  }
  const signers = suite.signers ?? [key];
  const bytes = Buffer.from(edited);
  if (suite.sign === undefined || suite.sign === 'inline') {
    await writeFile(join(dist, 'InRelease'), await keys.sign(bytes, 'inline', signers, suite.digest));
    return;
  }
  await writeFile(join(dist, 'Release'), bytes);
  if (suite.sign === 'detached') {
    await writeFile(join(dist, 'Release.gpg'), await keys.sign(bytes, 'detached', signers, suite.digest));
  }
}

async function buildDeb(spec: PackageSpec, pool: string, top: string): Promise<string> {
  const { name, version, architecture = 'amd64', section = 'libs', priority = 'optional' } = spec;
  const stage = await mkdtemp(join(top, 'stage-'));
  try {
    await chmod(stage, 0o755);
    for (const [path, file] of Object.entries(spec.files ?? {})) await stageFile(stage, path, file);
    const fields: Record<string, string | undefined> = {
      Package: name,
      Version: version,
      Architecture: architecture,
      Maintainer: 'Test <test@example.invalid>',
      Section: section,
      Priority: priority,
      'Pre-Depends': spec.preDepends,
      Depends: spec.depends,
      Provides: spec.provides,
      ...spec.fields,
      Description: 'package made by a test\n Its only use.',
    };
    const control = Object.entries(fields).flatMap(([field, value]) =>
      value === undefined ? [] : [`${field}: ${value}`],
    );
    await mkdir(join(stage, 'DEBIAN'));
    await writeFile(join(stage, 'DEBIAN', 'control'), `${control.join('\n')}\n`);
    const path = join(pool, `${name}_${version.replace(/^[0-9]+:/, '')}_${architecture}.deb`);
    await run({
      argv: ['dpkg-deb', '--root-owner-group', `-Z${spec.compression ?? 'gzip'}`, '--build', stage, path],
      environment: toolEnvironment(),
    });
    return path;
  } finally {
    await rm(stage, { recursive: true, force: true });
  }
}

async function stageFile(stage: string, path: string, file: FileSpec): Promise<void> {
  const target = join(stage, path);
  await mkdir(dirname(target), { recursive: true, mode: 0o755 });
  if (typeof file === 'string' || Buffer.isBuffer(file)) {
    await writeFile(target, file);
    await chmod(target, 0o644);
  } else if ('symlink' in file) await symlink(file.symlink, target);
  else if ('hardlink' in file) await link(join(stage, file.hardlink), target);
  else {
    await writeFile(target, file.content);
    await chmod(target, file.mode);
  }
}

async function serveDirectory(directory: string): Promise<ArchiveServer> {
  const answer = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const path = decodeURIComponent(new URL(request.url ?? '/', 'http://localhost').pathname).slice(1);
    result.requests.push(path);
    const other = result.intercept?.(path);
    if (typeof other === 'number') response.writeHead(other).end();
    else if (other !== undefined) response.writeHead(200, { 'content-length': other.length }).end(other);
    else {
      const file = join(directory, path);
      const found = relative(directory, file).startsWith('..')
        ? undefined
        : await stat(file).catch(() => undefined);
      if (found?.isFile() !== true) response.writeHead(404).end();
      else {
        response.writeHead(200, { 'content-length': found.size, 'last-modified': found.mtime.toUTCString() });
        createReadStream(file).pipe(response);
      }
    }
  };
  const server = createServer((request, response) => void answer(request, response));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('the server has no port');
  const result: ArchiveServer = {
    url: `http://127.0.0.1:${address.port}/`,
    requests: [],
    intercept: undefined,
    close: () =>
      new Promise((resolve) => {
        server.close(() => {
          resolve();
        });
        server.closeAllConnections();
      }),
  };
  return result;
}

function releaseDate(date: Date): string {
  return date.toUTCString().replace(/GMT$/, 'UTC');
}

function toolEnvironment(): Record<string, string> {
  return { PATH: process.env['PATH'] ?? '/usr/bin:/bin', LC_ALL: 'C', TZ: 'UTC' };
}
