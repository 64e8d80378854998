import { measure } from './process.js';

/** What a tar archive holds. */
export interface ArchiveContent {
  /** Entries of every kind. */
  readonly entries: number;
  readonly files: number;
  /** Of the regular files together. */
  readonly fileBytes: number;
}

/** Counts with tar(1): what a reader of the archive finds, not what its writer says. */
export async function contentOfTar(path: string, cwd: string): Promise<ArchiveContent> {
  const lines = await listTar(path, cwd);
  const sizes = lines.flatMap((line) => (line.startsWith('-') ? [Number(line.split(/\s+/)[2])] : []));
  return {
    entries: lines.length,
    files: sizes.length,
    fileBytes: sizes.reduce((sum, size) => sum + size, 0),
  };
}

/** The shared libraries in an archive, sorted: path and bytes of each. Links to them do not count. */
export async function librariesOfTar(path: string, cwd: string): Promise<readonly string[]> {
  const lines = await listTar(path, cwd);
  return lines
    .flatMap((line) => {
      const [mode = '', , size = '', , , name = ''] = line.split(/\s+/);
      return mode.startsWith('-') && /\.so(?:\.|$)/.test(name) ? [`${name} ${size}`] : [];
    })
    .sort();
}

async function listTar(path: string, cwd: string): Promise<readonly string[]> {
  const { stdout } = await measure(
    {
      argv: ['tar', '--list', '--verbose', '--numeric-owner', `--file=${path}`],
      cwd,
      environment: { LC_ALL: 'C' },
    },
    undefined,
  );
  return stdout.split('\n').filter((line) => line !== '');
}
