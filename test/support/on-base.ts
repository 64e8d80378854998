import { chmod, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import type { OnBaseInput } from '../../build/image/on-base.js';
import type { Architecture } from '../../build/support/architecture.js';
import { baseReference, tinySigner } from './base-image.js';
import type { Lab } from './lab.js';

/** An image of dhcpd on the base that tests stand in for Fedora's, for one architecture. */
export function onBaseInput(architecture: Architecture): OnBaseInput {
  return {
    definition: {
      file: '/dhcpd.yaml',
      sha256: '',
      name: 'dhcpd',
      title: 'ISC DHCP server',
      description: undefined,
      url: undefined,
      licenses: undefined,
      base: baseReference,
      packages: {},
      roots: ['dhcpd'],
      dlopen: [],
      files: [],
      user: { name: 'dhcpd', id: 177 },
      config: '/etc/dhcp',
      state: { volume: 'leases', files: ['dhcpd.leases'] },
      ports: ['67/udp'],
      capabilities: ['NET_RAW', 'NET_BIND_SERVICE'],
      run: ['-4', '-f'],
      command: [],
      listen: [],
      check: [],
      environment: new Map(),
      stopSignal: 'SIGTERM',
      inventory: false,
    },
    architecture,
    base: { reference: baseReference, digest: undefined },
    package: 'dhcp-server',
    release: '45',
    signers: [tinySigner],
    state: '/var/lib/dhcpd',
    sources: undefined,
    compression: 'gzip',
    epoch: undefined,
  };
}

/** Writes a dhcpd.conf for the lab. @returns its directory, which the service's account can read */
export async function serverConfig(lab: Lab): Promise<string> {
  const directory = join(lab.directory, 'config');
  await mkdir(directory);
  const lines = [
    'authoritative;',
    'subnet 192.0.2.0 netmask 255.255.255.0 { range 192.0.2.50 192.0.2.60; }',
    '',
  ];
  await writeFile(join(directory, 'dhcpd.conf'), lines.join('\n'), { mode: 0o644 });
  await chmod(directory, 0o755);
  return directory;
}
