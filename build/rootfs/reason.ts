import type { Reason, RootfsEntry } from './plan.js';

/** One line in plain words, such as `needed by /usr/sbin/dhcpd as libc.so.6`. */
export function describeReason(reason: Reason): string {
  switch (reason.kind) {
    case 'root':
      return 'root program';
    case 'needed':
      return `needed by ${reason.chain.at(-2) ?? 'a root'} as ${reason.name}`;
    case 'interpreter':
      return `dynamic loader of ${reason.of}`;
    case 'dlopen':
      return `loaded at run time by ${reason.by} as ${reason.name}`;
    case 'path':
      return `leads to ${reason.to}`;
    case 'state':
      return `state, volume ${reason.volume}`;
    case 'config':
      return 'configuration mount point';
    case 'account':
      return `account ${reason.user}`;
    case 'inventory':
      return `inventory of ${reason.about}`;
    case 'loader-cache':
      return 'where the loader finds the libraries of /etc/ld.so.conf.d';
    case 'declared':
      return `declared under ${reason.field}`;
  }
}

/** Weightiest first: what one package is best explained by. */
const weight: readonly Reason['kind'][] = [
  'root',
  'interpreter',
  'needed',
  'dlopen',
  'declared',
  'state',
  'config',
  'account',
  'loader-cache',
  'inventory',
  'path',
];

/** Sort key of a reason: the smaller, the weightier. */
export function rankOfReason(reason: Reason): number {
  return weight.indexOf(reason.kind);
}

export interface PackageName {
  readonly name: string;
  readonly version: string;
}

/** The package an entry comes from; undefined for what the plan itself writes. */
export function packageOf({ owner }: RootfsEntry): PackageName | undefined {
  return owner === undefined ? undefined : { name: owner.name, version: owner.version };
}
