import type { Endianness } from '../../build/elf/bytes.js';
import type { ElfClass } from '../../build/elf/header.js';

/** What a hand-made ELF file holds; everything but the first five is left out unless given. */
export interface ElfRecipe {
  readonly class: ElfClass;
  readonly data: Endianness;
  readonly machine: number;
  readonly type: number;
  readonly flags?: number;
  readonly osabi?: number;
  readonly interpreter?: string;
  /** Dynamic tags that hold a string, in their order. */
  readonly strings?: readonly (readonly [tag: number, text: string])[];
  /** Dynamic tags that hold a number. */
  readonly numbers?: readonly (readonly [tag: number, value: number])[];
  /** Undefined symbols, and what tells their number: DT_HASH unless given; an empty DT_GNU_HASH tells nothing. */
  readonly imports?: readonly string[];
  readonly symbolCount?: 'hash' | 'gnu-hash' | 'relocations';
  readonly neededVersions?: readonly { readonly file: string; readonly versions: readonly string[] }[];
  readonly definedVersions?: readonly string[];
  readonly notes?: readonly { readonly owner: string; readonly type: number; readonly text: string }[];
  /** False: no PT_DYNAMIC at all. */
  readonly dynamic?: boolean;
}

export const tag = {
  NEEDED: 1,
  SONAME: 14,
  RPATH: 15,
  RUNPATH: 29,
  FLAGS_1: 0x6ffffffb,
  DEPAUDIT: 0x6ffffefb,
  AUDIT: 0x6ffffefc,
  AUXILIARY: 0x7ffffffd,
  FILTER: 0x7fffffff,
} as const;

/** Address of the file's first byte in memory: other than 0, so that addresses and offsets differ. */
const base = 0x10000;

/** Builds an ELF file without section headers, byte by byte (gABI). */
export function buildElf(recipe: ElfRecipe): Buffer {
  const wide = recipe.class === 64;
  const little = recipe.data === 'little';
  const u16 = (value: number): Buffer => {
    const bytes = Buffer.alloc(2);
    if (little) bytes.writeUInt16LE(value);
    else bytes.writeUInt16BE(value);
    return bytes;
  };
  const u32 = (value: number): Buffer => {
    const bytes = Buffer.alloc(4);
    if (little) bytes.writeUInt32LE(value);
    else bytes.writeUInt32BE(value);
    return bytes;
  };
  const u64 = (value: number): Buffer => {
    const bytes = Buffer.alloc(8);
    if (little) bytes.writeBigUInt64LE(BigInt(value));
    else bytes.writeBigUInt64BE(BigInt(value));
    return bytes;
  };
  const word = wide ? u64 : u32;
  const hashWord = wide && recipe.machine === 22 ? u64 : u32;

  const strings: Buffer[] = [Buffer.from([0])];
  let stringsLength = 1;
  const string = (text: string): number => {
    const bytes = Buffer.from(`${text}\0`);
    strings.push(bytes);
    stringsLength += bytes.length;
    return stringsLength - bytes.length;
  };

  const headerSize = wide ? 64 : 52;
  const programHeaderSize = wide ? 56 : 32;
  const hasDynamic = recipe.dynamic !== false;
  const programHeaders =
    1 +
    (recipe.interpreter === undefined ? 0 : 1) +
    (recipe.notes === undefined ? 0 : 1) +
    (hasDynamic ? 1 : 0);
  const body: Buffer[] = [];
  let offset = headerSize + programHeaders * programHeaderSize;
  const place = (bytes: Buffer): number => {
    const padding = (8 - (offset % 8)) % 8;
    body.push(Buffer.alloc(padding), bytes);
    const at = offset + padding;
    offset = at + bytes.length;
    return at;
  };

  const dynamic: (readonly [number, number])[] = [
    ...(recipe.strings ?? []).map(([key, text]) => [key, string(text)] as const),
    ...(recipe.numbers ?? []),
  ];
  const segments: { type: number; offset: number; size: number; align: number }[] = [];
  if (recipe.interpreter !== undefined) {
    const bytes = Buffer.from(`${recipe.interpreter}\0`);
    segments.push({ type: 3, offset: place(bytes), size: bytes.length, align: 1 });
  }
  if (recipe.notes !== undefined) {
    const bytes = Buffer.concat(
      recipe.notes.flatMap(({ owner, type, text }) => {
        const name = Buffer.from(`${owner}\0`);
        const description = Buffer.from(`${text}\0`);
        return [u32(name.length), u32(description.length), u32(type), pad4(name), pad4(description)];
      }),
    );
    segments.push({ type: 4, offset: place(bytes), size: bytes.length, align: 4 });
  }
  if (recipe.imports !== undefined) {
    const symbol = (name: number): Buffer =>
      wide
        ? Buffer.concat([u32(name), Buffer.from([name === 0 ? 0 : 0x12, 0]), u16(0), u64(0), u64(0)])
        : Buffer.concat([u32(name), u32(0), u32(0), Buffer.from([name === 0 ? 0 : 0x12, 0]), u16(0)]);
    const names = recipe.imports.map(string);
    dynamic.push([6, base + place(Buffer.concat([symbol(0), ...names.map(symbol)]))], [11, wide ? 24 : 16]);
    const count = names.length + 1;
    if ((recipe.symbolCount ?? 'hash') === 'hash') {
      const table = [1, count, 0, ...Array.from({ length: count }, () => 0)];
      dynamic.push([4, base + place(Buffer.concat(table.map(hashWord)))]);
    } else {
      // The empty table of GNU ld: one bucket, first hashed symbol 1, one word of filter.
      dynamic.push([
        0x6ffffef5,
        base + place(Buffer.concat([u32(1), u32(1), u32(1), u32(0), word(0), u32(0)])),
      ]);
    }
    if (recipe.symbolCount === 'relocations') {
      const entries = names.map((_, index) =>
        wide
          ? Buffer.concat([u64(base), u64((index + 1) * 2 ** 32 + 7), u64(0)])
          : Buffer.concat([u32(base), u32((index + 1) * 256 + 7)]),
      );
      const table = Buffer.concat(entries);
      dynamic.push([23, base + place(table)], [2, table.length], [20, wide ? 7 : 17]);
    }
  }
  if (recipe.neededVersions !== undefined) {
    const records = recipe.neededVersions.map(({ file, versions }, index, all) => {
      const next = index === all.length - 1 ? 0 : 16 + versions.length * 16;
      const aux = versions.map((name, place, names) =>
        Buffer.concat([
          u32(0),
          u16(0),
          u16(place + 2),
          u32(string(name)),
          u32(place === names.length - 1 ? 0 : 16),
        ]),
      );
      return Buffer.concat([u16(1), u16(versions.length), u32(string(file)), u32(16), u32(next), ...aux]);
    });
    dynamic.push([0x6ffffffe, base + place(Buffer.concat(records))], [0x6fffffff, records.length]);
  }
  if (recipe.definedVersions !== undefined) {
    const records = recipe.definedVersions.map((name, index, all) =>
      Buffer.concat([
        ...[u16(1), u16(index === 0 ? 1 : 0), u16(index + 1), u16(1), u32(0), u32(20)],
        ...[u32(index === all.length - 1 ? 0 : 28), u32(string(name)), u32(0)],
      ]),
    );
    dynamic.push([0x6ffffffc, base + place(Buffer.concat(records))], [0x6ffffffd, records.length]);
  }
  if (hasDynamic) {
    dynamic.push([5, base + place(Buffer.concat(strings))], [10, stringsLength], [0, 0]);
    const bytes = Buffer.concat(dynamic.flatMap(([key, value]) => [word(key), word(value)]));
    segments.push({ type: 2, offset: place(bytes), size: bytes.length, align: 8 });
  }
  segments.unshift({ type: 1, offset: 0, size: offset, align: 0x1000 });

  const table = segments.map(({ type, offset: at, size, align }) =>
    Buffer.concat(
      wide
        ? [u32(type), u32(5), u64(at), u64(base + at), u64(base + at), u64(size), u64(size), u64(align)]
        : [u32(type), u32(at), u32(base + at), u32(base + at), u32(size), u32(size), u32(5), u32(align)],
    ),
  );
  const header = Buffer.concat([
    Buffer.from([0x7f, 0x45, 0x4c, 0x46, wide ? 2 : 1, little ? 1 : 2, 1, recipe.osabi ?? 0]),
    Buffer.alloc(8),
    ...[u16(recipe.type), u16(recipe.machine), u32(1), word(0), word(headerSize), word(0)],
    ...[u32(recipe.flags ?? 0), u16(headerSize), u16(programHeaderSize), u16(segments.length)],
    ...[u16(0), u16(0), u16(0)],
  ]);
  return Buffer.concat([header, ...table, ...body]);
}

function pad4(bytes: Buffer): Buffer {
  return Buffer.concat([bytes, Buffer.alloc((4 - (bytes.length % 4)) % 4)]);
}
