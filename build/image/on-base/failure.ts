import { cannot, type ToolErrorOptions } from '../../support/errors.js';
import { failedCommand } from '../../support/exec.js';

/** Lines that say only that something went wrong, or how to get over it by hand. */
const saysNothing =
  /^(?:Error: )?(?:while running runtime|subprocess exited with status|building at|exit status|executing "?|.*: exit status \d+$)|^You can try|^\(try to |^-{4}|^Error: *$|^ *--skip-|^time="/;

/**
 * The error to throw where a command of buildah, or a program in a working container, has failed: what it said last
 * in place of the command line. Errors of another kind stay as they are.
 *
 * @param more makes the hint, and another reason, from the line
 */
export function commandFailure(
  error: unknown,
  verb: string,
  object: string,
  more: (said: string) => ToolErrorOptions & { readonly reason?: string },
): unknown {
  const failed = failedCommand(error);
  if (failed?.exitCode === undefined) return error;
  const lines = `${failed.stdout}\n${failed.stderr}`
    .split(/[\r\n]+/)
    .map((line) => line.trim())
    .filter((line) => line !== '');
  const full = lines.find((line) => /no space left on device|more space needed on/i.test(line));
  if (full !== undefined) {
    return cannot(verb, object, 'no space is left on the device that holds the container storage', {
      hint: 'free some; `podman system df` shows what takes it',
      cause: error,
    });
  }
  const foreign = lines.some((line) => /exec format error/i.test(line));
  if (foreign) {
    return cannot(verb, object, 'this machine cannot run programs of that architecture', {
      hint: 'register an emulator (qemu-user-static), or build on such a machine',
      cause: error,
    });
  }
  const said = (lines.findLast((line) => !saysNothing.test(line)) ?? lines.at(-1) ?? 'it failed').replace(
    /^Error: /i,
    '',
  );
  if (/slirp4netns|\bpasta\b|netavark|cgroup|\/dev\/net\/tun/i.test(said)) {
    return cannot(verb, object, `buildah cannot run programs in a container here: ${said.slice(0, 500)}`, {
      hint: 'set BUILDAH_ISOLATION=chroot, which needs less of the machine',
      cause: error,
    });
  }
  const { reason, ...options } = more(lines.join('\n'));
  return cannot(verb, object, reason ?? said.slice(0, 500), { cause: error, ...options });
}
