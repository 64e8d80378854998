/** Fedora's names for the libraries of a source package of Debian. What is not listed is `<source>-libs`. */
const names = new Map<string, { readonly source: string; readonly name: string; readonly epoch?: number }>([
  ['acl', { source: 'acl', name: 'libacl' }],
  ['attr', { source: 'attr', name: 'libattr' }],
  ['audit', { source: 'audit', name: 'audit-libs' }],
  ['bzip2', { source: 'bzip2', name: 'bzip2-libs' }],
  ['cyrus-sasl2', { source: 'cyrus-sasl', name: 'cyrus-sasl-lib' }],
  ['db5.3', { source: 'libdb', name: 'libdb' }],
  ['e2fsprogs', { source: 'e2fsprogs', name: 'libcom_err' }],
  ['glibc', { source: 'glibc', name: 'glibc' }],
  ['gmp', { source: 'gmp', name: 'gmp', epoch: 1 }],
  ['gnutls28', { source: 'gnutls', name: 'gnutls' }],
  ['keyutils', { source: 'keyutils', name: 'keyutils-libs' }],
  ['krb5', { source: 'krb5', name: 'krb5-libs' }],
  ['libcap2', { source: 'libcap', name: 'libcap' }],
  ['libffi', { source: 'libffi', name: 'libffi' }],
  ['libgcrypt20', { source: 'libgcrypt', name: 'libgcrypt' }],
  ['libgpg-error', { source: 'libgpg-error', name: 'libgpg-error' }],
  ['libidn2', { source: 'libidn2', name: 'libidn2' }],
  ['libselinux', { source: 'libselinux', name: 'libselinux' }],
  ['libtasn1-6', { source: 'libtasn1', name: 'libtasn1' }],
  ['libunistring', { source: 'libunistring', name: 'libunistring' }],
  ['libxcrypt', { source: 'libxcrypt', name: 'libxcrypt' }],
  ['libzstd', { source: 'zstd', name: 'libzstd' }],
  ['lz4', { source: 'lz4', name: 'lz4-libs' }],
  ['ncurses', { source: 'ncurses', name: 'ncurses-libs' }],
  ['nettle', { source: 'nettle', name: 'nettle' }],
  ['openldap', { source: 'openldap', name: 'openldap' }],
  ['openssl', { source: 'openssl', name: 'openssl-libs', epoch: 1 }],
  ['p11-kit', { source: 'p11-kit', name: 'p11-kit' }],
  ['pcre2', { source: 'pcre2', name: 'pcre2' }],
  ['readline', { source: 'readline', name: 'readline' }],
  ['systemd', { source: 'systemd', name: 'systemd-libs' }],
  ['xz-utils', { source: 'xz', name: 'xz-libs' }],
  ['zlib', { source: 'zlib-ng', name: 'zlib-ng-compat' }],
]);

/** @returns the source package and the package that holds the libraries */
export function fedoraLibrary(debianSource: string): {
  readonly source: string;
  readonly name: string;
  readonly epoch?: number;
} {
  // The source of the compiler has its version in its name.
  if (/^gcc-\d+$/.test(debianSource)) return { source: 'gcc', name: 'libgcc' };
  return names.get(debianSource) ?? { source: debianSource, name: `${debianSource}-libs` };
}
