import { parseHeader } from '../elf/header.js';
import { parseElf } from '../elf/parse.js';
import { ToolError } from '../support/errors.js';
import type { FileRole } from './image-tree.js';

const elfMagic = Buffer.from('\x7fELF', 'latin1');

export function looksLikeElf(start: Buffer): boolean {
  return start.subarray(0, elfMagic.length).equals(elfMagic);
}

/**
 * What a file is by its content: a shared library is an ELF file of the type ET_DYN with a soname or the name of one
 * that is not marked as a program; every other ELF file that can be executed is a program, as is what begins with `#!`.
 *
 * @param bytes the whole file, or the beginning of one that is no ELF file or too large
 * @param name without directories
 */
export function fileRole(bytes: Buffer, name: string): FileRole {
  if (bytes.toString('latin1', 0, 2) === '#!') return 'program';
  if (!looksLikeElf(bytes)) return 'other';
  try {
    const { header, dynamic } = parseElf(bytes, name);
    if (header.type === 'executable' || dynamic?.pie === true) return 'program';
    return dynamic?.soname !== undefined || isLibraryName(name) ? 'library' : 'program';
  } catch (error) {
    if (!(error instanceof ToolError)) throw error;
    return roleByHeader(bytes, name);
  }
}

/** Of a damaged or huge file, and of object files and kernel modules, which nobody can run. */
function roleByHeader(bytes: Buffer, name: string): FileRole {
  try {
    const { type } = parseHeader(bytes, name);
    if (type === 'other') return 'other';
    return type === 'shared' && isLibraryName(name) ? 'library' : 'program';
  } catch (error) {
    if (!(error instanceof ToolError)) throw error;
    return 'other';
  }
}

function isLibraryName(name: string): boolean {
  return /\.so(?:\.[0-9A-Za-z_.-]+)?$/.test(name);
}
