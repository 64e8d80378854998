/** An IPv4 address as a number from 0 to 2^32 - 1, or undefined when the text is none. */
export function parseAddress(text: string | undefined): number | undefined {
  const octets = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/
    .exec(text ?? '')
    ?.slice(1)
    .map(Number);
  if (octets === undefined || octets.some((octet) => octet > 255)) return undefined;
  return octets.reduce((address, octet) => address * 256 + octet, 0);
}

export function formatAddress(address: number): string {
  return [24, 16, 8, 0].map((shift) => Math.floor(address / 2 ** shift) % 256).join('.');
}

/** A block of addresses; `first` is its base, which the mask leaves as it is. */
export interface Network {
  readonly first: number;
  readonly last: number;
  /** Bits of the prefix, 0 to 32. */
  readonly length: number;
}

/** The network of an address. @param length bits of the prefix, 0 to 32 */
export function networkOf(address: number, length: number): Network {
  const size = 2 ** (32 - length);
  const first = address - (address % size);
  return { first, last: first + size - 1, length };
}

/** Bits of the prefix that a mask stands for; undefined for masks such as 255.0.255.0. */
export function lengthOf(mask: number): number | undefined {
  const length = 32 - Math.log2(2 ** 32 - mask);
  return Number.isInteger(length) ? length : undefined;
}

export function formatNetwork({ first, length }: Network): string {
  return `${formatAddress(first)}/${String(length)}`;
}

export function holds(
  { first, last }: { readonly first: number; readonly last: number },
  address: number,
): boolean {
  return first <= address && address <= last;
}
