import type { Keyring } from '../signature.js';
import { cannot } from '../../support/errors.js';
import type { Log } from '../../support/log.js';
import { shownUrl } from '../../support/url.js';
import { parseStanzas, type Stanza } from './deb822.js';

/** One suite of one archive, as the host's apt or the command line names it. */
export interface Source {
  /** Base of the archive with a slash at its end: http, https or file. */
  readonly uri: string;
  /** Suite or codename such as `bookworm-security`; ends with a slash for an archive without dists/ (flat). */
  readonly suite: string;
  /** Empty for a flat archive. */
  readonly components: readonly string[];
  /** Debian architecture names it is limited to, or undefined. */
  readonly architectures: readonly string[] | undefined;
  readonly keyring: Keyring;
  /** `yes`: use it unverified; `no`: never trust it; undefined: its signature decides. */
  readonly trusted: boolean | undefined;
  readonly checks: DateChecks;
  readonly byHash: 'yes' | 'no' | 'force';
  /** The build can do without it when the archive does not have it. */
  readonly optional: boolean;
  /** Where it was configured, such as `/etc/apt/sources.list:3`. */
  readonly configuredAt: string;
}

/** apt.conf(5) Acquire group: which times of a Release are looked at. Times in seconds. */
export interface DateChecks {
  readonly validUntil: boolean;
  readonly date: boolean;
  readonly minValid: number | undefined;
  readonly maxValid: number | undefined;
  readonly maxFuture: number;
}

/** What apt's configuration says for sources that do not say it themselves. */
export interface SourceDefaults {
  readonly keyrings: readonly string[];
  readonly checks: DateChecks;
  readonly byHash: 'yes' | 'no' | 'force';
}

/** Options by their deb822 field name, lower case; several values separated by blanks. */
type Options = ReadonlyMap<string, string>;

/** The names of sources.list(5) options in the one-line format, where they differ from the field's. */
const oneLineNames = new Map([['arch', 'architectures']]);

/** Parses a one-line-style `.list` file (sources.list(5)). @throws ToolError with file and line */
export function parseList(text: string, file: string, defaults: SourceDefaults, log: Log): readonly Source[] {
  return text.split('\n').flatMap((raw, index) => {
    const where = `${file}:${index + 1}`;
    const line = stripComment(raw).trim();
    if (line === '') return [];
    const match = /^(deb|deb-src)\s+(?:\[([^\]]*)\]\s*)?(.*)$/.exec(line);
    const [, type, bracket = '', rest = ''] = match ?? [];
    if (type === undefined) throw malformed(where, 'it begins with neither deb nor deb-src');
    if (type === 'deb-src') return [];
    // A cdrom URI holds its label in brackets, blanks included.
    const words =
      rest.match(/(?:\[[^\]]*\]|"[^"]*"|[^\s["])+/g)?.map((word) => word.replaceAll('"', '')) ?? [];
    const [uri, suite, ...components] = words;
    if (uri === undefined || suite === undefined) throw malformed(where, 'URI and suite are needed');
    return makeSources([uri], [suite], components, parseBracket(bracket, where), where, defaults, log);
  });
}

function stripComment(line: string): string {
  const hash = line.indexOf('#');
  if (hash < 0) return line;
  const open = line.indexOf('[');
  const close = line.indexOf(']');
  return open >= 0 && open < hash && hash < close
    ? line.slice(0, close) + stripComment(line.slice(close))
    : line.slice(0, hash);
}

function parseBracket(bracket: string, where: string): Options {
  const options = new Map<string, string>();
  for (const word of bracket.split(/\s+/).filter((part) => part !== '')) {
    const match = /^([A-Za-z-]+?)([+-]?)=(.+)$/.exec(word);
    const [, name, modifier, value] = match ?? [];
    if (name === undefined || value === undefined) {
      throw malformed(where, `${JSON.stringify(word)} is not an option`);
    }
    const field = oneLineNames.get(name.toLowerCase()) ?? name.toLowerCase();
    const suffix = modifier === '+' ? '-add' : modifier === '-' ? '-remove' : '';
    options.set(field + suffix, value.replaceAll(',', ' '));
  }
  return options;
}

/** Parses a deb822-style `.sources` file (sources.list(5)). @throws ToolError with file and line */
export function parseSources(
  text: string,
  file: string,
  defaults: SourceDefaults,
  log: Log,
): readonly Source[] {
  return parseStanzas(text, file, { comments: true }).flatMap(({ fields, line }) => {
    const where = `${file}:${line}`;
    const options = lowerCase(fields);
    if (options.get('enabled') !== undefined && !yes(options, 'enabled', where, true)) return [];
    const types = words(options.get('types'));
    if (types.length === 0) throw malformed(where, 'the field Types is missing');
    const wrong = types.find((type) => type !== 'deb' && type !== 'deb-src');
    if (wrong !== undefined) throw malformed(where, `the type ${JSON.stringify(wrong)} is not known`);
    if (!types.includes('deb')) return [];
    const uris = words(options.get('uris'));
    const suites = words(options.get('suites'));
    if (uris.length === 0) throw malformed(where, 'the field URIs is missing');
    if (suites.length === 0) throw malformed(where, 'the field Suites is missing');
    return makeSources(uris, suites, words(options.get('components')), options, where, defaults, log);
  });
}

function lowerCase(fields: Stanza): Options {
  return new Map([...fields].map(([name, value]) => [name.toLowerCase(), value]));
}

function makeSources(
  uris: readonly string[],
  suites: readonly string[],
  components: readonly string[],
  options: Options,
  where: string,
  defaults: SourceDefaults,
  log: Log,
): Source[] {
  const trusted = options.has('trusted') ? yes(options, 'trusted', where, false) : undefined;
  for (const name of ['allow-insecure', 'allow-weak', 'allow-downgrade-to-insecure']) {
    if (yes(options, name, where, false))
      log.warn(`${where}: ${name} is ignored, signatures are always checked`);
  }
  const architectures = architecturesOf(options);
  const keyring = options.has('signed-by')
    ? parseSignedBy(options.get('signed-by') ?? '', where, defaults)
    : { files: defaults.keyrings, blocks: [], fingerprints: [] };
  const date = yes(options, 'check-date', where, defaults.checks.date);
  const checks: DateChecks = {
    date,
    // sources.list(5): without Check-Date there is no Check-Valid-Until.
    validUntil: date && yes(options, 'check-valid-until', where, defaults.checks.validUntil),
    minValid: seconds(options, 'valid-until-min', where) ?? defaults.checks.minValid,
    maxValid: seconds(options, 'valid-until-max', where) ?? defaults.checks.maxValid,
    maxFuture: seconds(options, 'date-max-future', where) ?? defaults.checks.maxFuture,
  };
  const sources: Source[] = [];
  for (const written of uris) {
    const uri = archiveUri(written, where, log);
    if (uri === undefined) continue;
    if (trusted === true)
      log.warn(`${where}: trusted=yes, so signatures of ${shownUrl(uri)} are not checked`);
    for (const suite of suites) {
      const flat = suite.endsWith('/');
      if (flat && components.length > 0) throw malformed(where, `the suite ${suite} takes no components`);
      if (!flat && components.length === 0) throw malformed(where, `the suite ${suite} needs a component`);
      const path = suite.replaceAll('$(ARCH)', 'ARCH');
      if (!isSuite(path)) throw malformed(where, `the suite ${JSON.stringify(suite)} is not a relative path`);
      const component = components.find((name) => !isSuite(name));
      if (component !== undefined) {
        throw malformed(where, `the component ${JSON.stringify(component)} is not a relative path`);
      }
      sources.push({
        uri,
        suite,
        components,
        architectures,
        keyring,
        trusted,
        checks,
        byHash: byHash(options, where, defaults),
        optional: false,
        configuredAt: where,
      });
    }
  }
  return sources;
}

/** `APT::Architectures` is the default, which an image's architecture need not be in: only an explicit list limits. */
function architecturesOf(options: Options): readonly string[] | undefined {
  const listed = options.get('architectures');
  if (listed === undefined) return undefined;
  const removed = new Set(words(options.get('architectures-remove')));
  return [...words(listed), ...words(options.get('architectures-add'))].filter((name) => !removed.has(name));
}

/** Whether a word can be a suite or component: path components joined by slashes that climb nowhere. */
export function isSuite(text: string): boolean {
  return /^[0-9A-Za-z._+~:/-]+$/.test(text) && !text.startsWith('/') && !text.split('/').includes('..');
}

/**
 * The URL form of a source's URI with a slash at its end.
 * @returns undefined for a method that is not supported, after a warning (cdrom: silently)
 */
export function archiveUri(written: string, where: string, log: Log): string | undefined {
  const method = /^([A-Za-z][A-Za-z0-9+.-]*):/.exec(written)?.[1]?.toLowerCase();
  if (method === undefined) throw malformed(where, `${JSON.stringify(shownUrl(written))} is not a URI`);
  if (method === 'cdrom') return undefined;
  if (method === 'file' || method === 'copy') {
    const path = written.slice(method.length + 1).replace(/^\/\/(?=\/)/, '');
    if (!path.startsWith('/')) throw malformed(where, `${JSON.stringify(written)} names no absolute path`);
    return `file://${encodePath(path.replace(/\/*$/, '/').replace(/^\/+/, '/'))}`;
  }
  if (method !== 'http' && method !== 'https') {
    log.warn(`${where}: left out, the method ${method} is not supported`);
    return undefined;
  }
  const url = URL.canParse(written) ? new URL(written) : undefined;
  if (url === undefined || url.search !== '' || url.hash !== '') {
    throw malformed(where, `${JSON.stringify(shownUrl(written))} is not a URI of an archive`);
  }
  return url.href.replace(/\/*$/, '/');
}

/** A path below an archive as the path of a URL. `+` too: some object stores take it for a blank. */
export function encodePath(path: string): string {
  return encodeURI(path).replace(/[?#+]/g, encodeURIComponent);
}

function parseSignedBy(value: string, where: string, defaults: SourceDefaults): Keyring {
  if (value.includes('-----BEGIN PGP PUBLIC KEY BLOCK-----')) {
    const lines = value.split('\n').map((line) => (line.trim() === '.' ? '' : line.trim()));
    return { files: [], blocks: [lines.join('\n').trim()], fingerprints: [] };
  }
  const files: string[] = [];
  const fingerprints: string[] = [];
  for (const word of value.split(/[\s,]+/).filter((part) => part !== '')) {
    if (word.startsWith('/')) files.push(word);
    else if (/^(?:0x)?(?:[0-9A-Fa-f]{40}|[0-9A-Fa-f]{64})!?$/.test(word)) {
      fingerprints.push(word.replace(/^0x/, '').toUpperCase());
    } else throw malformed(where, `Signed-By ${JSON.stringify(word)} is neither a path nor a fingerprint`);
  }
  return { files: files.length === 0 ? defaults.keyrings : files, blocks: [], fingerprints };
}

function byHash(options: Options, where: string, defaults: SourceDefaults): 'yes' | 'no' | 'force' {
  const value = options.get('by-hash')?.trim().toLowerCase();
  if (value === 'force') return 'force';
  return value === undefined ? defaults.byHash : yes(options, 'by-hash', where, true) ? 'yes' : 'no';
}

/** apt's words for a truth value (apt.conf(5)). @returns undefined for any other word */
export function truth(word: string): boolean | undefined {
  const lower = word.trim().toLowerCase();
  if (['yes', 'true', 'with', 'on', 'enable', '1'].includes(lower)) return true;
  return ['no', 'false', 'without', 'off', 'disable', '0'].includes(lower) ? false : undefined;
}

function yes(options: Options, name: string, where: string, otherwise: boolean): boolean {
  const value = options.get(name);
  if (value === undefined) return otherwise;
  const parsed = truth(value);
  if (parsed === undefined) throw malformed(where, `${name} is ${JSON.stringify(value)}, not yes or no`);
  return parsed;
}

function seconds(options: Options, name: string, where: string): number | undefined {
  const value = options.get(name)?.trim();
  if (value === undefined) return undefined;
  if (!/^[0-9]{1,12}$/.test(value)) {
    throw malformed(where, `${name} is ${JSON.stringify(value)}, not a number of seconds`);
  }
  return Number(value);
}

function words(value: string | undefined): string[] {
  return value?.split(/\s+/).filter((word) => word !== '') ?? [];
}

function malformed(where: string, reason: string): Error {
  return cannot('read', `apt source ${where}`, reason);
}
