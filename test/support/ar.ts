/** Builds ar archives byte by byte, right or wrong, for readers to be tested with. */
export interface ArMemberSpec {
  readonly name: string;
  readonly data: Buffer;
  readonly mtime?: number | string;
  /** What the header states; default is the truth. */
  readonly size?: number | string;
  /** What follows data of odd length; default is a newline. */
  readonly padding?: string;
  readonly magic?: string;
}

function arMember(spec: ArMemberSpec): Buffer {
  const { name, data, mtime = 0, size = data.length, magic = '`\n' } = spec;
  const header =
    name.padEnd(16) +
    String(mtime).padEnd(12) +
    '0'.padEnd(6) +
    '0'.padEnd(6) +
    '100644'.padEnd(8) +
    String(size).padEnd(10) +
    magic;
  const padding = spec.padding ?? (data.length % 2 === 1 ? '\n' : '');
  return Buffer.concat([Buffer.from(header, 'latin1'), data, Buffer.from(padding, 'latin1')]);
}

export function arArchive(members: readonly ArMemberSpec[]): Buffer {
  return Buffer.concat([Buffer.from('!<arch>\n'), ...members.map(arMember)]);
}
