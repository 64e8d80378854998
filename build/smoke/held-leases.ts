export interface HeldLease {
  readonly mac: string;
  readonly address: string;
}

/**
 * What clients hold after what clients.js has printed of them: of each MAC address its last ACK, unless a NAK or a
 * RELEASE came later. Lines without an event count as ACKs; a last line that was cut off does not count. Whether a
 * lease's time is over is not looked at.
 */
export function heldLeases(lines: string): readonly HeldLease[] {
  const held = new Map<string, string>();
  for (const line of lines.split('\n')) {
    const { event = 'ack', mac, address } = parseLine(line);
    if (typeof mac !== 'string') continue;
    if (event === 'ack' && typeof address === 'string') held.set(mac, address);
    else if (event === 'nak' || event === 'release') held.delete(mac);
  }
  return [...held].map(([mac, address]) => ({ mac, address }));
}

function parseLine(line: string): {
  readonly event?: unknown;
  readonly mac?: unknown;
  readonly address?: unknown;
} {
  try {
    const value: unknown = JSON.parse(line);
    return typeof value === 'object' && value !== null ? value : {};
  } catch {
    return {};
  }
}
