import { readFileSync } from 'node:fs';

/** The keywords of schema/image.schema.json that tests look at. */
export interface Field {
  readonly description?: string;
  readonly default?: unknown;
  readonly examples?: readonly unknown[];
  readonly enum?: readonly string[];
  readonly properties?: Readonly<Record<string, Field>>;
  readonly items?: Field;
  readonly required?: readonly string[];
}

export const schema = JSON.parse(
  readFileSync(new URL('../../schema/image.schema.json', import.meta.url), 'utf8'),
) as Field & { readonly properties: Readonly<Record<string, Field>> };
