/** A URL, or undefined when the text is none. */
export function tryUrl(text: string, base?: string): URL | undefined {
  try {
    return new URL(text, base);
  } catch {
    return undefined;
  }
}

/** A URL, or what was meant to be one, fit for messages: no password, and no query, which may hold a token. */
export function shownUrl(address: string): string {
  const url = tryUrl(address);
  const isAddress =
    url !== undefined && (url.host !== '' || url.protocol === 'file:' || url.protocol === 'copy:');
  if (!isAddress) return address.replace(/[?#].*/s, '').replace(/^([a-z][a-z0-9+.-]*:)?(\/\/)?.*@/is, '$1$2');
  url.username = '';
  url.password = '';
  url.search = '';
  url.hash = '';
  return url.href;
}
