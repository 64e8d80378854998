import { cannot, reasonOf, ToolError } from '../../support/errors.js';
import { ByteText } from './byte-text.js';
import type { RecordHead } from './record.js';
import { IndexWriter } from './rpm-index.js';
import { XmlReader, type XmlTag, type XmlVisitor } from './xml.js';

export interface PrimaryOptions {
  /** A file that is there already, to write the index into. */
  readonly path: string;
  /** Names the document in errors. */
  readonly where: string;
  /** rpm's names of the architectures whose packages count. */
  readonly architectures: ReadonlySet<string>;
}

/** Bytes of records that are collected before they are written. */
const flushBytes = 512 * 1024;
/** Bytes that one package, and what is not written yet, may take. */
const pendingLimit = 64 * 1024 ** 2;
const listLimit = 16 * 1024 ** 2;
const namesLimit = 256 * 1024 ** 2;

/**
 * Makes an index of primary.xml (https://createrepo.baseurl.org/), while it comes: binary packages of the
 * architectures, each with what choosing and fetching need.
 *
 * @throws ToolError
 */
export async function indexPrimary(
  chunks: AsyncIterable<Uint8Array>,
  options: PrimaryOptions,
): Promise<void> {
  const { path, where, architectures } = options;
  const index = await IndexWriter.create(path, new ByteText(64 * 1024, namesLimit));
  try {
    const visitor = new PrimaryVisitor(index, architectures);
    const reader = new XmlReader(visitor);
    for await (const chunk of chunks) {
      reader.write(chunk);
      if (visitor.pending.length >= flushBytes) await flush(index, visitor);
    }
    reader.end();
    await flush(index, visitor);
    await index.finish();
  } catch (error) {
    if (error instanceof ToolError) throw error;
    throw cannot('read', where, reasonOf(error), { cause: error, hint: 'use another mirror' });
  } finally {
    await index.close();
  }
}

async function flush(index: IndexWriter, { pending }: PrimaryVisitor): Promise<void> {
  await index.write(pending.view());
  pending.clear();
}

type ListName = 'requires' | 'provides';

const emptyHead: RecordHead = {
  name: '',
  epoch: '0',
  version: '',
  release: '',
  architecture: '',
  algorithm: '',
  checksum: '',
  path: '',
  size: '',
  built: '',
};

/**
 * Writes records as they are read. Two million dependencies of a large repository are copied from the document to the
 * record as bytes: a string for each would cost more than all else together.
 */
class PrimaryVisitor implements XmlVisitor {
  readonly names = [
    ...['metadata', 'package', 'name', 'arch', 'version', 'checksum', 'time', 'size', 'location', 'format'],
    ...['provides', 'requires', 'entry', 'file'],
    ...['type', 'epoch', 'ver', 'rel', 'build', 'href', 'flags'],
  ];
  /** Records that are finished and not written. */
  readonly pending = new ByteText(2 * flushBytes, pendingLimit);
  readonly #index: IndexWriter;
  readonly #architectures: ReadonlySet<string>;
  /** Of the package being read. */
  #head: { -readonly [field in keyof RecordHead]: RecordHead[field] } = { ...emptyHead };
  readonly #lists = {
    requires: new ByteText(64 * 1024, listLimit),
    provides: new ByteText(64 * 1024, listLimit),
    files: new ByteText(16 * 1024, listLimit),
  };
  /** Whether the package, as far as it is known, is one that counts. */
  #counts = false;
  #inFormat = false;
  #list: ListName | undefined;

  constructor(index: IndexWriter, architectures: ReadonlySet<string>) {
    this.#index = index;
    this.#architectures = architectures;
  }

  open(name: string, tag: XmlTag): boolean {
    switch (tag.depth) {
      case 0:
        if (name !== 'metadata') throw new Error('it is no list of packages');
        return false;
      case 1:
        this.#begin(name === 'package' && tag.attribute('type') === 'rpm');
        return false;
      case 2:
        this.#inFormat = name === 'format';
        return this.#counts && this.#property(name, tag);
      case 3:
        this.#list = this.#inFormat && (name === 'requires' || name === 'provides') ? name : undefined;
        return this.#counts && this.#inFormat && name === 'file';
      default:
        if (tag.depth === 4 && this.#counts && this.#list !== undefined && name === 'entry')
          this.#dependency(tag, this.#list);
        return false;
    }
  }

  close(name: string, text: string | undefined): void {
    if (text !== undefined) this.#content(name, text);
    else if (name === 'package') this.#finish();
  }

  #begin(counts: boolean): void {
    this.#counts = counts;
    if (!counts) return;
    Object.assign(this.#head, emptyHead);
    for (const list of Object.values(this.#lists)) list.clear();
  }

  /** @returns whether the text of the element is wanted */
  #property(name: string, tag: XmlTag): boolean {
    const head = this.#head;
    switch (name) {
      case 'name':
      case 'arch':
        return true;
      case 'checksum':
        head.algorithm = tag.attribute('type') ?? '';
        return true;
      case 'version':
        head.epoch = tag.attribute('epoch') ?? '0';
        head.version = tag.attribute('ver') ?? '';
        head.release = tag.attribute('rel') ?? '';
        return false;
      case 'time':
        head.built = tag.attribute('build') ?? '';
        return false;
      case 'size':
        head.size = tag.attribute('package') ?? '';
        return false;
      case 'location':
        head.path = tag.attribute('href') ?? '';
        return false;
      default:
        return false;
    }
  }

  #content(name: string, text: string): void {
    const head = this.#head;
    if (name === 'name') head.name = text;
    else if (name === 'checksum') head.checksum = text;
    else if (name === 'arch') {
      head.architecture = text;
      this.#counts = this.#architectures.has(text);
    } else if (name === 'file') {
      const { files } = this.#lists;
      if (files.length > 0) files.ascii(',');
      files.utf8(JSON.stringify(text));
      this.#addKey('provides', text);
    }
  }

  #dependency(tag: XmlTag, listName: ListName): void {
    const name = tag.find('name');
    if (name < 0) return;
    const list = this.#lists[listName];
    if (list.length > 0) list.ascii(',');
    const flags = tag.find('flags');
    const constraint = flags < 0 ? undefined : relationOf(tag, flags);
    if (tag.isPlain) {
      list.ascii(constraint === undefined ? '"' : '["');
      list.copy(tag.bytes, tag.start(name), tag.end(name));
      list.ascii('"');
      if (constraint !== undefined) {
        list.ascii(`,"${constraint} `);
        copyVersion(tag, list);
        list.ascii('"]');
      }
      if (listName === 'provides') this.#index.addKey('provides', tag.bytes, tag.start(name), tag.end(name));
      return;
    }
    const text = tag.attribute('name') ?? '';
    const item = constraint === undefined ? text : [text, `${constraint} ${versionText(tag)}`];
    list.utf8(JSON.stringify(item));
    if (listName === 'provides') this.#addKey('provides', text);
  }

  #addKey(kind: 'name' | 'provides', text: string): void {
    const bytes = Buffer.from(text);
    this.#index.addKey(kind, bytes, 0, bytes.length);
  }

  #finish(): void {
    if (!this.#counts) {
      this.#index.dropPackage();
      return;
    }
    this.#counts = false;
    const { pending } = this;
    const { requires, provides, files } = this.#lists;
    const at = pending.length;
    pending.utf8(JSON.stringify(this.#head).slice(0, -1));
    for (const [field, list] of [
      [',"requires":[', requires],
      ['],"provides":[', provides],
      ['],"files":[', files],
    ] as const) {
      pending.ascii(field);
      pending.copy(list.view(), 0, list.length);
    }
    pending.ascii(']}\n');
    this.#addKey('name', this.#head.name);
    this.#index.keepPackage(this.#head.name, at);
  }
}

const relations = new Map([
  ['EQ', '='],
  ['GE', '>='],
  ['LE', '<='],
  ['GT', '>'],
  ['LT', '<'],
]);

function relationOf(tag: XmlTag, flags: number): string | undefined {
  // The first letters tell most of them apart, without a string for each.
  if (tag.end(flags) - tag.start(flags) !== 2) return undefined;
  return relations.get(
    String.fromCharCode(tag.bytes[tag.start(flags)] ?? 0, tag.bytes[tag.start(flags) + 1] ?? 0),
  );
}

/** EPOCH:VERSION-RELEASE without an epoch of 0, and without a release where there is none. */
function copyVersion(tag: XmlTag, list: ByteText): void {
  const { bytes } = tag;
  const epoch = tag.find('epoch');
  const isZero = epoch < 0 || (tag.end(epoch) - tag.start(epoch) === 1 && bytes[tag.start(epoch)] === 0x30);
  if (!isZero && tag.end(epoch) > tag.start(epoch)) {
    list.copy(bytes, tag.start(epoch), tag.end(epoch));
    list.ascii(':');
  }
  const version = tag.find('ver');
  if (version >= 0) list.copy(bytes, tag.start(version), tag.end(version));
  const release = tag.find('rel');
  if (release >= 0 && tag.end(release) > tag.start(release)) {
    list.ascii('-');
    list.copy(bytes, tag.start(release), tag.end(release));
  }
}

/** The same as a string. */
function versionText(tag: XmlTag): string {
  const [epoch, version, release] = ['epoch', 'ver', 'rel'].map((name) => tag.attribute(name) ?? '');
  return `${['', '0'].includes(epoch ?? '') ? '' : `${epoch}:`}${version}${release === '' ? '' : `-${release}`}`;
}
