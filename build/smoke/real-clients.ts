import { chmod, copyFile, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import { cannot } from '../support/errors.js';
import { findProgram, type Exec } from '../support/exec.js';
import type { Lab, LabHost } from './lab.js';

/** What a client was given, in the client's own words. */
export interface Lease {
  readonly address: string;
  /** RFC 2132 options 1, 3, 6, 15, 51 and 54. */
  readonly mask: string;
  readonly router: string;
  readonly dns: string;
  readonly domain: string;
  readonly seconds: number;
  readonly server: string;
}

/** One exchange by BusyBox's udhcpc, from DISCOVER to ACK. @throws ToolError when no server answers */
export async function leaseByUdhcpc(
  exec: Exec,
  lab: Lab,
  hostname: string,
  host: LabHost = lab.client,
): Promise<Lease> {
  const { hook, given } = await writeHook(lab, host, 'udhcpc', '[ "$1" = bound ]', '"$ip/$mask"');
  await exec({
    argv: [
      ...inside(host, 'udhcpc'),
      ...['-f', '-n', '-q', '-t', '10', '-T', '1', '-i', host.interface, '-s', hook],
      ...['-x', `hostname:${hostname}`],
    ],
    environment: lab.environment,
    timeout: 20_000,
  });
  const lease = await readVariables(given);
  return {
    address: lease('ip'),
    mask: lease('subnet'),
    router: lease('router'),
    dns: lease('dns'),
    domain: lease('domain'),
    seconds: Number(lease('lease')),
    server: lease('serverid'),
  };
}

/** udhcpc stays and is told to renew by SIGUSR1. @param between runs when it has its first lease */
export async function renewByUdhcpc(
  exec: Exec,
  lab: Lab,
  host: LabHost,
  between: () => Promise<void>,
): Promise<{ readonly first: string; readonly again: string }> {
  const { directory, hook, given } = await writeHook(
    lab,
    host,
    'udhcpc-renew',
    '[ "$1" = bound ] || [ "$1" = renew ]',
    '"$ip/$mask"',
  );
  // The hook's own word for what it was called for, which the environment does not hold.
  await writeFile(hook, (await readFile(hook, 'utf8')).replace('env >', 'export event=$1; env >'));
  const pidFile = join(directory, 'pid');
  const stop = new AbortController();
  const client = exec({
    argv: [
      ...inside(host, 'udhcpc'),
      ...['-f', '-n', '-t', '10', '-T', '1', '-i', host.interface, '-s', hook, '-p', pidFile],
    ],
    environment: lab.environment,
    timeout: 30_000,
    signal: stop.signal,
  });
  // Its end is ours to bring about; when it comes too early, nothing is bound below.
  client.catch(() => undefined);
  try {
    const first = await until(given, 'bound');
    await between();
    process.kill(Number(await readFile(pidFile, 'utf8')), 'SIGUSR1');
    return { first, again: await until(given, 'renew') };
  } finally {
    stop.abort();
    await client.catch(() => undefined);
  }
}

/** Waits until the hook was called for the event, and gives the address. */
async function until(given: string, event: string): Promise<string> {
  const end = Date.now() + 15_000;
  while (Date.now() < end) {
    const variable = await readVariables(given);
    if (variable('event') === event && variable('ip') !== '') return variable('ip');
    await sleep(20);
  }
  throw cannot('get', 'an address', `udhcpc was not ${event} within 15 s`);
}

/** One exchange by ISC dhclient, which then gives the address back with a RELEASE. */
export async function leaseByDhclient(exec: Exec, lab: Lab, host: LabHost = lab.client): Promise<Lease> {
  const { directory, hook, given } = await writeHook(
    lab,
    host,
    'dhclient',
    '[ "$reason" = BOUND ]',
    '"$new_ip_address/$new_subnet_mask"',
  );
  const installed = await findProgram('dhclient', lab.environment['PATH']);
  if (installed === undefined) throw cannot('run', 'dhclient', 'it is not installed');
  // An AppArmor profile that is attached to the installed path forbids the files below; a copy has no profile.
  const program = join(directory, 'dhclient');
  await copyFile(installed, program);
  const config = join(directory, 'dhclient.conf');
  await writeFile(config, 'timeout 15;\nrequest subnet-mask, routers, domain-name-servers, domain-name;\n');
  const run = (...mode: readonly string[]): Promise<unknown> =>
    exec({
      argv: [
        ...inside(host, program),
        ...[...mode, '-4', '-v', '-sf', hook, '-cf', config],
        ...['-lf', join(directory, 'leases'), '-pf', join(directory, 'pid'), host.interface],
      ],
      environment: lab.environment,
      timeout: 20_000,
    });
  await run('-1');
  await run('-r');
  const lease = await readVariables(given);
  return newLease(lease);
}

/** One exchange by dhcpcd, which keeps its address and its files to itself. */
export async function leaseByDhcpcd(exec: Exec, lab: Lab, host: LabHost = lab.client): Promise<Lease> {
  const { directory, hook, given } = await writeHook(
    lab,
    host,
    'dhcpcd',
    '[ "$reason" = BOUND ]',
    '"$new_ip_address/$new_subnet_cidr"',
  );
  const config = join(directory, 'dhcpcd.conf');
  await writeFile(
    config,
    'option subnet_mask, routers, domain_name_servers, domain_name\noption dhcp_lease_time\nrequire dhcp_server_identifier\nclientid\n',
  );
  await exec({
    argv: [
      // Its directory of leases and sockets cannot be chosen on its command line: it sees others in their place.
      ...inside(host, 'unshare'),
      ...[
        '--mount',
        'sh',
        '-c',
        'for d in /run /var/lib/dhcpcd; do [ ! -d "$d" ] || mount -t tmpfs tmpfs "$d"; done; exec "$@"',
        'sh',
      ],
      ...[
        'dhcpcd',
        '--config',
        config,
        '--script',
        hook,
        '--ipv4only',
        '--oneshot',
        '--noarp',
        '--nobackground',
      ],
      ...['--timeout', '15', host.interface],
    ],
    environment: lab.environment,
    timeout: 20_000,
  });
  const lease = await readVariables(given);
  return newLease(lease);
}

/** In the words of dhclient-script(8), which dhcpcd speaks as well. */
function newLease(lease: (name: string) => string): Lease {
  return {
    address: lease('new_ip_address'),
    mask: lease('new_subnet_mask'),
    router: lease('new_routers'),
    dns: lease('new_domain_name_servers'),
    domain: lease('new_domain_name'),
    seconds: Number(lease('new_dhcp_lease_time')),
    server: lease('new_dhcp_server_identifier'),
  };
}

function inside(host: LabHost, program: string): [string, ...string[]] {
  return ['ip', 'netns', 'exec', host.namespace, program];
}

/**
 * The program that the client calls with its lease in the environment: writes that down and gives the interface
 * its address, without which a client has no way to send a RELEASE.
 */
async function writeHook(
  lab: Lab,
  host: LabHost,
  name: string,
  condition: string,
  address: string,
): Promise<{ readonly directory: string; readonly hook: string; readonly given: string }> {
  const directory = join(lab.directory, `${host.namespace}-${name}`);
  await mkdir(directory, { recursive: true });
  const [hook, given] = [join(directory, 'hook'), join(directory, 'given')];
  await writeFile(given, '');
  const configure = `ip address flush dev "$interface"; ip address add ${address} dev "$interface"`;
  await writeFile(hook, `#!/bin/sh\nif ${condition}; then env > '${given}'; ${configure}; fi\n`);
  await chmod(hook, 0o755);
  return { directory, hook, given };
}

async function readVariables(file: string): Promise<(name: string) => string> {
  const text = await readFile(file, 'utf8');
  return (name) => new RegExp(`^${name}=(.*)$`, 'm').exec(text)?.[1] ?? '';
}
