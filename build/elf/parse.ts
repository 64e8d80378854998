import { ElfBytes, maximumPath, type Window } from './bytes.js';
import { type DlopenNotes, type NoteSegment, readDlopenNotes } from './dlopen-note.js';
import { type ElfHeader, parseHeader } from './header.js';
import { importsAny, type RelocationTable } from './symbols.js';
import { type NeededVersions, readDefinedVersions, readNeededVersions } from './versions.js';

/** What a dynamic loader reads in one ELF file (gABI chapter 5, elf(5), ld.so(8)). */
export interface ElfFile {
  readonly header: ElfHeader;
  /** PT_INTERP. */
  readonly interpreter: string | undefined;
  /** Undefined for a file without PT_DYNAMIC: statically linked. */
  readonly dynamic: DynamicSection | undefined;
  readonly dlopen: DlopenNotes;
}

export interface DynamicSection {
  /** DT_NEEDED, DT_FILTER and DT_AUXILIARY in their order: the order in which they are loaded. */
  readonly dependencies: readonly Dependency[];
  readonly soname: string | undefined;
  /** DT_RPATH and DT_RUNPATH as written: `:`-separated, tokens unexpanded. */
  readonly rpath: string | undefined;
  readonly runpath: string | undefined;
  /** DT_AUDIT and DT_DEPAUDIT as written: `:`-separated names of audit modules. */
  readonly audit: string | undefined;
  readonly depaudit: string | undefined;
  /** DF_1_NODEFLIB: the default directories are not searched for its dependencies. */
  readonly noDefaultDirectories: boolean;
  /** DF_1_PIE: a program, though it is ET_DYN. */
  readonly pie: boolean;
  /** DF_1_NOOPEN: refuses dlopen. */
  readonly noDlopen: boolean;
  readonly neededVersions: readonly NeededVersions[];
  /** Undefined when the object has no symbol versions, which then satisfies every needed version. */
  readonly definedVersions: ReadonlySet<string> | undefined;
  /** Imports dlopen or dlmopen. */
  readonly callsDlopen: boolean;
}

export interface Dependency {
  readonly kind: 'needed' | 'filter' | 'auxiliary';
  readonly name: string;
}

const PT_LOAD = 1;
const PT_DYNAMIC = 2;
const PT_INTERP = 3;
const PT_NOTE = 4;
const EM_S390 = 22;
/** Dependencies of one object; the largest programs have a few hundred. */
const maximumDependencies = 4096;
/** Bytes of one DT_RPATH or DT_RUNPATH. */
const maximumSearchPath = 65_536;

const dependencyKinds = new Map<number, Dependency['kind']>([
  [1, 'needed'],
  [0x7fffffff, 'filter'],
  [0x7ffffffd, 'auxiliary'],
]);

/** Dynamic tags that are looked at (d_tag). */
const DT = {
  HASH: 4,
  STRTAB: 5,
  SYMTAB: 6,
  RELA: 7,
  RELASZ: 8,
  SONAME: 14,
  RPATH: 15,
  REL: 17,
  RELSZ: 18,
  PLTREL: 20,
  JMPREL: 23,
  PLTRELSZ: 2,
  RUNPATH: 29,
  GNU_HASH: 0x6ffffef5,
  DEPAUDIT: 0x6ffffefb,
  AUDIT: 0x6ffffefc,
  FLAGS_1: 0x6ffffffb,
  VERDEF: 0x6ffffffc,
  VERNEED: 0x6ffffffe,
} as const;

interface Segment {
  readonly type: number;
  readonly address: number;
  /** Part of the file that holds it. */
  readonly window: Window;
  readonly alignment: number;
}

/**
 * Reads an ELF file of either class and byte order from its program headers alone.
 *
 * @param name what messages call the file
 * @throws ToolError when the file is not ELF, not loadable, or damaged
 */
export function parseElf(buffer: Buffer, name: string): ElfFile {
  const header = parseHeader(buffer, name);
  const bytes = new ElfBytes(buffer, header.data, name);
  if (header.type === 'other') {
    throw bytes.broken('it is neither a program nor a shared library (ET_EXEC, ET_DYN)');
  }
  const segments = readSegments(bytes, header);
  const dynamic = segments.findLast((segment) => segment.type === PT_DYNAMIC);
  const notes = segments
    .filter((segment) => segment.type === PT_NOTE)
    .map(({ window, alignment }): NoteSegment => ({ window, alignment: alignment === 8 ? 8 : 4 }));
  return {
    header,
    interpreter: readInterpreter(bytes, segments),
    dynamic: dynamic === undefined ? undefined : readDynamic(bytes, header, segments, dynamic),
    dlopen: readDlopenNotes(bytes, notes),
  };
}

function readSegments(bytes: ElfBytes, header: ElfHeader): Segment[] {
  const segments: Segment[] = [];
  const wide = header.class === 64;
  const { offset, size, count } = header.programHeaders;
  if (count > 0 && size !== (wide ? 56 : 32)) {
    throw bytes.broken(`its program headers have the wrong size of ${size} bytes`);
  }
  // PN_XNUM moves the count into the section headers; no loader follows it there.
  if (count === 0xffff) throw bytes.broken('it has too many program headers');
  for (let index = 0; index < count; index += 1) {
    const at = offset + index * size;
    const word = (place: number): number => (wide ? bytes.u64(at + place * 8) : bytes.u32(at + place * 4));
    segments.push({
      type: bytes.u32(at),
      window: bytes.window(word(1), word(4)),
      address: word(2),
      alignment: wide ? word(6) : word(7),
    });
  }
  return segments;
}

/** The kernel reads PT_INTERP by file offset and takes the first. */
function readInterpreter(bytes: ElfBytes, segments: readonly Segment[]): string | undefined {
  const segment = segments.find(({ type }) => type === PT_INTERP);
  return segment && bytes.string(segment.window, 0, maximumPath - 1, 'the path of its loader');
}

/** The loader finds everything by address, through the segments it has mapped. */
function locate(segments: readonly Segment[], address: number): Window | undefined {
  const holder = segments.findLast(
    ({ type, window, address: start }) =>
      type === PT_LOAD && address >= start && address < start + (window.end - window.start),
  );
  return holder && { start: holder.window.start + (address - holder.address), end: holder.window.end };
}

function readDynamic(
  bytes: ElfBytes,
  header: ElfHeader,
  segments: readonly Segment[],
  segment: Segment,
): DynamicSection {
  if (segment.window.end === segment.window.start) {
    throw bytes.broken('its dynamic section is empty: it is a file of debug information');
  }
  const table = locate(segments, segment.address);
  if (table === undefined) throw bytes.broken('its dynamic section is in no segment that is loaded');

  // As in the loader, the last entry of a tag holds.
  const last = new Map<number, number>();
  const dependencies: { kind: Dependency['kind']; value: number }[] = [];
  const half = header.class / 8;
  for (let at = table.start; at + 2 * half <= table.end; at += 2 * half) {
    const tag = half === 8 ? bytes.u64(at) : bytes.u32(at);
    if (tag === 0) break;
    const value = half === 8 ? bytes.u64(at + half) : bytes.u32(at + half);
    const kind = dependencyKinds.get(tag);
    if (kind !== undefined) dependencies.push({ kind, value });
    else if (wantedTags.has(tag)) last.set(tag, value);
    if (dependencies.length > maximumDependencies) throw bytes.broken('it needs too many libraries');
  }

  const at = (tag: number, what: string): Window | undefined => {
    const address = last.get(tag);
    if (address === undefined) return undefined;
    const window = locate(segments, address);
    if (window === undefined) throw bytes.broken(`${what} is in no segment that is loaded`);
    return window;
  };
  const strings = at(DT.STRTAB, 'its string table') ?? { start: 0, end: 0 };
  const text = (tag: number, limit: number, what: string): string | undefined => {
    const value = last.get(tag);
    return value === undefined ? undefined : bytes.string(strings, value, limit, what);
  };
  const neededVersions = at(DT.VERNEED, 'its table of needed versions');
  const definedVersions = at(DT.VERDEF, 'its table of defined versions');
  const flags = last.get(DT.FLAGS_1) ?? 0;
  return {
    dependencies: dependencies.map(({ kind, value }) => ({
      kind,
      name: bytes.string(strings, value, maximumPath, 'the name of a needed library'),
    })),
    soname: text(DT.SONAME, maximumPath, 'its soname'),
    rpath: text(DT.RPATH, maximumSearchPath, 'its DT_RPATH'),
    runpath: text(DT.RUNPATH, maximumSearchPath, 'its DT_RUNPATH'),
    audit: text(DT.AUDIT, maximumSearchPath, 'its DT_AUDIT'),
    depaudit: text(DT.DEPAUDIT, maximumSearchPath, 'its DT_DEPAUDIT'),
    noDlopen: (flags & 0x40) !== 0,
    noDefaultDirectories: (flags & 0x800) !== 0,
    pie: (flags & 0x08000000) !== 0,
    neededVersions: neededVersions === undefined ? [] : readNeededVersions(bytes, neededVersions, strings),
    definedVersions: definedVersions && readDefinedVersions(bytes, definedVersions, strings),
    callsDlopen: callsDlopen(bytes, header, last, at, strings),
  };
}

const wantedTags: ReadonlySet<number> = new Set(Object.values(DT));

function callsDlopen(
  bytes: ElfBytes,
  header: ElfHeader,
  tags: ReadonlyMap<number, number>,
  at: (tag: number, what: string) => Window | undefined,
  strings: Window,
): boolean {
  const symbols = at(DT.SYMTAB, 'its symbol table');
  if (symbols === undefined) return false;
  const hash = at(DT.HASH, 'its symbol hash table');
  const rel = header.class / 4;
  const rela = rel + header.class / 8;
  const relocations: RelocationTable[] = [];
  for (const [start, size, entrySize] of [
    [DT.RELA, DT.RELASZ, rela],
    [DT.REL, DT.RELSZ, rel],
    [DT.JMPREL, DT.PLTRELSZ, tags.get(DT.PLTREL) === DT.REL ? rel : rela],
  ] as const) {
    const length = tags.get(size) ?? 0;
    const window = length === 0 ? undefined : at(start, 'a relocation table');
    if (window === undefined) continue;
    relocations.push({
      table: { start: window.start, end: Math.min(window.end, window.start + length) },
      entrySize,
    });
  }
  return importsAny(
    bytes,
    header.class,
    {
      symbols,
      strings,
      // The words of DT_HASH are 32 bits wide everywhere but on 64-bit s390 (and Alpha).
      hash: hash && { table: hash, word: header.machine === EM_S390 && header.class === 64 ? 8 : 4 },
      gnuHash: at(DT.GNU_HASH, 'its symbol hash table'),
      relocations,
    },
    ['dlopen', 'dlmopen'],
  );
}
