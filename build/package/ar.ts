import type { FileHandle } from 'node:fs/promises';
import { cannot } from '../support/errors.js';
import { readAt } from './bytes.js';

/** One member of an ar archive: where its bytes are, not the bytes. */
export interface ArMember {
  /** Without the trailing `/` of the System V spelling. */
  readonly name: string;
  /** Seconds since the epoch. */
  readonly mtime: number;
  /** Byte offset of the member's data in the file. */
  readonly offset: number;
  /** Bytes. */
  readonly size: number;
}

const magic = '!<arch>\n';
const headerBytes = 60;
/** A .deb has three members; the bound keeps a file of empty members from being walked for ever. */
const maxMembers = 64;

/**
 * Lists the members of an ar archive with short names, as in the container of a .deb (deb(5), ar(5)).
 * Reads the member headers alone.
 *
 * @param name what the file is called in error messages
 * @throws ToolError when the archive is damaged, truncated, or uses a long-name extension
 */
export async function readArMembers(handle: FileHandle, name: string): Promise<readonly ArMember[]> {
  const { size: end } = await handle.stat();
  const bad = (reason: string) => cannot('read', name, reason);
  if (end < magic.length) throw bad('it is too short to be a Debian package');
  if ((await readAt(handle, name, 0, magic.length)).toString('latin1') !== magic) {
    throw bad('it is no Debian package: the ar signature is missing');
  }

  const members: ArMember[] = [];
  for (let at = magic.length; at < end;) {
    if (members.length === maxMembers) throw bad(`it has more than ${maxMembers} ar members`);
    if (end - at < headerBytes) throw bad(`the ar header at byte ${at} is cut off`);
    const header = (await readAt(handle, name, at, headerBytes)).toString('latin1');
    if (header.slice(58) !== '`\n') throw bad(`the ar header at byte ${at} is damaged`);
    const member = {
      name: header.slice(0, 16).replace(/ +$/, '').replace(/\/$/, ''),
      mtime: decimal(header.slice(16, 28)),
      offset: at + headerBytes,
      size: decimal(header.slice(48, 58)),
    };
    if (!/^[!-.0-~]+$/.test(member.name) || member.name.startsWith('#1')) {
      throw bad(`the ar header at byte ${at} has no plain short name`);
    }
    if (member.mtime === undefined) throw bad(`the ar member ${member.name} has no valid time`);
    if (member.size === undefined) throw bad(`the ar member ${member.name} has no valid size`);
    at = member.offset + member.size;
    if (at > end) throw bad(`the ar member ${member.name} is cut off`);
    if (member.size % 2 === 1) {
      // Members begin at even offsets; ar(5) fills the gap with a newline.
      if (at === end) throw bad(`the padding of the ar member ${member.name} is cut off`);
      if ((await readAt(handle, name, at, 1))[0] !== 0x0a) {
        throw bad(`the padding of the ar member ${member.name} is damaged`);
      }
      at += 1;
    }
    members.push({ name: member.name, mtime: member.mtime, offset: member.offset, size: member.size });
  }
  return members;
}

/** Decimal digits, then spaces to the end of the field. At most 12 digits, so always exact. */
function decimal(field: string): number | undefined {
  return /^\d+ *$/.test(field) ? Number.parseInt(field, 10) : undefined;
}
