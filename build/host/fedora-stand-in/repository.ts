import { createHash } from 'node:crypto';
import { link, mkdir, readFile, rm, utimes, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { $ } from 'zx';

/** The metadata of a repository, made by createrepo_c and then compressed as Fedora's is. */
export interface RepositoryInput {
  /** Directory of the repository; `Packages` and `repodata` appear in it. */
  readonly directory: string;
  /** Paths of the .rpm files, which get a second name. */
  readonly packages: readonly string[];
  /** Seconds since the epoch: revision and timestamps. */
  readonly revision: number;
  /** Of modulemd. */
  readonly modules: string | undefined;
  /** Empty directory. */
  readonly work: string;
}

interface DataEntry {
  readonly type: string;
  readonly text: Buffer;
  /** Such as `primary.xml`. */
  readonly name: string;
}

export async function writeRepository(input: RepositoryInput): Promise<void> {
  const tree = join(input.work, 'tree');
  for (const path of input.packages) {
    const own = packagePath(path);
    for (const directory of [tree, input.directory]) {
      await mkdir(join(directory, own, '..'), { recursive: true });
      await link(path, join(directory, own));
      await utimes(join(directory, own), input.revision, input.revision);
    }
  }
  await mkdir(tree, { recursive: true });
  const options = ['--no-database', '--simple-md-filenames', '--general-compress-type', 'gz'];
  const times = ['--revision', String(input.revision), '--set-timestamp-to-revision'];
  await $({ quiet: true })`createrepo_c --quiet ${options} ${times} ${tree}`;
  const entries: DataEntry[] = [];
  for (const type of ['primary', 'filelists', 'other']) {
    const text = gunzipSync(await readFile(join(tree, 'repodata', `${type}.xml.gz`)));
    entries.push({ type, text, name: `${type}.xml` });
  }
  if (input.modules !== undefined) {
    entries.push({ type: 'modules', text: Buffer.from(input.modules), name: 'modules.yaml' });
  }
  await rm(tree, { recursive: true });
  await writeMetadata(join(input.directory, 'repodata'), entries, input);
}

/** Where Fedora puts a package: below the first character of its name. */
export function packagePath(path: string): string {
  const name = basename(path);
  return join('Packages', name.charAt(0).toLowerCase(), name);
}

/** Older versions of createrepo_c do not know zstd, so repomd.xml is written here. */
async function writeMetadata(
  directory: string,
  entries: readonly DataEntry[],
  { revision, work }: RepositoryInput,
): Promise<void> {
  await mkdir(directory, { recursive: true });
  const lines: string[] = [];
  for (const { type, text, name } of entries) {
    const plain = join(work, name);
    await writeFile(plain, text);
    await $({ quiet: true })`zstd --quiet --rm -10 ${plain}`;
    const packed = await readFile(`${plain}.zst`);
    const location = `${sha256(packed)}-${name}.zst`;
    await writeFile(join(directory, location), packed);
    lines.push(
      `  <data type="${type}">`,
      `    <checksum type="sha256">${sha256(packed)}</checksum>`,
      `    <open-checksum type="sha256">${sha256(text)}</open-checksum>`,
      `    <location href="repodata/${location}"/>`,
      `    <timestamp>${revision}</timestamp>`,
      `    <size>${packed.length}</size>`,
      `    <open-size>${text.length}</open-size>`,
      '  </data>',
    );
  }
  const document = [
    '<?xml version="1.0" encoding="UTF-8"?>',
    '<repomd xmlns="http://linux.duke.edu/metadata/repo" xmlns:rpm="http://linux.duke.edu/metadata/rpm">',
    `  <revision>${revision}</revision>`,
    ...lines,
    '</repomd>',
    '',
  ];
  await writeFile(join(directory, 'repomd.xml'), document.join('\n'));
}

function sha256(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex');
}
