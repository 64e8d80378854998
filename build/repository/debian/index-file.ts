import { closeSync, openSync, readSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { cannotWrite } from '../../support/atomic.js';
import { cannot, reasonOf } from '../../support/errors.js';
import { packageBefore, stanzaText, visitPackages } from './deb822.js';
import type { Source } from './sources.js';

/**
 * One unpacked Packages index. It lies on disk, and in memory is only where its stanzas are: a build reads some
 * hundreds of 63000, and every architecture has an index of 50 MB.
 */
export interface IndexFile {
  readonly source: Source;
  /** As its Release says. */
  readonly automatic: boolean;
  /** Names it in errors. */
  readonly url: string;
  /** Offsets of the stanzas of each package. */
  readonly offsets: ReadonlyMap<string, readonly number[]>;
  readonly provides: readonly ProvidesField[];
  /** Text of the stanza at an offset. @throws ToolError */
  stanza(offset: number): string;
}

export interface ProvidesField {
  /** What stands in it, as written. */
  readonly value: string;
  readonly owner: string;
}

export interface IndexOptions {
  /** A file that is there already, and that the index is kept in as long as it is used. */
  readonly path: string;
  readonly source: Source;
  readonly automatic: boolean;
  readonly url: string;
  /** Bytes that there must be, when that is known. */
  readonly size: number | undefined;
}

/** Bytes that are searched at a time. */
const windowSize = 1024 ** 2;
/** The largest stanza of today's archives has a hundredth of it. */
const stanzaLimit = 4 * 1024 ** 2;
const stanzaEnd = Buffer.from('\n\n');
const providesField = Buffer.from('\nProvides: ');

/** Writes an index to disk and notes on the way where its stanzas are. @throws ToolError */
export async function writeIndexFile(
  chunks: AsyncIterable<Uint8Array>,
  { path, source, automatic, url, size }: IndexOptions,
): Promise<IndexFile> {
  const offsets = new Map<string, number[]>();
  const provides: ProvidesField[] = [];
  let written = 0;
  const file = await open(path, 'r+').catch((error: unknown) => {
    throw cannotWrite(path, error);
  });
  try {
    for await (const bytes of wholeStanzas(chunks, url)) {
      const note = (name: string, offset: number): void => {
        const known = offsets.get(name);
        if (known === undefined) offsets.set(name, [written + offset]);
        else known.push(written + offset);
      };
      visitPackages(bytes, url, note, written);
      for (const field of readProvides(bytes)) provides.push(field);
      await file.writeFile(bytes).catch((error: unknown) => {
        throw cannotWrite(path, error);
      });
      written += bytes.length;
    }
  } finally {
    await file.close();
  }
  if (size !== undefined && written !== size) {
    throw cannot('read', url, `it is ${written < size ? 'shorter' : 'longer'} than its Release says`);
  }
  return { source, automatic, url, offsets, provides, stanza: (offset) => readStanza(path, offset) };
}

/** The same bytes, cut at the ends of stanzas alone. Each piece is good until the next one: all are in one buffer. */
async function* wholeStanzas(chunks: AsyncIterable<Uint8Array>, url: string): AsyncGenerator<Buffer> {
  let buffer = Buffer.alloc(0);
  let filled = 0;
  let wanted = windowSize;
  for await (const chunk of chunks) {
    if (filled + chunk.length > buffer.length) {
      const larger = Buffer.allocUnsafe(filled + chunk.length + windowSize);
      larger.set(buffer.subarray(0, filled));
      buffer = larger;
    }
    buffer.set(chunk, filled);
    filled += chunk.length;
    if (filled < wanted) continue;
    const end = buffer.subarray(0, filled).lastIndexOf(stanzaEnd);
    if (end < 0 && filled > stanzaLimit)
      throw cannot('read', url, `it has a stanza of more than ${stanzaLimit} bytes`);
    if (end >= 0) {
      const rest = end + stanzaEnd.length;
      yield buffer.subarray(0, rest);
      buffer.copyWithin(0, rest, filled);
      filled -= rest;
    }
    wanted = filled + windowSize;
  }
  if (filled > 0) yield buffer.subarray(0, filled);
}

/** Few stanzas have the field, and only walks over dependencies ask for it. */
function* readProvides(bytes: Buffer): Generator<ProvidesField> {
  for (let at = bytes.indexOf(providesField); at >= 0; at = bytes.indexOf(providesField, at + 1)) {
    const end = bytes.indexOf(0x0a, at + 1);
    const value = bytes.toString('latin1', at + providesField.length, end < 0 ? bytes.length : end);
    const owner = packageBefore(bytes, at);
    if (owner !== undefined) yield { value, owner };
  }
}

function readStanza(path: string, offset: number): string {
  try {
    const file = openSync(path, 'r');
    try {
      for (let length = 16 * 1024; ; length *= 4) {
        const block = Buffer.alloc(length);
        const read = readSync(file, block, 0, length, offset);
        if (read < length || block.includes(stanzaEnd)) return stanzaText(block.subarray(0, read), 0);
      }
    } finally {
      closeSync(file);
    }
  } catch (error) {
    throw cannot('read', path, reasonOf(error), { cause: error });
  }
}
