import { reasonOf } from '../support/errors.js';
import { shown, type Problem } from './problem.js';
import type { Node, ParsedNode } from 'yaml';

/** A YAML document as plain values, and where each of them stands. */
export interface YamlDocument {
  /** Mappings have no prototype; scalars are strings, numbers, booleans and null. */
  readonly value: unknown;
  /** By JSON pointer (RFC 6901): '' is the document itself. */
  readonly places: ReadonlyMap<string, Place>;
}

interface Place {
  /** Offset of the value in the text. */
  readonly value: number;
  /** Offset of the key in the text, for the value of a mapping. */
  readonly key: number | undefined;
  /** The scalar as the file spells it. */
  readonly source: string | undefined;
}

/** Bounds for a file that wants to use up memory or the stack; far above any real definition. */
const mostValues = 5000;
const mostNested = 16;
const longestKey = 200;

const syntax = 'syntax';
const coreTags: ReadonlySet<string> = new Set(
  ['str', 'int', 'float', 'bool', 'null', 'seq', 'map'].map((name) => `tag:yaml.org,2002:${name}`),
);

/**
 * Parses one YAML 1.2 document of the core schema. Anchors and aliases work; several documents, other tags, merge keys
 * and keys that are no text are problems.
 */
export async function parseYaml(text: string): Promise<YamlDocument | readonly Problem[]> {
  const yaml = await import('yaml');
  let document;
  try {
    // Keys are compared below, which is faster and knows their names.
    document = yaml.parseDocument(text, { prettyErrors: false, uniqueKeys: false, logLevel: 'error' });
  } catch (error) {
    // The parser is recursive: thousands of open brackets overflow its stack.
    const reason = error instanceof RangeError ? 'the values are nested too deeply' : reasonOf(error);
    return [{ offset: 0, field: syntax, text: reason }];
  }
  const wrong = [
    ...document.errors,
    ...document.warnings.filter((warning) => warning.code !== 'TAG_RESOLVE_FAILED'),
  ];
  if (wrong.length > 0) {
    return wrong.map(({ code, pos: [offset], message }) => ({
      offset,
      field: syntax,
      text: code === 'MULTIPLE_DOCS' ? 'expected one document, found several' : message,
    }));
  }
  const version = document.directives.yaml;
  if (version.explicit === true && version.version !== '1.2') {
    return [{ offset: 0, field: syntax, text: `expected YAML 1.2, found YAML ${version.version}` }];
  }

  const problems: Problem[] = [];
  const places = new Map<string, Place>();
  const anchors = new Map<string, Node>();
  let values = 0;

  /** @param alias offset of the alias through which the node is seen: problems are shown there */
  function walk(
    node: ParsedNode | Node | null,
    pointer: string,
    key: number | undefined,
    alias?: number,
  ): unknown {
    const offset = alias ?? node?.range?.[0] ?? key ?? 0;
    const stop = (problem: string): null => {
      problems.push({ offset, field: fieldOf(pointer), text: problem });
      return null;
    };
    values += 1;
    if (values > mostValues) {
      return values === mostValues + 1
        ? stop(`expected at most ${String(mostValues)} values, aliases counted`)
        : null;
    }
    if (pointer.split('/').length > mostNested)
      return stop(`expected at most ${String(mostNested)} levels of nesting`);
    places.set(pointer, {
      value: offset,
      key,
      source: yaml.isScalar(node) ? node.source : undefined,
    });
    if (yaml.isAlias(node)) {
      const target = anchors.get(node.source);
      if (target === undefined)
        return stop(`expected an anchor before the alias, found none named ${node.source}`);
      return walk(target, pointer, key, offset);
    }
    if (alias === undefined && node?.anchor !== undefined) anchors.set(node.anchor, node);
    if (node?.tag !== undefined && !coreTags.has(node.tag)) {
      return stop(`expected a value without a tag, found the tag ${node.tag}`);
    }
    if (yaml.isSeq(node)) {
      return node.items.map((item, index) =>
        walk(yaml.isNode(item) ? item : null, `${pointer}/${String(index)}`, undefined, alias),
      );
    }
    if (yaml.isMap(node)) {
      const mapping: Record<string, unknown> = { __proto__: null };
      for (const pair of node.items) {
        const name = yaml.isScalar(pair.key) ? pair.key.value : undefined;
        const at = alias ?? (yaml.isNode(pair.key) ? (pair.key.range?.[0] ?? offset) : offset);
        if (typeof name !== 'string') {
          const found = yaml.isScalar(pair.key) ? (pair.key.source ?? 'nothing') : 'a list or mapping';
          problems.push({
            offset: at,
            field: fieldOf(pointer),
            text: `expected text as a key, found ${found}`,
          });
          continue;
        }
        if (name.length > longestKey) {
          const text = `expected a key of at most ${String(longestKey)} characters, found ${shown(name)}`;
          problems.push({ offset: at, field: fieldOf(pointer), text });
          continue;
        }
        const below = child(pointer, name);
        if (name in mapping) {
          problems.push({
            offset: at,
            field: fieldOf(below),
            text: 'expected this field once, found it again',
          });
          continue;
        }
        mapping[name] = walk(yaml.isNode(pair.value) ? pair.value : null, below, at, alias);
      }
      return mapping;
    }
    if (!yaml.isScalar(node)) return null;
    const { value } = node;
    if (
      value === null ||
      typeof value === 'string' ||
      typeof value === 'number' ||
      typeof value === 'boolean'
    ) {
      return value;
    }
    return stop(`expected text, a number, true or false, found ${shown(node.source)}`);
  }

  const value = walk(document.contents, '', undefined);
  return problems.length > 0 ? problems : { value, places };
}

/** The JSON pointer of one value of a mapping. */
export function child(pointer: string, name: string): string {
  return `${pointer}/${name.replaceAll('~', '~0').replaceAll('/', '~1')}`;
}

/** A JSON pointer in the words of the file: `/packages/debian` is `packages.debian`, `/run/0` is `run[0]`. */
export function fieldOf(pointer: string): string {
  const parts = pointer.split('/').slice(1);
  const field = parts
    .map((part) => part.replaceAll('~1', '/').replaceAll('~0', '~'))
    .map((part) =>
      /^\d+$/.test(part) ? `[${part}]` : `.${/^[\w-]+$/.test(part) ? part : JSON.stringify(part)}`,
    )
    .join('');
  return field === '' ? 'definition' : field.replace(/^\./, '');
}
