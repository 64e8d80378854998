import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readTable, SqliteError } from '../../build/compare/sqlite.js';
import { requireTools } from '../support/tools.js';

let work = '';
beforeAll(() => {
  work = mkdtempSync(join(tmpdir(), 'sqlite-'));
});
afterAll(() => {
  rmSync(work, { recursive: true });
});

/** Writes a database with Python's SQLite and gives its bytes. @param script gets `db`, an open connection */
function database(script: string): Buffer {
  const path = join(work, 'it.sqlite');
  rmSync(path, { force: true });
  const program = `import sqlite3, sys\ndb = sqlite3.connect(sys.argv[1], isolation_level=None)\n${script}\ndb.close()`;
  execFileSync('python3', ['-c', program, path]);
  return readFileSync(path);
}

describe.skipIf(!requireTools('python3'))('a table', () => {
  it.each([512, 1024, 4096, 65_536])('is read from pages of %d bytes, over many of them', (pageBytes) => {
    const bytes = database(`
db.execute('pragma page_size = ${pageBytes}')
db.execute('create table other (a)')
db.execute('create table names (key text not null, number integer, empty, half real)')
db.execute('begin')
for n in range(5000): db.execute('insert into names values (?, ?, null, 0.5)', ('name-%d' % n, n * 7 - 300))
db.execute('commit')
db.execute('delete from names where number % 5 = 0')`);
    const expected = Array.from({ length: 5000 }, (_, n) => [`name-${n}`, n * 7 - 300, null, null]);
    expect([...readTable(bytes, 'names')]).toEqual(expected.filter(([, number]) => Number(number) % 5 !== 0));
    expect([...readTable(bytes, 'other')]).toEqual([]);
    expect(() => [...readTable(bytes, 'nothing')]).toThrow('it has no table nothing');
  });

  it('gives the columns before those that are in other pages', () => {
    const bytes = database(`
db.execute('create table t (key text, blob blob)')
for n in range(50): db.execute('insert into t values (?, ?)', ('k%d' % n, b'x' * (n * 999)))`);
    const rows = [...readTable(bytes, 't')];
    expect(rows.map(([key]) => key)).toEqual(Array.from({ length: 50 }, (_, n) => `k${n}`));
  });

  it('holds numbers of every width', () => {
    const values = [
      0,
      1,
      -1,
      127,
      -128,
      32_767,
      8_388_607,
      -8_388_608,
      2 ** 31 - 1,
      2 ** 40,
      -(2 ** 40),
      2 ** 52,
    ];
    const bytes = database(`
db.execute('create table t (n)')
for n in ${JSON.stringify(values)}: db.execute('insert into t values (?)', (n,))`);
    expect([...readTable(bytes, 't')].map(([n]) => n)).toEqual(values);
  });

  it('is refused where it is not SQLite', () => {
    for (const bytes of [Buffer.alloc(0), Buffer.alloc(5000), Buffer.from('SQLite format 3\0')]) {
      expect(() => [...readTable(bytes, 't')]).toThrow(SqliteError);
    }
  });

  it('never hangs or breaks on damage', () => {
    const whole = database(`
db.execute('pragma page_size = 512')
db.execute('create table names (key text not null, number integer)')
for n in range(300): db.execute('insert into names values (?, ?)', ('name-%d' % n, n))`);
    const damage = fc.array(fc.tuple(fc.nat(whole.length - 1), fc.nat(255)), { minLength: 1, maxLength: 6 });
    fc.assert(
      fc.property(damage, fc.nat(whole.length), fc.boolean(), (changes, length, cut) => {
        const bytes = Buffer.from(whole.subarray(0, cut ? length : whole.length));
        for (const [at, value] of changes) if (at < bytes.length) bytes[at] = value;
        try {
          expect([...readTable(bytes, 'names')].length).toBeLessThan(100_000);
        } catch (error) {
          expect(error).toBeInstanceOf(SqliteError);
        }
      }),
      { numRuns: 3000 },
    );
  });
});
