import { formatNetwork, holds, networkOf, parseAddress } from './ipv4.js';
import { takenAddresses, type Networks, type Subnet } from './networks.js';
import { errorAt, warningAt, type Place, type Problem } from './problem.js';

/** An interface that the server is to serve. */
export interface ServedInterface {
  readonly name: string;
  /** Each as `ADDRESS/LENGTH`; at least one. */
  readonly addresses: readonly string[];
}

export interface InterfaceFinding {
  readonly name: string;
  readonly addresses: readonly string[];
  /** The declared subnet that one of the addresses is in. */
  readonly subnet: Subnet | undefined;
}

/** Splits `192.0.2.1/24`; undefined when it is none. */
export function parseInterfaceAddress(
  text: string,
): { readonly address: number; readonly length: number } | undefined {
  const [, host, bits] = /^([\d.]+)\/(\d{1,2})$/.exec(text) ?? [];
  const address = parseAddress(host);
  const length = Number(bits);
  return address === undefined || !(length <= 32) ? undefined : { address, length };
}

/**
 * Which subnet each interface serves. dhcpd goes by an address of the interface, never by its mask, and does not start
 * when a named interface has none in a declared subnet.
 *
 * @param place where dhcpd.conf begins
 */
export function interfaceFindings(
  interfaces: readonly ServedInterface[],
  { subnets, ranges }: Pick<Networks, 'subnets' | 'ranges'>,
  place: Place,
): { readonly findings: readonly InterfaceFinding[]; readonly problems: readonly Problem[] } {
  const problems: Problem[] = [];
  // As dhcpd does: of two that hold an address, the smaller.
  const smallestFirst = [...subnets].sort((a, b) => b.length - a.length);
  const findings = interfaces.map(({ name, addresses }): InterfaceFinding => {
    const matches = addresses.flatMap((text) => {
      const parsed = parseInterfaceAddress(text);
      const subnet = parsed && smallestFirst.find((candidate) => holds(candidate, parsed.address));
      return parsed === undefined || subnet === undefined ? [] : [{ text, parsed, subnet }];
    });
    const [match] = matches;
    if (match === undefined) {
      const where = addresses.join(' and ');
      problems.push(errorAt(place, `no subnet is declared for interface ${name}, which has ${where}`));
      return { name, addresses, subnet: undefined };
    }
    const other = matches.find(({ subnet }) => subnet.link !== match.subnet.link);
    if (other !== undefined) {
      const both = `${formatNetwork(match.subnet)} and ${formatNetwork(other.subnet)}`;
      problems.push(
        errorAt(other.subnet.place, `interface ${name} is on ${both}: put the two into one shared-network`),
      );
    }
    const { text, parsed, subnet } = match;
    if (parsed.length < 32 && parsed.length !== subnet.length) {
      const real = formatNetwork(networkOf(parsed.address, parsed.length));
      problems.push(
        warningAt(
          subnet.place,
          `${formatNetwork(subnet)} is ${real} on interface ${name}, which has ${text}`,
        ),
      );
    }
    const own = matches.map(({ parsed: { address } }) => ({
      address,
      what: `interface ${name}`,
      place: undefined,
    }));
    problems.push(...takenAddresses(own, ranges));
    return { name, addresses, subnet };
  });
  return { findings, problems };
}
