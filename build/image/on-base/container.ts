import { cannot } from '../../support/errors.js';
import type { Storage } from '../buildah-storage.js';

/** What a whole answer ends with. */
const whole = '(that is all)';

/** A script of sh(1) and its words, as a command. @param name its $0 */
export function shell(script: string, words: readonly string[] = [], name = 'sh'): readonly string[] {
  return ['/bin/sh', '-c', script, name, ...words];
}

export interface RunOptions {
  /** Whether a server on this machine's loopback interface must be in reach. */
  readonly hostNetwork?: boolean;
}

/** A working container: what is run in it, and what is put into it. */
export class Container {
  readonly #storage: Storage;
  readonly #name: string;
  readonly #environment: readonly string[];

  /** @param epoch the time that rpm and others write down in place of the clock's, seconds since the epoch */
  constructor(storage: Storage, name: string, epoch: number) {
    this.#storage = storage;
    this.#name = name;
    const environment = {
      // Those of the base may be missing, or hide half of it.
      PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
      HOME: '/root',
      LC_ALL: 'C.UTF-8',
      TZ: 'UTC',
      // reproducible-builds.org/specs/source-date-epoch; rpm takes it for the time of installation, too.
      SOURCE_DATE_EPOCH: String(epoch),
    };
    this.#environment = Object.entries(environment).flatMap(([key, value]) => ['--env', `${key}=${value}`]);
  }

  /** Runs a program as root. */
  async run(argv: readonly string[], options: RunOptions = {}): Promise<void> {
    await this.#run(argv, options);
  }

  /**
   * Runs a program that changes nothing, as root. Gives all that it wrote to stdout, without space around it: now and
   * then `buildah run` ends before that has come through, and half an answer about packages or accounts would be taken
   * for a whole one.
   *
   * @throws ToolError
   */
  async read(argv: readonly string[]): Promise<string> {
    for (let times = 0; times < 3; times += 1) {
      const answer = await this.#run(shell('"$@" && printf %s "$0"', argv, whole), {});
      if (answer.endsWith(whole)) return answer.slice(0, -whole.length).trim();
    }
    throw cannot('read', `what ${argv[0] ?? ''} says in a container`, 'buildah has lost the end of it', {
      hint: 'try again',
    });
  }

  async #run(argv: readonly string[], { hostNetwork = false }: RunOptions): Promise<string> {
    return this.#storage.buildah(
      ...['run', '--user', '0:0', '--workingdir', '/', ...this.#environment],
      ...(hostNetwork ? ['--network', 'host'] : []),
      ...[this.#name, '--', ...argv],
    );
  }

  /** Copies a file or what a directory holds, as root's. @param mode of files; undefined for what they have */
  async copy(from: string, to: string, mode?: string): Promise<void> {
    const modes = mode === undefined ? [] : ['--chmod', mode];
    await this.#storage.buildah('copy', '--quiet', '--chown', '0:0', ...modes, this.#name, from, to);
  }

  async configure(argv: readonly string[]): Promise<void> {
    await this.#storage.buildah('config', ...argv, this.#name);
  }
}
