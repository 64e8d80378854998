import { recordedLeases } from './lease-file.js';

/** What a server is to do on the lab's networks. */
export interface LanConfig {
  /** Last numbers of the first and the last address to lend. */
  readonly pool: readonly [number, number];
  /** Of a lease, in seconds. */
  readonly seconds: number;
  /** A host with an address of its own. */
  readonly reserved?: { readonly mac: string; readonly address: string };
  /** Serve the second network as well. */
  readonly second?: boolean;
  /** Further lines for this kind of server. */
  readonly more?: string;
}

/** The options that every lease of the lab carries. */
export const declared = {
  mask: '255.255.255.0',
  router: '192.0.2.254',
  dns: '192.0.2.53',
  domain: 'lan.test',
} as const;

/** How a kind of server is told what to do, and what it says. */
export interface ServerKind {
  /** Name of the program. */
  readonly name: string;
  /** Name of the configuration file in its directory. */
  readonly file: string;
  /** In the log, once it serves. */
  readonly ready: RegExp;
  /** Name of the file of leases in the directory of the state. */
  readonly leases: string;
  config(lan: LanConfig): string;
  /** The leases that clients hold after the file of leases: MAC address by address. */
  held(text: string): ReadonlyMap<string, string>;
}

const dhcpd: ServerKind = {
  name: 'dhcpd',
  file: 'dhcpd.conf',
  ready: /^Server starting service\.$/m,
  leases: 'dhcpd.leases',
  // Without the ping before the first offer, which takes a second and has a check of its own.
  config: ({ pool, seconds, reserved, second = false, more = '' }) => `authoritative;
ping-check false;
default-lease-time ${seconds};
max-lease-time ${seconds};
${more}subnet 192.0.2.0 netmask 255.255.255.0 {
  range 192.0.2.${pool[0]} 192.0.2.${pool[1]};
  option routers ${declared.router};
  option domain-name-servers ${declared.dns};
  option domain-name "${declared.domain}";
}
${second ? `subnet 198.51.100.0 netmask 255.255.255.0 {\n  range 198.51.100.${pool[0]} 198.51.100.${pool[1]};\n}\n` : ''}${
    reserved === undefined
      ? ''
      : `host fixed {\n  hardware ethernet ${reserved.mac};\n  fixed-address ${reserved.address};\n}\n`
  }`,
  held: (text) =>
    new Map(
      [...recordedLeases(text).values()]
        .filter(({ state }) => state === 'active')
        .map(({ address, mac = '' }) => [address, mac]),
    ),
};

const dnsmasq: ServerKind = {
  name: 'dnsmasq',
  file: 'lan.conf',
  ready: /DHCP, IP range/,
  leases: 'dnsmasq.leases',
  config: ({ pool, seconds, reserved, second = false, more = '' }) => `dhcp-authoritative
no-ping
dhcp-range=192.0.2.${pool[0]},192.0.2.${pool[1]},255.255.255.0,${seconds}s
dhcp-option=option:router,${declared.router}
dhcp-option=option:dns-server,${declared.dns}
domain=${declared.domain}
${second ? `dhcp-range=198.51.100.${pool[0]},198.51.100.${pool[1]},255.255.255.0,${seconds}s\n` : ''}${
    reserved === undefined ? '' : `dhcp-host=${reserved.mac},${reserved.address}\n`
  }${more}`,
  held: (text) =>
    new Map(
      [...text.matchAll(/^[0-9]+ ([0-9a-f:]+) ([0-9.]+) /gm)].map(([, mac = '', address = '']) => [
        address,
        mac,
      ]),
    ),
};

/** By the name of the program that the image starts. */
export const serverKinds: ReadonlyMap<string, ServerKind> = new Map(
  [dhcpd, dnsmasq].map((kind) => [kind.name, kind]),
);
