/** What dhcpd's lease file says of one address: dhcpd.leases(5). */
export interface RecordedLease {
  readonly address: string;
  /** Such as `active` or `free`. */
  readonly state: string;
  /** Undefined where nobody has had the address. */
  readonly mac: string | undefined;
  /** As written, such as `0 2026/11/29 14:00:00`, in UTC. */
  readonly ends: string;
}

/** Every record, oldest first. One that is not complete does not count. */
export function leaseRecords(text: string): readonly RecordedLease[] {
  return [...text.matchAll(/^lease ([0-9.]+) \{\n([^}]*)^\}$/gm)].map(([, address = '', body = '']) => ({
    address,
    state: /^ *binding state ([a-z]+);$/m.exec(body)?.[1] ?? '',
    mac: /^ *hardware ethernet ([0-9a-f:]+);$/m.exec(body)?.[1],
    ends: /^ *ends ([^;]+);$/m.exec(body)?.[1] ?? '',
  }));
}

/** What holds for each address: its last record. */
export function recordedLeases(text: string): ReadonlyMap<string, RecordedLease> {
  return new Map(leaseRecords(text).map((record) => [record.address, record]));
}
