import {
  formatAddress,
  formatNetwork,
  holds,
  lengthOf,
  networkOf,
  parseAddress,
  type Network,
} from './ipv4.js';
import { errorAt, warningAt, type Place, type Problem } from './problem.js';
import { wordsOf, type Statement } from './statements.js';

export interface Subnet extends Network {
  readonly place: Place;
  /** The shared network it is part of; its own otherwise. */
  readonly link: object;
}

/** Addresses to lend, both ends included. */
export interface Range {
  readonly first: number;
  readonly last: number;
  readonly place: Place;
}

export interface Host {
  readonly name: string;
  /** Such as `ethernet 02:00:00:00:00:10`, every byte in two digits. */
  readonly hardware: string | undefined;
  /** Addresses written as numbers; names are not looked up. */
  readonly fixed: readonly number[];
  /** Of its fixed-address. */
  readonly fixedPlace: Place;
  readonly place: Place;
}

/** An address that something on the network has already, so that it must not be lent. */
export interface Taken {
  readonly address: number;
  readonly what: string;
  /** Where the configuration names it; it may not. */
  readonly place: Place | undefined;
}

export interface Networks {
  readonly subnets: readonly Subnet[];
  readonly ranges: readonly Range[];
  readonly hosts: readonly Host[];
  readonly problems: readonly Problem[];
}

/** The subnets, ranges and hosts of a configuration, and what contradicts itself among them. */
export function networksOf(statements: readonly Statement[]): Networks {
  const subnets: Subnet[] = [];
  const ranges: Range[] = [];
  const hosts: Host[] = [];
  const taken: Taken[] = [];
  const problems: Problem[] = [];

  /** @param around the subnets in which a range may lie, and the shared network */
  function walk(
    list: readonly Statement[],
    around: { readonly networks: readonly Network[] | undefined; readonly link: object | undefined },
  ): void {
    for (const statement of list) {
      const { keyword, block = [], place } = statement;
      const words = wordsOf(statement);
      if (keyword === 'subnet') {
        const network = readSubnet(words, place, problems);
        if (network !== undefined) subnets.push({ ...network, place, link: around.link ?? statement });
        walk(block, {
          networks: network === undefined ? undefined : [network],
          link: around.link ?? statement,
        });
      } else if (keyword === 'shared-network') {
        walk(block, { networks: block.flatMap(subnetsIn), link: statement });
      } else if (keyword === 'range') {
        const range = readRange(words, place, around.networks, problems);
        if (range !== undefined) ranges.push(range);
      } else if (keyword === 'host') {
        hosts.push(readHost(words[1] ?? '', block, place));
        walk(block, around);
      } else if (keyword === 'option' && words[1]?.toLowerCase() === 'routers') {
        for (const word of words.slice(2)) {
          const address = parseAddress(word);
          if (address !== undefined) taken.push({ address, what: 'the router', place });
        }
      } else {
        walk(block, around);
      }
    }
  }

  walk(statements, { networks: undefined, link: undefined });
  return {
    subnets,
    ranges,
    hosts,
    problems: [
      ...problems,
      ...overlappingSubnets(subnets),
      ...overlappingRanges(ranges),
      ...rangeEnds(ranges, subnets),
      ...hostProblems(hosts, subnets, ranges),
      ...takenAddresses(taken, ranges),
    ],
  };
}

/** Addresses in a range that the server must not lend, because they are in use already. */
export function takenAddresses(taken: readonly Taken[], ranges: readonly Range[]): readonly Problem[] {
  const seen = new Set<number>();
  return taken.flatMap(({ address, what, place }) => {
    const range = ranges.find((candidate) => holds(candidate, address));
    if (range === undefined || seen.has(address)) return [];
    seen.add(address);
    const text = `${what} ${formatAddress(address)} is in the ${rangeText(range)}, and could be lent to a client`;
    return [warningAt(place ?? range.place, text)];
  });
}

function subnetsIn(statement: Statement): readonly Network[] {
  const { keyword, block = [] } = statement;
  if (keyword === 'subnet') {
    const network = readSubnet(wordsOf(statement), statement.place, []);
    return network === undefined ? [] : [network];
  }
  return block.flatMap(subnetsIn);
}

/** @param words of `subnet 192.0.2.0 netmask 255.255.255.0` */
function readSubnet(words: readonly string[], place: Place, problems: Problem[]): Network | undefined {
  const [, base = '', netmask = '', maskText = '', ...rest] = words;
  const address = parseAddress(base);
  const mask = parseAddress(maskText);
  if (address === undefined || netmask.toLowerCase() !== 'netmask' || mask === undefined || rest.length > 0) {
    problems.push(
      errorAt(place, 'expected subnet ADDRESS netmask MASK, such as subnet 192.0.2.0 netmask 255.255.255.0'),
    );
    return undefined;
  }
  const length = lengthOf(mask);
  if (length === undefined) {
    problems.push(errorAt(place, `netmask ${maskText} is none: its ones must come before its zeros`));
    return undefined;
  }
  const network = networkOf(address, length);
  if (network.first !== address) {
    const text = `${base} is not the base of a network with netmask ${maskText}; that is ${formatAddress(network.first)}`;
    problems.push(errorAt(place, text));
    return undefined;
  }
  return network;
}

/** @param words of `range [dynamic-bootp] FIRST [LAST]` */
function readRange(
  words: readonly string[],
  place: Place,
  networks: readonly Network[] | undefined,
  problems: Problem[],
): Range | undefined {
  const ends = words.slice(words[1]?.toLowerCase() === 'dynamic-bootp' ? 2 : 1);
  const [first, last = first] = ends.map(parseAddress);
  if (ends.length < 1 || ends.length > 2 || first === undefined || last === undefined) {
    problems.push(errorAt(place, 'expected range FIRST LAST, two addresses'));
    return undefined;
  }
  const range = { first: Math.min(first, last), last: Math.max(first, last), place };
  if (first > last) {
    problems.push(warningAt(place, `the range begins with its last address: write ${rangeText(range)}`));
  }
  if (networks === undefined) return range;
  const home = networks.find((network) => holds(network, first) && holds(network, last));
  if (home !== undefined) return range;
  const subnets = networks.map(formatNetwork).join(', ') || 'any subnet';
  problems.push(errorAt(place, `${rangeText(range)} is not within ${subnets}`));
  return undefined;
}

function readHost(name: string, block: readonly Statement[], place: Place): Host {
  const find = (keyword: string): Statement | undefined =>
    block.find((candidate) => candidate.keyword === keyword);
  const valueOf = (statement: Statement | undefined): readonly string[] =>
    statement === undefined ? [] : wordsOf(statement).slice(1);
  const [type, ...address] = valueOf(find('hardware'));
  const fixed = find('fixed-address');
  const bytes = address.join('').toLowerCase().split(':');
  return {
    name,
    hardware:
      type === undefined
        ? undefined
        : `${type.toLowerCase()} ${bytes.map((byte) => byte.padStart(2, '0')).join(':')}`,
    fixed: valueOf(fixed).flatMap((word) => parseAddress(word) ?? []),
    fixedPlace: fixed?.place ?? place,
    place,
  };
}

function rangeText({ first, last }: { readonly first: number; readonly last: number }): string {
  return `range ${formatAddress(first)}${first === last ? '' : ` ${formatAddress(last)}`}`;
}

/** One subnet within another works: the smaller one goes first. dhcpd warns of it. */
function overlappingSubnets(subnets: readonly Subnet[]): readonly Problem[] {
  return overlaps(subnets).map(([one, other]) => {
    const where = lineOf(one.place, other.place);
    return one.length === other.length
      ? errorAt(other.place, `subnet ${formatNetwork(other)} is declared already, ${where}`)
      : warningAt(other.place, `subnet ${formatNetwork(other)} overlaps ${formatNetwork(one)}, ${where}`);
  });
}

function overlappingRanges(ranges: readonly Range[]): readonly Problem[] {
  return overlaps(ranges).map(([one, other]) =>
    errorAt(other.place, `${rangeText(other)} overlaps ${rangeText(one)}, ${lineOf(one.place, other.place)}`),
  );
}

/** Pairs that share an address: each one with the first before it in the file that it meets. */
function overlaps<Block extends { readonly first: number; readonly last: number }>(
  blocks: readonly Block[],
): readonly (readonly [Block, Block])[] {
  return blocks.flatMap((block, index): (readonly [Block, Block])[] => {
    const met = blocks.slice(0, index).find(({ first, last }) => first <= block.last && block.first <= last);
    return met === undefined ? [] : [[met, block]];
  });
}

/** The base and the broadcast address of a subnet are nobody's. Point-to-point subnets have neither. */
function rangeEnds(ranges: readonly Range[], subnets: readonly Subnet[]): readonly Problem[] {
  return ranges.flatMap((range) => {
    const subnet = subnets.find((candidate) => holds(candidate, range.first));
    if (subnet === undefined || subnet.length > 30) return [];
    const found = [
      ...(range.first === subnet.first ? [`${formatAddress(subnet.first)}, the base`] : []),
      ...(range.last === subnet.last ? [`${formatAddress(subnet.last)}, the broadcast address`] : []),
    ];
    return found.map((what) =>
      warningAt(range.place, `${rangeText(range)} holds ${what} of ${formatNetwork(subnet)}`),
    );
  });
}

function hostProblems(
  hosts: readonly Host[],
  subnets: readonly Subnet[],
  ranges: readonly Range[],
): readonly Problem[] {
  const problems: Problem[] = [];
  const names = new Map<string, Host>();
  const cards = new Map<string, Host[]>();
  const addresses = new Map<number, Host>();
  /** Where a host can be met: on the links of its addresses, or on every one. */
  const linksOf = ({ fixed }: Host): ReadonlySet<object> | undefined =>
    fixed.length === 0
      ? undefined
      : new Set(
          subnets.filter((subnet) => fixed.some((address) => holds(subnet, address))).map(({ link }) => link),
        );
  const meet = (one: Host, other: Host): boolean => {
    const [here, there] = [linksOf(one), linksOf(other)];
    if (here === undefined || there === undefined) return here === there;
    return [...here].some((link) => there.has(link));
  };
  for (const host of hosts) {
    const { name, hardware, fixed, fixedPlace, place } = host;
    const namesake = names.get(name);
    if (namesake === undefined) names.set(name, host);
    else problems.push(errorAt(place, `host ${name} is declared already, ${lineOf(namesake.place, place)}`));

    if (hardware !== undefined) {
      const others = cards.get(hardware) ?? [];
      const double = others.find((other) => meet(other, host));
      if (double !== undefined && namesake === undefined) {
        const text = `${hardware} is the hardware of host ${double.name} already, ${lineOf(double.place, place)}`;
        problems.push(warningAt(place, text));
      }
      cards.set(hardware, [...others, host]);
    }

    for (const address of fixed) {
      const shown = formatAddress(address);
      const owner = addresses.get(address);
      if (owner === undefined) addresses.set(address, host);
      else if (owner.hardware !== hardware) {
        problems.push(
          warningAt(
            fixedPlace,
            `${shown} is the address of host ${owner.name} already, ${lineOf(owner.fixedPlace, fixedPlace)}`,
          ),
        );
      }
      if (!subnets.some((subnet) => holds(subnet, address))) {
        problems.push(
          errorAt(
            fixedPlace,
            `fixed-address ${shown} of host ${name} is in no declared subnet: it is never given`,
          ),
        );
      }
      const range = ranges.find((candidate) => holds(candidate, address));
      if (range !== undefined) {
        const text = `fixed-address ${shown} of host ${name} is in the ${rangeText(range)}: it may be lent to somebody else`;
        problems.push(warningAt(fixedPlace, text));
      }
    }
  }
  return problems;
}

function lineOf(place: Place, from: Place): string {
  return place.file === from.file ? `line ${String(place.line)}` : `${place.file} line ${String(place.line)}`;
}
