import type { ElfBytes, Window } from './bytes.js';
import type { ElfClass } from './header.js';

/** Where the dynamic symbol table and what tells its length are; windows reach to the end of their segment. */
export interface SymbolTables {
  readonly symbols: Window;
  readonly strings: Window;
  /** DT_HASH, and the size of its words in bytes. */
  readonly hash: { readonly table: Window; readonly word: 4 | 8 } | undefined;
  /** DT_GNU_HASH. */
  readonly gnuHash: Window | undefined;
  readonly relocations: readonly RelocationTable[];
}

export interface RelocationTable {
  readonly table: Window;
  /** Bytes of one Elf_Rel or Elf_Rela. */
  readonly entrySize: number;
}

/** Whether the dynamic symbol table holds an undefined symbol of one of these names. */
export function importsAny(
  bytes: ElfBytes,
  elfClass: ElfClass,
  tables: SymbolTables,
  names: readonly string[],
): boolean {
  const wanted = names.map((name) => Buffer.from(name));
  const size = elfClass === 64 ? 24 : 16;
  const { symbols, strings } = tables;
  const room = Math.floor((symbols.end - symbols.start) / size);
  const count = Math.min(room, countSymbols(bytes, elfClass, tables));
  // Symbol 0 is reserved.
  for (let index = 1; index < count; index += 1) {
    const at = symbols.start + index * size;
    if (bytes.u16(at + (elfClass === 64 ? 6 : 14)) !== 0) continue;
    const name = bytes.u32(at);
    if (wanted.some((text) => bytes.stringEquals(strings, name, text))) return true;
  }
  return false;
}

/**
 * Number of dynamic symbols: no tag states it. DT_HASH has one chain entry a symbol. DT_GNU_HASH leads to the
 * last symbol, unless the object defines none: linkers then write an empty table that says nothing about the
 * imports, and the relocations have to tell which symbols are used.
 */
function countSymbols(bytes: ElfBytes, elfClass: ElfClass, tables: SymbolTables): number {
  if (tables.hash !== undefined) {
    const { table, word } = tables.hash;
    return word === 8 ? bytes.u64(table.start + 8) : bytes.u32(table.start + 4);
  }
  const hashed = tables.gnuHash === undefined ? 0 : countGnuHash(bytes, elfClass, tables.gnuHash);
  return hashed > 0 ? hashed : countRelocated(bytes, elfClass, tables.relocations);
}

/** Number of symbols according to DT_GNU_HASH, or 0 when its table is empty. */
function countGnuHash(bytes: ElfBytes, elfClass: ElfClass, table: Window): number {
  const buckets = bytes.u32(table.start);
  const offset = bytes.u32(table.start + 4);
  const bloom = bytes.u32(table.start + 8) * (elfClass / 8);
  const first = table.start + 16 + bloom;
  const chains = first + buckets * 4;
  if (chains > table.end) throw bytes.broken('its symbol hash table is longer than its segment');
  let last = 0;
  for (let at = first; at < chains; at += 4) last = Math.max(last, bytes.u32(at));
  if (last < offset || last === 0) return 0;
  // The lowest bit marks the end of a chain.
  while ((bytes.u32(chains + (last - offset) * 4) & 1) === 0) last += 1;
  return last + 1;
}

function countRelocated(
  bytes: ElfBytes,
  elfClass: ElfClass,
  relocations: readonly RelocationTable[],
): number {
  let last = 0;
  for (const { table, entrySize } of relocations) {
    for (let at = table.start; at + entrySize <= table.end; at += entrySize) {
      const symbol = elfClass === 64 ? Math.floor(bytes.u64(at + 8) / 2 ** 32) : bytes.u32(at + 4) >>> 8;
      last = Math.max(last, symbol);
    }
  }
  return last + 1;
}
