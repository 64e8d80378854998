import type { Guest } from '../../build/host/test-vm/machine.js';
import { recordedLeases, type RecordedLease } from '../../build/smoke/lease-file.js';

/** A container of the machine that has leased its address. */
export interface LeasedContainer {
  readonly name: string;
  readonly address: string;
  readonly mac: string;
}

/**
 * Makes an image of one program and starts containers of it on the network, each by a unit of its own as an
 * administrator writes it.
 *
 * @param network Quadlet file of the network
 */
export async function startContainers(
  guest: Guest,
  network: string,
  names: readonly string[],
): Promise<readonly LeasedContainer[]> {
  await guest.run(
    'mkdir -p /run/probe/bin && cp /usr/bin/busybox /run/probe/bin/ && tar -C /run/probe -c . | podman import --quiet - localhost/probe',
    120,
  );
  for (const name of names) {
    await guest.run(`cat >/etc/containers/systemd/${name}.container <<'END'
[Container]
ContainerName=${name}
Image=localhost/probe
Network=${network}
RunInit=true
Exec=/bin/busybox sleep 86400
END`);
  }
  await guest.run(
    `systemctl daemon-reload && systemctl start ${names.map((name) => `${name}.service`).join(' ')}`,
    180,
  );
  const started: LeasedContainer[] = [];
  for (const name of names) {
    const shown = await guest.run(`podman exec ${name} /bin/busybox ip address show dev eth0`);
    const address = /^ *inet ([0-9.]+)\//m.exec(shown)?.[1];
    const mac = /^ *link\/ether ([0-9a-f:]+) /m.exec(shown)?.[1];
    if (address === undefined || mac === undefined) throw new Error(`${name} has no address: ${shown}`);
    started.push({ name, address, mac });
  }
  return started;
}

/** How often the server has said a message of a client in this boot, such as DHCPACK. */
export async function countMessages(guest: Guest, message: string, mac: string): Promise<number> {
  const log = await guest.run('journalctl --quiet --boot --output cat CONTAINER_NAME=dhcpd', 60);
  return log.split('\n').filter((line) => line.startsWith(message) && line.includes(mac)).length;
}

/** The server's lease file as it is now. */
export async function leaseFile(guest: Guest): Promise<ReadonlyMap<string, RecordedLease>> {
  const path = '$(podman volume inspect --format {{.Mountpoint}} dhcpd-leases)/dhcpd.leases';
  return recordedLeases(await guest.run(`cat ${path}`));
}
