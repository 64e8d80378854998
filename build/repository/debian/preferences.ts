import { readFile } from 'node:fs/promises';
import { reasonOf } from '../../support/errors.js';
import type { Log } from '../../support/log.js';
import { parseStanzas } from './deb822.js';
import type { OpenSuite } from './open-suites.js';

/**
 * A pin of apt_preferences(5). Pins do not decide here: the newest version is taken, so that the same archive gives
 * the same image everywhere. They are read to tell the user where apt would choose otherwise.
 */
export interface Pin {
  /** Such as `/etc/apt/preferences.d/x:1`. */
  readonly where: string;
  /** The field Package, as written. */
  readonly packages: string;
  readonly kind: 'release' | 'origin' | 'version';
  /** What stands behind the kind. */
  readonly value: string;
  readonly priority: number;
}

/** A version that has been chosen, and what it was chosen from. */
export interface Choice {
  readonly name: string;
  readonly version: string;
  readonly suite: OpenSuite;
  /** Suites that have the package, in whatever version. */
  readonly candidates: readonly OpenSuite[];
}

/** Priority of what no pin is about. */
const ordinary = 500;

/** Reads the files of apt's preferences. What cannot be read is warned of: it would stop apt, but changes nothing here. */
export async function readPins(files: readonly string[], log: Log): Promise<readonly Pin[]> {
  const pins = await Promise.all(
    files.map(async (file) => {
      try {
        return parsePins(await readFile(file, 'utf8'), file);
      } catch (error) {
        log.warn(`${file} is left out: ${reasonOf(error)}`);
        return [];
      }
    }),
  );
  return pins.flat();
}

/** @throws ToolError */
function parsePins(text: string, file: string): readonly Pin[] {
  return parseStanzas(text, file, { comments: true }).flatMap(({ fields, line }): Pin[] => {
    const field = (name: string): string | undefined =>
      [...fields]
        .find(([key]) => key.toLowerCase() === name)?.[1]
        .replace(/\s+/g, ' ')
        .trim();
    const packages = field('package');
    const [, kind, value] = /^(release|origin|version) +(.+)$/.exec(field('pin') ?? '') ?? [];
    const priority = Number(field('pin-priority') ?? 0);
    if (packages === undefined || value === undefined || !Number.isInteger(priority) || priority === 0)
      return [];
    if (kind !== 'release' && kind !== 'origin' && kind !== 'version') return [];
    return [{ where: `${file}:${line}`, packages, kind, value, priority }];
  });
}

/** The pins that may make apt choose another version, or none. */
export function pinsAgainst(pins: readonly Pin[], choice: Choice): readonly Pin[] {
  return pins.filter((pin) => {
    if (!pin.packages.split(' ').some((pattern) => matchesName(pattern, choice.name))) return false;
    const isOwn = pin.kind === 'version' ? matches(pin.value, choice.version) : isAbout(pin, choice.suite);
    if (isOwn) return pin.priority < ordinary;
    return (
      pin.priority > ordinary &&
      (pin.kind === 'version' || choice.candidates.some((suite) => isAbout(pin, suite)))
    );
  });
}

/** The name may be limited to an architecture. Of a source package (`src:`) only the binary of its name is known. */
function matchesName(pattern: string, name: string): boolean {
  const plain = /^\/.*\/$/.test(pattern) ? pattern : pattern.replace(/^src:/, '').replace(/:[a-z0-9-]+$/, '');
  return matches(plain, name);
}

function isAbout(pin: Pin, { source, release }: OpenSuite): boolean {
  if (pin.kind === 'origin')
    return matches(pin.value.replace(/^"(.*)"$/, '$1'), new URL(source.uri).hostname);
  if (!pin.value.includes('=')) {
    return [release.version, release.suite, release.codename].some((value) =>
      matches(pin.value, value ?? ''),
    );
  }
  return pin.value.split(',').every((condition) => {
    const [, key, value = ''] = /^\s*([a-z])\s*=\s*(.*?)\s*$/.exec(condition) ?? [];
    const known = new Map([
      ['a', [release.suite ?? '']],
      ['n', [release.codename ?? '']],
      ['o', [release.origin ?? '']],
      ['l', [release.label ?? '']],
      ['v', [release.version ?? '']],
      ['c', source.components],
    ]).get(key ?? '');
    // The one that is left is the architecture, and those of an image are of one.
    return known === undefined || known.some((one) => matches(value, one));
  });
}

/** A word, a glob as of glob(7), or a regular expression between slashes. */
function matches(pattern: string, text: string): boolean {
  const [, expression] = /^\/(.*)\/$/.exec(pattern) ?? [];
  try {
    return new RegExp(expression ?? `^${globExpression(pattern)}$`, 'i').test(text);
  } catch {
    return false;
  }
}

function globExpression(glob: string): string {
  return glob
    .replace(/[.+^${}()|\\]/g, '\\$&')
    .replaceAll('*', '.*')
    .replaceAll('?', '.')
    .replaceAll('[!', '[^');
}
