import { cannot } from '../support/errors.js';
import { ElfBytes, type Endianness } from './bytes.js';

/** Size of addresses: ELFCLASS32 or ELFCLASS64. */
export type ElfClass = 32 | 64;

/** The ELF header (gABI chapter 4, elf(5)), as far as a loader looks at it. */
export interface ElfHeader {
  readonly class: ElfClass;
  readonly data: Endianness;
  /** EI_OSABI. */
  readonly osabi: number;
  /** ET_EXEC or ET_DYN; `other` cannot be loaded. */
  readonly type: 'executable' | 'shared' | 'other';
  /** EM_*. */
  readonly machine: number;
  /** Processor-specific e_flags. */
  readonly flags: number;
  /** File offset of the program headers, bytes of each, and their number. */
  readonly programHeaders: { readonly offset: number; readonly size: number; readonly count: number };
}

const types = new Map<number, ElfHeader['type']>([
  [2, 'executable'],
  [3, 'shared'],
]);

/**
 * Reads the ELF header. Section headers are never looked at: stripped files lack them.
 *
 * @param name what messages call the file
 * @throws ToolError when the file is no ELF file or its header is damaged
 */
export function parseHeader(buffer: Buffer, name: string): ElfHeader {
  if (buffer.toString('latin1', 0, 4) !== '\x7fELF') throw cannot('read', name, describeOther(buffer));
  const ident = new ElfBytes(buffer, 'little', name);
  const classes = new Map<number, ElfClass>([
    [1, 32],
    [2, 64],
  ]);
  const orders = new Map<number, Endianness>([
    [1, 'little'],
    [2, 'big'],
  ]);
  const elfClass = classes.get(ident.u8(4));
  const data = orders.get(ident.u8(5));
  if (elfClass === undefined) throw ident.broken(`its ELF class ${ident.u8(4)} does not exist`);
  if (data === undefined) throw ident.broken(`its byte order ${ident.u8(5)} does not exist`);
  if (ident.u8(6) !== 1) throw ident.broken(`its ELF version ${ident.u8(6)} is not known`);

  const bytes = new ElfBytes(buffer, data, name);
  const wide = elfClass === 64;
  return {
    class: elfClass,
    data,
    osabi: bytes.u8(7),
    type: types.get(bytes.u16(16)) ?? 'other',
    machine: bytes.u16(18),
    flags: bytes.u32(wide ? 48 : 36),
    programHeaders: {
      offset: wide ? bytes.u64(32) : bytes.u32(28),
      size: bytes.u16(wide ? 54 : 42),
      count: bytes.u16(wide ? 56 : 44),
    },
  };
}

function describeOther(buffer: Buffer): string {
  if (buffer.length === 0) return 'it is empty';
  const firstLine = /^#! *([^\n]{1,200})/.exec(buffer.toString('utf8', 0, 256))?.[1];
  if (firstLine !== undefined) {
    return `it is a script for ${firstLine.trim()}, not an ELF program: an image from nothing has no interpreter for it`;
  }
  return 'it is not an ELF file';
}
