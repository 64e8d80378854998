import { chmod, copyFile, mkdir, readdir, symlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { $ } from 'zx';
import { specText, type PackagedFile, type SourceSpec } from './spec.js';

/**
 * Builds the packages of a source with rpmbuild. Its dependency generators read the files as on Fedora, also those of
 * another architecture.
 *
 * @param work empty directory
 * @param built seconds since the epoch: when the packages were built, and the time of every file
 * @returns paths of the .rpm files
 */
export async function buildPackages(
  source: SourceSpec,
  work: string,
  built: number,
): Promise<readonly string[]> {
  const stage = join(work, 'stage');
  await mkdir(stage, { recursive: true });
  const files = source.packages.flatMap((each) => Object.entries(each.files));
  for (const [path, file] of files) await place(join(stage, path), file);
  const spec = join(work, `${source.name}.spec`);
  await writeFile(spec, specText(source, stage));
  const definitions = {
    _topdir: work,
    _rpmdir: join(work, 'rpms'),
    _tmppath: join(work, 'tmp'),
    _rpmfilename: '%%{NAME}-%%{VERSION}-%%{RELEASE}.%%{ARCH}.rpm',
    _binary_payload: source.payload,
    _binary_filedigest_algorithm: '8',
    _build_id_links: 'compat',
    _missing_build_ids_terminate_build: '0',
    _buildhost: 'stand-in.example.org',
    vendor: 'Stand-in',
    use_source_date_epoch_as_buildtime: '1',
    clamp_mtime_to_source_date_epoch: '1',
    source_date_epoch_from_changelog: '0',
  };
  const defines = Object.entries(definitions).flatMap(([name, value]) => ['--define', `${name} ${value}`]);
  const env = { ...process.env, LC_ALL: 'C.UTF-8', SOURCE_DATE_EPOCH: String(built) };
  await mkdir(join(work, 'tmp'));
  await $({ quiet: true, env })`rpmbuild -bb --quiet --nodeps --target ${source.target} ${defines} ${spec}`;
  const rpms = join(work, 'rpms');
  return (await readdir(rpms)).sort().map((name) => join(rpms, name));
}

async function place(path: string, file: PackagedFile): Promise<void> {
  await mkdir(file.kind === 'directory' ? path : dirname(path), { recursive: true });
  switch (file.kind) {
    case 'directory':
      return;
    case 'link':
      await symlink(file.target, path);
      return;
    case 'copy':
      await copyFile(file.from, path);
      break;
    case 'bytes':
      await writeFile(path, file.bytes);
      break;
    case 'text':
      await writeFile(path, file.text);
      break;
  }
  // The modes in the package are those of the spec file; here rpmbuild must be able to read.
  await chmod(path, (file.mode ?? 0o644) | 0o400);
}
