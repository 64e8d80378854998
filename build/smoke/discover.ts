/**
 * A program of its own, to be run in a client's network namespace: `discover MAC MILLISECONDS READY`. Broadcasts a
 * DHCPDISCOVER every 20 ms until a server offers an address, or the time is over. Makes the file READY when the first
 * has been sent. Prints one JSON document: `{"at": NANOSECONDS, "address": ADDRESS, "server": ADDRESS}` with the time of
 * CLOCK_MONOTONIC as a text, or `null`.
 */
import { randomBytes } from 'node:crypto';
import { createSocket } from 'node:dgram';
import { writeFileSync } from 'node:fs';

import { clientPort, encodeDiscover, readOffer, serverPort } from './dhcp-message.js';

const interval = 20;

const [mac = '', milliseconds = '', ready = ''] = process.argv.slice(2);
const transaction = randomBytes(4).readUInt32BE();
const discover = encodeDiscover(transaction, mac);
const socket = createSocket('udp4');

function finish(answer: unknown): void {
  clearInterval(sending);
  clearTimeout(ending);
  socket.close();
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}

const ending = setTimeout(() => {
  finish(null);
}, Number(milliseconds));
let sending: NodeJS.Timeout | undefined;

socket.on('message', (message) => {
  const at = process.hrtime.bigint();
  const offer = readOffer(message, transaction);
  if (offer !== undefined) finish({ at: String(at), ...offer });
});
socket.on('error', (error) => {
  process.stderr.write(`${error.message}\n`);
  process.exit(1);
});
socket.bind(clientPort, () => {
  socket.setBroadcast(true);
  const send = (done?: () => void): void => {
    socket.send(discover, serverPort, '255.255.255.255', (error) => {
      if (error === null) done?.();
      else socket.emit('error', error);
    });
  };
  send(() => {
    writeFileSync(ready, '');
    sending = setInterval(send, interval);
  });
});
