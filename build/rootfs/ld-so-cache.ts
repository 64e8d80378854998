import { elfMachine } from '../elf/machine.js';
import type { Architecture } from '../support/architecture.js';
import { cannot, type ToolError } from '../support/errors.js';

/** A library as the loader is to find it. */
export interface CachedLibrary {
  /** Name that DT_NEEDED or dlopen asks for. */
  readonly soname: string;
  /** Path to open for it, absolute; links in it are followed when it is opened. */
  readonly path: string;
}

/** CACHEMAGIC_VERSION_NEW (glibc, sysdeps/generic/dl-cache.h); loaders read this format alone since glibc 2.2. */
const magic = 'glibc-ld.so.cache1.1';
const headerBytes = 48;
const entryBytes = 24;

/** FLAG_ELF_LIBC6 and the flag of the architecture's ABI (glibc, sysdeps/generic/ldconfig.h). */
const flags: Readonly<Record<Architecture, number>> = {
  x86_64: 0x0303,
  aarch64: 0x0a03,
  i686: 0x0003,
  // Hard float.
  armv7l: 0x0903,
  ppc64le: 0x0503,
  // Doubles in registers (lp64d).
  riscv64: 0x1003,
  s390x: 0x0403,
};

/** cache_file_new_flags_endian_little and _big; loaders before glibc 2.33 do not look at them. */
const byteOrders = { little: 2, big: 3 } as const;

/** INT_MAX: the loader reads each number in a name as an int. */
const largestNumber = 2 ** 31 - 1;
/** Far more than a closure can hold. */
const maximumLibraries = 100_000;

/**
 * /etc/ld.so.cache for some libraries, and only those: what the loader finds beyond its built-in directories. Of
 * libraries with one name the first counts, as ldconfig(8) prefers the earlier directory of ld.so.conf. The order
 * of the others makes no difference.
 *
 * @throws ToolError for a name that the loader could not look up, or a path that is not absolute
 */
export function ldSoCache(architecture: Architecture, libraries: readonly CachedLibrary[]): Buffer {
  if (libraries.length > maximumLibraries) throw cannotList('the libraries', 'they are too many');
  const paths = new Map<string, string>();
  for (const { soname, path } of libraries) {
    checkName(soname);
    if (!path.startsWith('/') || path.includes('\0')) throw cannotList(path, 'the path is not absolute');
    if (!paths.has(soname)) paths.set(soname, path);
  }
  // The loader's binary search wants the last name first.
  const entries = [...paths].sort(([a], [b]) => compareSonames(b, a));
  entries.forEach(([soname], index) => {
    const before = entries[index - 1]?.[0];
    if (before !== undefined && compareSonames(before, soname) === 0)
      throw cannotList(soname, `the loader takes the name for that of ${before}`);
  });

  const little = elfMachine(architecture).data === 'little';
  const tableAt = headerBytes + entries.length * entryBytes;
  const head = Buffer.alloc(tableAt);
  const u32 = (value: number, at: number): number =>
    little ? head.writeUInt32LE(value, at) : head.writeUInt32BE(value, at);
  const strings: Buffer[] = [];
  let end = tableAt;
  const string = (text: string): number => {
    const bytes = Buffer.from(`${text}\0`);
    strings.push(bytes);
    end += bytes.length;
    return end - bytes.length;
  };
  entries.forEach(([soname, path], index) => {
    const at = headerBytes + index * entryBytes;
    u32(flags[architecture], at);
    u32(string(soname), at + 4);
    u32(string(path), at + 8);
    // osversion and hwcap stay 0: for every kernel and processor.
  });
  head.write(magic, 'latin1');
  u32(entries.length, 20);
  u32(end - tableAt, 24);
  head[28] = byteOrders[little ? 'little' : 'big'];
  return Buffer.concat([head, ...strings]);
}

/**
 * The order of names in the cache (glibc, elf/dl-cache.c, _dl_cache_libcmp): byte by byte, but digits in both names
 * are compared as one number, and a digit comes after everything that is none.
 */
function compareSonames(a: string, b: string): number {
  let [atA, atB] = [0, 0];
  while (atA < a.length) {
    const [numberA, numberB] = [numberAt(a, atA), numberAt(b, atB)];
    if (numberA !== undefined && numberB !== undefined) {
      if (numberA.value !== numberB.value) return numberA.value - numberB.value;
      atA = numberA.end;
      atB = numberB.end;
      continue;
    }
    if (numberA !== undefined) return 1;
    if (numberB !== undefined) return -1;
    const difference = codeAt(a, atA) - codeAt(b, atB);
    if (difference !== 0) return difference;
    atA += 1;
    atB += 1;
  }
  return codeAt(a, atA) - codeAt(b, atB);
}

function numberAt(text: string, at: number): { readonly value: number; readonly end: number } | undefined {
  let end = at;
  while (end < text.length && isDigit(codeAt(text, end))) end += 1;
  return end === at ? undefined : { value: Number(text.slice(at, end)), end };
}

function isDigit(code: number): boolean {
  return code >= 0x30 && code <= 0x39;
}

/** Like a byte of a C string: 0 at its end. */
function codeAt(text: string, at: number): number {
  return at < text.length ? text.charCodeAt(at) : 0;
}

/** Bytes beyond ASCII and numbers beyond int are in another order on other processors. */
function checkName(soname: string): void {
  if (!/^[ -~]+$/.test(soname))
    throw cannotList(soname, 'its name holds more than printable ASCII characters');
  if (soname.includes('/')) throw cannotList(soname, 'a name with a slash is never looked for in it');
  for (const [digits] of soname.matchAll(/\d+/g)) {
    if (Number(digits) > largestNumber)
      throw cannotList(soname, `the loader cannot compare the number ${digits}`);
  }
}

function cannotList(object: string, reason: string): ToolError {
  return cannot('list', `${object} in /etc/ld.so.cache`, reason, {
    hint: 'take a package that brings the library into a directory of its own users (DT_RUNPATH) or of the loader',
  });
}
