/** UDP ports of RFC 2131, section 4.1. */
export const serverPort = 67;
export const clientPort = 68;

const bootRequest = 1;
const bootReply = 2;
const ethernet = 1;
const broadcastFlag = 0x8000;
/** Offset of the options: the fixed fields of RFC 2131, figure 1, and the magic cookie. */
const optionsAt = 240;
const magicCookie = 0x63825363;
/** Smaller BOOTP messages than this are passed over by some relays and servers (RFC 1542, section 2.1). */
const leastBytes = 300;

/** Option codes of RFC 2132. */
const option = {
  ...{ pad: 0, mask: 1, router: 3, dns: 6, domain: 15, requestedAddress: 50, leaseTime: 51 },
  ...{ messageType: 53, serverId: 54, parameters: 55, clientId: 61, end: 255 },
} as const;

/** Values of option 53. */
const messageTypes = { discover: 1, offer: 2, request: 3, decline: 4, ack: 5, nak: 6, release: 7 } as const;

/** What a client on Ethernet says to a server. */
export interface ClientMessage {
  readonly type: 'discover' | 'request' | 'release';
  /** 32 bits. */
  readonly transaction: number;
  /** Such as `02:00:00:00:00:02`. */
  readonly mac: string;
  /** Address that the client has and uses (`ciaddr`): when it renews and when it gives the address back. */
  readonly current?: string;
  /** Address that it would like: an offered one, or the one it had before it was started anew. */
  readonly requested?: string;
  /** Server identifier of the offer that is taken, or of the lease that is given back. */
  readonly server?: string;
  /** Option 61, with its type in the first byte. */
  readonly clientId?: Buffer;
}

/** The message as bytes. It asks for its answer to be broadcast: no address need be there to receive it. */
export function encodeMessage(message: ClientMessage): Buffer {
  const { mac, current, requested, server, clientId } = message;
  const hasAnswer = message.type !== 'release';
  const head = Buffer.alloc(optionsAt);
  head.writeUInt8(bootRequest, 0);
  head.writeUInt8(ethernet, 1);
  head.writeUInt8(6, 2);
  head.writeUInt32BE(message.transaction, 4);
  if (hasAnswer) head.writeUInt16BE(broadcastFlag, 10);
  if (current !== undefined) addressBytes(current).copy(head, 12);
  Buffer.from(mac.replaceAll(':', ''), 'hex').copy(head, 28);
  head.writeUInt32BE(magicCookie, 236);
  const options = Buffer.concat([
    encodeOption(option.messageType, [messageTypes[message.type]]),
    ...(requested === undefined ? [] : [encodeOption(option.requestedAddress, addressBytes(requested))]),
    ...(server === undefined ? [] : [encodeOption(option.serverId, addressBytes(server))]),
    ...(clientId === undefined ? [] : [encodeOption(option.clientId, clientId)]),
    // Mask, router and name servers are what every client asks for.
    ...(hasAnswer ? [encodeOption(option.parameters, [option.mask, option.router, option.dns])] : []),
    Buffer.from([option.end]),
  ]);
  const padding = Buffer.alloc(Math.max(0, leastBytes - head.length - options.length));
  return Buffer.concat([head, options, padding]);
}

/**
 * A DHCPDISCOVER of a client on Ethernet that wants its answer broadcast.
 *
 * @param transaction 32 bits
 * @param mac such as `02:00:00:00:00:02`
 */
export function encodeDiscover(transaction: number, mac: string): Buffer {
  return encodeMessage({ type: 'discover', transaction, mac });
}

/** What a server says to a client. */
export interface ServerMessage {
  readonly type: 'offer' | 'ack' | 'nak';
  readonly transaction: number;
  /** Of the client. */
  readonly mac: string;
  /** Address that the client is given; 0.0.0.0 in a NAK. */
  readonly address: string;
  /** Server identifier. */
  readonly server: string;
  /** For how long, in seconds; undefined in a NAK. */
  readonly seconds: number | undefined;
}

/** A server's message; undefined for everything else that a network brings. */
export function readMessage(message: Buffer): ServerMessage | undefined {
  if (message.length < optionsAt || message.readUInt8(0) !== bootReply) return undefined;
  if (message.readUInt32BE(236) !== magicCookie) return undefined;
  const options = readOptions(message.subarray(optionsAt));
  const code = options.get(option.messageType)?.at(0);
  const type = (['offer', 'ack', 'nak'] as const).find((name) => messageTypes[name] === code);
  const server = options.get(option.serverId);
  const time = options.get(option.leaseTime);
  if (type === undefined || server?.length !== 4) return undefined;
  return {
    type,
    transaction: message.readUInt32BE(4),
    mac: macText(message.subarray(28, 34)),
    address: message.subarray(16, 20).join('.'),
    server: server.join('.'),
    seconds: time?.length === 4 ? time.readUInt32BE() : undefined,
  };
}

export interface Offer {
  /** Address that the client is offered. */
  readonly address: string;
  /** Server identifier. */
  readonly server: string;
}

/** The DHCPOFFER that answers this transaction; undefined for every other message. */
export function readOffer(message: Buffer, transaction: number): Offer | undefined {
  const found = readMessage(message);
  if (found?.type !== 'offer' || found.transaction !== transaction) return undefined;
  return { address: found.address, server: found.server };
}

function macText(bytes: Buffer): string {
  return [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join(':');
}

function addressBytes(address: string): Buffer {
  return Buffer.from(address.split('.').map(Number));
}

function encodeOption(code: number, value: Buffer | readonly number[]): Buffer {
  return Buffer.from([code, value.length, ...value]);
}

function readOptions(bytes: Buffer): ReadonlyMap<number, Buffer> {
  const options = new Map<number, Buffer>();
  for (let at = 0; at < bytes.length;) {
    const code = bytes.readUInt8(at);
    if (code === option.end) break;
    if (code === option.pad) {
      at += 1;
      continue;
    }
    const length = bytes[at + 1];
    if (length === undefined || at + 2 + length > bytes.length) break;
    options.set(code, bytes.subarray(at + 2, at + 2 + length));
    at += 2 + length;
  }
  return options;
}
