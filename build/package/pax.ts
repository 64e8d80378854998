/** Records that change what a member is; all others are left alone. */
const wanted =
  /^(path|linkpath|size|mtime|uid|gid|uname|gname|SCHILY\.xattr\.security\.capability|GNU\.sparse\..*)$/;

/**
 * The records of a pax extended header, `LENGTH KEY=VALUE\n` one after another (pax(1), "pax Extended Header").
 * Values are bytes: an extended attribute may hold any.
 *
 * @param fail makes the error to throw
 */
export function readPaxRecords(data: Buffer, fail: (reason: string) => Error): ReadonlyMap<string, Buffer> {
  const records = new Map<string, Buffer>();
  for (let at = 0; at < data.length;) {
    const space = data.indexOf(0x20, at);
    const digits = data.toString('latin1', at, Math.min(space, at + 8));
    const end = at + Number(digits);
    const equals = data.indexOf(0x3d, space);
    if (space === -1 || !/^\d+$/.test(digits) || end > data.length || equals === -1 || equals >= end) {
      throw fail('a pax record is damaged');
    }
    if (data[end - 1] !== 0x0a) throw fail('a pax record is damaged');
    const key = data.toString('utf8', space + 1, equals);
    if (wanted.test(key)) records.set(key, Buffer.from(data.subarray(equals + 1, end - 1)));
    at = end;
  }
  return records;
}
