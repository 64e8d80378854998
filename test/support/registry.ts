import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

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
  const child = spawn('docker-registry', ['serve', settings], { stdio: ['ignore', 'ignore', 'pipe'] });
  let said = '';
  const host = await new Promise<string>((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', () => {
      reject(new Error(`docker-registry has ended: ${said}`));
    });
    child.stderr.on('data', (chunk: Buffer) => {
      said += chunk.toString();
      const found = /listening on (127\.0\.0\.1:[0-9]+)/.exec(said)?.[1];
      if (found !== undefined) resolve(found);
    });
  });
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
