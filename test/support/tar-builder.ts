import type { PackageEntry } from '../../build/package/contents.js';

/** Builds tar archives byte by byte, right or wrong, for readers to be tested with. */
export interface TarSpec {
  readonly name: string | Buffer;
  /** Type flag; default '0', a regular file. */
  readonly type?: string;
  readonly data?: Buffer;
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
  /** What the header states; default is the truth. */
  readonly size?: number | Buffer;
  readonly mtime?: number;
  readonly linkName?: string | Buffer;
  readonly userName?: string;
  readonly groupName?: string;
  readonly major?: number;
  readonly minor?: number;
  readonly prefix?: string;
  readonly format?: 'ustar' | 'gnu' | 'v7';
  /** What the header states; default is the truth. */
  readonly checksum?: number;
}

const magics = { ustar: 'ustar\x0000', gnu: 'ustar  \0', v7: '' };

/** One member: header block, data, padding. */
export function tarMember(spec: TarSpec): Buffer {
  const data = spec.data ?? Buffer.alloc(0);
  const block = Buffer.alloc(512);
  const put = (offset: number, value: string | Buffer) => Buffer.from(value).copy(block, offset);
  const octal = (offset: number, length: number, value: number) => {
    put(offset, `${value.toString(8).padStart(length - 1, '0')}\0`);
  };
  put(0, spec.name);
  octal(100, 8, spec.mode ?? 0o644);
  octal(108, 8, spec.uid ?? 0);
  octal(116, 8, spec.gid ?? 0);
  const size = spec.size ?? data.length;
  if (typeof size === 'number') octal(124, 12, size);
  else put(124, size);
  octal(136, 12, spec.mtime ?? 0);
  put(156, spec.type ?? '0');
  put(157, spec.linkName ?? '');
  const format = spec.format ?? 'ustar';
  put(257, magics[format]);
  if (format !== 'v7') {
    put(265, spec.userName ?? 'root');
    put(297, spec.groupName ?? 'root');
    octal(329, 8, spec.major ?? 0);
    octal(337, 8, spec.minor ?? 0);
    put(345, spec.prefix ?? '');
  }
  block.fill(' ', 148, 156);
  const sum = spec.checksum ?? block.reduce((total, byte) => total + byte, 0);
  put(148, `${sum.toString(8).padStart(6, '0')}\0 `);
  return Buffer.concat([block, data, Buffer.alloc((512 - (data.length % 512)) % 512)]);
}

/** A pax extended header with these records. */
export function paxHeader(records: Readonly<Record<string, string | Buffer>>, type: 'x' | 'g' = 'x'): Buffer {
  const data = Object.entries(records).map(([key, value]) => {
    const record = Buffer.concat([Buffer.from(` ${key}=`), Buffer.from(value), Buffer.from('\n')]);
    let length = record.length;
    while (length !== record.length + String(length).length) length = record.length + String(length).length;
    return Buffer.concat([Buffer.from(String(length)), record]);
  });
  return tarMember({ name: 'PaxHeaders/x', type, data: Buffer.concat(data) });
}

/** GNU tar's long name (`L`) or long link (`K`) for the next member. */
export function gnuLong(type: 'L' | 'K', name: string): Buffer {
  return tarMember({ name: '././@LongLink', type, data: Buffer.from(`${name}\0`), format: 'gnu' });
}

/** Members and the end mark. */
export function tarArchive(members: readonly (TarSpec | Buffer)[]): Buffer {
  const blocks = members.map((member) => (Buffer.isBuffer(member) ? member : tarMember(member)));
  return Buffer.concat([...blocks, Buffer.alloc(1024)]);
}

/** The lines of `tar --utc --full-time --numeric-owner --quoting-style=literal -tv`, spaces squeezed. */
export function listingLines(listing: string): string[] {
  return listing
    .trimEnd()
    .split('\n')
    .map((line) => line.replace(/ +/g, ' ').replace(/(\d\d:\d\d:\d\d)\.\d+/, '$1'));
}

/** How such a listing shows an entry. */
export function listingLine(entry: PackageEntry): string {
  const types: Readonly<Record<PackageEntry['kind'], string>> = {
    file: '-',
    hardlink: 'h',
    symlink: 'l',
    directory: 'd',
    fifo: 'p',
    'character-device': 'c',
    'block-device': 'b',
  };
  const bits = Array.from({ length: 9 }, (_, index) =>
    (entry.mode & (0o400 >> index)) !== 0 ? 'rwx'.charAt(index % 3) : '-',
  );
  const special = (bit: number, index: number, letter: string) => {
    if ((entry.mode & bit) !== 0) bits[index] = bits[index] === 'x' ? letter : letter.toUpperCase();
  };
  special(0o4000, 2, 's');
  special(0o2000, 5, 's');
  special(0o1000, 8, 't');
  const size = 'major' in entry ? `${entry.major},${entry.minor}` : entry.kind === 'file' ? entry.size : 0;
  const time = new Date(entry.mtime * 1000).toISOString().slice(0, 19).replace('T', ' ');
  const slash = entry.kind === 'directory' && entry.path !== '' ? '/' : '';
  const link =
    entry.kind === 'symlink'
      ? ` -> ${entry.target}`
      : entry.kind === 'hardlink'
        ? ` link to ./${entry.target}`
        : '';
  const owner = `${entry.uid}/${entry.gid}`;
  return `${types[entry.kind]}${bits.join('')} ${owner} ${size} ${time} ./${entry.path}${slash}${link}`;
}
