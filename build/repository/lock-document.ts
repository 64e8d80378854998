import type * as Yaml from 'yaml';

import { families } from '../definition/definition.js';
import { architectures } from '../support/architecture.js';
import { cannot, reasonOf, ToolError } from '../support/errors.js';
import { compareBytes } from '../support/order.js';
import { lockSchemaVersion, type LockedPackage, type LockedTarget, type LockFile } from './lock.js';

/**
 * Reads a lock file's text, strictly: what `formatLock` cannot have written is refused.
 *
 * @param file for messages
 * @throws ToolError `cannot read lock file FILE:LINE:COLUMN: reason` with exit code 2
 */
export function parseLock(text: string, file: string, yaml: typeof Yaml): LockFile {
  const lines = new yaml.LineCounter();
  const fail: Fail = (offset, reason) => {
    const { line, col } = lines.linePos(offset);
    return cannot('read', `lock file ${file}:${line}:${col}`, reason, { hint: renewal, exitCode: 2 });
  };
  try {
    const document = yaml.parseDocument(text, { lineCounter: lines, prettyErrors: false, schema: 'core' });
    const problem = document.errors[0] ?? document.warnings[0];
    if (problem !== undefined) throw fail(problem.pos[0], problem.message);
    return lockOf(new Reader(yaml, fail), document.contents);
  } catch (error) {
    if (error instanceof ToolError) throw error;
    // Such as a RangeError for brackets nested without end.
    throw cannot('read', `lock file ${file}`, reasonOf(error), { cause: error, hint: renewal, exitCode: 2 });
  }
}

const renewal = 'renew it with npx dhcpd-scratch lock DEFINITION';

type Fail = (offset: number, reason: string) => ToolError;
type Node = Yaml.Node | null;
interface Fields<Name extends string, Optional extends string> {
  (name: Name): Yaml.Node;
  optional(name: Optional): Yaml.Node | undefined;
}

function lockOf(reader: Reader, node: Node): LockFile {
  const top = reader.map(node, 'the lock file', ['schemaVersion', 'definition', 'targets']);
  const version = reader.integer(top('schemaVersion'), 'schemaVersion');
  if (version !== lockSchemaVersion)
    throw reader.failAt(
      top('schemaVersion'),
      `schemaVersion ${version} is not known; this is for ${lockSchemaVersion}`,
    );
  const definition = reader.text(top('definition'), 'definition', sha256);
  const targets = reader
    .list(top('targets'), 'targets')
    .map((item) => ({ item, value: targetOf(reader, item) }));
  reader.sorted(targets, 'targets', ({ family, release, architecture }) =>
    [family, release, architecture].join(' '),
  );
  return { definition, targets: targets.map(({ value }) => value) };
}

function targetOf(reader: Reader, node: Yaml.Node): LockedTarget {
  const fields = reader.map(node, 'a target', ['family', 'release', 'architecture', 'packages'], ['base']);
  const base = fields.optional('base');
  const packages = reader
    .list(fields('packages'), 'packages')
    .map((item) => ({ item, value: packageOf(reader, item) }));
  reader.sorted(packages, 'packages', ({ name }) => name);
  return {
    family: reader.choice(fields('family'), 'family', families),
    release: reader.text(fields('release'), 'release', releaseText),
    architecture: reader.choice(fields('architecture'), 'architecture', architectures),
    ...(base === undefined ? {} : { base: reader.text(base, 'base', pinnedImage) }),
    packages: packages.map(({ value }) => value),
  };
}

function packageOf(reader: Reader, node: Yaml.Node): LockedPackage {
  const fields = reader.map(node, 'a package', [
    'name',
    'version',
    'architecture',
    'suite',
    'path',
    'size',
    'sha256',
    'why',
  ]);
  const size = reader.integer(fields('size'), 'size');
  if (size < 1) throw reader.failAt(fields('size'), 'size must be at least 1');
  return {
    name: reader.text(fields('name'), 'name', word),
    version: reader.text(fields('version'), 'version', versionText),
    architecture: reader.text(fields('architecture'), 'architecture', word),
    suite: reader.text(fields('suite'), 'suite', suiteText),
    path: reader.text(fields('path'), 'path', relativePath),
    size,
    sha256: reader.text(fields('sha256'), 'sha256', sha256),
    why: reader.text(fields('why'), 'why', oneLine),
  };
}

/** What a text must be, and how to say so. */
interface Rule {
  readonly test: (text: string) => boolean;
  readonly words: string;
}
const sha256: Rule = {
  test: (text) => /^[0-9a-f]{64}$/.test(text),
  words: '64 lower-case hexadecimal digits',
};
const word: Rule = {
  test: (text) => /^[A-Za-z0-9_][A-Za-z0-9+._-]*$/.test(text),
  words: 'letters, digits and + . _ -',
};
const versionText: Rule = {
  test: (text) => /^[A-Za-z0-9][A-Za-z0-9.+~:^_-]*$/.test(text),
  words: 'a package version',
};
const releaseText: Rule = {
  test: (text) => /^[0-9A-Za-z._+~:-]+$/.test(text) && text !== '..',
  words: 'the name of a release',
};
/** What sources.list(5) may name: a flat archive's suite ends with a slash. */
const suiteText: Rule = {
  test: (text) =>
    /^[0-9A-Za-z._+~:-]+(?:\/[0-9A-Za-z._+~:-]+)*\/?$/.test(text) && !text.split('/').includes('..'),
  words: 'the name of a suite',
};
/** It is appended to the archive's base URL, so nothing may lead out of there: no scheme, no query, no `..`. */
const relativePath: Rule = {
  test: (text) =>
    /^[!-~\u00a0-\uffff]+$/.test(text) &&
    !/[\\?#]/.test(text) &&
    !/^[A-Za-z][A-Za-z0-9+.-]*:/.test(text) &&
    text.split('/').every((part) => part !== '' && !/^(?:\.|%2e)(?:\.|%2e)?$/i.test(part)),
  words: 'a path below the archive, without scheme and ..',
};
/** It is handed to a container engine, so nothing in it may be taken for an option or another transport. */
const pinnedImage: Rule = {
  test: (text) => /^[a-z0-9][A-Za-z0-9._/:-]{0,400}@sha256:[0-9a-f]{64}$/.test(text) && !text.includes('//'),
  words: 'the name of an image with its digest, NAME@sha256:DIGEST',
};
const oneLine: Rule = {
  // eslint-disable-next-line no-control-regex -- control characters are what is refused
  test: (text) => !/[\u0000-\u001f\u007f-\u009f\u2028\u2029]/.test(text) && text.trim() !== '',
  words: 'one printable line',
};

/** Takes the YAML tree apart; every error carries its place. */
class Reader {
  readonly #yaml: typeof Yaml;
  readonly #fail: Fail;

  constructor(yaml: typeof Yaml, fail: Fail) {
    this.#yaml = yaml;
    this.#fail = fail;
  }

  failAt(node: Node, reason: string): ToolError {
    return this.#fail(node?.range?.[0] ?? 0, reason);
  }

  /** A mapping with exactly these keys, and some that may be left out. */
  map<Name extends string, Optional extends string = never>(
    node: Node,
    what: string,
    names: readonly Name[],
    others: readonly Optional[] = [],
  ): Fields<Name, Optional> {
    if (!this.#yaml.isMap(node)) throw this.failAt(node, `${what} must be a mapping`);
    const found = new Map<string, Yaml.Node>();
    for (const { key, value } of node.items) {
      const keyNode = this.#yaml.isNode(key) ? key : node;
      const name = this.#yaml.isScalar(keyNode) ? String(keyNode.value) : '';
      if (![...names, ...others].some((known) => known === name)) {
        throw this.failAt(keyNode, `${what} has the unknown key ${JSON.stringify(name)}`);
      }
      if (!this.#yaml.isNode(value)) throw this.failAt(keyNode, `${name} has no value`);
      found.set(name, value);
    }
    const fields = (name: Name): Yaml.Node => {
      const value = found.get(name);
      if (value === undefined) throw this.failAt(node, `${what} has no ${name}`);
      return value;
    };
    names.forEach(fields);
    return Object.assign(fields, { optional: (name: Optional) => found.get(name) });
  }

  list(node: Yaml.Node, what: string): readonly Yaml.Node[] {
    if (!this.#yaml.isSeq(node)) throw this.failAt(node, `${what} must be a list`);
    return node.items.map((item) => {
      if (!this.#yaml.isNode(item)) throw this.failAt(node, `${what} holds an empty entry`);
      return item;
    });
  }

  text(node: Yaml.Node, what: string, rule: Rule): string {
    const value = this.#yaml.isScalar(node) ? node.value : undefined;
    if (typeof value !== 'string') throw this.failAt(node, `${what} must be text (in quotes)`);
    if (!rule.test(value)) throw this.failAt(node, `${what} must be ${rule.words}`);
    return value;
  }

  integer(node: Yaml.Node, what: string): number {
    const value = this.#yaml.isScalar(node) ? node.value : undefined;
    if (typeof value === 'number' && Number.isSafeInteger(value)) return value;
    throw this.failAt(node, `${what} must be a whole number`);
  }

  choice<Choice extends string>(node: Yaml.Node, what: string, choices: readonly Choice[]): Choice {
    const value = this.#yaml.isScalar(node) ? node.value : undefined;
    const found = choices.find((choice) => choice === value);
    if (found === undefined) throw this.failAt(node, `${what} must be one of ${choices.join(', ')}`);
    return found;
  }

  sorted<Value>(
    items: readonly { readonly item: Yaml.Node; readonly value: Value }[],
    what: string,
    keyOf: (value: Value) => string,
  ): void {
    let previous: string | undefined;
    for (const { item, value } of items) {
      const key = keyOf(value);
      if (previous === key) throw this.failAt(item, `${what} holds ${key} twice`);
      if (previous !== undefined && compareBytes(previous, key) > 0) {
        throw this.failAt(item, `${what} must be sorted: ${key} comes before ${previous}`);
      }
      previous = key;
    }
  }
}
