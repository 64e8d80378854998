import { execFileSync } from 'node:child_process';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** A container storage of a test's own, chosen by the environment as a user would. */
export interface PrivateStorage {
  readonly environment: Readonly<Record<string, string>>;
  /** Output of `buildah` in this storage. */
  buildah(...argv: readonly string[]): string;
  /** Everything in it: containers, and images with their names, in a stable order. */
  content(): readonly string[];
  remove(): void;
}

export function privateStorage(directory: string): PrivateStorage {
  mkdirSync(directory);
  const config = join(directory, 'storage.conf');
  writeFileSync(
    config,
    [
      '[storage]',
      'driver = "vfs"',
      ...['graphroot', 'runroot'].map((name) => `${name} = "${join(directory, name)}"`),
      '',
    ].join('\n'),
  );
  const environment = { PATH: process.env['PATH'] ?? '', HOME: directory, CONTAINERS_STORAGE_CONF: config };
  const buildah = (...argv: readonly string[]): string =>
    execFileSync('buildah', argv, { env: environment, encoding: 'utf8', stdio: 'pipe' }).trim();
  const lines = (text: string): readonly string[] =>
    text
      .split('\n')
      .map((line) => line.trim().replace(/ +/g, ' '))
      .filter((line) => line !== '');
  return {
    environment,
    buildah,
    content: () =>
      [
        ...lines(buildah('containers', '--all', '--noheading', '--notruncate')),
        ...lines(
          buildah('images', '--all', '--noheading', '--no-trunc', '--format', '{{.ID}} {{.Name}}:{{.Tag}}'),
        ),
      ].sort(),
    remove: () => {
      buildah('rm', '--all');
      rmSync(directory, { recursive: true, force: true });
    },
  };
}
