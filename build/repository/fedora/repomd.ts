import { cannot, reasonOf, ToolError } from '../../support/errors.js';
import { safeLocation } from './location.js';
import { parseChecksum, type Checksum } from './record.js';
import { childOf, childrenOf, readXmlTree, wholeNumber } from './xml-tree.js';

/** repomd.xml, the top document of a repository: which metadata files there are. */
export interface Repomd {
  /** As written; often the time in seconds. */
  readonly revision: string;
  /** Of the newest file, seconds since the epoch; 0 where none says. */
  readonly timestamp: number;
  /** By their type, such as `primary`, and not `primary_db` or `primary_zck`, which are other files. */
  readonly files: ReadonlyMap<string, RepomdFile>;
}

export interface RepomdFile {
  readonly type: string;
  /** URL path below the repository's base. */
  readonly path: string;
  readonly checksum: Checksum;
  /** Bytes, packed. */
  readonly size: number;
  /** Bytes, unpacked, where it says. */
  readonly openSize: number | undefined;
}

const names = [
  ...['repomd', 'revision', 'data', 'type', 'checksum', 'location', 'href', 'timestamp', 'size', 'open-size'],
];

const broken = { hint: 'the repository is broken: try again later, or use another mirror with --mirror URL' };

/** The types that this program reads. Others may be of any form. */
const wanted = ['primary', 'filelists', 'modules'];

/** @param where names it in errors @throws ToolError */
export function parseRepomd(document: Uint8Array, where: string): Repomd {
  try {
    const root = readXmlTree(document, names);
    if (root.name !== 'repomd') throw cannot('read', where, 'it is no repomd.xml', broken);
    const files = new Map<string, RepomdFile>();
    let newest = 0;
    for (const data of childrenOf(root, 'data')) {
      newest = Math.max(newest, wholeNumber(childOf(data, 'timestamp')?.text) ?? 0);
      const type = data.attributes.get('type') ?? '';
      if (!wanted.includes(type)) continue;
      if (files.has(type)) throw cannot('read', where, `it has more than one ${type}`, broken);
      const sum = childOf(data, 'checksum');
      const checksum = parseChecksum(sum?.attributes.get('type'), sum?.text);
      if (checksum === undefined) {
        throw cannot('read', where, `it has no SHA-256 or SHA-512 checksum of ${type}`, {
          hint: 'the repository is too old to be trusted; use another',
        });
      }
      const location = childOf(data, 'location')?.attributes.get('href') ?? '';
      const path = safeLocation(location);
      if (path === undefined) {
        throw cannot('read', where, `the location ${JSON.stringify(location)} leaves the repository`, {
          hint: 'the repository is broken or hostile; use another',
        });
      }
      const size = wholeNumber(childOf(data, 'size')?.text);
      if (size === undefined) throw cannot('read', where, `it does not say how large ${type} is`, broken);
      files.set(type, {
        type,
        path,
        checksum,
        size,
        openSize: wholeNumber(childOf(data, 'open-size')?.text),
      });
    }
    return { revision: childOf(root, 'revision')?.text ?? '', timestamp: newest, files };
  } catch (error) {
    if (error instanceof ToolError) throw error;
    throw cannot('read', where, reasonOf(error), { cause: error, hint: 'use another mirror' });
  }
}
