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
const option = { pad: 0, messageType: 53, serverId: 54, parameters: 55, end: 255 } as const;
const messageType = { discover: 1, offer: 2 } as const;

/**
 * A DHCPDISCOVER of a client on Ethernet that wants its answer broadcast.
 *
 * @param transaction 32 bits
 * @param mac such as `02:00:00:00:00:02`
 */
export function encodeDiscover(transaction: number, mac: string): Buffer {
  const message = Buffer.alloc(leastBytes);
  message.writeUInt8(bootRequest, 0);
  message.writeUInt8(ethernet, 1);
  message.writeUInt8(6, 2);
  message.writeUInt32BE(transaction, 4);
  message.writeUInt16BE(broadcastFlag, 10);
  Buffer.from(mac.replaceAll(':', ''), 'hex').copy(message, 28);
  message.writeUInt32BE(magicCookie, 236);
  // Mask, router and name servers are what every client asks for.
  const parameters = [1, 3, 6];
  Buffer.from([
    ...[option.messageType, 1, messageType.discover],
    ...[option.parameters, parameters.length, ...parameters],
    option.end,
  ]).copy(message, optionsAt);
  return message;
}

export interface Offer {
  /** Address that the client is offered. */
  readonly address: string;
  /** Server identifier. */
  readonly server: string;
}

/** The DHCPOFFER that answers this transaction; undefined for every other message. */
export function readOffer(message: Buffer, transaction: number): Offer | undefined {
  if (message.length < optionsAt || message.readUInt8(0) !== bootReply) return undefined;
  if (message.readUInt32BE(4) !== transaction || message.readUInt32BE(236) !== magicCookie) return undefined;
  const options = readOptions(message.subarray(optionsAt));
  const server = options.get(option.serverId);
  if (options.get(option.messageType)?.at(0) !== messageType.offer || server?.length !== 4) return undefined;
  return { address: message.subarray(16, 20).join('.'), server: server.join('.') };
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
