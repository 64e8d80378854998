/** Orders strings by their UTF-8 bytes, whatever the locale: the order of every sorted output. */
export function compareBytes(a: string, b: string): number {
  return Buffer.compare(Buffer.from(a), Buffer.from(b));
}
