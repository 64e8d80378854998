/** The programs that tests and benchmarks run, and the Debian package that brings each of them. */
export const testTools: ReadonlyMap<string, string> = new Map([
  ['apt-cache', 'apt'],
  ['apt-config', 'apt'],
  ['apt-ftparchive', 'apt-utils'],
  ['apt-get', 'apt'],
  ['ar', 'binutils'],
  ['buildah', 'buildah'],
  ['catatonit', 'catatonit'],
  ['chown', 'coreutils'],
  ['cp', 'coreutils'],
  ['dhclient', 'isc-dhcp-client'],
  ['dpkg', 'dpkg'],
  ['dpkg-architecture', 'dpkg-dev'],
  ['dpkg-deb', 'dpkg'],
  ['dpkg-query', 'dpkg'],
  ['ethtool', 'ethtool'],
  ['faketime', 'faketime'],
  ['gcc', 'gcc'],
  ['getcap', 'libcap2-bin'],
  ['git', 'git'],
  ['gpg', 'gpg'],
  ['gpg-agent', 'gpg-agent'],
  ['gpgconf', 'gpgconf'],
  ['gpgv', 'gpgv'],
  ['gzip', 'gzip'],
  ['ip', 'iproute2'],
  ['man', 'man-db'],
  ['mkfifo', 'coreutils'],
  ['mmdebstrap', 'mmdebstrap'],
  ['mount', 'mount'],
  ['newuidmap', 'uidmap'],
  ['nsenter', 'util-linux'],
  ['prlimit', 'util-linux'],
  ['objcopy', 'binutils'],
  ['openssl', 'openssl'],
  ['perl', 'perl-base'],
  ['podman', 'podman'],
  ['python3', 'python3'],
  ['readelf', 'binutils'],
  ['runc', 'runc'],
  ['runuser', 'util-linux'],
  ['script', 'bsdutils'],
  ['setcap', 'libcap2-bin'],
  ['setpriv', 'util-linux'],
  ['sh', 'dash'],
  ['skopeo', 'skopeo'],
  ['strip', 'binutils'],
  ['tar', 'tar'],
  ['udhcpc', 'udhcpc'],
  ['unshare', 'util-linux'],
  ['useradd', 'passwd'],
  ['userdel', 'passwd'],
  ['xz', 'xz-utils'],
  ['zstd', 'zstd'],
]);

/** What those programs need beside them, on Debian only recommended or left to the administrator. */
export const testSupport: readonly string[] = [
  'dnsmasq-base', // the libraries of dnsmasq, which docs/writing-a-definition.md unpacks and runs
  'fuse-overlayfs', // storage of rootless Podman and Buildah
  'golang-github-containers-image', // registries.conf of Podman, Buildah and Skopeo
  'libc6-dev', // gcc
  'netavark', // podman run
  'qemu-user-static', // the other architecture
];
