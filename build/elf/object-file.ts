import { cannot, ToolError } from '../support/errors.js';
import type { LoaderFile } from './closure.js';
import { type ElfHeader, parseHeader } from './header.js';
import { type ElfFile, parseElf } from './parse.js';

/** A file read once: its header, and its content or what is wrong with it. */
export interface ParsedFile {
  readonly header: ElfHeader;
  readonly elf: ElfFile | ToolError;
}

/** Parsed files by real path; may outlive one closure as long as the files stay the same. */
export type ParsedFiles = Map<string, ParsedFile>;

/** EI_OSABI of System V and of GNU: the only ones glibc's loader accepts. */
const osAbis: ReadonlySet<number> = new Set([0, 3]);

/**
 * Reads a file, or gives what was read before.
 *
 * @throws ToolError when the file is not ELF at all
 */
export async function parseFile<Owner>(parsed: ParsedFiles, file: LoaderFile<Owner>): Promise<ParsedFile> {
  const known = parsed.get(file.path);
  if (known !== undefined) return known;
  const buffer = await file.read();
  const header = parseHeader(buffer, file.path);
  let elf: ElfFile | ToolError;
  try {
    elf = parseElf(buffer, file.path);
  } catch (error) {
    // A damaged file for another machine is passed over like a whole one.
    if (!(error instanceof ToolError)) throw error;
    elf = error;
  }
  const result = { header, elf };
  parsed.set(file.path, result);
  return result;
}

/** @throws ToolError when the loader refuses the object for its operating system */
export function checkOsAbi(header: ElfHeader, path: string): void {
  if (!osAbis.has(header.osabi)) {
    throw cannot('load', path, `it is for another operating system (ELF OS ABI ${header.osabi})`);
  }
}

/** @throws ToolError when an object cannot be loaded as a library */
export function checkLibrary(
  header: ElfHeader,
  elf: ElfFile,
  path: string,
  by: string,
  role: 'library' | 'dlopen',
): void {
  const needed = `and ${by} needs it as a library`;
  if (header.type === 'executable' || elf.dynamic?.pie === true) {
    throw cannot('load', path, `it is a program, ${needed}`);
  }
  if (elf.dynamic === undefined) throw cannot('load', path, `it has no dynamic section, ${needed}`);
  if (role === 'dlopen' && elf.dynamic.noDlopen)
    throw cannot('load', path, 'it refuses dlopen (DF_1_NOOPEN)');
}
