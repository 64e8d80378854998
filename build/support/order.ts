/** Orders strings by their UTF-8 bytes, whatever the locale: the order of every sorted output. */
export function compareBytes(a: string, b: string): number {
  return Buffer.compare(Buffer.from(a), Buffer.from(b));
}

/**
 * Orders paths component by component, each by its bytes: a directory comes directly before all that it holds, as
 * in a walk of the tree. Plain byte order would put `a-b` between `a` and `a/b`.
 */
export function comparePaths(a: string, b: string): number {
  return compareBytes(a.replaceAll('/', '\0'), b.replaceAll('/', '\0'));
}
