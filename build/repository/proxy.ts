import { cannot } from '../support/errors.js';
import { tryUrl } from '../support/url.js';

/**
 * The proxy for a URL: http_proxy or https_proxy, else all_proxy; no_proxy is obeyed. Lower-case variables win over
 * upper-case ones, as in curl(1). `DIRECT` means none, as in apt.conf(5).
 *
 * @returns an http or https URL, or undefined for a direct connection
 * @throws ToolError when the proxy is of another kind
 */
export function proxyFor(
  url: URL,
  environment: Readonly<Record<string, string | undefined>>,
): URL | undefined {
  const variable = (name: string): string | undefined =>
    [environment[name], environment[name.toUpperCase()]].find((value) => value !== undefined && value !== '');
  const value = variable(`${url.protocol.slice(0, -1)}_proxy`) ?? variable('all_proxy');
  if (value === undefined || value.toUpperCase() === 'DIRECT') return undefined;
  if (isExempt(url, variable('no_proxy') ?? '')) return undefined;
  const proxy = tryUrl(/^[a-z][a-z0-9+.-]*:\/\//i.test(value) ? value : `http://${value}`);
  if (proxy === undefined || proxy.hostname === '') {
    throw cannot('use', 'the proxy', 'its address is not a URL', { hint: proxyHint });
  }
  if (proxy.protocol !== 'http:' && proxy.protocol !== 'https:') {
    throw cannot(
      'use',
      `the proxy ${proxy.protocol}//${proxy.host}`,
      'only http and https proxies are supported',
      {
        hint: proxyHint,
      },
    );
  }
  return proxy;
}

const proxyHint =
  'see http_proxy, https_proxy and all_proxy in the environment, and for Debian packages also Acquire::http::Proxy in the apt configuration';

/** no_proxy is a list of `host`, `.domain`, `*.domain`, each with an optional port, or `*`. */
function isExempt(url: URL, list: string): boolean {
  const host = url.hostname.toLowerCase();
  const port = url.port === '' ? (url.protocol === 'https:' ? '443' : '80') : url.port;
  return list
    .toLowerCase()
    .split(/[\s,]+/)
    .some((entry) => {
      if (entry === '*') return true;
      const found = /^(?:\*?\.)?(\[[^\]]*\]|[^:]+|[^[\]]*:[^[\]]*:[^[\]]*?)(?::([0-9]+))?$/.exec(entry);
      if (found?.[1] === undefined) return false;
      if (found[2] !== undefined && found[2] !== port) return false;
      const domain = found[1].includes(':') && !found[1].startsWith('[') ? `[${found[1]}]` : found[1];
      return host === domain || host.endsWith(`.${domain}`);
    });
}
