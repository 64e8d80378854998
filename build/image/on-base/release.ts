import { cannot } from '../../support/errors.js';
import { shell, type Container } from './container.js';

/** os-release(5) is a script of sh. Fedora's development version is a number there, and `rawhide` for its support. */
const script = `
for file in /etc/os-release /usr/lib/os-release; do
  [ -r "$file" ] || continue
  . "$file"
  break
done
printf '%s\\n%s\\n' "$VERSION_ID" "$REDHAT_SUPPORT_PRODUCT_VERSION"
`;

/**
 * Refuses a base of another release than the packages: it would become half of each.
 *
 * @param release undefined: whatever the base is of. A base that does not say counts as of the right one.
 * @throws ToolError with exit code 2
 */
export async function checkRelease(
  container: Container,
  base: string,
  release: string | undefined,
): Promise<void> {
  if (release === undefined) return;
  const [version = '', support = ''] = (await container.read(shell(script))).split('\n');
  // A relative's 9.6 is of what its repositories call 9.
  if (version === '' || [version, version.split('.')[0], support].includes(release)) return;
  throw cannot('build upon', base, `it is of release ${version.slice(0, 100)}, not of ${release}`, {
    hint: 'choose a base of that release, or correct release under packages.fedora in the definition or --suite',
    exitCode: 2,
  });
}
