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
  const { stdout } = await measure(
    {
      argv: ['tar', '--list', '--verbose', '--numeric-owner', `--file=${path}`],
      cwd,
      environment: { LC_ALL: 'C' },
    },
    undefined,
  );
  const lines = stdout.split('\n').filter((line) => line !== '');
  const sizes = lines.flatMap((line) => (line.startsWith('-') ? [Number(line.split(/\s+/)[2])] : []));
  return {
    entries: lines.length,
    files: sizes.length,
    fileBytes: sizes.reduce((sum, size) => sum + size, 0),
  };
}
