import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { createReadStream, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** Makes or renews the metadata of a directory of packages. @param options of createrepo_c(8) */
export function createRepository(directory: string, ...options: readonly string[]): void {
  execFileSync('createrepo_c', ['--quiet', ...options, directory], {
    stdio: 'pipe',
    env: plainEnvironment(),
  });
}

/** Where dnf keeps what it has read; it looks each time whether that is still so. */
let dnfRoot: string | undefined;
process.once('exit', () => {
  if (dnfRoot !== undefined) rmSync(dnfRoot, { recursive: true, force: true });
});

/** What dnf says of repositories, line by line: `dnf repoquery`. */
export function dnfQuery(
  repositories: Readonly<Record<string, string>>,
  arch: string,
  ...query: readonly string[]
): readonly string[] {
  const root = (dnfRoot ??= mkdtempSync(join(tmpdir(), 'dnf-')));
  const output = execFileSync(
    'dnf',
    [
      ...['--quiet', '--refresh', `--installroot=${root}`, `--setopt=cachedir=${root}/cache`],
      ...[
        '--setopt=reposdir=/dev/null',
        '--releasever=1',
        `--forcearch=${arch}`,
        '--nogpgcheck',
        '--noplugins',
      ],
      ...Object.entries(repositories).map(([id, url]) => `--repofrompath=${id},${url}`),
      'repoquery',
      ...query,
    ],
    {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'pipe'],
      maxBuffer: 2 ** 28,
      env: { ...plainEnvironment(), HOME: root },
    },
  );
  return output.split('\n').filter((line) => line !== '');
}

/** One package of a primary.xml that a program writes. */
export interface PrimaryPackage {
  readonly name: string;
  readonly arch?: string;
  readonly type?: string;
  readonly epoch?: string;
  readonly version?: string;
  readonly release?: string;
  /** Algorithm and value; default a SHA-256. */
  readonly checksum?: readonly [string, string];
  readonly location?: string;
  readonly size?: string;
  /** XML of entries, such as `<rpm:entry name="x"/>`. */
  readonly provides?: string;
  readonly requires?: string;
  /** XML of files. */
  readonly files?: string;
}

/** A primary.xml of the form that createrepo_c writes. */
export function primaryXml(packages: readonly PrimaryPackage[]): string {
  const bodies = packages.map((one) => {
    const { name, arch = 'x86_64', epoch = '0', version = '1', release = '1', provides, requires } = one;
    const [algorithm, checksum] = one.checksum ?? [
      'sha256',
      createHash('sha256').update(JSON.stringify(one)).digest('hex'),
    ];
    const list = (tag: string, entries: string | undefined): string =>
      entries === undefined ? '' : `<rpm:${tag}>${entries}</rpm:${tag}>`;
    return `<package type="${one.type ?? 'rpm'}">
  <name>${name}</name>
  <arch>${arch}</arch>
  <version epoch="${epoch}" ver="${version}" rel="${release}"/>
  <checksum type="${algorithm}" pkgid="YES">${checksum}</checksum>
  <summary>Sample</summary>
  <description>Sample &lt;package&gt;</description>
  <time file="1700000001" build="1700000000"/>
  <size package="${one.size ?? '1234'}" installed="1" archive="2"/>
  <location href="${one.location ?? `Packages/${name}-${version}-${release}.${arch}.rpm`}"/>
  <format><rpm:license>MIT</rpm:license>${list('provides', provides)}${list('requires', requires)}${one.files ?? ''}</format>
</package>`;
  });
  return `<?xml version="1.0" encoding="UTF-8"?>
<metadata xmlns="http://linux.duke.edu/metadata/common" xmlns:rpm="http://linux.duke.edu/metadata/rpm" packages="${packages.length}">
${bodies.join('\n')}
</metadata>
`;
}

/** A repomd.xml that names these files, by type. */
export function repomdXml(
  files: Readonly<
    Record<
      string,
      { readonly path: string; readonly bytes: Buffer; readonly algorithm?: 'sha256' | 'sha512' }
    >
  >,
  timestamp = 1_700_000_000,
): string {
  const data = Object.entries(files).map(
    ([type, { path, bytes, algorithm = 'sha256' }]) => `  <data type="${type}">
    <checksum type="${algorithm}">${createHash(algorithm).update(bytes).digest('hex')}</checksum>
    <location href="${path}"/>
    <timestamp>${timestamp}</timestamp>
    <size>${bytes.length}</size>
  </data>`,
  );
  return `<?xml version="1.0" encoding="UTF-8"?>
<repomd xmlns="http://linux.duke.edu/metadata/repo" xmlns:rpm="http://linux.duke.edu/metadata/rpm">
  <revision>${timestamp}</revision>
${data.join('\n')}
</repomd>
`;
}

/** A metalink of these versions of repomd.xml, the current one first. */
export function metalinkXml(versions: readonly Buffer[], mirrors: readonly string[]): string {
  const hash = (algorithm: string, bytes: Buffer): string =>
    `<hash type="${algorithm}">${createHash(algorithm).update(bytes).digest('hex')}</hash>`;
  const version = (bytes: Buffer): string => `<mm0:timestamp>1700000000</mm0:timestamp>
   <size>${bytes.length}</size>
   <verification>${['md5', 'sha1', 'sha256', 'sha512'].map((name) => hash(name, bytes)).join('')}</verification>`;
  const [current = Buffer.alloc(0), ...alternates] = versions;
  return `<?xml version="1.0" encoding="utf-8"?>
<metalink version="3.0" xmlns="http://www.metalinker.org/" xmlns:mm0="http://fedorahosted.org/mirrormanager">
 <files>
  <file name="repomd.xml">
   ${version(current)}
   <mm0:alternates>${alternates.map((bytes) => `<mm0:alternate>${version(bytes)}</mm0:alternate>`).join('')}</mm0:alternates>
   <resources maxconnections="1">
${mirrors
  .map(
    (url, index) =>
      `    <url protocol="http" type="http" preference="${100 - index}">${url}repodata/repomd.xml</url>`,
  )
  .join('\n')}
   </resources>
  </file>
 </files>
</metalink>
`;
}

export interface RepositoryServer {
  /** Slash at its end. */
  readonly url: string;
  /** Paths asked for, decoded, without a slash in front. */
  readonly requests: string[];
  /** Decides over a path before the file is looked up: other bytes, a status, or undefined for the file. */
  intercept: ((path: string) => Buffer | number | undefined) | undefined;
  close(): Promise<void>;
}

/** Serves a directory over http on loopback. */
export async function serveRepository(directory: string): Promise<RepositoryServer> {
  const answer = (path: string, response: ServerResponse): void => {
    result.requests.push(path);
    const other = result.intercept?.(path);
    const file = join(directory, path);
    const found = path.includes('..') ? undefined : statSync(file, { throwIfNoEntry: false });
    if (typeof other === 'number') response.writeHead(other).end();
    else if (other !== undefined) response.writeHead(200, { 'content-length': other.length }).end(other);
    else if (found?.isFile() !== true) response.writeHead(404).end();
    else {
      response.writeHead(200, { 'content-length': found.size });
      createReadStream(file).pipe(response);
    }
  };
  const server = createServer((request, response) => {
    answer(decodeURIComponent(new URL(request.url ?? '/', 'http://localhost').pathname).slice(1), response);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const result: RepositoryServer = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`,
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

/** The repomd.xml of a directory. */
export function repomdOf(directory: string): Buffer {
  return readFileSync(join(directory, 'repodata/repomd.xml'));
}

function plainEnvironment(): Record<string, string> {
  return { PATH: process.env['PATH'] ?? '/usr/bin:/bin', LC_ALL: 'C.UTF-8', TZ: 'UTC' };
}
