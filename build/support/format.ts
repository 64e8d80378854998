const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];

/** Bytes for people, in binary units: `512 B`, `2.6 MiB`, `13 MiB`. One decimal below ten. */
export function formatBytes(bytes: number): string {
  let value = Math.max(0, bytes);
  let unit = 0;
  // What would be shown as 1024 is one of the next unit.
  while (unit < units.length - 1 && Math.round(value) >= 1024) {
    value /= 1024;
    unit += 1;
  }
  const text = unit > 0 && value < 9.95 ? value.toFixed(1) : String(Math.round(value));
  return `${text} ${units[unit] ?? ''}`;
}

/** Names come from archives: what could move the cursor or reorder text is shown as a question mark. */
export function printable(text: string): string {
  // eslint-disable-next-line no-control-regex -- control characters are what is being replaced
  return text.replace(/[\u0000-\u001f\u007f-\u009f\u200e\u200f\u2028-\u202e\u2066-\u2069]/g, '?');
}
