import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { homedir } from 'node:os';
import { basename, dirname, join } from 'node:path';

import type { PrivateStorage } from './buildah.js';
import { buildRpm } from './rpm.js';
import { findTool } from './tools.js';

/** What stands at the end of `FROM` in the place of Fedora's own base image. */
export const baseReference = 'registry.fedoraproject.org/fedora-minimal:45';

/** Fingerprint of the key that signs the packages of the base without a real dnf, as its rpm says. */
export const tinySigner = '00112233445566778899AABBCCDDEEFF00112233';

/**
 * Debian with a real dnf and rpm, as a tar archive: what Fedora's base image is, but for the bytes. It takes half a
 * minute to make, so that it is made once for each state of Debian and kept in the user's cache.
 */
function dnfRootfs(): string {
  const suite = /^VERSION_CODENAME=(.*)$/m.exec(readFileSync('/etc/os-release', 'utf8'))?.[1] ?? 'stable';
  const unneeded = ['doc/*', 'info/*', 'locale/*', 'man/*'].map(
    (path) => `--dpkgopt=path-exclude=/usr/share/${path}`,
  );
  const argv = [
    ...['--mode=root', '--variant=apt', '--include=dnf,rpm', ...unneeded],
    // Fedora keeps its database there; Debian's rpm would keep one for each user.
    ...[
      '--customize-hook',
      `mkdir -p "$1/etc/rpm"; echo "%_dbpath /usr/lib/sysimage/rpm" >"$1/etc/rpm/macros"`,
    ],
    ...[
      '--customize-hook',
      `echo /usr/lib64 >"$1/etc/ld.so.conf.d/fedora.conf"; rm -rf "$1"/var/cache/*/* "$1"/var/log/*`,
    ],
    suite,
  ];
  const versions = execFileSync('apt-cache', ['policy', 'dnf', 'rpm', 'libc6', 'bash'], { encoding: 'utf8' });
  const candidates = versions.match(/^(\S+:| {2}Candidate: .*)$/gm);
  const key = createHash('sha256')
    .update(JSON.stringify([argv, candidates, process.arch]))
    .digest('hex');
  const cache = join(process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'dhcpd-scratch-tests');
  const archive = join(cache, `dnf-base-${key.slice(0, 16)}.tar`);
  mkdirSync(cache, { recursive: true });
  // The kernel ends the lock with the process: several workers may ask at once.
  const script =
    'archive=$1; shift; [ -e "$archive" ] || { mmdebstrap "$@" "$archive.new.tar" && mv "$archive.new.tar" "$archive"; }';
  execFileSync('flock', [`${archive}.lock`, 'sh', '-c', script, 'sh', archive, ...argv], {
    env: { PATH: process.env['PATH'], SOURCE_DATE_EPOCH: '1700000000' },
    stdio: 'pipe',
  });
  return archive;
}

/**
 * Brings the base with the real dnf into a storage.
 *
 * @param directory where to work
 * @param present packages that count as installed, though Debian's files are what is there
 * @returns its ID
 */
export function importDnfBase(
  storage: PrivateStorage,
  directory: string,
  present: readonly string[],
): string {
  const work = mkdtempSync(join(directory, 'base-'));
  const packages = join(work, 'packages');
  mkdirSync(packages);
  for (const path of [...present, ldconfigTrigger(work)]) copyFileSync(path, join(packages, basename(path)));
  const container = storage.buildah('from', 'scratch');
  storage.buildah('add', '--quiet', container, dnfRootfs(), '/');
  storage.buildah('copy', '--quiet', container, packages, '/packages');
  storage.buildah(
    ...['run', container, '--', 'sh', '-c'],
    'rpm -i --force --nodeps --noscripts --justdb /packages/*.rpm && rm -r /packages && /sbin/ldconfig && rm -r /var/cache/ldconfig && echo VERSION_ID=45 >/etc/os-release',
  );
  storage.buildah(
    'config',
    '--env',
    'container=oci',
    '--cmd',
    '/bin/bash',
    '--label',
    'name=fedora',
    container,
  );
  const id = storage.buildah('commit', '--quiet', '--timestamp', '1700000000', container);
  storage.buildah('rm', container);
  return id;
}

/** As Fedora's glibc does, it has the loader's cache made anew whenever a package brings a library. */
function ldconfigTrigger(directory: string): string {
  return buildRpm({
    directory,
    name: 'ldconfig-trigger',
    preamble: ['%transfiletriggerin -- /usr/lib64', '/sbin/ldconfig'],
  });
}

/**
 * Brings a base of a few files into a storage: a shell, and a `dnf` and an `rpm` that only do as if. They know one
 * package, dhcp-server, and know how to fail.
 *
 * @returns its ID
 */
export function importTinyBase(
  storage: PrivateStorage,
  directory: string,
  options: {
    /** As the image states it, whatever its programs are made for. */
    readonly architecture?: 'amd64' | 'arm64' | '386';
    readonly without?: readonly string[];
    readonly files?: Readonly<Record<string, string>>;
    /** Further arguments of `buildah config`. */
    readonly config?: readonly string[];
  } = {},
): string {
  const root = mkdtempSync(join(directory, 'tiny-'));
  chmodSync(root, 0o755);
  const busybox = findTool('busybox') ?? 'busybox';
  const libraries = execFileSync('ldd', [busybox], { encoding: 'utf8' }).match(/\/\S+/g) ?? [];
  for (const path of libraries) copy(path, join(root, path));
  copy(busybox, join(root, 'usr/bin/busybox'));
  const applets = ['sh', 'cat', 'chmod', 'chown', 'ls', 'mkdir', 'rm', 'rmdir'];
  for (const name of applets) symlinkSync('busybox', join(root, 'usr/bin', name));
  symlinkSync('usr/bin', join(root, 'bin'));
  const files: Readonly<Record<string, string>> = {
    'etc/passwd': 'root:x:0:0:root:/root:/bin/sh\n',
    'etc/group': 'root:x:0:\n',
    // Buildah mounts its own over these, and makes them where they are missing.
    ...{ 'etc/hostname': '', 'etc/hosts': '', 'etc/resolv.conf': '' },
    'etc/os-release': 'NAME="Fedora Linux"\nVERSION_ID=45\n',
    'usr/bin/dnf': fakeDnf,
    'usr/bin/rpm': fakeRpm,
    'var/lib/packages/filesystem': '3.18-58.fc45 noarch 1600000000\n',
    ...options.files,
  };
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), text, { mode: path.startsWith('usr/bin/') ? 0o755 : 0o644 });
  }
  for (const path of ['root', 'run', 'tmp', 'var/cache', 'var/log'])
    mkdirSync(join(root, path), { recursive: true });
  for (const path of options.without ?? []) rmSync(join(root, path));
  const container = storage.buildah('from', 'scratch');
  storage.buildah('add', '--quiet', container, root, '/');
  const architecture = options.architecture ?? (process.arch === 'arm64' ? 'arm64' : 'amd64');
  const variant = architecture === 'arm64' ? 'v8' : '';
  storage.buildah(
    'config',
    '--arch',
    architecture,
    '--variant',
    variant,
    ...(options.config ?? []),
    container,
  );
  const id = storage.buildah('commit', '--quiet', '--timestamp', '1700000000', container);
  storage.buildah('rm', container);
  return id;
}

/** Its packages are files of /var/lib/packages: version, architecture, build time, signer, then modes and paths. */
const fakeRpm = `#!/bin/sh
cd /var/lib/packages || exit 1
for last; do :; done
case "$1 $3" in
  --querytags*) printf 'NAME\\nRSAHEADER\\n' ;;
  "-qa "*RSAHEADER:pgpsig*)
    for name in *; do
      read -r version arch built signer <$name
      printf '%s\\t%s\\t%s\\tRSA/SHA256, Sat Mar  9 16:00:00 2024, Key ID %s\\n' $name $version $arch $signer
    done ;;
  "-qa "*) for name in *; do read -r version arch built signer <$name; printf '%s\\t%s\\t%s\\n' $name $version $arch; done ;;
  "-q "*BUILDTIME*)
    read -r version arch built signer <$last
    printf '%s\\t%s\\t%s\\n%s\\n' $last $version $arch $built
    while read -r mode path; do case $mode in 10*) echo "$mode $path" ;; esac; done <$last ;;
  *) exit 1 ;;
esac
`;

const fakeDnf = `#!/bin/sh
for last; do :; done
case $last in
  all) exit 0 ;;
  dhcp-server) ;;
  full) echo 'error: unpacking of archive failed: cpio: write failed - No space left on device' >&2; exit 1 ;;
  broken) printf 'Error: \\n Problem: conflicting requests\\n  - nothing provides soap needed by broken\\n(try to add X)\\n' >&2; exit 1 ;;
  *) echo "Error: Unable to find a match: $last" >&2; exit 1 ;;
esac
mkdir -p /etc/dhcp /var/cache/dnf/updates/packages /var/lib/dnf /usr/share/arguments /var/lib/dhcpd
echo '12:4.4.3-27.fc45 x86_64 1710000000 ${tinySigner.slice(-16).toLowerCase()}
100755 /usr/bin/dhcpd
100644 /usr/bin/omshell
100755 /usr/share/program' >/var/lib/packages/dhcp-server
echo program >/usr/bin/dhcpd
chmod 755 /usr/bin/dhcpd
for word; do echo "$word"; done >/usr/share/arguments/dnf
ls -a / /.dhcpd-scratch >/usr/share/arguments/ls 2>&1
[ ! -e /.dhcpd-scratch ] || cat /.dhcpd-scratch/keys.asc /.dhcpd-scratch/repositories/* >/usr/share/arguments/sources
echo "$SOURCE_DATE_EPOCH" >/usr/share/arguments/epoch
for path in /var/cache/dnf/updates/packages/.x /var/lib/dnf/history.sqlite /var/log/dnf.log /tmp/x /run/x; do echo >$path; done
`;

function copy(from: string, to: string): void {
  if (existsSync(to)) return;
  mkdirSync(dirname(to), { recursive: true });
  copyFileSync(from, to);
  utimesSync(to, 0, 0);
}
