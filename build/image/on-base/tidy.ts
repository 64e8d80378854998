import type { Container } from './container.js';

/**
 * What installing leaves behind and no service needs. A directory that a package owns stays, because the service may
 * write there; everything else goes. Mounts that buildah makes for the run cannot go, and are not in the layer.
 */
const script = `
manager=$1
shift
"$manager" clean all >/dev/null || exit
sweep() {
  for entry in "$1"/* "$1"/.[!.]* "$1"/..?*; do
    if [ -d "$entry" ] && [ ! -L "$entry" ]; then
      sweep "$entry"
    else
      rm -f -- "$entry" 2>/dev/null
    fi
  done
  [ "$1" = "$top" ] || rpm -qf -- "$1" >/dev/null 2>&1 || rmdir -- "$1" 2>/dev/null
}
for top in /run /tmp /var/cache /var/lib/dnf /var/log /var/tmp; do
  [ -L "$top" ] || sweep "$top"
done
rm -f -- /etc/passwd- /etc/group- /etc/shadow- /etc/gshadow- /etc/subuid- /etc/subgid- /etc/.pwd.lock
rm -f -- /usr/lib/sysimage/libdnf5/transaction_history.sqlite*
rm -rf -- "$@"
exit 0
`;

/** Removes caches, logs and temporary files. @param paths what was put there for the installation */
export async function tidy(container: Container, manager: string, paths: readonly string[]): Promise<void> {
  await container.shell(script, [manager, ...paths]);
}
