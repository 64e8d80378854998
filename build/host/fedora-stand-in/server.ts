import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { readFile, stat } from 'node:fs/promises';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { createServer as createPlainServer, type AddressInfo, type Server as PlainServer } from 'node:net';
import { join, posix } from 'node:path';
import { PassThrough, Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import {
  readDescription,
  repositoryNames,
  repositoryPath,
  type RepositoryName,
  type StandInArchitecture,
  type StandInDescription,
} from './description.js';

/**
 * How a mirror behaves:
 * - `current`: as it should
 * - `previous`: it lags behind by one change; the metalink lists the hash of its repomd.xml as an alternate
 * - `ancient`: it lags behind so far that the metalink does not know its repomd.xml any more
 * - `corrupt`: its repomd.xml is the current one, and one byte is wrong in every other file
 * - `dead`: it ends every connection without an answer
 */
export const mirrorKinds = ['current', 'previous', 'ancient', 'corrupt', 'dead'] as const;
export type MirrorKind = (typeof mirrorKinds)[number];

export interface ServedRequest {
  readonly method: string;
  /** Path and query as they came. */
  readonly url: string;
  /** The Range header. */
  readonly range: string | undefined;
  readonly status: number;
}

/** Fedora's mirror manager and mirrors on loopback. */
export interface StandInServer {
  /** `http://127.0.0.1:PORT`. */
  readonly url: string;
  /** The mirrors that metalink and mirrorlist name, the preferred first. May be changed at any time. */
  mirrors: readonly MirrorKind[];
  /** Requests that have been answered, in the order of the answers. Those to a dead mirror are not among them. */
  readonly requests: readonly ServedRequest[];
  /** How often somebody tried a dead mirror. */
  readonly deadConnections: number;
  metalinkUrl(repository: RepositoryName, architecture: StandInArchitecture): string;
  mirrorlistUrl(repository: RepositoryName, architecture: StandInArchitecture): string;
  /** The repository on one mirror, with a final slash. */
  baseUrl(repository: RepositoryName, architecture: StandInArchitecture, mirror?: MirrorKind): string;
  close(): Promise<void>;
}

const older: Readonly<Record<Exclude<MirrorKind, 'dead'>, string>> = {
  current: 'pub',
  corrupt: 'pub',
  previous: 'older/previous',
  ancient: 'older/ancient',
};

/**
 * Serves a finished stand-in on an ephemeral port of loopback:
 * - `/metalink` and `/mirrorlist`, with `?repo=fedora-45&arch=x86_64` or `repo=updates-released-f45`
 * - `/<kind of mirror>/fedora/linux/...`
 * - all other files of the stand-in, such as its keys
 *
 * @param root directory of the stand-in
 */
export async function serveStandIn(
  root: string,
  mirrors: readonly MirrorKind[] = ['dead', 'ancient', 'current'],
): Promise<StandInServer> {
  const description = await requireDescription(root);
  const requests: ServedRequest[] = [];
  let deadConnections = 0;
  const dead = createPlainServer((socket) => {
    deadConnections += 1;
    socket.destroy();
  });
  const deadUrl = `http://127.0.0.1:${await listen(dead)}`;
  const http = createServer((request, response) => {
    response.on('close', () => {
      const { method = '', url = '', headers } = request;
      requests.push({ method, url, range: headers.range, status: response.statusCode });
    });
    // A connection that the client gave up is no failure of ours.
    answer(request, response).catch(() => response.destroy());
  });
  // A connection that ends just when its client asks again would be an error that no test is about.
  http.keepAliveTimeout = 600_000;
  const url = `http://127.0.0.1:${await listen(http)}`;
  const baseUrl: StandInServer['baseUrl'] = (repository, architecture, mirror = 'current') =>
    `${mirror === 'dead' ? deadUrl : url}/${mirror}/${repositoryPath(repository, description.release, architecture)}/`;
  const query = (repository: RepositoryName, architecture: StandInArchitecture): string => {
    const separator = repository === 'fedora' ? '-' : '-f';
    return `repo=${repository}${separator}${description.release}&arch=${architecture}`;
  };
  const server: StandInServer = {
    url,
    mirrors,
    requests,
    get deadConnections() {
      return deadConnections;
    },
    metalinkUrl: (repository, architecture) => `${url}/metalink?${query(repository, architecture)}`,
    mirrorlistUrl: (repository, architecture) => `${url}/mirrorlist?${query(repository, architecture)}`,
    baseUrl,
    close: async () => {
      await Promise.all([close(http), close(dead)]);
    },
  };
  return server;

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { pathname, searchParams } = new URL(request.url ?? '/', url);
    if (request.method !== 'GET' && request.method !== 'HEAD') {
      send(response, 405, 'only GET and HEAD\n');
    } else if (pathname === '/metalink' || pathname === '/mirrorlist') {
      const asked = askedRepository(description, searchParams);
      if (asked === undefined) send(response, 404, '# no such repository or architecture\n');
      else if (pathname === '/metalink') {
        const text = await metalink(root, description.release, asked, server.mirrors, (mirror) =>
          baseUrl(...asked, mirror),
        );
        send(response, 200, text, 'application/metalink+xml');
      } else {
        const lines = server.mirrors.map((mirror) => `${baseUrl(...asked, mirror)}\n`);
        send(response, 200, `# ${searchParams.toString()}\n${lines.join('')}`);
      }
    } else await sendFile(request, response, decodeURIComponent(pathname));
  }

  async function sendFile(
    request: IncomingMessage,
    response: ServerResponse,
    pathname: string,
  ): Promise<void> {
    const [, first = '', ...rest] = pathname.split('/');
    const mirror = mirrorKinds.find((kind) => kind === first && kind !== 'dead');
    const relative = posix.normalize(
      mirror === undefined || mirror === 'dead' ? `.${pathname}` : `${older[mirror]}/${rest.join('/')}`,
    );
    const path = join(root, relative);
    const stats = relative.startsWith('..') ? undefined : await stat(path).catch(() => undefined);
    if (stats?.isFile() !== true) {
      send(response, 404, 'not found\n');
      return;
    }
    const tag = `"${stats.size.toString(16)}-${Math.floor(stats.mtimeMs).toString(16)}"`;
    const headers = {
      'accept-ranges': 'bytes',
      'content-type': 'application/octet-stream',
      etag: tag,
      'last-modified': stats.mtime.toUTCString(),
    };
    if (request.headers['if-none-match'] === tag) {
      response.writeHead(304, headers).end();
      return;
    }
    const condition = request.headers['if-range'];
    const range =
      condition === undefined || condition === tag ? rangeOf(request.headers.range, stats.size) : undefined;
    if (range === 'unsatisfiable') {
      response.writeHead(416, { 'content-range': `bytes */${stats.size}` }).end();
      return;
    }
    const { start, end } = range ?? { start: 0, end: stats.size - 1 };
    response.writeHead(range === undefined ? 200 : 206, {
      ...headers,
      'content-length': end - start + 1,
      ...(range === undefined ? {} : { 'content-range': `bytes ${start}-${end}/${stats.size}` }),
    });
    if (request.method === 'HEAD' || stats.size === 0) {
      response.end();
      return;
    }
    const spoils = mirror === 'corrupt' && !path.endsWith('/repomd.xml') && start === 0;
    await pipeline(createReadStream(path, { start, end }), spoils ? spoiler() : new PassThrough(), response);
  }
}

/** One byte of the first piece becomes another. */
function spoiler(): Transform {
  let done = false;
  return new Transform({
    transform: (chunk: Buffer, _encoding, callback) => {
      const bytes = Buffer.from(chunk);
      if (!done) bytes.writeUInt8(bytes.readUInt8(bytes.length >> 1) ^ 0xff, bytes.length >> 1);
      done = true;
      callback(null, bytes);
    },
  });
}

/**
 * One range of bytes (RFC 9110, section 14). What is not understood is ignored.
 *
 * @param size bytes of the file
 */
function rangeOf(
  header: string | undefined,
  size: number,
): { readonly start: number; readonly end: number } | 'unsatisfiable' | undefined {
  const [, from = '', to = ''] = /^bytes=(\d*)-(\d*)$/.exec(header ?? '') ?? [];
  if (from === '' && to === '') return undefined;
  const start = from === '' ? Math.max(0, size - Number(to)) : Number(from);
  const end = from === '' || to === '' ? size - 1 : Math.min(Number(to), size - 1);
  return start > end || start >= size ? 'unsatisfiable' : { start, end };
}

type Asked = readonly [RepositoryName, StandInArchitecture];

function askedRepository(
  { release, architectures }: StandInDescription,
  query: URLSearchParams,
): Asked | undefined {
  const repository = repositoryNames.find((name) => {
    return query.get('repo') === (name === 'fedora' ? `fedora-${release}` : `${name}-f${release}`);
  });
  const architecture = architectures.find((name) => query.get('arch') === name);
  return repository === undefined || architecture === undefined ? undefined : [repository, architecture];
}

/** A metalink (version 3) of repomd.xml as Fedora's mirror manager makes it. */
async function metalink(
  root: string,
  release: number,
  [repository, architecture]: Asked,
  mirrors: readonly MirrorKind[],
  baseUrl: (mirror: MirrorKind) => string,
): Promise<string> {
  const where = repositoryPath(repository, release, architecture);
  const verification = async (directory: string, indent: string): Promise<readonly string[]> => {
    const bytes = await readFile(join(root, directory, where, 'repodata/repomd.xml'));
    const revision = /<revision>(\d+)</.exec(bytes.toString('utf8'))?.[1] ?? '';
    return [
      `<mm0:timestamp>${revision}</mm0:timestamp>`,
      `<size>${bytes.length}</size>`,
      '<verification>',
      ...['md5', 'sha1', 'sha256', 'sha512'].map(
        (type) => ` <hash type="${type}">${createHash(type).update(bytes).digest('hex')}</hash>`,
      ),
      '</verification>',
    ].map((line) => `${indent}${line}`);
  };
  const lines = [
    '<?xml version="1.0" encoding="utf-8"?>',
    '<metalink version="3.0" xmlns="http://www.metalinker.org/" type="dynamic" pubdate="Mon, 01 Apr 2024 00:00:00 GMT" generator="mirrormanager" xmlns:mm0="http://fedorahosted.org/mirrormanager">',
    ' <files>',
    '  <file name="repomd.xml">',
    ...(await verification('pub', '   ')),
    '   <mm0:alternates>',
    '    <mm0:alternate>',
    ...(await verification(older.previous, '     ')),
    '    </mm0:alternate>',
    '   </mm0:alternates>',
    '   <resources maxconnections="1">',
    ...mirrors.flatMap((mirror, index) => {
      const url = `${baseUrl(mirror)}repodata/repomd.xml`;
      const attributes = `location="DE" preference="${100 - index}"`;
      return [
        `    <url protocol="http" type="http" ${attributes}>${url}</url>`,
        // Mirrors have this as well, and no client of packages uses it.
        `    <url protocol="rsync" type="rsync" ${attributes}>${url.replace('http:', 'rsync:')}</url>`,
      ];
    }),
    '   </resources>',
    '  </file>',
    ' </files>',
    '</metalink>',
    '',
  ];
  return lines.join('\n');
}

function send(response: ServerResponse, status: number, text: string, type = 'text/plain'): void {
  const length = Buffer.byteLength(text);
  response
    .writeHead(status, { 'content-type': `${type}; charset=utf-8`, 'content-length': length })
    .end(text);
}

async function requireDescription(root: string): Promise<StandInDescription> {
  const description = await readDescription(root);
  if (description === undefined) throw new Error(`there is no stand-in in ${root}`);
  return description;
}

async function listen(server: Server | PlainServer): Promise<number> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(0, '127.0.0.1', resolve);
  });
  return (server.address() as AddressInfo).port;
}

function close(server: Server | PlainServer): Promise<void> {
  if ('closeAllConnections' in server) server.closeAllConnections();
  return new Promise((resolve, reject) => {
    server.close((error) => {
      if (error === undefined) resolve();
      else reject(error);
    });
  });
}
