import { parseElf } from '../../elf/parse.js';

/**
 * Debian's programs made to look for things where Fedora's do. Only constants of the same or smaller size are
 * changed; code stays as Debian built it.
 */

/**
 * Gives the dynamic loader Fedora's default directories, `/lib64` and `/usr/lib64`. Debian's has four, in glibc's
 * `system_dirs` (elf/dl-load.c): strings one after the other, whose lengths are constants in the code. So each is
 * replaced by a spelling of the same length: slashes follow, which a path may have as many of as it likes, and the two
 * that Fedora does not have become a directory without libraries.
 *
 * @throws Error when this loader is made in another way
 */
export function withFedoraDirectories(loader: Buffer): Buffer {
  const patched = Buffer.from(loader);
  // They are there once more for `ld.so --list-diagnostics`.
  const places = allMatches(
    loader,
    /\/lib\/[a-z0-9_]+-linux-gnu\/\0\/usr\/lib\/[^\0]+\/\0\/lib\/\0\/usr\/lib\/\0/g,
  );
  if (places.length === 0) throw new Error('the loader does not hold the default directories of Debian');
  for (const { at, text } of places) {
    const [first = '', second = '', third = '', fourth = ''] = text.split('\0');
    const wanted = [
      '/lib64'.padEnd(first.length, '/'),
      '/usr/lib64'.padEnd(second.length, '/'),
      '/dev'.padEnd(third.length, '/'),
      '/dev'.padEnd(fourth.length, '/'),
    ];
    patched.write(wanted.join('\0'), at, 'latin1');
  }
  return patched;
}

/**
 * Gives dhcpd Fedora's lease file, one character longer than Debian's. The path of the process id file stands right
 * before it and makes room: `/run` is what `/var/run` leads to.
 *
 * @throws Error when this dhcpd is made in another way
 */
export function withFedoraLeases(dhcpd: Buffer): Buffer {
  const old = onlyMatch(dhcpd, /(?<=\0)\/var\/run\/dhcpd\.pid\0+\/var\/lib\/dhcp\/dhcpd\.leases\0/g);
  const oldLeases = old.at + old.text.indexOf('/var/lib');
  const wanted = '/run/dhcpd.pid\0/var/lib/dhcpd/dhcpd.leases\0';
  const patched = Buffer.from(dhcpd);
  patched.fill(0, old.at, old.at + old.text.length);
  patched.write(wanted, old.at, 'latin1');
  // File offsets are addresses in the segments before the writable ones. The pointer to the string is a variable's
  // initial value and, above all, the addend of the relocation that sets it.
  const pointers = allMatches(dhcpd, new RegExp(escaped(pointer(oldLeases)), 'g')).filter(
    ({ at }) => at % 8 === 0,
  );
  if (pointers.length === 0) throw new Error('nothing in dhcpd points to the path of its lease file');
  for (const { at } of pointers) pointer(old.at + wanted.indexOf('/var/lib')).copy(patched, at);
  return patched;
}

/** Sonames that a file asks for, and its own. */
export interface LinkNames {
  readonly soname: string | undefined;
  readonly needed: readonly string[];
}

/** @returns undefined for what is not a dynamically linked ELF file */
export function linkNames(bytes: Buffer, path: string): LinkNames | undefined {
  if (bytes.subarray(0, 4).toString('latin1') !== '\x7fELF') return undefined;
  const { dynamic } = parseElf(bytes, path);
  if (dynamic === undefined) return undefined;
  return { soname: dynamic.soname, needed: dynamic.dependencies.map(({ name }) => name) };
}

interface Match {
  readonly at: number;
  readonly text: string;
}

function allMatches(bytes: Buffer, pattern: RegExp): readonly Match[] {
  // One character is one byte.
  return [...bytes.toString('latin1').matchAll(pattern)].map((match) => ({
    at: match.index,
    text: match[0],
  }));
}

function onlyMatch(bytes: Buffer, pattern: RegExp): Match {
  const [match, ...more] = allMatches(bytes, pattern);
  if (match === undefined || more.length > 0) {
    throw new Error(
      `${more.length + (match === undefined ? 0 : 1)} places match ${String(pattern)}, one is expected`,
    );
  }
  return match;
}

function pointer(value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
}

function escaped(bytes: Buffer): string {
  return [...bytes].map((byte) => `\\x${byte.toString(16).padStart(2, '0')}`).join('');
}
