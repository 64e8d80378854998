import { cannot, reasonOf, ToolError } from '../../support/errors.js';
import { XmlReader } from './xml.js';

/** A package as filelists.xml names it. */
export interface FileOwner {
  readonly name: string;
  /** Its checksum, which tells it from others of its name. */
  readonly checksum: string;
}

const mostOwners = 10_000;

/**
 * Searches filelists.xml for the packages that own one of some paths. Reads it to its end.
 *
 * @param paths absolute
 * @param where names the document in errors
 * @returns in the order of the document, each package once
 * @throws ToolError
 */
export async function findOwners(
  chunks: AsyncIterable<Uint8Array>,
  paths: ReadonlySet<string>,
  where: string,
): Promise<readonly FileOwner[]> {
  const owners: FileOwner[] = [];
  let current: FileOwner | undefined;
  const reader = new XmlReader({
    names: ['filelists', 'package', 'file', 'name', 'pkgid', 'type'],
    open: (name, tag) => {
      if (tag.depth === 0 && name !== 'filelists') throw new Error('it is no list of files');
      if (tag.depth === 1) {
        current =
          name === 'package'
            ? { name: tag.attribute('name') ?? '', checksum: (tag.attribute('pkgid') ?? '').toLowerCase() }
            : undefined;
      }
      return tag.depth === 2 && name === 'file' && current !== undefined && tag.attribute('type') !== 'dir';
    },
    close: (_name, text) => {
      if (text === undefined || current === undefined || !paths.has(text)) return;
      if (owners.at(-1) !== current) owners.push(current);
      if (owners.length > mostOwners) throw new Error('too many packages own one path');
    },
  });
  try {
    for await (const chunk of chunks) reader.write(chunk);
    reader.end();
  } catch (error) {
    if (error instanceof ToolError) throw error;
    throw cannot('read', where, reasonOf(error), { cause: error, hint: 'use another mirror' });
  }
  return owners;
}
