import { type ElfBytes, maximumPath, type Window } from './bytes.js';

/** Versions that an object needs from one file (Elf_Verneed; LSB core, symbol versioning). */
export interface NeededVersions {
  /** The DT_NEEDED name the versions come from. */
  readonly file: string;
  readonly versions: readonly { readonly name: string; readonly weak: boolean }[];
}

/** Records of one table; the chain offsets only go forward, so this and the file's size end every walk. */
const maximumRecords = 65_536;
const weakFlag = 2;

/** @param table from DT_VERNEED to the end of its segment */
export function readNeededVersions(bytes: ElfBytes, table: Window, strings: Window): NeededVersions[] {
  const needed: NeededVersions[] = [];
  const count = counter(bytes);
  for (let at = table.start; ;) {
    count();
    if (bytes.u16(at) !== 1) throw bytes.broken('a record of needed versions has an unknown format');
    const versions: { name: string; weak: boolean }[] = [];
    for (let aux = at + bytes.u32(at + 8); ;) {
      count();
      const name = bytes.string(strings, bytes.u32(aux + 8), maximumPath, 'the name of a needed version');
      versions.push({ name, weak: (bytes.u16(aux + 4) & weakFlag) !== 0 });
      const next = bytes.u32(aux + 12);
      if (next === 0) break;
      aux += next;
    }
    const file = bytes.string(strings, bytes.u32(at + 4), maximumPath, 'the file of a needed version');
    needed.push({ file, versions });
    const next = bytes.u32(at + 12);
    if (next === 0) return needed;
    at += next;
  }
}

/** Names of the versions an object defines (Elf_Verdef), its base version included. @param table from DT_VERDEF to the end of its segment */
export function readDefinedVersions(bytes: ElfBytes, table: Window, strings: Window): Set<string> {
  const defined = new Set<string>();
  const count = counter(bytes);
  for (let at = table.start; ;) {
    count();
    if (bytes.u16(at) !== 1) throw bytes.broken('a record of defined versions has an unknown format');
    // Only the first name is the version; those after it are the versions it follows.
    const aux = at + bytes.u32(at + 12);
    defined.add(bytes.string(strings, bytes.u32(aux), maximumPath, 'the name of a defined version'));
    const next = bytes.u32(at + 16);
    if (next === 0) return defined;
    at += next;
  }
}

function counter(bytes: ElfBytes): () => void {
  let count = 0;
  return () => {
    count += 1;
    if (count > maximumRecords) throw bytes.broken('its symbol versions are too many');
  };
}
