/** The programs that tests run, and the Debian package that brings each of them. */
export const testTools: ReadonlyMap<string, string> = new Map([
  ['apt-ftparchive', 'apt-utils'],
  ['ar', 'binutils'],
  ['buildah', 'buildah'],
  ['busybox', 'busybox'],
  ['dhclient', 'isc-dhcp-client'],
  ['dpkg-deb', 'dpkg'],
  ['dpkg-scanpackages', 'dpkg-dev'],
  ['ethtool', 'ethtool'],
  ['faketime', 'faketime'],
  ['gcc', 'gcc'],
  ['getcap', 'libcap2-bin'],
  ['getfattr', 'attr'],
  ['git', 'git'],
  ['gpg', 'gnupg'],
  ['gpgv', 'gpgv'],
  ['ip', 'iproute2'],
  ['mmdebstrap', 'mmdebstrap'],
  ['nsenter', 'util-linux'],
  ['objcopy', 'binutils'],
  ['openssl', 'openssl'],
  ['patchelf', 'patchelf'],
  ['podman', 'podman'],
  ['readelf', 'binutils'],
  ['runc', 'runc'],
  ['setcap', 'libcap2-bin'],
  ['setfattr', 'attr'],
  ['setpriv', 'util-linux'],
  ['skopeo', 'skopeo'],
  ['tar', 'tar'],
  ['udhcpc', 'udhcpc'],
  ['unshare', 'util-linux'],
  ['xz', 'xz-utils'],
  ['zstd', 'zstd'],
]);

/** What those programs need beside them, on Debian only recommended or left to the administrator. */
export const testSupport: readonly string[] = [
  'catatonit', // podman run --init
  'fuse-overlayfs', // storage of rootless Podman and Buildah
  'golang-github-containers-image', // policy.json of Podman, Buildah and Skopeo
  'libc6-dev', // gcc
  'netavark', // podman run
  'qemu-user-static', // the other architecture
  'uidmap', // user namespaces of rootless Podman and Buildah
];
