import type { FileHandle } from 'node:fs/promises';
import { cannot } from '../../support/errors.js';
import { readAt } from '../bytes.js';
import { headerMagic, indexEntryBytes, introBytes, RpmHeader } from './header.js';
import { tags } from './tags.js';

/** The parts of an RPM package file. */
export interface RpmContainer {
  readonly signatures: RpmHeader;
  readonly header: RpmHeader;
  /** Bytes of the file, to its end. */
  readonly payload: { readonly offset: number; readonly size: number };
}

const leadBytes = 96;
/** rpm's own limits (lib/header.c, HEADER_TAGS_MAX and the limits of signature headers). */
const maxTags = { header: 0xffff, signatures: 32 };

/**
 * Reads the lead and both headers of a package: rpm's docs/manual/format_v4.md and format_v6.md.
 *
 * @param name what the package is called in errors
 * @param limit most bytes of each header
 * @throws ToolError `cannot read NAME: reason`
 */
export async function readContainer(handle: FileHandle, name: string, limit: number): Promise<RpmContainer> {
  const fail = (reason: string) => cannot('read', name, reason);
  const { size: end } = await handle.stat();
  if (end < leadBytes + introBytes) throw fail('it is too short to be an RPM package');
  const lead = await readAt(handle, name, 0, leadBytes);
  if (lead.readUInt32BE(0) !== 0xedabeedb) throw fail('it is no RPM package: the magic number is missing');
  const [major = 0] = lead.subarray(4);
  if (major !== 3 && major !== 4) throw fail(`its package format ${major} is not supported`);

  const signatures = await readHeader(leadBytes, 'signatures');
  const signaturesEnd = leadBytes + signatures.bytes.length;
  // The signature header alone is filled up to a multiple of eight bytes.
  const header = await readHeader(signaturesEnd + ((8 - (signaturesEnd % 8)) % 8), 'header');
  const offset = signaturesEnd + ((8 - (signaturesEnd % 8)) % 8) + header.bytes.length;
  return { signatures, header, payload: { offset, size: end - offset } };

  async function readHeader(at: number, kind: 'header' | 'signatures'): Promise<RpmHeader> {
    const what = kind === 'header' ? 'its header' : 'its signature header';
    if (at + introBytes > end) throw fail(`${what} is cut off`);
    const intro = await readAt(handle, name, at, introBytes);
    if (!intro.subarray(0, 8).equals(headerMagic)) throw fail(`${what} is damaged: it has no magic number`);
    const count = intro.readUInt32BE(8);
    const size = introBytes + count * indexEntryBytes + intro.readUInt32BE(12);
    if (count > maxTags[kind]) throw fail(`${what} has more than ${maxTags[kind]} tags`);
    if (size > limit) throw fail(`${what} has more than ${limit} bytes`);
    if (at + size > end) throw fail(`${what} is cut off`);
    const bytes = await readAt(handle, name, at, size);
    return kind === 'header'
      ? new RpmHeader(bytes, { tag: tags.headerImmutable, whole: true }, what, fail)
      : new RpmHeader(bytes, { tag: tags.headerSignatures, whole: false }, what, fail);
  }
}
