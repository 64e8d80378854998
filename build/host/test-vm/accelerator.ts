import { access, constants } from 'node:fs/promises';
import { $ } from 'zx';
import type { VmArchitecture, VmImage } from './description.js';

/** How the guest's processor is made: by the machine's own, or in software. */
export type Accelerator = 'kvm' | 'tcg';

/** This host's. */
export const ownArchitecture: VmArchitecture | undefined =
  process.arch === 'x64' ? 'x86_64' : process.arch === 'arm64' ? 'aarch64' : undefined;

/** Seconds that a kernel under KVM has to reach its first program. It needs one. */
const patience = 20;

/**
 * KVM where a guest really runs under it. A /dev/kvm that opens proves nothing: inside some virtual machines the guest
 * then never gets anywhere.
 */
export async function chooseAccelerator(image: VmImage): Promise<Accelerator> {
  if (image.architecture !== ownArchitecture) return 'tcg';
  const opens = await access('/dev/kvm', constants.R_OK | constants.W_OK).then(
    () => true,
    () => false,
  );
  if (!opens) return 'tcg';
  const argv = [...processorOf(image, 'kvm'), ...kernelOf(image, 'probe panic=-1')];
  const result = await $({
    quiet: true,
    nothrow: true,
  })`timeout --kill-after=1 ${patience} ${argv} -no-reboot -display none -serial stdio -monitor none`;
  return result.stdout.includes('the guest runs') ? 'kvm' : 'tcg';
}

/** The emulator and its arguments for processor, memory and board. */
export function processorOf(image: VmImage, accelerator: Accelerator): readonly [string, ...string[]] {
  const board =
    image.architecture === 'aarch64'
      ? ['-machine', accelerator === 'kvm' ? 'virt,gic-version=host' : 'virt']
      : ['-machine', 'q35,sata=off,smbus=off'];
  // With two processors in software the guest's kernel crashes (QEMU 7.2); signed pointers are slow in software.
  const processor =
    accelerator === 'kvm'
      ? ['-cpu', 'host', '-smp', '2']
      : ['-cpu', image.architecture === 'aarch64' ? 'max,pauth-impdef=on' : 'max', '-smp', '1'];
  return [
    `qemu-system-${image.architecture}`,
    ...['-nodefaults', '-no-user-config', ...board, '-accel', accelerator, ...processor, '-m', '2048'],
  ];
}

/** The guest's serial line. */
export function consoleOf({ architecture }: VmImage): string {
  return architecture === 'aarch64' ? 'ttyAMA0' : 'ttyS0';
}

/** Boots the kernel directly: no firmware menu, no boot loader. */
export function kernelOf(image: VmImage, more: string): readonly string[] {
  const line = `console=${consoleOf(image)} root=/dev/vda rw net.ifnames=0 mitigations=off ${more}`;
  return ['-kernel', image.kernel, '-initrd', image.initrd, '-append', line];
}
