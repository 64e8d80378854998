import { randomBytes } from 'node:crypto';
import { createSocket } from 'node:dgram';

import {
  clientPort,
  encodeMessage,
  readMessage,
  serverPort,
  type ClientMessage,
  type ServerMessage,
} from './dhcp-message.js';

/** One socket through which any number of clients talk to the server at the same time, each with its own MAC address. */
export interface Conversation {
  /**
   * Says something and waits for its answer; says it again after 1, 2, 4 and then every 4 s (RFC 2131, section 4.1).
   *
   * @param timeout milliseconds
   * @returns undefined when nobody has answered
   */
  ask(message: Said, timeout: number): Promise<ServerMessage | undefined>;
  /** Says something that is not answered. */
  say(message: Said): Promise<void>;
  close(): void;
}

type Said = Omit<ClientMessage, 'transaction'>;

const longestPause = 4000;

/**
 * Opens the clients' port of this network namespace. There must be an address, and a route to 255.255.255.255.
 *
 * @param onAnswer told of every answer that somebody waits for, at the moment it arrives
 */
export async function openConversation(
  onAnswer: (answer: ServerMessage, question: Said) => void,
): Promise<Conversation> {
  const socket = createSocket('udp4');
  const waiting = new Map<number, (answer: ServerMessage) => void>();
  socket.on('message', (bytes) => {
    const answer = readMessage(bytes);
    if (answer !== undefined) waiting.get(answer.transaction)?.(answer);
  });
  await new Promise<void>((resolve, reject) => {
    socket.once('error', reject);
    socket.bind(clientPort, () => {
      socket.off('error', reject);
      socket.setBroadcast(true);
      resolve();
    });
  });
  const send = (bytes: Buffer): Promise<void> =>
    new Promise((resolve, reject) => {
      socket.send(bytes, serverPort, '255.255.255.255', (error) => {
        if (error === null) resolve();
        else reject(error);
      });
    });

  return {
    ask: (message, timeout) =>
      new Promise((resolve, reject) => {
        const transaction = freshTransaction(waiting);
        const bytes = encodeMessage({ ...message, transaction });
        let again: NodeJS.Timeout | undefined;
        const finish = (): void => {
          clearTimeout(again);
          clearTimeout(ending);
          waiting.delete(transaction);
        };
        const ending = setTimeout(() => {
          finish();
          resolve(undefined);
        }, timeout);
        const repeat = (pause: number): void => {
          again = setTimeout(repeat, pause, Math.min(2 * pause, longestPause));
          send(bytes).catch((error: unknown) => {
            finish();
            reject(error instanceof Error ? error : new Error(String(error)));
          });
        };
        const expected = message.type === 'discover' ? ['offer'] : ['ack', 'nak'];
        waiting.set(transaction, (answer) => {
          if (answer.mac !== message.mac || !expected.includes(answer.type)) return;
          finish();
          onAnswer(answer, message);
          resolve(answer);
        });
        repeat(1000);
      }),
    say: (message) => send(encodeMessage({ ...message, transaction: freshTransaction(waiting) })),
    close: () => {
      socket.close();
    },
  };
}

function freshTransaction(taken: ReadonlyMap<number, unknown>): number {
  let transaction: number;
  do transaction = randomBytes(4).readUInt32BE();
  while (taken.has(transaction));
  return transaction;
}
