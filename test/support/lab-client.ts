import { chmod, copyFile, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Exec } from '../../build/support/exec.js';
import { labEnvironment, type Lab } from './lab.js';
import { findTool } from './tools.js';

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
export async function leaseByUdhcpc(exec: Exec, lab: Lab, hostname: string): Promise<Lease> {
  const { hook, given } = await writeHook(lab, 'udhcpc', '[ "$1" = bound ]', '"$ip/$mask"');
  await exec({
    argv: [
      ...inClient(lab, 'udhcpc'),
      ...['-f', '-n', '-q', '-t', '10', '-T', '1', '-i', lab.client.interface, '-s', hook],
      ...['-x', `hostname:${hostname}`],
    ],
    environment: labEnvironment,
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

/** One exchange by ISC dhclient, which then gives the address back with a RELEASE. */
export async function leaseByDhclient(exec: Exec, lab: Lab): Promise<Lease> {
  const { directory, hook, given } = await writeHook(
    lab,
    'dhclient',
    '[ "$reason" = BOUND ]',
    '"$new_ip_address/$new_subnet_mask"',
  );
  // An AppArmor profile that is attached to the installed path forbids the files below; a copy has no profile.
  const program = join(directory, 'dhclient');
  await copyFile(findTool('dhclient') ?? 'dhclient', program);
  const config = join(directory, 'dhclient.conf');
  await writeFile(config, 'timeout 15;\nrequest subnet-mask, routers, domain-name-servers, domain-name;\n');
  const run = (...mode: readonly string[]): Promise<unknown> =>
    exec({
      argv: [
        ...inClient(lab, program),
        ...[...mode, '-4', '-v', '-sf', hook, '-cf', config],
        ...['-lf', join(directory, 'leases'), '-pf', join(directory, 'pid'), lab.client.interface],
      ],
      environment: labEnvironment,
      timeout: 20_000,
    });
  await run('-1');
  await run('-r');
  const lease = await readVariables(given);
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

function inClient(lab: Lab, program: string): [string, ...string[]] {
  return ['ip', 'netns', 'exec', lab.client.namespace, program];
}

/**
 * The program that the client calls with its lease in the environment: writes that down and gives the interface
 * its address, without which a client has no way to send a RELEASE.
 */
async function writeHook(
  lab: Lab,
  name: string,
  condition: string,
  address: string,
): Promise<{ readonly directory: string; readonly hook: string; readonly given: string }> {
  const directory = join(lab.directory, name);
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
