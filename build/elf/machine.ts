import type { Architecture } from '../support/architecture.js';
import { cannot } from '../support/errors.js';
import type { Endianness } from './bytes.js';
import type { ElfClass, ElfHeader } from './header.js';

/** What the ELF header of every object of an architecture says. */
export interface ElfMachine {
  readonly class: ElfClass;
  readonly data: Endianness;
  /** EM_*. */
  readonly machine: number;
  /** Bits of e_flags that the loader compares, and their value; another value is another ABI. */
  readonly flags: { readonly mask: number; readonly value: readonly number[] };
  /** Subdirectories of `glibc-hwcaps`, the most demanding CPU first (ld.so(8)). */
  readonly hwcaps: readonly string[];
}

const anyFlags = { mask: 0, value: [0] };

const machines: Readonly<Record<Architecture, ElfMachine>> = {
  x86_64: {
    class: 64,
    data: 'little',
    machine: 62,
    flags: anyFlags,
    hwcaps: ['x86-64-v4', 'x86-64-v3', 'x86-64-v2'],
  },
  aarch64: { class: 64, data: 'little', machine: 183, flags: anyFlags, hwcaps: [] },
  i686: { class: 32, data: 'little', machine: 3, flags: anyFlags, hwcaps: [] },
  armv7l: { class: 32, data: 'little', machine: 40, flags: anyFlags, hwcaps: [] },
  // EF_PPC64_ABI: 2 is ELFv2, 0 is unspecified, 1 is the ABI of the big-endian systems.
  ppc64le: {
    class: 64,
    data: 'little',
    machine: 21,
    flags: { mask: 3, value: [0, 2] },
    hwcaps: ['power10', 'power9'],
  },
  // EF_RISCV_FLOAT_ABI and EF_RISCV_RVE: the distributions use doubles in registers (lp64d).
  riscv64: { class: 64, data: 'little', machine: 243, flags: { mask: 0xe, value: [4] }, hwcaps: [] },
  s390x: { class: 64, data: 'big', machine: 22, flags: anyFlags, hwcaps: ['z16', 'z15', 'z14', 'z13'] },
};

const machineNames = new Map([
  [2, 'SPARC'],
  [3, 'x86'],
  [8, 'MIPS'],
  [20, 'PowerPC'],
  [21, 'PowerPC64'],
  [22, 's390'],
  [40, 'ARM'],
  [62, 'x86-64'],
  [183, 'AArch64'],
  [243, 'RISC-V'],
  [258, 'LoongArch'],
]);

export function elfMachine(architecture: Architecture): ElfMachine {
  return machines[architecture];
}

/** Whether an object is for the architecture. */
export function sameMachine(header: ElfHeader, machine: ElfMachine): boolean {
  return (
    header.class === machine.class &&
    header.data === machine.data &&
    header.machine === machine.machine &&
    machine.flags.value.includes(header.flags & machine.flags.mask)
  );
}

/** @throws ToolError when an object is not for the architecture */
export function checkMachine(header: ElfHeader, architecture: Architecture, name: string): void {
  if (sameMachine(header, elfMachine(architecture))) return;
  const made = machineNames.get(header.machine) ?? `machine ${header.machine}`;
  throw cannot(
    'load',
    name,
    `it is made for ${made} (${header.class}-bit, ${header.data}-endian), not for ${architecture}`,
    { hint: 'choose the architecture of the package, or the package of the architecture' },
  );
}
