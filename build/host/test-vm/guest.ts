import { agentPort, guestAddress, guestInterface, prefixLength } from './description.js';

/**
 * Packages of the guest beside the essential ones. No initramfs-tools: what the kernel lacks to reach its disk is one
 * module, see `init`.
 */
export const guestPackages = [
  ...['systemd', 'systemd-sysv', 'udev', 'dbus', 'kmod', 'iproute2', 'procps'],
  ...['podman', 'netavark', 'aardvark-dns', 'crun', 'catatonit', 'nftables', 'iptables'],
  ...['busybox-static', 'cpio'],
] as const;

/** Beside them in a machine of the host's own architecture: an emulator needs many minutes to make a policy of them. */
export const selinuxPackages = ['selinux-policy-default', 'policycoreutils', 'auditd'] as const;

/** Versions of these are told with the results. */
export const namedPackages = [
  'linux-image',
  'systemd',
  'podman',
  'netavark',
  'selinux-policy-default',
] as const;

/** Debian's kernel for virtual machines: few drivers, those of virtio among them. */
export const kernelPackage = (debianArchitecture: string): string =>
  `linux-image-cloud-${debianArchitecture}`;

/**
 * What a machine does by itself at certain times, or at its start for services that it does not have. Every one of
 * them costs seconds where a processor is emulated, and would disturb what is measured.
 */
const masked = [
  ...['apt-daily.timer', 'apt-daily-upgrade.timer', 'dpkg-db-backup.timer', 'e2scrub_all.timer'],
  ...['e2scrub_reap.service', 'fstrim.timer', 'systemd-tmpfiles-clean.timer', 'podman-auto-update.timer'],
  ...['podman.service', 'podman.socket', 'podman-restart.service', 'podman-clean-transient.service'],
  ...['netavark-firewalld-reload.service', 'systemd-pstore.service', 'systemd-hwdb-update.service'],
  ...['systemd-logind.service', 'systemd-user-sessions.service', 'systemd-network-generator.service'],
  ...['systemd-udev-load-credentials.service', 'modprobe@drm.service', 'modprobe@fuse.service'],
];

/** Files of the guest by absolute path. */
export const guestFiles: ReadonlyMap<string, string> = new Map([
  ['/etc/fstab', '/dev/vda / ext4 defaults 0 0\n/dev/vdb /payload ext4 ro,nofail 0 0\n'],
  ['/etc/hostname', 'guest\n'],
  ['/etc/hosts', '127.0.0.1 localhost guest\n'],
  // Of the machine's own network alone: what Podman makes stays as Podman makes it.
  [
    '/etc/systemd/network/lan.network',
    [
      ...['[Match]', `Name=${guestInterface}`, ''],
      ...[
        '[Network]',
        `Address=${guestAddress}/${prefixLength}`,
        'LinkLocalAddressing=no',
        'IPv6AcceptRA=no',
        '',
      ],
    ].join('\n'),
  ],
  // What the machine is started for, and no driver for anything else that an emulated board has.
  [
    '/etc/systemd/system/systemd-udev-trigger.service.d/test.conf',
    `[Service]
ExecStart=
ExecStart=udevadm trigger --action=add ${['virtio', 'virtio-ports', 'block', 'net', 'mem', 'tty'].map((name) => `--subsystem-match=${name}`).join(' ')}
`,
  ],
  // A journal that survives the power cuts tells afterwards what was before.
  [
    '/etc/systemd/journald.conf.d/test.conf',
    '[Journal]\nStorage=persistent\nRateLimitBurst=0\nSystemMaxUse=64M\n',
  ],
  ...['auditd', 'audit-rules'].map(
    (name) =>
      [`/etc/systemd/system/${name}.service.d/test.conf`, '[Unit]\nConditionSecurity=selinux\n'] as const,
  ),
  // Debian's policy of containers has grown out of Fedora's. What it lacks of it:
  [
    '/etc/selinux/as-on-fedora.cil',
    `; There, the engine is unconfined (container.te: unconfined_domain(container_runtime_t)).
(typepermissive podman_t)
(typepermissive podman_conmon_t)
; A container may use CAP_NET_RAW when it has it (virt.te: virt_sandbox_net_domain), and its first program may be one of
; the host, as with Podman's --init (allow svirt_sandbox_domain exec_type:file entrypoint).
(allow container_t self (capability (net_raw)))
(allow container_t bin_t (file (entrypoint)))
`,
  ],
  [
    '/etc/systemd/system/agent.service',
    `[Unit]
Description=Runs commands for the host
DefaultDependencies=no
After=local-fs.target payload.mount systemd-tmpfiles-setup.service
Conflicts=shutdown.target

[Service]
ExecStart=/bin/bash /usr/local/sbin/agent
Restart=always
RestartSec=1

[Install]
WantedBy=multi-user.target
`,
  ],
  // A line in: ID SECONDS SCRIPT. A line out: ID CODE STDOUT STDERR. All text is base64 after a dot, so none is empty.
  [
    '/usr/local/sbin/agent',
    `port=/dev/virtio-ports/${agentPort}
[ -e "$port" ] || exit 1
exec 3<>"$port"
cd /
mkdir -p /run/agent
# What root may do who has logged in, where SELinux tells that from what a service may.
as=
[ ! -e /sys/fs/selinux/enforce ] || as='runcon unconfined_u:unconfined_r:unconfined_t:s0-s0:c0.c1023'
read -r boot </proc/sys/kernel/random/boot_id
echo "ready $boot" >&3
while read -r id seconds script <&3; do
  printf '%s' "\${script#.}" | base64 -d >/run/agent/script
  timeout --kill-after=5 "$seconds" $as sh /run/agent/script </dev/null >/run/agent/stdout 2>/run/agent/stderr 3>&-
  code=$?
  echo "$id $code .$(base64 -w0 /run/agent/stdout) .$(base64 -w0 /run/agent/stderr)" >&3
done
`,
  ],
]);

/**
 * The first program: loads the one driver, mounts the disk and hands over to systemd. With `probe` on the kernel's
 * command line it only says that it runs.
 */
const init = `#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t devtmpfs dev /dev
if /bin/busybox grep -qw probe /proc/cmdline; then
  echo the guest runs >/dev/console
  /bin/busybox poweroff -f
fi
/bin/busybox insmod /virtio_blk.ko
n=0
until [ -b /dev/vda ] || [ $n -ge 100 ]; do n=$((n + 1)); /bin/busybox sleep 0.1; done
/bin/busybox mount -t ext4 -o rw /dev/vda /root
/bin/busybox mount --move /dev /root/dev
/bin/busybox umount /proc
exec /bin/busybox switch_root /root /sbin/init
`;

/** Of the kernel's command line: SELinux, which is off otherwise, from the first program on. */
export const enforcing = 'security=selinux selinux=1 enforcing=1';

/** Gives every file of the finished root its label, by its own program. */
export const label = ['setfiles', '-F', '/etc/selinux/default/contexts/files/file_contexts', '/'] as const;

/** Run in the finished root by its own programs; leaves /boot/kernel and /boot/initrd. */
export const customize = `set -eu
systemctl mask --quiet ${masked.join(' ')}
systemctl enable --quiet agent.service systemd-networkd.service systemd-networkd-wait-online.service
mkdir -p /payload /var/log/journal
if [ -d /etc/selinux/default ]; then
  semodule --noreload --store default --install /etc/selinux/as-on-fedora.cil
fi
: >/etc/machine-id
mv /boot/vmlinuz-* /boot/kernel
work=$(mktemp -d)
cd "$work"
mkdir bin dev proc root
cp /usr/bin/busybox bin
busybox xz -dc /usr/lib/modules/*/kernel/drivers/block/virtio_blk.ko.xz >virtio_blk.ko
cat >init <<'END'
${init}END
chmod 755 init
find . | cpio --quiet -o -H newc >/boot/initrd
cd /
rm -rf "$work"
`;
