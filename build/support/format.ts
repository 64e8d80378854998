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
