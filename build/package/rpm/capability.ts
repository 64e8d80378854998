import { capabilities } from '../capabilities.js';

const all = (1n << BigInt(capabilities.length)) - 1n;

/**
 * The value of the security.capability extended attribute for a text of cap_from_text(3), such as `cap_net_raw=ep`:
 * `struct vfs_cap_data` of linux/capability.h, revision 2.
 *
 * @returns undefined when the text is wrong, or says what the attribute cannot: some effective capabilities alone
 */
export function capabilityAttribute(text: string): Buffer | undefined {
  const sets = { e: 0n, i: 0n, p: 0n };
  for (const clause of text.split(/\s+/).filter((word) => word !== '')) {
    const parts = /^([a-z0-9_,]*)((?:[=+-][eip]*)+)$/i.exec(clause);
    const mask = parts === null ? undefined : maskOf(parts[1]?.toLowerCase() ?? '');
    if (mask === undefined) return undefined;
    for (const [, operator, flags = ''] of (parts?.[2] ?? '').matchAll(/([=+-])([eip]*)/gi)) {
      // Only `=` may stand without names, and alone it takes everything away.
      if (parts?.[1] === '' && operator !== '=' && !clause.startsWith('=')) return undefined;
      if (operator === '=') for (const set of ['e', 'i', 'p'] as const) sets[set] &= ~mask;
      for (const set of ['e', 'i', 'p'] as const) {
        if (!flags.toLowerCase().includes(set)) continue;
        sets[set] = operator === '-' ? sets[set] & ~mask : sets[set] | mask;
      }
    }
  }
  const held = sets.p | sets.i;
  if (sets.e !== 0n && (held & ~sets.e) !== 0n) return undefined;
  const value = Buffer.alloc(20);
  value.writeUInt32LE(0x02000000 | (sets.e === 0n ? 0 : 1));
  [sets.p, sets.i].forEach((set, index) => {
    value.writeUInt32LE(Number(set & 0xffffffffn), 4 + index * 4);
    value.writeUInt32LE(Number(set >> 32n), 12 + index * 4);
  });
  return value;
}

function maskOf(names: string): bigint | undefined {
  if (names === '' || names === 'all') return all;
  let mask = 0n;
  for (const name of names.split(',')) {
    const number = capabilities.indexOf(name.replace(/^cap_/, ''));
    if (!name.startsWith('cap_') || number === -1) return undefined;
    mask |= 1n << BigInt(number);
  }
  return mask;
}
