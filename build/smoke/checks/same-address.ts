import type { Bench, Server } from '../bench.js';
import { must, mustEqual, type Check } from '../check.js';
import { mustHold } from './start.js';

/** Whatever happens to the container, a client gets the address that it had. */
export const sameAddressChecks: readonly Check[] = [
  sameAddressCheck('restart', 'a stop and a start', async (_bench, server) => {
    await server.container.stop();
    await server.container.start();
    await server.ready();
    return server;
  }),
  sameAddressCheck('recreation', 'the container is removed and made again', async (bench, server) => {
    await server.container.stop();
    await server.container.remove();
    return bench.serve();
  }),
  sameAddressCheck('kill', 'kill -9', async (_bench, server) => {
    await server.container.kill();
    await server.container.start();
    await server.ready();
    return server;
  }),
  sameAddressCheck('update', 'another image takes the place of the first', async (bench, server) => {
    const image = await bench.site.podman.relabel(bench.site.image, 'smoke=update');
    must(image !== bench.site.image, 'the second image is the first');
    await server.container.stop();
    await server.container.remove();
    return bench.serve({ image });
  }),
];

function sameAddressCheck(
  name: string,
  event: string,
  happen: (bench: Bench, server: Server) => Promise<Server>,
): Check {
  return {
    name: `same-address-after-${name}`,
    promise: `the same client gets the same address after ${event}`,
    run: async (bench) => {
      const before = await bench.serve();
      // Others come first and in another order, so that the next free address is not the right one by chance.
      for (const other of [7, 3]) await bench.leaseOf(other);
      const address = await bench.leaseOf(1);
      await bench.leaseOf(5);
      const after = await happen(bench, before);
      await bench.leaseOf(9);
      mustEqual(await bench.leaseOf(1), address, 'the address afterwards');
      mustHold(bench.site.kind, await after.leases(), address, '02:00:01:00:00:01');
    },
  };
}
