import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openLab, type Lab } from '../support/lab.js';
import { baseEnvironment, run } from '../../build/support/exec.js';
import { checkout } from '../support/lab-image.js';
import { requireThat, requireTools } from '../support/tools.js';

const program = join(checkout, 'dist/smoke/clients.js');
const alone = (...args: readonly string[]): Promise<unknown> =>
  run({ argv: [process.execPath, program, ...args], environment: baseEnvironment(process.env) });

describe('the many clients', () => {
  it.each<[string, readonly string[]]>([
    ['say lease, load or verify', []],
    ['say lease, load or verify', ['release']],
    ['what is more\\?', ['lease', 'more']],
    ["Unknown option '--nothing'", ['lease', '--nothing']],
    ['--clients is a whole number from 1 to 65536', ['lease', '--clients', '0']],
    ['--rate is a whole number', ['load', '--rate', 'fast']],
    ['--by is discover or reboot', ['verify', '--by', 'chance']],
  ])('refuse with exit code 2: %s', async (reason, args) => {
    await expect(alone(...args)).rejects.toThrow(new RegExp(`exit code 2: clients: ${reason}`));
  });
});

const ready =
  requireThat(process.getuid?.() === 0, 'root, for network namespaces') && requireTools('ip', 'dnsmasq');

describe.skipIf(!ready)('the many clients and a server', () => {
  let lab: Lab;
  const stop = new AbortController();
  let server: Promise<unknown> = Promise.resolve();
  beforeAll(async () => {
    lab = await openLab(run);
    await lab.addressClient();
    server = run({
      argv: [
        ...([
          'ip',
          'netns',
          'exec',
          lab.server.namespace,
          'dnsmasq',
          '--keep-in-foreground',
          '--port=0',
        ] as const),
        ...[
          '--conf-file=/dev/null',
          '--user=root',
          '--group=root',
          '--no-ping',
          '--dhcp-authoritative',
          '--pid-file=',
        ],
        ...[
          '--interface=lan0',
          '--dhcp-range=192.0.2.50,192.0.2.59,600s',
          `--dhcp-leasefile=${lab.directory}/leases`,
        ],
      ],
      environment: lab.environment,
      signal: stop.signal,
    }).catch(() => undefined);
  });
  afterAll(async () => {
    stop.abort();
    await server;
    await lab.close();
  });
  const inLab = async (input: string, ...args: readonly string[]): Promise<string> => {
    const { stdout } = await run({
      argv: ['ip', 'netns', 'exec', lab.client.namespace, process.execPath, program, ...args],
      environment: lab.environment,
      input,
      timeout: 30_000,
    });
    return stdout;
  };

  it('get their addresses, and know later whether they have them still', async () => {
    const lines = await inLab('', 'lease', '--clients', '5', '--timeout', '8000');
    expect(lines.match(/^{"event":"ack"/gm)).toHaveLength(5);
    expect(lines).toMatch(/^{"event":"end","ack":5,"nak":0,"none":0,"held":0,"lost":0}$/m);
    expect(await inLab(lines, 'verify')).toMatch(/^{"event":"end",.*"held":5,"lost":0}$/m);
    expect(await inLab(lines, 'verify', '--by', 'reboot')).toMatch(/^{"event":"end",.*"held":5,"lost":0}$/m);
  });

  it('see that a lease is lost', async () => {
    const lie =
      '{"mac":"02:00:01:00:00:01","address":"192.0.2.59"}\n{"mac":"02:00:01:00:00:02","address":"10.0.0.1"}\n';
    await expect(inLab(lie, 'verify', '--timeout', '2000')).rejects.toThrow(/exit code 1/);
  });

  it('hear nothing when no address is left', async () => {
    await expect(inLab('', 'lease', '--clients', '12', '--first', '20', '--timeout', '1500')).rejects.toThrow(
      /exit code 1/,
    );
  });

  it('go on until they are stopped', async () => {
    const lines = await inLab('', 'load', '--clients', '3', '--seconds', '1', '--timeout', '500');
    expect(lines.match(/"event":"ack",.*"how":"lease"/g)?.length).toBeGreaterThanOrEqual(3);
  });
});
