import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { readAptConfiguration, hostRelease } from '../../repository/debian/apt-config.js';
import { chooseSources } from '../../repository/debian/suites.js';
import { run } from '../../support/exec.js';
import { silentLog } from '../../support/log.js';

/** What mmdebstrap is told of the archive. */
export interface VmSources {
  /** One-line sources of sources.list(5). */
  readonly lines: readonly string[];
  readonly environment: Readonly<Record<string, string>>;
}

/**
 * The host's own sources of Debian with another suite in them. The host's configuration stays as it is.
 *
 * @param work directory for keys that are written into a source itself
 * @throws ToolError on a host without apt
 */
export async function sourcesOf(suite: string, architecture: string, work: string): Promise<VmSources> {
  const environment = process.env;
  const apt = await readAptConfiguration({ exec: run, environment, log: silentLog });
  const choice = { apt, hostRelease: await hostRelease(), suite, mirrors: [], keyring: undefined };
  const { sources } = await chooseSources(choice, silentLog);
  const lines: string[] = [];
  for (const { uri, suite: name, components, keyring } of sources) {
    const files = [...keyring.files];
    for (const block of keyring.blocks) {
      const file = join(work, `key-${lines.length}-${files.length}.asc`);
      await writeFile(file, block);
      files.push(file);
    }
    const signedBy = files.length === 0 ? '' : ` signed-by=${files.join(',')}`;
    const line = `deb [arch=${architecture}${signedBy}] ${uri} ${name} ${components.join(' ')}`;
    if (!lines.includes(line)) lines.push(line);
  }
  const inherited = Object.entries(environment).filter(
    (entry): entry is [string, string] => entry[1] !== undefined,
  );
  return { lines, environment: { ...Object.fromEntries(inherited), ...apt?.proxyEnvironment } };
}
