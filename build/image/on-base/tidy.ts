import { shell, type Container } from './container.js';

/** Where installing leaves what no service needs. */
const places = '/run /tmp /var/cache /var/lib/dnf /var/log /var/tmp';

/** Prints the directories in those places, one a line. */
const list = `
walk() {
  for entry in "$1"/* "$1"/.[!.]* "$1"/..?*; do
    if [ -d "$entry" ] && [ ! -L "$entry" ]; then
      printf '%s\\n' "$entry"
      walk "$entry"
    fi
  done
}
for place in ${places}; do
  [ -L "$place" ] || walk "$place"
done
`;

/**
 * Removes every file there. A directory stays where it was before, or where a package owns it, because the service may
 * write there. Mounts that buildah makes for the run cannot go, and are not in the layer.
 */
const sweep = `
manager=$1 before=$2
shift 2
"$manager" clean all >/dev/null || exit
sweep() {
  for entry in "$1"/* "$1"/.[!.]* "$1"/..?*; do
    if [ -d "$entry" ] && [ ! -L "$entry" ]; then
      sweep "$entry"
    else
      rm -f -- "$entry" 2>/dev/null
    fi
  done
  case $before in *"
$1
"*) return ;; esac
  [ "$1" = "$place" ] || rpm -qf -- "$1" >/dev/null 2>&1 || rmdir -- "$1" 2>/dev/null
}
for place in ${places}; do
  [ -L "$place" ] || sweep "$place"
done
rm -f -- /etc/passwd- /etc/group- /etc/shadow- /etc/gshadow- /etc/subuid- /etc/subgid- /etc/.pwd.lock
rm -f -- /usr/lib/sysimage/libdnf5/transaction_history.sqlite*
rm -rf -- "$@"
exit 0
`;

/** What `tidy` is to leave as it is: the directories that a base has in the places that are tidied. */
export async function directoriesOf(container: Container): Promise<string> {
  return container.read(shell(list));
}

/**
 * Removes caches, logs and temporary files.
 *
 * @param before what `directoriesOf` gave before the installation
 * @param paths what was put there for the installation
 */
export async function tidy(
  container: Container,
  manager: string,
  before: string,
  paths: readonly string[],
): Promise<void> {
  await container.run(shell(sweep, [manager, `\n${before}\n`, ...paths]));
}
