import { cannot } from '../support/errors.js';

/** Reading of the JSON that buildah prints and writes: nothing about it is believed before it has been looked at. */
export function parse(json: string): unknown {
  try {
    return JSON.parse(json);
  } catch {
    throw unexpected('answer');
  }
}

export function memberOf(value: unknown, name: string): unknown {
  return typeof value === 'object' && value !== null ? Reflect.get(value, name) : undefined;
}

export function namesOf(value: unknown): readonly string[] {
  return typeof value === 'object' && value !== null ? Object.keys(value) : [];
}

/** @throws ToolError unless `digest` of it is `sha256:` and 64 lower-case hexadecimal digits */
export function digestAt(value: unknown): string {
  return digestOf(textAt(value, 'digest'));
}

/** @throws ToolError unless the text is a digest of SHA-256 */
export function digestOf(text: string): string {
  if (!/^sha256:[0-9a-f]{64}$/.test(text)) throw unexpected('digest');
  return text;
}

export function textAt(value: unknown, name: string): string {
  const member = memberOf(value, name);
  if (typeof member !== 'string') throw unexpected(name);
  return member;
}

export function arrayAt(value: unknown, name: string): readonly unknown[] {
  const member = memberOf(value, name);
  if (!Array.isArray(member)) throw unexpected(name);
  return member;
}

export function unexpected(field: string): Error {
  return cannot('build', 'the image', `this version of buildah wrote an unexpected ${field}`, {
    hint: 'use another version of buildah; for an image from scratch, --engine oci needs none',
  });
}
