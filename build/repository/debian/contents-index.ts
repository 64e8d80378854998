import { cannot } from '../../support/errors.js';
import { compareBytes } from '../../support/order.js';
import { mergedPath } from './layout.js';

const newline = 0x0a;
/** No path or list of packages in a Contents index comes near. */
const longestLine = 1024 ** 2;

/**
 * Names of the packages that ship a file of this name in one of the directories, according to a Contents index
 * (https://wiki.debian.org/DebianRepository/Format#A.22Contents.22_indices). Reads the stream to its end but looks
 * only at lines that hold the name.
 * @param directories relative to the root, in the merged spelling
 * @returns sorted by bytes
 */
export async function packagesWithFile(
  chunks: AsyncIterable<Uint8Array>,
  file: string,
  directories: ReadonlySet<string>,
  url: string,
): Promise<readonly string[]> {
  const needle = Buffer.from(`/${file}`);
  const packages = new Set<string>();
  let rest: Buffer = Buffer.alloc(0);
  const search = (text: Buffer): void => {
    for (let at = text.indexOf(needle); at >= 0; at = text.indexOf(needle, at + needle.length)) {
      const after = text[at + needle.length];
      if (after !== 0x20 && after !== 0x09) continue;
      const start = text.lastIndexOf(newline, at) + 1;
      const end = text.indexOf(newline, at);
      // The path may hold blanks, the list of packages behind it does not.
      const directory = text.toString('utf8', start, at).replace(/^(?:\.\/|\/)/, '');
      if (!directories.has(mergedPath(directory))) continue;
      const places = text.toString('utf8', at + needle.length, end < 0 ? text.length : end).trim();
      if (/\s/.test(places)) continue;
      for (const place of places.split(',')) packages.add(place.slice(place.lastIndexOf('/') + 1));
    }
  };
  for await (const chunk of chunks) {
    const text =
      rest.length === 0
        ? Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength)
        : Buffer.concat([rest, chunk]);
    const end = text.lastIndexOf(newline) + 1;
    search(text.subarray(0, end));
    // A copy: decompressors use their buffers again.
    rest = Buffer.from(text.subarray(end));
    if (rest.length > longestLine) throw cannot('read', url, 'a line is too long for a Contents index');
  }
  search(rest);
  return [...packages].sort(compareBytes);
}
