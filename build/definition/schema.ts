import { readFile } from 'node:fs/promises';
import type { ErrorObject, SchemaObject, ValidateFunction } from 'ajv';
import type { DeclaredDlopen } from './definition.js';
import { nearest } from '../support/nearest.js';
import { child, fieldOf, type YamlDocument } from './document.js';
import { shown, type Problem } from './problem.js';

/** What schema/image.schema.json lets through: the file as it stands, nothing filled in. */
export interface RawDefinition {
  readonly name: string;
  readonly title: string;
  readonly description?: string;
  readonly url?: string;
  readonly licenses?: string;
  /** `scratch` or the reference of an image. */
  readonly from?: string;
  readonly packages: { readonly fedora?: RawFedoraPackage; readonly debian?: RawFamilyPackage };
  readonly roots: readonly [string, ...string[]];
  readonly dlopen?: readonly DeclaredDlopen[];
  readonly files?: readonly string[];
  readonly user: { readonly name: string; readonly id: number };
  readonly config?: string;
  readonly state?: { readonly volume: string; readonly files?: readonly string[] };
  readonly ports?: readonly string[];
  readonly capabilities?: readonly string[];
  readonly run?: readonly (string | number)[];
  readonly command?: readonly (string | number)[];
  readonly listen?: readonly (string | number)[];
  readonly check?: readonly (string | number)[];
  readonly environment?: Readonly<Record<string, string | number>>;
  readonly stop?: string;
  readonly inventory?: boolean;
}

export interface RawFamilyPackage {
  readonly release?: string | undefined;
  readonly package: string;
  readonly state?: string;
}

/** Its release may be a number in the file. */
interface RawFedoraPackage extends Omit<RawFamilyPackage, 'release'> {
  readonly release?: string | number;
  readonly keys: readonly string[];
  readonly prefer?: readonly string[];
}

/** The one description of the format; editors read the same file. */
const schemaFile = new URL('../../schema/image.schema.json', import.meta.url);

/** Compares a document with the schema; it is not changed. */
export async function checkSchema(document: YamlDocument): Promise<RawDefinition | readonly Problem[]> {
  const [{ Ajv }, text] = await Promise.all([import('ajv'), readFile(schemaFile, 'utf8')]);
  const schema = JSON.parse(text) as Subschema;
  // The schema is ours: a test compares it with its meta-schema, which saves 10 ms of every start here.
  const ajv = new Ajv({
    allErrors: true,
    verbose: true,
    allowUnionTypes: true,
    meta: false,
    validateSchema: false,
  });
  // What an editor shows for a wrong value is what this program shows.
  ajv.addKeyword('errorMessage');
  const validate: ValidateFunction<RawDefinition> = ajv.compile(schema);
  const { value } = document;
  if (validate(value)) return value;
  return (validate.errors ?? []).flatMap((error) => problemOf(error, document, schema) ?? []);
}

/** The keywords of a schema that messages are made from; ajv hands schemas out untyped. */
interface Subschema extends SchemaObject {
  readonly errorMessage?: string;
  readonly properties?: Readonly<Record<string, Subschema>>;
  readonly definitions?: Readonly<Record<string, Subschema>>;
  readonly $ref?: string;
  readonly type?: string | readonly string[];
  readonly pattern?: string;
}

function problemOf(error: ErrorObject, document: YamlDocument, schema: Subschema): Problem | undefined {
  const { instancePath: pointer, keyword, params, data } = error;
  const place = document.places.get(pointer);
  const offset = place?.value ?? 0;
  const parent = (error.parentSchema ?? {}) as Subschema;
  const expected = parent.errorMessage ?? 'expected another value';
  switch (keyword) {
    case 'required': {
      const missing = String(params['missingProperty']);
      const wanted = resolved(parent.properties?.[missing], schema).errorMessage ?? 'expected a value';
      return { offset, field: fieldOf(`${pointer}/${missing}`), text: `${wanted}, found nothing` };
    }
    case 'additionalProperties': {
      const name = String(params['additionalProperty']);
      const below = child(pointer, name);
      const known = Object.keys(parent.properties ?? {});
      const near = nearest(name, known);
      const wanted = near === undefined ? `one of ${known.join(', ')}` : 'a known field';
      const text = `expected ${wanted}, found ${shown(name)}${meant(near)}`;
      return { offset: document.places.get(below)?.key ?? offset, field: fieldOf(below), text };
    }
    // Says only that a name is wrong; what is wrong with it is an error of its own.
    case 'propertyNames':
      return undefined;
    case 'enum': {
      const known = (params['allowedValues'] as readonly unknown[]).map(String);
      const text = parent.errorMessage ?? `expected ${known.join(' or ')}`;
      const bare = typeof data === 'string' ? data.toUpperCase().replace(/^CAP_/, '') : '';
      const near = known.find((name) => name === bare || name === `SIG${bare}`) ?? nearest(bare, known);
      return { offset, field: fieldOf(pointer), text: `${text}, found ${shown(data)}${meant(near)}` };
    }
    case 'uniqueItems': {
      const index = Math.max(Number(params['i']), Number(params['j']));
      const item = `${pointer}/${String(index)}`;
      const text = `${expected}, found ${shown((data as readonly unknown[])[index])} again`;
      return { offset: document.places.get(item)?.value ?? offset, field: fieldOf(item), text };
    }
    default: {
      if (error.propertyName !== undefined) {
        const below = child(pointer, error.propertyName);
        const text = `${expected}, found ${shown(error.propertyName)}`;
        return { offset: document.places.get(below)?.key ?? offset, field: fieldOf(below), text };
      }
      const found = typeof data === 'number' ? (place?.source ?? shown(data)) : shown(data);
      const text = typeof data === 'number' || typeof data === 'boolean' ? found : undefined;
      const quotable = keyword === 'type' && text !== undefined && isText(text, parent);
      const hint = quotable ? ` (quotes make it text: "${text}")` : '';
      return { offset, field: fieldOf(pointer), text: `${expected}, found ${found}${hint}` };
    }
  }
}

/** Whether the schema takes this text. */
function isText(text: string, { type, pattern }: Subschema): boolean {
  return type !== undefined && [type].flat().includes('string') && new RegExp(pattern ?? '', 'u').test(text);
}

function meant(near: string | undefined): string {
  return near === undefined ? '' : `; did you mean ${near}?`;
}

/** Follows a reference to the schema's own definitions; what stands beside it wins. */
function resolved(subschema: Subschema | undefined, schema: Subschema): Subschema {
  const name = subschema?.$ref?.replace('#/definitions/', '');
  return { ...(name === undefined ? {} : schema.definitions?.[name]), ...subschema };
}
