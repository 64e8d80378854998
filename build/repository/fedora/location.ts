import { tryUrl } from '../../support/url.js';

/**
 * Whether a location of repository metadata stays below the repository's base, with or without its percent signs
 * decoded: relative, without a scheme, a query or a component that climbs.
 *
 * @returns the location without components that mean nothing, or undefined
 */
export function safeLocation(location: string): string | undefined {
  if (location.length > 4096) return undefined;
  const decoded = decode(location);
  for (const spelling of [location, decoded]) {
    // eslint-disable-next-line no-control-regex -- control characters are what must not be in it
    if (spelling === undefined || /[\u0000-\u001f\u007f\\]/.test(spelling)) return undefined;
    if (spelling.startsWith('/') || /^[A-Za-z][A-Za-z0-9+.-]*:/.test(spelling)) return undefined;
    if (spelling.split('/').includes('..')) return undefined;
  }
  const parts = location.split('/').filter((part) => part !== '.');
  return parts.some((part) => part === '') ? undefined : parts.join('/');
}

function decode(location: string): string | undefined {
  try {
    return decodeURIComponent(location.replace(/%(?![0-9A-Fa-f]{2})/g, '%25'));
  } catch {
    return undefined; // not UTF-8
  }
}

/**
 * The URL of a location below a base. Percent-encoding that is there stays; what a URL cannot hold is encoded, and `+`
 * too: some object stores take it for a blank.
 *
 * @param base ends in a slash; may have a query, which is kept
 */
export function locate(base: string, location: string): string {
  const url = new URL(base);
  const path = encodeURI(location.replace(/%(?![0-9A-Fa-f]{2})/g, '%25')).replace(
    /%25(?=[0-9A-Fa-f]{2})/g,
    '%',
  );
  url.pathname += path.replace(/[?#+]/g, encodeURIComponent);
  return url.href;
}

/** Base URL of a repository with a slash at its end. @returns undefined unless it is http, https or file */
export function repositoryBase(written: string): string | undefined {
  const url = tryUrl(
    written.startsWith('/') ? `file://${encodeURI(written).replace(/[?#]/g, encodeURIComponent)}` : written,
  );
  if (url === undefined) return undefined;
  const isUsable =
    url.protocol === 'file:' ? url.host === '' : /^https?:$/.test(url.protocol) && url.host !== '';
  if (!isUsable) return undefined;
  url.hash = '';
  if (!url.pathname.endsWith('/')) url.pathname += '/';
  return url.href;
}
