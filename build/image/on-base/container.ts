import type { Storage } from '../buildah-storage.js';

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

  /** Runs a program as root. Gives what it wrote to stdout. */
  async run(argv: readonly string[], { hostNetwork = false }: RunOptions = {}): Promise<string> {
    return this.#storage.buildah(
      ...['run', '--user', '0:0', '--workingdir', '/', ...this.#environment],
      ...(hostNetwork ? ['--network', 'host'] : []),
      ...[this.#name, '--', ...argv],
    );
  }

  /** Runs a script of sh(1). Gives what it wrote to stdout. */
  async shell(script: string, words: readonly string[] = []): Promise<string> {
    return this.run(['/bin/sh', '-c', script, 'sh', ...words]);
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
