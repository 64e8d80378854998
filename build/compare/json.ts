import { cannot, reasonOf, type ToolError } from '../support/errors.js';

/** A value somewhere in a JSON document that somebody else has written. What is not as expected is an error. */
export class JsonValue {
  readonly #value: unknown;
  readonly #document: string;
  readonly #place: string;

  private constructor(value: unknown, document: string, place: string) {
    this.#value = value;
    this.#document = document;
    this.#place = place;
  }

  /** @param document what messages call it. @throws ToolError `cannot read DOCUMENT: reason` */
  static parse(bytes: Buffer, document: string): JsonValue {
    try {
      const value: unknown = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
      return new JsonValue(value, document, 'it');
    } catch (error) {
      throw cannot('read', document, `it is not JSON: ${reasonOf(error)}`, { cause: error });
    }
  }

  /** A member of an object; Go's encoders write `null` for one that is not there. */
  optional(name: string): JsonValue | undefined {
    const value = Object.hasOwn(this.#object(), name) ? this.#object()[name] : undefined;
    return value === undefined || value === null
      ? undefined
      : new JsonValue(value, this.#document, this.#place === 'it' ? name : `${this.#place}.${name}`);
  }

  /** A member that must be there. */
  get(name: string): JsonValue {
    const found = this.optional(name);
    if (found === undefined) throw this.wrong(`has no ${name}`);
    return found;
  }

  text(): string {
    if (typeof this.#value !== 'string') throw this.wrong('is not a text');
    return this.#value;
  }

  /** A number of bytes. */
  size(): number {
    if (typeof this.#value !== 'number' || !Number.isSafeInteger(this.#value) || this.#value < 0) {
      throw this.wrong('is not a size');
    }
    return this.#value;
  }

  /** @param most items that are accepted */
  list(most: number): readonly JsonValue[] {
    if (!Array.isArray(this.#value)) throw this.wrong('is not a list');
    if (this.#value.length > most) throw this.wrong(`has more than ${most} items`);
    return this.#value.map(
      (item: unknown, index) => new JsonValue(item, this.#document, `${this.#place}[${index}]`),
    );
  }

  names(): readonly string[] {
    return Object.keys(this.#object());
  }

  /** @param reason follows the name of the place, such as `is too large` */
  wrong(reason: string): ToolError {
    return cannot('read', this.#document, `${this.#place} ${reason}`);
  }

  #object(): Readonly<Record<string, unknown>> {
    if (!isObject(this.#value)) throw this.wrong('is not an object');
    return this.#value;
  }
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
