import { createHash } from 'node:crypto';

import type { Architecture } from '../../build/support/architecture.js';
import type { ImageConfig } from '../../build/image/engine.js';
import type { RootfsEntry, RootfsPlan } from '../../build/rootfs/plan.js';

/** Entries with as little said as possible; owner root unless told. */
interface Owned {
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
}
const base = { uid: 0, gid: 0, owner: undefined, reason: { kind: 'config' } } as const;

export function directory(path: string, owned: Owned = {}): RootfsEntry {
  return { mode: 0o755, ...base, ...owned, kind: 'directory', path };
}
export function file(
  path: string,
  bytes: Buffer,
  owned: Owned & { readonly capability?: Buffer } = {},
): RootfsEntry {
  const read = (): Promise<Buffer> => Promise.resolve(bytes);
  return {
    mode: 0o644,
    capability: undefined,
    ...base,
    ...owned,
    kind: 'file',
    path,
    size: bytes.length,
    read,
  };
}
export function text(path: string, content: string, owned: Owned = {}): RootfsEntry {
  return { mode: 0o644, ...base, ...owned, kind: 'text', path, content: Buffer.from(content) };
}
export function symlink(path: string, target: string): RootfsEntry {
  return { mode: 0o777, ...base, kind: 'symlink', path, target };
}

/** `cap_net_bind_service,cap_net_raw=ep`, revision 2. */
const netCapability = Buffer.from('0100000200240000000000000000000000000000', 'hex');

/** 2023-11-14 22:13:20 UTC. */
export const sampleEpoch = 1_700_000_000;

/** A small root with everything that a container storage of any user can hold, in the order of a plan. */
export function samplePlan(epoch = sampleEpoch): RootfsPlan {
  const service = { uid: 177, gid: 177 };
  return {
    epoch,
    entries: [
      directory('etc'),
      text('etc/passwd', 'root:x:0:0:root:/:/nonexistent\ndhcpd:x:177:177::/:/nonexistent\n'),
      symlink('lib', 'usr/lib'),
      directory('usr'),
      directory('usr/lib'),
      symlink('usr/lib/libbig.so', 'libbig.so.1'),
      file('usr/lib/libbig.so.1', noise(700_000), { mode: 0o755 }),
      directory('usr/sbin'),
      file('usr/sbin/capable', noise(5000), { mode: 0o755, capability: netCapability }),
      file('usr/sbin/setuid', noise(512), { mode: 0o4755 }),
      directory('usr/share'),
      directory(`usr/share/${'d'.repeat(90)}`),
      text(`usr/share/${'d'.repeat(90)}/${'f'.repeat(60)}`, 'split by ustar'),
      text(`usr/share/${'d'.repeat(90)}/${'g'.repeat(120)}`, 'not split by ustar'),
      text('usr/share/grüße', 'hällo\n', { mode: 0o600 }),
      symlink('usr/share/long', `../${'t'.repeat(130)}`),
      directory('var'),
      directory('var/lib'),
      directory('var/lib/dhcp', { mode: 0o1770, ...service }),
      text('var/lib/dhcp/dhcpd.leases', '', service),
    ],
  };
}

/** Bytes that no compressor gets much out of, the same on every machine. */
export function noise(length: number): Buffer {
  const blocks: Buffer[] = [];
  for (let index = 0; index * 32 < length; index += 1) {
    // Every other block repeats, so that there is something to find.
    blocks.push(
      createHash('sha256')
        .update(`${length} ${index & ~1}`)
        .digest(),
    );
  }
  return Buffer.concat(blocks).subarray(0, length);
}

/** Every field in use, and what each is easily got wrong by. */
export function sampleConfig(architecture: Architecture, created = sampleEpoch): ImageConfig {
  return {
    architecture,
    created,
    user: '177:177',
    entrypoint: ['/usr/sbin/setuid', '-f', 'two words', '', '$HOME', 'back\\slash', '"quoted"', "it's", 'é'],
    command: ['-d', 'two words', '', '$HOME `x` ; | & > <', 'back\\slash', '"quoted"', "it's", '*', '#'],
    environment: ['PATH=/usr/sbin', 'DOLLAR=$HOME and ${PATH} $$ $', 'EMPTY=', 'COMMA=a,b="c"'],
    exposedPorts: ['67/udp', '547/udp', '7911/tcp'],
    volumes: ['/var/lib/dhcp', '/etc/with space'],
    workingDirectory: '/var/lib/dhcp',
    stopSignal: 'SIGTERM',
    annotations: new Map([
      ['org.opencontainers.image.title', 'ISC DHCP server'],
      ['org.opencontainers.image.description', 'commas, = and "quotes" & <angles> $HOME'],
      ['org.opencontainers.image.created', '2023-11-14T22:13:20Z'],
      ['org.opencontainers.image.version', `4.4.3-P1-2 ${architecture}`],
    ]),
  };
}
