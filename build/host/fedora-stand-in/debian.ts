import { createHash } from 'node:crypto';
import { mkdir, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { $ } from 'zx';
import { cannot } from '../../support/errors.js';
import type { StandInArchitecture } from './description.js';

/** An unpacked package of Debian. */
export interface DebianPackage {
  readonly name: string;
  readonly source: string;
  /** Without epoch, revision and what Debian says of its own changes to the source. */
  readonly upstreamVersion: string;
  /** Directory of its files. */
  readonly root: string;
}

/** The programs of the stand-in, and the libraries that Fedora's dhcpd needs and Debian's does not. */
const wanted = [
  ...['isc-dhcp-server-ldap', 'isc-dhcp-server', 'isc-dhcp-relay', 'libkrb5-3', 'libsystemd0'],
  ...['bash', 'coreutils', 'grep', 'sed'],
];

/** Without its own user apt may write into a private directory. */
const common = ['-o', 'APT::Sandbox::User=root', '-qq'];
const debianArchitectures: Readonly<Record<StandInArchitecture, string>> = {
  x86_64: 'amd64',
  aarch64: 'arm64',
};

/**
 * The packages that everything is made from: the programs, and all libraries that they depend on, directly or not.
 * Which of those are really loaded is found out in the files.
 *
 * @throws ToolError when the host's apt knows no such packages
 */
export async function choosePackages(): Promise<readonly string[]> {
  const relations = ['recommends', 'suggests', 'conflicts', 'breaks', 'replaces', 'enhances'];
  const { stdout, exitCode } = await $({
    nothrow: true,
    quiet: true,
  })`apt-cache depends --recurse ${relations.map((name) => `--no-${name}`)} ${wanted}`;
  const dependencies = new Map<string, string[]>();
  let current: string[] = [];
  for (const line of stdout.split('\n')) {
    if (/^[a-z0-9]/.test(line)) dependencies.set(line, (current = []));
    const name = /^ [ |](?:Pre)?Depends: ([a-z0-9][^\s:]*)$/.exec(line)?.[1];
    if (name !== undefined) current.push(name);
  }
  if (exitCode !== 0 || wanted.some((name) => !dependencies.has(name))) {
    throw cannot('find', 'the packages to make Fedora from', 'the apt of this host does not know them', {
      hint: 'run it on Debian 12 or newer, after `apt-get update`',
    });
  }
  const found = new Set(wanted);
  // A set that grows while it is walked is walked to its end.
  for (const name of found) {
    for (const next of dependencies.get(name) ?? []) if (/^z?lib/.test(next)) found.add(next);
  }
  return [...found].sort();
}

/** A hash over the exact files that apt would fetch for this machine's own architecture. */
export async function identityOf(names: readonly string[]): Promise<string> {
  // Elsewhere apt would leave out what the current directory holds already.
  const { stdout } = await $({ cwd: '/', quiet: true })`apt-get download ${common} --print-uris ${names}`;
  const files = stdout
    .split('\n')
    // 'address' name size hash
    .map((line) => line.replace(/^'[^']*' /, ''))
    .sort();
  return createHash('sha256').update(files.join('\n')).digest('hex');
}

/**
 * Fetches and unpacks the packages for an architecture with the host's own apt: its sources, keys and proxies. For
 * another architecture than the host's it gets a state of its own, so that nothing changes for the host.
 *
 * @param work empty directory
 * @throws ToolError when they cannot be had
 */
export async function fetchPackages(
  names: readonly string[],
  architecture: StandInArchitecture,
  work: string,
): Promise<readonly DebianPackage[]> {
  const debs = join(work, 'debs');
  await mkdir(debs, { recursive: true });
  try {
    const options = await aptOptions(architecture, work);
    await $({ cwd: debs, quiet: true })`apt-get download ${common} ${options} ${names}`;
  } catch (error) {
    throw cannot('fetch', `the packages of Debian for ${architecture}`, 'apt-get failed', {
      hint: 'look whether `apt-get update` works on this host',
      cause: error,
    });
  }
  return Promise.all(
    (await readdir(debs)).sort().map((file) => unpack(join(debs, file), join(work, 'roots'))),
  );
}

async function aptOptions(architecture: StandInArchitecture, work: string): Promise<readonly string[]> {
  const name = debianArchitectures[architecture];
  const native = await $({ quiet: true })`dpkg --print-architecture`;
  if (native.stdout.trim() === name) return [];
  const state = join(work, 'apt');
  for (const path of ['lists/partial', 'archives/partial'])
    await mkdir(join(state, path), { recursive: true });
  await writeFile(join(state, 'status'), '');
  const settings = {
    'APT::Architecture': name,
    'APT::Architectures': name,
    'Dir::State': state,
    'Dir::State::status': join(state, 'status'),
    'Dir::Cache': state,
    'Acquire::Languages': 'none',
    'APT::Update::Post-Invoke': '',
    'APT::Update::Post-Invoke-Success': '',
  };
  const options = Object.entries(settings).flatMap(([key, value]) => ['-o', `${key}=${value}`]);
  await $({ quiet: true })`apt-get update ${common} ${options}`;
  return options;
}

async function unpack(deb: string, roots: string): Promise<DebianPackage> {
  const format = '${Package} ${source:Package} ${source:Version}';
  const { stdout } = await $({ quiet: true })`dpkg-deb --show --showformat ${format} ${deb}`;
  const [name = '', source = '', version = ''] = stdout.split(' ');
  const root = join(roots, name);
  await mkdir(root, { recursive: true });
  await $({ quiet: true })`dpkg-deb --extract ${deb} ${root}`;
  return { name, source, upstreamVersion: upstreamOf(version), root };
}

/** @param version `epoch:upstream-revision`, see deb-version(7); a version of RPM has no `-` */
function upstreamOf(version: string): string {
  return version
    .replace(/^\d+:/, '')
    .replace(/-.*$/, '')
    .replace(/[+~.](dfsg|ds|really|repack|is).*$/, '')
    .replace(/[^A-Za-z0-9._+~]/g, '.');
}
