import {
  copyFileSync,
  createReadStream,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { gunzipSync } from 'node:zlib';
import { expect } from 'vitest';
import type { Architecture } from '../../build/support/architecture.js';
import { errorLines, temporaryNames, type Place, type RunOptions } from './cli.js';
import { buildElf, tag } from './elf-builder.js';
import { hostArchitecture } from './host.js';
import { createRepository, repomdXml } from './rpm-repository.js';
import { buildRpm, makeSigningKey, type RpmFile, type RpmSpec, type SigningKey } from './rpm.js';

export const fedoraTools = ['createrepo_c', 'gpg', 'gpgconf', 'rpmbuild', 'rpmsign'] as const;

/** The two architectures whose packages can be made. */
export type MadeArchitecture = Extract<Architecture, 'x86_64' | 'aarch64'>;

/** This machine's, or else one of them. */
export const made: MadeArchitecture = hostArchitecture === 'aarch64' ? 'aarch64' : 'x86_64';

/** The release the repositories are of. */
export const release = '9';

const interpreters = {
  x86_64: '/lib64/ld-linux-x86-64.so.2',
  aarch64: '/lib/ld-linux-aarch64.so.1',
} as const;
const machines = { x86_64: 62, aarch64: 183 } as const;

/** A server of one program, which needs libouter, which needs libinner; signed by nobody but the key. */
export function fedoraDefinition(fingerprint: string): string {
  return `name: tiny
title: Tiny server
packages:
  fedora:
    release: ${release}
    package: tiny-server
    state: /var/lib/tiny
    keys: [${fingerprint}]
roots: [tinyd]
user: { name: tiny, id: 177 }
state: { volume: leases, files: [tiny.leases] }
ports: [67/udp]
capabilities: [NET_RAW]
run: [-f]
`;
}

/** A package of this workshop: what it is not told is as `tiny-server`'s neighbours have it. */
export type Spec = Omit<RpmSpec, 'directory' | 'sign'> & {
  /** Default: the workshop's own key. */
  readonly signer?: SigningKey | 'nobody';
};

/** A program without code. */
export function program(architecture: MadeArchitecture, ...needs: readonly string[]): Buffer {
  return buildElf({
    class: 64,
    data: 'little',
    machine: machines[architecture],
    type: 3,
    interpreter: interpreters[architecture],
    strings: needs.map((soname) => [tag.NEEDED, soname] as const),
  });
}

/** A shared library without code. */
export function library(architecture: MadeArchitecture, soname: string, ...needs: readonly string[]): Buffer {
  return buildElf({
    class: 64,
    data: 'little',
    machine: machines[architecture],
    type: 3,
    strings: [[tag.SONAME, soname], ...needs.map((name) => [tag.NEEDED, name] as const)],
  });
}

/** A package of one library, which says that it provides it. */
export function libraryPackage(
  name: string,
  soname: string,
  needs: readonly string[] = [],
  more: Partial<Spec> = {},
): Spec {
  const arch = more.arch === 'aarch64' ? 'aarch64' : more.arch === 'x86_64' ? 'x86_64' : made;
  return {
    name,
    arch,
    provides: [`${soname}()(64bit)`],
    requires: needs.map((need) => `${need}()(64bit)`),
    files: { [`usr/lib64/${soname}`]: { content: library(arch, soname, ...needs), mode: 0o755 } },
    ...more,
  };
}

/** The package of the server, of which tests change what they are about. */
export function serverPackage(more: Partial<Spec> = {}, files: Readonly<Record<string, RpmFile>> = {}): Spec {
  const arch = more.arch === 'aarch64' ? 'aarch64' : more.arch === 'x86_64' ? 'x86_64' : made;
  return {
    name: 'tiny-server',
    arch,
    requires: ['libouter.so.1()(64bit)', 'libc.so.6()(64bit)'],
    files: {
      'usr/bin/tinyd': { content: program(arch, 'libouter.so.1', 'libc.so.6'), mode: 0o755 },
      'usr/lib/sysusers.d/tiny.conf': 'u tiny 177 "Tiny server" / /sbin/nologin\n',
      ...files,
    },
    ...more,
  };
}

/** All but the server: what it needs, and what says which release it is of. */
export function neighbours(arch: MadeArchitecture = made): readonly Spec[] {
  const interpreter = basename(interpreters[arch]);
  const directory = arch === 'aarch64' ? 'usr/lib' : 'usr/lib64';
  return [
    libraryPackage('libouter', 'libouter.so.1', ['libinner.so.2', 'libc.so.6'], { arch }),
    libraryPackage('libinner', 'libinner.so.2', [], { arch }),
    {
      name: 'glibc',
      arch,
      provides: ['libc.so.6()(64bit)', `${interpreter}()(64bit)`],
      files: {
        'usr/lib64/libc.so.6': { content: library(arch, 'libc.so.6', interpreter), mode: 0o755 },
        [`${directory}/${interpreter}`]: { content: library(arch, interpreter), mode: 0o755 },
      },
    },
    {
      name: 'filesystem',
      arch,
      files: {
        bin: { link: 'usr/bin' },
        lib: { link: 'usr/lib' },
        lib64: { link: 'usr/lib64' },
        sbin: { link: 'usr/sbin' },
        'usr/sbin': { link: 'bin' },
        ...Object.fromEntries(
          ['usr', 'usr/bin', 'usr/lib', 'usr/lib64'].map((path) => [path, { directory: true } as const]),
        ),
      },
    },
    {
      name: 'fedora-release-common',
      files: { 'etc/os-release': { link: '../usr/lib/os-release' } },
    },
    {
      name: 'fedora-release-identity-basic',
      provides: ['system-release'],
      files: { 'usr/lib/os-release': `NAME="Fedora Linux"\nID=fedora\nVERSION_ID=${release}\n` },
    },
  ];
}

/** Makes packages and repositories of them, all of which go away together. */
export class Workshop {
  readonly directory = realpathSync(mkdtempSync(join(tmpdir(), 'workshop-')));
  readonly key = this.makeKey();
  /** Path of the public key. */
  readonly keyring = this.keyFile(this.key);
  readonly #packages = new Map<string, string>();

  makeKey(): SigningKey {
    return makeSigningKey(this.directory);
  }

  /** Writes public keys into one file. */
  keyFile(...keys: readonly SigningKey[]): string {
    const path = join(mkdtempSync(join(this.directory, 'keys-')), 'keys.asc');
    writeFileSync(path, keys.map(({ publicKey }) => publicKey).join(''));
    return path;
  }

  /** Builds and signs a package, the same one once. @returns its path */
  rpm(spec: Spec): string {
    const { signer = this.key, ...rest } = spec;
    const sign = signer === 'nobody' ? {} : { sign: signer };
    const key = JSON.stringify([rest, signer]);
    const path = this.#packages.get(key) ?? buildRpm({ ...rest, ...sign, directory: this.directory });
    this.#packages.set(key, path);
    return path;
  }

  /** The server and all it needs. @returns paths of packages */
  tiny(arch: MadeArchitecture = made): readonly string[] {
    return [serverPackage({ arch }), ...neighbours(arch)].map((spec) => this.rpm(spec));
  }

  /** A repository of these package files, or of packages that are to be made. @returns its directory */
  repository(packages: readonly (string | Spec)[], published = 1_700_000_000): string {
    return this.fill(mkdtempSync(join(this.directory, 'repository-')), packages, published);
  }

  /**
   * A tree laid out like Fedora's: the release with these packages, and updates with those.
   *
   * @returns the directory at its top
   */
  tree(
    packages: Partial<Readonly<Record<MadeArchitecture, readonly (string | Spec)[]>>>,
    updates: readonly (string | Spec)[] = [],
  ): string {
    const top = mkdtempSync(join(this.directory, 'tree-'));
    for (const [arch, list] of Object.entries(packages)) {
      this.fill(join(top, placeOf(arch)), list);
      this.fill(join(top, `updates/${release}/Everything/${arch}`), updates);
    }
    return top;
  }

  /** @param published seconds since the epoch: what repomd.xml says it is of */
  fill(directory: string, packages: readonly (string | Spec)[], published = 1_700_000_000): string {
    mkdirSync(directory, { recursive: true });
    for (const one of packages) {
      const path = typeof one === 'string' ? one : this.rpm(one);
      copyFileSync(path, join(directory, basename(path)));
    }
    createRepository(directory, `--revision=${published}`, '--set-timestamp-to-revision');
    return directory;
  }

  remove(): void {
    rmSync(this.directory, { recursive: true, force: true });
  }
}

/** Directory of a repository in a tree, below its top. */
export function placeOf(arch: string = made): string {
  return `releases/${release}/Everything/${arch}/os`;
}

/** URL of a directory, with a slash at its end. */
export function urlOf(directory: string): string {
  return `${pathToFileURL(directory).href}/`;
}

/** Changes what a repository says of its packages, and what vouches for that. */
export function rewritePrimary(directory: string, change: (xml: string) => string): void {
  const repodata = join(directory, 'repodata');
  const packed = readdirSync(repodata).find((name) => name.endsWith('primary.xml.gz')) ?? '';
  const before = gunzipSync(readFileSync(join(repodata, packed))).toString();
  const after = change(before);
  expect(after).not.toBe(before);
  const bytes = Buffer.from(after);
  writeFileSync(join(repodata, 'other-primary.xml'), bytes);
  const files = { primary: { path: 'repodata/other-primary.xml', bytes } };
  writeFileSync(join(repodata, 'repomd.xml'), repomdXml(files));
}

export interface MirrorServer {
  /** Slash at its end. */
  readonly url: string;
  /** Paths asked for, without a slash in front. */
  readonly requests: string[];
  /** Answers in place of the file, and says whether it did. */
  lie: ((path: string, response: ServerResponse) => boolean) | undefined;
  close(): Promise<void>;
}

/** Serves a directory over http on loopback, as long as nobody lies. */
export async function serveMirror(directory: string): Promise<MirrorServer> {
  const server = createServer((request, response) => {
    const path = decodeURIComponent(new URL(request.url ?? '/', 'http://localhost').pathname).slice(1);
    result.requests.push(path);
    if (result.lie?.(path, response) === true) return;
    const file = join(directory, path);
    const stats = statSync(file, { throwIfNoEntry: false });
    if (stats?.isFile() !== true) response.writeHead(404).end();
    else {
      response.writeHead(200, { 'content-length': stats.size });
      createReadStream(file).pipe(response);
    }
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const result: MirrorServer = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`,
    requests: [],
    lie: undefined,
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

/**
 * Runs a command that must fail in the way users are promised: one line, what to do, nothing made, the lock file
 * untouched. Warnings that other mirrors are tried, and of plain http, may come before.
 *
 * @returns the line, without `error: `
 */
export async function refusal(
  place: Place,
  code: 1 | 2,
  args: readonly string[],
  how?: RunOptions,
): Promise<string> {
  const before = kept(place);
  const outcome = await place.run([...args, '-q'], how);
  const lines = errorLines(outcome).filter((line) => !/^warning: .*(?:; trying \S+$|plain http)/.test(line));
  expect(lines).toHaveLength(1);
  const [line = ''] = lines;
  expect(line).toMatch(/^error: cannot /);
  // What to do next stands behind a semicolon.
  expect(line).toMatch(/; \S.*$/);
  expect(outcome.code, line).toBe(code);
  expect(kept(place)).toEqual(before);
  return line.replace('error: ', '');
}

/** All but the cache, with the text of the lock file; in the cache there must be nothing half-made. */
function kept(place: Place): readonly string[] {
  const names = place.list();
  expect(temporaryNames(names)).toEqual([]);
  const lock = place.path('tiny.lock.yaml');
  return [
    ...names.filter((name) => !name.startsWith('cache/')),
    existsSync(lock) ? readFileSync(lock, 'utf8') : 'no lock file',
  ];
}
