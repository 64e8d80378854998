/** The bytes are no SQLite database that can be read here. */
export class SqliteError extends Error {}

/** A value of a record; blobs and numbers that are not whole are not told apart, as nobody asks for them. */
export type SqliteValue = string | number | null;

const magic = 'SQLite format 3\0';
const headerBytes = 100;
/** Rows of the catalogue that are looked at. */
const maxTables = 10_000;

/**
 * Reads the rows of one table of a SQLite database (sqlite.org/fileformat2.html): the columns that stand in the row's
 * own page, in the table's order. A later column of a long row may be missing.
 *
 * @param database the whole file; a write-ahead log that belongs to it must be empty
 * @throws SqliteError for damage and for a table that is not there
 */
export function* readTable(
  database: Buffer,
  table: string,
): Generator<readonly SqliteValue[], void, undefined> {
  if (database.toString('latin1', 0, magic.length) !== magic || database.length < headerBytes) {
    throw new SqliteError('it is no SQLite database');
  }
  // 65536 does not fit into the field.
  const stated = database.readUInt16BE(16);
  const pageBytes = stated === 1 ? 65_536 : stated;
  if (pageBytes < 512 || (pageBytes & (pageBytes - 1)) !== 0) throw new SqliteError('its page size is wrong');
  if (![0, 1].includes(database.readUInt32BE(56))) throw new SqliteError('its texts are not UTF-8');
  const pages: Pages = { database, pageBytes, usable: pageBytes - database.readUInt8(20) };
  if (pages.usable < 480) throw new SqliteError('its page size is wrong');

  let seen = 0;
  for (const [type, name, , root] of readTree(pages, 1)) {
    seen += 1;
    if (seen > maxTables) throw new SqliteError('it has too many tables');
    if (type !== 'table' || name !== table || typeof root !== 'number') continue;
    yield* readTree(pages, root);
    return;
  }
  throw new SqliteError(`it has no table ${table}`);
}

interface Pages {
  readonly database: Buffer;
  readonly pageBytes: number;
  /** Bytes of a page without what is reserved at its end. */
  readonly usable: number;
}

/** Walks a table b-tree in the order of its row numbers. */
function* readTree(pages: Pages, root: number): Generator<readonly SqliteValue[], void, undefined> {
  const todo = [root];
  const seen = new Set<number>();
  for (let number = todo.pop(); number !== undefined; number = todo.pop()) {
    if (seen.has(number)) throw new SqliteError('its pages form a circle');
    seen.add(number);
    const page = pageAt(pages, number);
    const header = number === 1 ? headerBytes : 0;
    const type = page.readUInt8(header);
    if (type !== interiorPage && type !== leafPage) throw new SqliteError(`page ${number} is of no table`);
    const pointers = header + (type === interiorPage ? 12 : 8);
    const cells = Array.from({ length: page.readUInt16BE(header + 3) }, (_, index) =>
      within(page, pointers + 2 * index, 2).readUInt16BE(),
    );
    if (type === leafPage) {
      for (const cell of cells) yield readRow(pages, page, cell);
      continue;
    }
    const children = cells.map((cell) => within(page, cell, 4).readUInt32BE());
    todo.push(...[...children, page.readUInt32BE(header + 8)].reverse());
  }
}

const interiorPage = 0x05;
const leafPage = 0x0d;

function pageAt({ database, pageBytes, usable }: Pages, number: number): Buffer {
  return within(database, (number - 1) * pageBytes, usable);
}

function readRow({ usable }: Pages, page: Buffer, cell: number): readonly SqliteValue[] {
  const size = readVarint(page, cell);
  const rowId = readVarint(page, size.end);
  // Section 1.6: how much of a row is in its own page.
  const most = usable - 35;
  const least = Math.floor(((usable - 12) * 32) / 255) - 23;
  const surplus = least + ((size.value - least) % (usable - 4));
  const local = size.value <= most ? size.value : surplus <= most ? surplus : least;
  const row = within(page, rowId.end, local);

  const header = readVarint(row, 0);
  const values: SqliteValue[] = [];
  let at = header.value;
  for (let next = header.end; next < header.value;) {
    const type = readVarint(row, next);
    next = type.end;
    const bytes = bytesOf(type.value);
    if (at + bytes > row.length) break;
    values.push(valueOf(type.value, row.subarray(at, at + bytes)));
    at += bytes;
  }
  return values;
}

const fixedBytes = [0, 1, 2, 3, 4, 6, 8, 8, 0, 0];

function bytesOf(type: number): number {
  if (type < 10) return fixedBytes[type] ?? 0;
  if (type < 12) throw new SqliteError('a row is damaged');
  return Math.floor((type - 12) / 2);
}

function valueOf(type: number, bytes: Buffer): SqliteValue {
  if (type >= 13 && type % 2 === 1) return bytes.toString();
  if (type === 8 || type === 9) return type - 8;
  if (type >= 1 && type <= 5) return bytes.readIntBE(0, bytes.length);
  if (type === 6) return Number(bytes.readBigInt64BE());
  return null;
}

/** Big-endian, seven bits a byte, and eight in the ninth. */
function readVarint(bytes: Buffer, offset: number): { readonly value: number; readonly end: number } {
  let value = 0n;
  for (let index = 0; index < 9; index += 1) {
    const byte = BigInt(within(bytes, offset + index, 1).readUInt8());
    value = index === 8 ? (value << 8n) | byte : (value << 7n) | (byte & 0x7fn);
    if (index === 8 || (byte & 0x80n) === 0n) {
      const number = Number(value);
      // Sizes beyond this are damage; row numbers are not looked at.
      return {
        value: Number.isSafeInteger(number) ? number : Number.MAX_SAFE_INTEGER,
        end: offset + index + 1,
      };
    }
  }
  throw new SqliteError('a number is damaged');
}

function within(bytes: Buffer, offset: number, length: number): Buffer {
  if (offset < 0 || offset + length > bytes.length) throw new SqliteError('it is cut off or damaged');
  return bytes.subarray(offset, offset + length);
}
