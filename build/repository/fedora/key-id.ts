/**
 * The ID by which a signature names its key: the end of a fingerprint of version 4, the beginning of one of version 6
 * (RFC 9580, 5.5.4).
 *
 * @param fingerprint 40 or 64 hexadecimal digits
 * @returns 16 of them, as they are written there
 */
export function keyIdOf(fingerprint: string): string {
  return fingerprint.length === 40 ? fingerprint.slice(-16) : fingerprint.slice(0, 16);
}
