import { cannot } from './errors.js';

/** Processor architectures under their kernel names (`uname -m`). */
export const architectures = ['x86_64', 'aarch64', 'i686', 'armv7l', 'ppc64le', 'riscv64', 's390x'] as const;
export type Architecture = (typeof architectures)[number];

const aliases = new Map<string, Architecture>([
  ...architectures.map((name): [string, Architecture] => [name, name]),
  ['amd64', 'x86_64'],
  ['x64', 'x86_64'],
  ['arm64', 'aarch64'],
  ['i386', 'i686'],
  ['ia32', 'i686'],
  ['armhf', 'armv7l'],
  ['arm', 'armv7l'],
  ['ppc64el', 'ppc64le'],
]);

/** Parses one architecture name: kernel, Debian, OCI and Node spellings. @throws ToolError with exit code 2 */
export function parseArchitecture(name: string): Architecture {
  const found = aliases.get(name.toLowerCase());
  if (found === undefined) {
    throw cannot('build for', `architecture ${JSON.stringify(name)}`, 'it is not known', {
      hint: `known are ${architectures.join(', ')} (and amd64, arm64, i386, armhf, ppc64el)`,
      exitCode: 2,
    });
  }
  return found;
}
