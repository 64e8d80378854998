import { cannot, reasonOf, ToolError } from '../../support/errors.js';
import { repositoryBase } from './location.js';
import { parseChecksum, type Checksum } from './record.js';
import { childOf, childrenOf, readXmlTree, wholeNumber, type XmlElement } from './xml-tree.js';

/** What a metalink says of repomd.xml: which bytes are right, and who has them. */
export interface Metalink {
  /** The newest first, as the file has them; at least one. */
  readonly versions: readonly MetalinkVersion[];
  /** Base URLs of the mirrors with a slash at the end, the preferred first. */
  readonly mirrors: readonly string[];
}

export interface MetalinkVersion {
  /** Seconds since the epoch, or undefined where it does not say. */
  readonly timestamp: number | undefined;
  /** Bytes. */
  readonly size: number | undefined;
  /** One of them is enough. */
  readonly checksums: readonly Checksum[];
}

const wrongUrl = 'check the URL, or use another list of mirrors or a mirror with --mirror URL';

/** More mirrors than anybody waits for. */
const mostMirrors = 1000;
const mostVersions = 100;

const names = [
  ...['metalink', 'files', 'file', 'timestamp', 'size', 'verification', 'hash', 'alternates', 'alternate'],
  ...['resources', 'url', 'name', 'type', 'protocol', 'preference'],
];

/**
 * Parses a metalink, version 3 with mirrormanager's alternates (https://www.metalinker.org/, "Metalink 3.0"): other
 * versions of the file that mirrors may still have.
 *
 * @param where names it in errors
 * @throws ToolError
 */
export function parseMetalink(document: Uint8Array, where: string): Metalink {
  try {
    const root = readXmlTree(document, names);
    if (root.name !== 'metalink') throw cannot('read', where, 'it is no metalink', { hint: wrongUrl });
    const file = childrenOf(childOf(root, 'files'), 'file').find(
      ({ attributes }) => attributes.get('name') === 'repomd.xml',
    );
    if (file === undefined) throw cannot('read', where, 'it names no repomd.xml', { hint: wrongUrl });
    const current = versionOf(file);
    if (current === undefined) {
      throw cannot('trust', where, 'it has no SHA-256 or SHA-512 hash of repomd.xml', {
        hint: 'the repository is too old to be trusted; use another',
      });
    }
    const alternates = childrenOf(childOf(file, 'alternates'), 'alternate');
    return {
      versions: [current, ...alternates.flatMap((alternate) => versionOf(alternate) ?? [])].slice(
        0,
        mostVersions,
      ),
      mirrors: mirrorsOf(childrenOf(childOf(file, 'resources'), 'url')),
    };
  } catch (error) {
    if (error instanceof ToolError) throw error;
    throw cannot('read', where, reasonOf(error), { cause: error, hint: 'try again later' });
  }
}

function versionOf(element: XmlElement): MetalinkVersion | undefined {
  const checksums = childrenOf(childOf(element, 'verification'), 'hash').flatMap(
    ({ attributes, text }) => parseChecksum(attributes.get('type'), text) ?? [],
  );
  if (checksums.length === 0) return undefined;
  return {
    timestamp: wholeNumber(childOf(element, 'timestamp')?.text),
    size: wholeNumber(childOf(element, 'size')?.text),
    checksums,
  };
}

const document = 'repodata/repomd.xml';

/** By preference, 100 first; of equal ones https before the rest, then as they stand. */
function mirrorsOf(urls: readonly XmlElement[]): readonly string[] {
  const found = urls.flatMap(({ attributes, text }) => {
    const base = text.endsWith(document) ? repositoryBase(text.slice(0, -document.length)) : undefined;
    if (base === undefined) return []; // rsync, most often
    const preference = wholeNumber(attributes.get('preference')) ?? 0;
    return [{ base, rank: 2 * preference + (base.startsWith('https:') ? 1 : 0) }];
  });
  const sorted = found.sort((a, b) => b.rank - a.rank).map(({ base }) => base);
  return [...new Set(sorted)].slice(0, mostMirrors);
}

/** Parses a mirrorlist: a base URL to a line, comments after `#`. Lines that are none are left out, as dnf does. */
export function parseMirrorlist(text: string): readonly string[] {
  const bases = text.split('\n').flatMap((line) => {
    const url = line.trim();
    return url === '' || url.startsWith('#') ? [] : (repositoryBase(url) ?? []);
  });
  return [...new Set(bases)].slice(0, mostMirrors);
}
