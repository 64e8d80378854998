import { chown, mkdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import { reasonOf } from '../support/errors.js';
import type { Bench } from './bench.js';
import { Failure } from './check.js';
import type { LanConfig } from './server-kind.js';

/**
 * The image's server without its container, for hundreds of starts: the image's own files, the service's account and
 * capabilities, the lab's network. A start takes hundredths of a second in place of tenths.
 */
export interface BareServer {
  /**
   * Starts the server on this file of leases, after the unit's script has looked at it as before every start. Ends
   * the server as soon as it has read and rewritten the file, and gives what it has written.
   *
   * @throws Failure when it has not
   */
  rewrite(leases: Buffer): Promise<string>;
}

/** Milliseconds from a start to the rewritten file. */
const patience = 15_000;

/** @param seen what the server has made of each file so far: it is not started twice on the same bytes */
export async function openBareServer(
  bench: Bench,
  config: LanConfig,
  seen: Map<string, string>,
): Promise<BareServer> {
  const { exec, lab, definition, kind, signal } = bench.site;
  const service = await bench.service({ config });
  const state = await bench.stateDirectory();
  const root = `${state}-root`;
  await mkdir(root);
  const command = (...argv: readonly [string, ...string[]]): Promise<unknown> =>
    exec({ argv, environment: lab.environment, timeout: 10_000 });
  const mount = async (from: string, to: string): Promise<void> => {
    await command('mount', '--bind', from, to);
    bench.defer(() => command('umount', '--lazy', to));
  };
  await mount(await bench.site.podman.mount(service.image), root);
  await mount(state, join(root, service.state?.container ?? ''));
  await mount(service.config?.host ?? '', join(root, service.config?.container ?? ''));

  const leases = join(state, kind.leases);
  const program = await bench.site.podman.inspectImage(service.image, '{{join .Config.Entrypoint "\\n"}}');
  // chroot(2) needs a right of its own, which the server then has as well and does not use.
  const rights = [...definition.capabilities, 'SYS_CHROOT'].map((name) => `+${name.toLowerCase()}`).join(',');
  const argv = [
    ...(['ip', 'netns', 'exec', lab.server.namespace, 'setpriv'] as const),
    ...[`--reuid=${service.account}`, `--regid=${service.account}`, '--clear-groups', '--no-new-privs'],
    ...[`--inh-caps=${rights}`, `--ambient-caps=${rights}`, `--bounding-set=-all,${rights}`],
    // From within: the account may not be able to come here by the directory's path.
    ...['chroot', '.', ...program.split('\n'), ...service.command],
  ] as const;

  return {
    rewrite: async (text) => {
      await rm(`${leases}~`, { force: true });
      await writeFile(leases, text);
      await chown(leases, service.account, service.account);
      await bench.site.script.mend(service, state);
      const mended = await readFile(leases, 'latin1');
      const known = seen.get(mended);
      if (known !== undefined) return known;
      const { ino } = await stat(leases);
      const stop = new AbortController();
      let ended: unknown;
      const server = exec({
        argv,
        cwd: root,
        environment: lab.environment,
        timeout: patience,
        signal: AbortSignal.any([stop.signal, signal]),
      }).then(
        () => {
          ended = new Error('it has ended');
        },
        (error: unknown) => {
          ended = error;
        },
      );
      try {
        // The new file takes the place of the old one when it is complete.
        while ((await stat(leases).catch(() => ({ ino }))).ino === ino) {
          signal.throwIfAborted();
          if (ended !== undefined) throw new Failure(reasonOf(ended));
          await sleep(2);
        }
        const rewritten = await readFile(leases, 'utf8');
        seen.set(mended, rewritten);
        return rewritten;
      } finally {
        stop.abort();
        await server;
      }
    },
  };
}
