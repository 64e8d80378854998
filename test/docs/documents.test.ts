import { existsSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { run } from '../../build/support/exec.js';
import { leaseByUdhcpc } from '../support/lab-client.js';
import { requireThat, requireTools } from '../support/tools.js';
import { documentedCommands, inOneLine, type DocumentedCommand } from './commands.js';
import { openFreshCopy, type FreshCopy } from './fresh-copy.js';
import { openReadmeLab, type ReadmeLab } from './readme-lab.js';
import { runs, type Run } from './runs.js';

const ready = requireTools('git', 'npm', 'npx', 'apt-get', 'apt-config', 'dpkg-deb', 'man');
const withLab =
  ready &&
  requireThat(process.getuid?.() === 0, 'root, for network namespaces') &&
  requireTools('ip', 'nsenter', 'unshare', 'mount', 'podman', 'runc', 'catatonit', 'udhcpc') &&
  requireThat(existsSync('/etc/dhcp'), '/etc/dhcp, to mount another directory there in a namespace');

/** Each command once, where a reader meets it first, so that what it needs has been made by those before it. */
const met = new Set<string>();
const inReadingOrder = documentedCommands().flatMap(
  (command): (readonly [string, DocumentedCommand, Run])[] => {
    const text = inOneLine(command.text);
    const how = runs.get(text);
    if (how === undefined || met.has(text)) return [];
    met.add(text);
    return [[`${command.file}:${command.line}: ${text}`, command, how]];
  },
);

describe.skipIf(!ready)('a reader who runs every command of the documents', () => {
  let copy: FreshCopy;
  let machine: ReadmeLab | undefined;
  beforeAll(async () => {
    copy = await openFreshCopy();
    if (withLab) machine = await openReadmeLab();
  }, 180_000);
  afterAll(async () => {
    await machine?.close();
    await copy.remove();
  }, 60_000);

  for (const [title, command, how] of inReadingOrder) {
    const isPossible =
      ((how.where !== 'lab' && how.root === undefined) || withLab) &&
      (how.only === undefined || process.arch === how.only);
    it.skipIf(!isPossible)(
      title,
      async () => {
        if (how.after !== undefined) await perform(how.after, 'project');
        const said = await perform(
          how.more === undefined ? command.text : `${command.text} ${how.more}`,
          how.where,
        );
        if (how.says !== undefined) expect(said).toMatch(how.says);
        if (command.output !== undefined) expect(shapeOf(said)).toEqual(shapeOf(command.output));
        if (command.text.startsWith('podman run')) await expectLease();
      },
      180_000,
    );
  }

  function theMachine(): ReadmeLab {
    if (machine === undefined) throw new Error('there is no lab');
    return machine;
  }

  async function perform(line: string, where: Run['where']): Promise<string> {
    if (where === 'lab') return theMachine().shell(line, copy.directory);
    const { stdout } = await run({
      argv: ['sh', '-c', line],
      cwd: where === 'project' ? copy.directory : copy.empty,
      environment: copy.environment,
      timeout: 170_000,
    });
    // npm says first what it runs.
    return stdout.replace(/^\n(?:> .*\n)+\n/, '');
  }

  /** What the README promises of the container it has just started. */
  async function expectLease(): Promise<void> {
    const here = theMachine();
    const { lab } = here;
    const podman = (line: string): Promise<string> => here.shell(`podman ${line}`, copy.directory);
    const log = (): Promise<string> => podman('logs dhcpd');
    await expect.poll(log, { timeout: 15_000 }).toContain('Server starting service.');

    const lease = await leaseByUdhcpc(run, lab, 'reader');
    expect(lease).toMatchObject({
      address: expect.stringMatching(/^192\.0\.2\.1\d\d$/) as unknown,
      mask: '255.255.255.0',
      router: '192.0.2.1',
      domain: 'home.arpa',
      seconds: 3600,
    });
    await expect.poll(log).toContain(`DHCPACK on ${lease.address} to ${lab.client.mac} (reader) via eth0`);

    const top = await podman('top dhcpd huser capeff args');
    expect(top).toMatch(/^177 +NET_BIND_SERVICE,NET_RAW +\S+\/dhcpd .* eth0 *$/m);

    // The check that config/dhcpd.conf.example recommends for a changed file.
    await expect(podman('run --rm -v /etc/dhcp:/etc/dhcp:ro,Z localhost/dhcpd -t')).resolves.toContain(
      'Config file: /etc/dhcp/dhcpd.conf',
    );

    const begin = performance.now();
    await podman('stop dhcpd');
    // Without --init Podman waits ten seconds before it kills.
    expect(performance.now() - begin).toBeLessThan(5000);
    await podman('start dhcpd');
    expect((await leaseByUdhcpc(run, lab, 'reader')).address).toBe(lease.address);
  }
});

/** The lines of an output without what another day, host or release makes different. */
function shapeOf(output: string): readonly string[] {
  return output
    .trim()
    .split('\n')
    .map((line) =>
      line
        .replace(/sha256:(?:[0-9a-f]{64}|…)/g, 'sha256:DIGEST')
        .replace(/\b[0-9.]+ (?:Ki|Mi)?B\b/g, 'SIZE')
        .replace(/\b\d+ (files|packages)\b/g, 'N $1')
        .replace(/ +\d+\.\d\d s$/, ' SECONDS')
        .replace(/ in \d+ s$/, ' SECONDS')
        .replace(/^(?:x86_64|aarch64) */, 'ARCHITECTURE ')
        .replace(/\((?:bookworm|trixie|forky)\)/g, '(RELEASE)')
        .replace(/\(([a-z0-9+.-]+) \d[\w.+~:-]*\)/g, '($1 VERSION)')
        // The release may differ from that of the committed lock file.
        .replace(/^(lock .*) \(written\)$/, '$1'),
    );
}
