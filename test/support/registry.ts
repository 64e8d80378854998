import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

/** Debian's docker-registry on a port of loopback, with nothing in it. */
export interface Registry {
  /** Such as `127.0.0.1:40001`. */
  readonly host: string;
  /**
   * Path of a registries.conf (containers-registries.conf(5)) that leads `registry.fedoraproject.org` here, for
   * CONTAINERS_REGISTRIES_CONF.
   */
  readonly configuration: string;
  /** Text of the index over several architectures that a name has, such as `fedora-minimal` and `45`. */
  index(name: string, tag: string): Promise<string>;
  close(): Promise<void>;
}

/** @param directory that is made for it */
export async function startRegistry(directory: string): Promise<Registry> {
  mkdirSync(directory);
  const settings = join(directory, 'registry.yml');
  const lines = [
    'version: 0.1',
    'log: {level: info, formatter: json}',
    `storage: {filesystem: {rootdirectory: ${JSON.stringify(join(directory, 'data'))}}}`,
    'http: {addr: "127.0.0.1:0"}',
    '',
  ];
  writeFileSync(settings, lines.join('\n'));
  // Into a file: nobody would read a pipe while a test waits for a command, and a full one stops the registry.
  const log = join(directory, 'log');
  const output = openSync(log, 'w');
  const child = spawn('docker-registry', ['serve', settings], { stdio: ['ignore', 'ignore', output] });
  closeSync(output);
  let failure: Error | undefined;
  child.once('error', (error) => {
    failure = error;
  });
  const host = await (async () => {
    for (;;) {
      const said = readFileSync(log, 'utf8');
      const found = /listening on (127\.0\.0\.1:[0-9]+)/.exec(said)?.[1];
      if (found !== undefined) return found;
      if (failure !== undefined) throw failure;
      if (child.exitCode !== null) throw new Error(`docker-registry has ended: ${said}`);
      await sleep(20);
    }
  })();
  const configuration = join(directory, 'registries.conf');
  writeFileSync(
    configuration,
    `[[registry]]\nprefix = "registry.fedoraproject.org"\nlocation = "${host}"\ninsecure = true\n`,
  );
  return {
    host,
    configuration,
    index: async (name, tag) => {
      const types = ['vnd.oci.image.index.v1', 'vnd.docker.distribution.manifest.list.v2'];
      const accept = types.map((type) => `application/${type}+json`).join(', ');
      const answer = await fetch(`http://${host}/v2/${name}/manifests/${tag}`, { headers: { accept } });
      const text = await answer.text();
      if (!answer.ok) throw new Error(text);
      return text;
    },
    close: async () => {
      if (child.exitCode !== null) return;
      child.kill();
      await once(child, 'exit');
    },
  };
}
