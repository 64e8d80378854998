import { keyIdOf } from '../../repository/fedora/key-id.js';
import { cannot } from '../../support/errors.js';
import { shell, type Container } from './container.js';
import { isKey, packageFields, readPackageLines, type InstalledPackage } from './package-manager.js';

/** A package with its signatures as rpm describes them. */
interface SignedPackage {
  readonly about: InstalledPackage;
  readonly signatures: readonly string[];
}

/**
 * Sees to it that every package that was installed is signed by a key that counts: the package manager takes each that
 * the base trusts. Every signature has to be of such a key, because rpm does not say which one it has verified.
 *
 * @param before packages that were there already
 * @param fingerprints upper-case, of keys and subkeys
 * @throws ToolError
 */
export async function checkSigners(
  container: Container,
  before: readonly InstalledPackage[],
  fingerprints: readonly string[],
): Promise<void> {
  const counting = new Set(fingerprints.map(keyIdOf));
  const there = new Set(before.map(nameOf));
  for (const { about, signatures } of await signedPackages(container)) {
    if (there.has(nameOf(about))) continue;
    const object = `package ${about.name} ${about.version}`;
    if (signatures.length === 0) {
      throw cannot('trust', object, 'it is not signed', { hint: 'choose another mirror with --mirror' });
    }
    for (const signature of signatures) {
      const keyId = keyIdIn(signature);
      if (keyId !== undefined && counting.has(keyId)) continue;
      const reason =
        keyId === undefined
          ? `its signature cannot be read: ${signature.slice(0, 200)}`
          : `it is signed by key ${keyId}, which does not count`;
      throw cannot('trust', object, reason, {
        hint: 'if you trust it, pin the key under packages.fedora.keys in the definition, or give its file with --keyring FILE',
      });
    }
  }
}

/** Tags of rpm that hold signatures, old and new: rpm-tags(7). A query for one that it does not know fails. */
const tags = ['RSAHEADER', 'DSAHEADER', 'SIGPGP', 'SIGGPG', 'OPENPGP'];

const query = `
known=" $(rpm --querytags | while read -r tag; do printf '%s ' "$tag"; done)"
format=$1
shift
for tag; do
  case $known in *" $tag "*) format="$format[\\t%{$tag:pgpsig}]" ;; esac
done
exec rpm -qa --qf "$format\\n"
`;

async function signedPackages(container: Container): Promise<readonly SignedPackage[]> {
  const answer = await container.read(shell(query, [packageFields, ...tags]));
  return readPackageLines(answer)
    .filter(({ about }) => !isKey(about))
    .map(({ about, more }) => ({ about, signatures: more.filter((text) => !['', '(none)'].includes(text)) }));
}

/** `RSA/SHA256, Thu Nov 20 2025, Key ID 655a4b02f577861e`; a later rpm may give the whole fingerprint. */
function keyIdIn(signature: string): string | undefined {
  const [found, ...others] = signature.match(/\b(?:[0-9a-f]{16}|[0-9a-f]{40}|[0-9a-f]{64})\b/gi) ?? [];
  if (found === undefined || others.length > 0) return undefined;
  return keyIdOf(found.toUpperCase());
}

function nameOf({ name, version, architecture }: InstalledPackage): string {
  return `${name} ${version} ${architecture}`;
}
