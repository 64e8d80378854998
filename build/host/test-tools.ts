/** Emulates a whole machine of this host's own architecture, for the tests that boot one. */
const machineEmulator: readonly [string, string] =
  process.arch === 'arm64'
    ? ['qemu-system-aarch64', 'qemu-system-arm']
    : ['qemu-system-x86_64', 'qemu-system-x86'];

/** The programs that tests and benchmarks run, and the Debian package that brings each of them. */
export const testTools: ReadonlyMap<string, string> = new Map([
  ['apt-cache', 'apt'],
  ['apt-config', 'apt'],
  ['apt-ftparchive', 'apt-utils'],
  ['apt-get', 'apt'],
  ['ar', 'binutils'],
  ['bash', 'bash'],
  ['buildah', 'buildah'],
  ['busybox', 'busybox'],
  ['catatonit', 'catatonit'],
  ['chattr', 'e2fsprogs'],
  ['chown', 'coreutils'],
  ['chroot', 'coreutils'],
  ['cp', 'coreutils'],
  ['cpio', 'cpio'],
  ['createrepo_c', 'createrepo-c'],
  ['curl', 'curl'],
  ['dash', 'dash'],
  ['dhclient', 'isc-dhcp-client'],
  ['dhcpcd', 'dhcpcd-base'],
  ['dnf', 'dnf'],
  ['dnsmasq', 'dnsmasq-base'],
  ['docker-registry', 'docker-registry'],
  ['dpkg', 'dpkg'],
  ['dpkg-architecture', 'dpkg-dev'],
  ['dpkg-deb', 'dpkg'],
  ['dpkg-query', 'dpkg'],
  ['ethtool', 'ethtool'],
  ['faketime', 'faketime'],
  ['fallocate', 'util-linux'],
  ['find', 'findutils'],
  ['flock', 'util-linux'],
  ['gawk', 'gawk'],
  ['gcc', 'gcc'],
  ['getcap', 'libcap2-bin'],
  ['getfattr', 'attr'],
  ['git', 'git'],
  ['gpg', 'gpg'],
  ['gpg-agent', 'gpg-agent'],
  ['gpgconf', 'gpgconf'],
  ['gpgv', 'gpgv'],
  ['gzip', 'gzip'],
  ['ip', 'iproute2'],
  ['ldconfig', 'libc-bin'],
  ['man', 'man-db'],
  ['mke2fs', 'e2fsprogs'],
  ['mawk', 'mawk'],
  ['mkfifo', 'coreutils'],
  ['mkfs.btrfs', 'btrfs-progs'],
  ['mmdebstrap', 'mmdebstrap'],
  ['mount', 'mount'],
  ['newuidmap', 'uidmap'],
  ['nft', 'nftables'],
  ['nsenter', 'util-linux'],
  ['objcopy', 'binutils'],
  ['openssl', 'openssl'],
  ['patchelf', 'patchelf'],
  ['perl', 'perl-base'],
  ['podman', 'podman'],
  ['prlimit', 'util-linux'],
  ['python3', 'python3'],
  ['qemu-img', 'qemu-utils'],
  ['qemu-io', 'qemu-utils'],
  machineEmulator,
  ['readelf', 'binutils'],
  ['rpm', 'rpm'],
  ['rpm2archive', 'rpm2cpio'],
  ['rpm2cpio', 'rpm2cpio'],
  ['rpmbuild', 'rpm'],
  ['rpmkeys', 'rpm'],
  ['rpmsign', 'rpm'],
  ['runc', 'runc'],
  ['runuser', 'util-linux'],
  ['script', 'bsdutils'],
  ['setcap', 'libcap2-bin'],
  ['setpriv', 'util-linux'],
  ['sh', 'dash'],
  ['sha256sum', 'coreutils'],
  ['shellcheck', 'shellcheck'],
  ['skopeo', 'skopeo'],
  ['strace', 'strace'],
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
  'dnf-plugins-core', // dnf download, in the benchmark
  'dnsmasq-base', // the libraries of dnsmasq, which docs/writing-a-definition.md unpacks and runs
  'fuse-overlayfs', // storage of rootless Podman and Buildah
  'golang-github-containers-image', // registries.conf of Podman, Buildah and Skopeo
  'iptables', // the network that buildah run makes with netavark
  'libc6-dev', // gcc
  'netavark', // podman run
  'qemu-user-static', // the other architecture
];
