import { networkInterfaces } from 'node:os';
import { resolve } from 'node:path';
import type { Context } from './context.js';
import { pathFrom } from './path-from.js';
import { checkConfiguration, type ConfigurationReport } from '../dhcpd-conf/check.js';
import { parseInterfaceAddress, type ServedInterface } from '../dhcpd-conf/interfaces.js';
import { formatAddress, formatNetwork } from '../dhcpd-conf/ipv4.js';
import { mainFile } from '../dhcpd-conf/read.js';
import { cannot } from '../support/errors.js';
import { printable } from '../support/format.js';
import { nearest } from '../support/nearest.js';

export interface CheckOptions {
  /** Directory that the container sees as /etc/dhcp. */
  readonly config: string;
  /** Each as NAME or NAME=ADDRESS/LENGTH. */
  readonly interface?: readonly string[];
  readonly json?: boolean;
}

/** `check`: what can be said of a dhcpd.conf without a server. The exit code is 1 when there is an error. */
export async function check(options: CheckOptions, context: Context): Promise<void> {
  const interfaces = (options.interface ?? []).map(servedInterface);
  const report = await checkConfiguration(resolve(context.cwd, options.config), interfaces);
  context.print(
    options.json === true
      ? `${JSON.stringify(documentOf(report), undefined, 2)}\n`
      : textOf(report, context.cwd),
  );
  if (interfaces.length === 0) {
    context.log.info('no interface was checked: name those to serve with --interface');
  }
  if (countOf(report, 'error') > 0) process.exitCode = 1;
}

/** @param text NAME=ADDRESS/LENGTH, or NAME alone for an interface of this host */
function servedInterface(text: string): ServedInterface {
  const [, name = '', address] = /^([^=]*)(?:=(.*))?$/s.exec(text) ?? [];
  const usage = (reason: string, hint: string): Error =>
    cannot('check', `interface ${printable(text)}`, reason, { exitCode: 2, hint });
  if (!/^[^\s/=]{1,15}$/.test(name)) {
    throw usage(
      'it is no name of an interface',
      'write NAME or NAME=ADDRESS/LENGTH, such as eth0=192.0.2.1/24',
    );
  }
  if (address !== undefined) {
    const parsed = parseInterfaceAddress(address);
    if (parsed === undefined) {
      throw usage(`${printable(address)} is no address with its length`, `write ${name}=192.0.2.1/24`);
    }
    return { name, addresses: [`${formatAddress(parsed.address)}/${String(parsed.length)}`] };
  }
  const known = networkInterfaces();
  const addresses = (known[name] ?? []).flatMap(({ family, cidr }) =>
    family === 'IPv4' && cidr !== null ? [cidr] : [],
  );
  if (addresses.length > 0) return { name, addresses };
  const alike = nearest(name, Object.keys(known));
  throw usage(
    'this host has no such interface that is up and has an IPv4 address',
    `${alike === undefined || alike === name ? '' : `it has ${alike}; or `}give the address: ${name}=192.0.2.1/24`,
  );
}

function countOf({ problems }: ConfigurationReport, wanted: 'error' | 'warning'): number {
  return problems.filter(({ severity }) => severity === wanted).length;
}

function textOf(report: ConfigurationReport, cwd: string): string {
  const { files, networks, interfaces, problems } = report;
  const lines = problems.map(({ severity, place: { file, line, column }, text }) =>
    printable(`${pathFrom(cwd, file)}:${String(line)}:${String(column)}: ${severity}: ${text}`),
  );
  for (const { name, subnet } of interfaces) {
    if (subnet !== undefined) lines.push(`${name} serves ${formatNetwork(subnet)}`);
  }
  const held =
    networks === undefined
      ? [number(files.length, 'file')]
      : [
          number(networks.subnets.length, 'subnet'),
          number(addressesOf(networks.ranges), 'address to lend', 'addresses to lend'),
          number(networks.hosts.length, 'host'),
        ];
  const found = [number(countOf(report, 'error'), 'error'), number(countOf(report, 'warning'), 'warning')];
  const main = files[0] === undefined ? mainFile : pathFrom(cwd, files[0]);
  return [...lines, `${printable(main)}: ${held.join(', ')}; ${found.join(', ')}`, ''].join('\n');
}

/** Every key is always there; `null` stands for nothing. */
function documentOf(report: ConfigurationReport): unknown {
  const { files, networks, interfaces, problems } = report;
  return {
    files,
    subnets: networks === undefined ? null : networks.subnets.map(formatNetwork),
    ranges:
      networks === undefined
        ? null
        : networks.ranges.map(({ first, last }) => ({
            first: formatAddress(first),
            last: formatAddress(last),
          })),
    hosts:
      networks === undefined
        ? null
        : networks.hosts.map(({ name, hardware, fixed }) => ({
            name,
            hardware: hardware ?? null,
            addresses: fixed.map(formatAddress),
          })),
    interfaces: interfaces.map(({ name, addresses, subnet }) => ({
      name,
      addresses,
      subnet: subnet === undefined ? null : formatNetwork(subnet),
    })),
    errors: countOf(report, 'error'),
    warnings: countOf(report, 'warning'),
    problems: problems.map(({ severity, place: { file, line, column }, text }) => ({
      severity,
      file,
      line,
      column,
      text,
    })),
  };
}

function addressesOf(ranges: readonly { readonly first: number; readonly last: number }[]): number {
  return ranges.reduce((sum, { first, last }) => sum + last - first + 1, 0);
}

function number(count: number, one: string, many = `${one}s`): string {
  return `${String(count)} ${count === 1 ? one : many}`;
}
