import { join, resolve } from 'node:path';
import { once } from 'node:events';
import { mkdir } from 'node:fs/promises';
import { parseArgs } from 'node:util';
import { cacheHome, forgetIdle, locked } from './cached.js';
import { buildStandIn, keyOf, type StandInRequest } from './fedora-stand-in/build.js';
import { repositoryNames, standInArchitectures } from './fedora-stand-in/description.js';
import { serveStandIn } from './fedora-stand-in/server.js';
import { interrupt, runScript } from './script.js';

/**
 * Makes a stand-in of Fedora out of Debian packages: repositories with metadata, signed packages and keys, laid out as
 * on Fedora's mirrors. The path of the stand-in is all that goes to standard output.
 */

const usage = `npm run host:fedora -- [--output DIR] [--arch x86_64,aarch64] [--release 45] [--serve]

--output   where to put it (default: a directory of the user's cache, one for each state of the inputs)
--arch     architectures, separated by commas
--release  which release of Fedora it says to be
--serve    serve it on loopback until interrupted
`;

await runScript(main);

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      output: { type: 'string' },
      arch: { type: 'string', default: standInArchitectures.join(',') },
      release: { type: 'string', default: '45' },
      serve: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) {
    process.stdout.write(usage);
    return;
  }
  const names = values.arch.split(',');
  const architectures = standInArchitectures.filter((name) => names.includes(name));
  if (architectures.length !== names.length)
    throw new Error(`--arch takes ${standInArchitectures.join(' and ')}`);
  if (!/^\d{1,4}$/.test(values.release)) throw new Error('--release takes a number');
  const request: StandInRequest = { release: Number(values.release), architectures, say };
  const key = await keyOf(request);
  const cache = join(cacheHome(), 'dhcpd-scratch-stand-in');
  const root = values.output === undefined ? join(cache, key.slice(0, 16)) : resolve(values.output);
  await mkdir(join(root, '..'), { recursive: true });
  await locked(`${root}.lock`, () => buildStandIn(root, key, request));
  if (values.output === undefined) await forgetIdle(cache, root);
  process.stdout.write(`${root}\n`);
  if (values.serve) await serve(root, request);
}

async function serve(root: string, { architectures }: StandInRequest): Promise<void> {
  const server = await serveStandIn(root);
  for (const architecture of architectures) {
    for (const name of repositoryNames) process.stdout.write(`${server.metalinkUrl(name, architecture)}\n`);
  }
  say('serving until interrupted');
  process.off('SIGINT', interrupt).off('SIGTERM', interrupt);
  await Promise.race([once(process, 'SIGINT'), once(process, 'SIGTERM')]);
  await server.close();
}

function say(text: string): void {
  process.stderr.write(`fedora stand-in: ${text}\n`);
}
