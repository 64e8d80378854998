import { capabilities } from '../package/capabilities.js';
import { cannot } from '../support/errors.js';

/**
 * Names, in capitals without CAP_, of the permitted and inheritable capabilities in a security.capability attribute:
 * `struct vfs_cap_data` of linux/capability.h, revisions 1 to 3, little-endian.
 *
 * @param file names the file in the error
 * @throws ToolError for a value of another shape
 */
export function capabilityNames(value: Buffer, file: string): readonly string[] {
  const revision = value.length >= 4 ? value.readUInt8(3) : 0;
  const length = new Map([
    [1, 12],
    [2, 20],
    [3, 24],
  ]).get(revision);
  if (length === undefined || value.length !== length) {
    throw cannot('read', `the file capability of ${file}`, 'the attribute has an unknown form', {
      hint: 'leave the file out of the definition',
    });
  }
  const found: string[] = [];
  for (let word = 0; word < (revision === 1 ? 1 : 2); word += 1) {
    const bits = value.readUInt32LE(4 + word * 8) | value.readUInt32LE(8 + word * 8);
    for (let bit = 0; bit < 32; bit += 1) {
      if ((bits & (1 << bit)) !== 0) found.push(nameOf(word * 32 + bit));
    }
  }
  return found;
}

function nameOf(number: number): string {
  return capabilities[number]?.toUpperCase() ?? `number ${number}`;
}
