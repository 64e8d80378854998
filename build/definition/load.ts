import { createHash } from 'node:crypto';
import { constants, open } from 'node:fs/promises';
import { resolve } from 'node:path';
import { cannot, reasonOf, ToolError } from '../support/errors.js';
import type { FamilyPackage, ImageDefinition } from './definition.js';
import { parseYaml, type YamlDocument } from './document.js';
import { checkMeaning } from './meaning.js';
import { problemsError, type Problem } from './problem.js';
import { checkSchema, type RawDefinition, type RawFamilyPackage } from './schema.js';

/** Bytes; the largest real definition is a hundredth of it. */
const largestFile = 64 * 1024;

/**
 * Reads one image definition, whole and checked: its syntax first, then its shape (schema/image.schema.json), then
 * what its fields mean together. Nothing is fetched and nothing in the file is changed.
 *
 * @param path relative to the current directory
 * @throws ToolError with exit code 2; its details hold every problem as `file:line:column: field: expected ..., found ...`
 */
export async function loadDefinition(path: string): Promise<ImageDefinition> {
  const bytes = await readDefinition(path);
  const text = decode(bytes, path);
  const document = unless(await parseYaml(text), path, text);
  const raw = unless(await checkSchema(document), path, text);
  const problems = checkMeaning(raw, document);
  if (problems.length > 0) throw problemsError(path, text, problems);
  return definitionOf(raw, document, resolve(path), createHash('sha256').update(bytes).digest('hex'));
}

function unless<Result extends object>(
  result: Result | readonly Problem[],
  path: string,
  text: string,
): Result {
  if (isProblems(result)) throw problemsError(path, text, result);
  return result;
}

function isProblems(result: object): result is readonly Problem[] {
  return Array.isArray(result);
}

async function readDefinition(path: string): Promise<Buffer> {
  try {
    // Without O_NONBLOCK a named pipe would be waited for, before it can be refused.
    const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
    try {
      const status = await file.stat();
      if (status.isDirectory()) throw unreadable(path, 'it is a directory');
      if (!status.isFile()) throw unreadable(path, 'it is no regular file');
      const { bytesRead, buffer } = await file.read(Buffer.alloc(largestFile + 1), 0, largestFile + 1, 0);
      if (bytesRead > largestFile)
        throw unreadable(path, `it is larger than ${String(largestFile / 1024)} KiB`);
      return buffer.subarray(0, bytesRead);
    } finally {
      await file.close();
    }
  } catch (error) {
    if (error instanceof ToolError) throw error;
    throw unreadable(path, reasonOf(error), error);
  }
}

function unreadable(path: string, reason: string, cause?: unknown): ToolError {
  return cannot('read', `definition ${path}`, reason, {
    cause,
    hint: 'name a YAML file, or a definition that comes with the program',
    exitCode: 2,
  });
}

function decode(bytes: Buffer, path: string): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (error) {
    throw unreadable(path, 'it is not UTF-8 text', error);
  }
}

/** Fills in the defaults that the schema documents. */
function definitionOf(
  raw: RawDefinition,
  document: YamlDocument,
  file: string,
  sha256: string,
): ImageDefinition {
  const argumentsOf = (field: 'run' | 'command' | 'listen' | 'check'): readonly string[] =>
    (raw[field] ?? []).map((value, index) => spelt(value, `/${field}/${String(index)}`, document));
  return {
    file,
    sha256,
    name: raw.name,
    title: raw.title,
    description: raw.description,
    url: raw.url,
    licenses: raw.licenses,
    base: raw.from === undefined || raw.from === 'scratch' ? undefined : raw.from,
    packages: packagesOf(raw, document),
    roots: raw.roots,
    dlopen: (raw.dlopen ?? []).map(({ by, loads }) => ({ by, loads })),
    files: raw.files ?? [],
    user: { name: raw.user.name, id: raw.user.id },
    config: raw.config,
    state: raw.state === undefined ? undefined : { volume: raw.state.volume, files: raw.state.files ?? [] },
    ports: raw.ports ?? [],
    capabilities: raw.capabilities ?? [],
    run: argumentsOf('run'),
    command: argumentsOf('command'),
    listen: argumentsOf('listen'),
    check: argumentsOf('check'),
    environment: new Map(
      Object.entries(raw.environment ?? {}).map(([name, value]) => [
        name,
        spelt(value, `/environment/${name}`, document),
      ]),
    ),
    stopSignal: raw.stop ?? 'SIGTERM',
    inventory: raw.inventory ?? true,
  };
}

function packagesOf(
  { packages: { fedora, debian } }: RawDefinition,
  document: YamlDocument,
): ImageDefinition['packages'] {
  const release =
    fedora?.release === undefined ? undefined : spelt(fedora.release, '/packages/fedora/release', document);
  return {
    ...(fedora === undefined
      ? {}
      : {
          fedora: {
            ...familyPackage({ ...fedora, release }),
            keys: fedora.keys,
            prefer: fedora.prefer ?? [],
          },
        }),
    ...(debian === undefined ? {} : { debian: familyPackage(debian) }),
  };
}

function familyPackage({ release, package: name, state }: RawFamilyPackage): FamilyPackage {
  return { release: release ?? 'host', package: name, state };
}

/** An argument such as -4 is a number to YAML; the program gets it as the file spells it. */
function spelt(value: string | number, pointer: string, document: YamlDocument): string {
  return typeof value === 'string' ? value : (document.places.get(pointer)?.source ?? String(value));
}
