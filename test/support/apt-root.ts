import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { run } from '../../build/support/exec.js';
import { ToolError } from '../../build/support/errors.js';

/** The real apt in a root of its own: the oracle for what to accept, and for which version to choose. */
export interface AptRoot {
  /** @returns undefined when apt accepts every source, else what it said */
  update(sources: string, options?: readonly string[]): Promise<string | undefined>;
  /** Version apt would install, after `update`. */
  candidate(name: string): Promise<string | undefined>;
  /** `apt-config dump` as this root's apt gives it. */
  readonly options: readonly string[];
  readonly directory: string;
  remove(): Promise<void>;
}

export async function makeAptRoot(): Promise<AptRoot> {
  const directory = await mkdtemp(join(tmpdir(), 'apt-'));
  for (const path of [
    'etc/apt/sources.list.d',
    'etc/apt/trusted.gpg.d',
    'etc/apt/preferences.d',
    'state',
    'cache',
  ]) {
    await mkdir(join(directory, path), { recursive: true });
  }
  await writeFile(join(directory, 'status'), '');
  const settings: Record<string, string> = {
    'Dir::Etc': join(directory, 'etc/apt'),
    'Dir::State': join(directory, 'state'),
    'Dir::State::status': join(directory, 'status'),
    'Dir::Cache': join(directory, 'cache'),
    'APT::Sandbox::User': 'root',
    'APT::Architecture': 'amd64',
    'APT::Architectures': 'amd64',
    'Acquire::Check-Valid-Until': 'true',
    'Acquire::Check-Date': 'true',
    'Acquire::Languages': 'none',
    'Acquire::http::Proxy': 'DIRECT',
    'Acquire::Retries': '0',
    'APT::Update::Post-Invoke-Success::': '',
    // Where sqv is installed, apt 3 asks that unless told so; its verdicts are others where signatures are mixed.
    'APT::Key::GPGVCommand': 'gpgv',
  };
  const options = Object.entries(settings).flatMap(([name, value]) => ['-o', `${name}=${value}`]);
  const environment = { PATH: process.env['PATH'] ?? '/usr/bin:/bin', LC_ALL: 'C' };
  return {
    directory,
    options,
    update: async (sources, more = []) => {
      const name = sources.startsWith('Types:') ? 'test.sources' : 'test.list';
      await rm(join(directory, 'etc/apt/sources.list.d'), { recursive: true });
      await mkdir(join(directory, 'etc/apt/sources.list.d'));
      await writeFile(join(directory, 'etc/apt/sources.list.d', name), sources);
      try {
        await run({ argv: ['apt-get', ...options, ...more, '--error-on=any', 'update'], environment });
        return undefined;
      } catch (error) {
        if (error instanceof ToolError) return error.message;
        throw error;
      }
    },
    candidate: async (name) => {
      const { stdout } = await run({ argv: ['apt-cache', ...options, 'policy', name], environment });
      const version = /^ {2}Candidate: (.*)$/m.exec(stdout)?.[1];
      return version === '(none)' ? undefined : version;
    },
    remove: () => rm(directory, { recursive: true, force: true }),
  };
}
