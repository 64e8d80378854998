import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { baseEnvironment, run } from '../../build/support/exec.js';
import { fedoraStandIn } from '../support/fedora-stand-in.js';
import { leaseByUdhcpc, type Lease } from '../support/lab-client.js';
import { nodeImageTools } from '../support/node-image.js';
import { requireThat, requireTools } from '../support/tools.js';
import { documentedCommands, inOneLine, project } from './commands.js';
import { openCoreosHost, type CoreosHost } from './coreos-host.js';
import { coreosUserTools } from './coreos-user.js';
import { npmScripts } from './runs.js';

const commands = documentedCommands().filter(({ file }) => file === 'docs/coreos.md');
const isOfToolbox = (text: string): boolean => text.startsWith('toolbox ');
/** The machine of test/vm runs these, with the units of the same program; this host has no systemd, and keeps its /etc. */
const isOfSystemd = (text: string): boolean => /^sudo (?:systemctl|cp -r out\/units)\b/.test(text);

const ready =
  requireThat(process.getuid?.() === 0, 'root, for network namespaces') &&
  requireTools('runc', 'catatonit', 'ip', 'nsenter', 'unshare', 'mount', 'udhcpc') &&
  requireTools('curl', 'git', 'gzip', ...coreosUserTools, ...nodeImageTools);

/** Fedora's mirrors. */
const fedora = ready ? await fedoraStandIn() : undefined;

const build = /^podman run .* npm run build:scratch/;
const serve = /^sudo podman run --detach /;
const digest = /^digest +(sha256:[0-9a-f]{64})$/m;

/** What commands say, by how they begin. */
const says: readonly (readonly [RegExp, RegExp])[] = [
  [build, digest],
  [/^sudo podman load /, /^Loaded image: localhost\/dhcpd:latest$/m],
  [/ localhost\/dhcpd -t$/, /^Config file: \/etc\/dhcp\/dhcpd\.conf$/m],
  [serve, /^[0-9a-f]{64}$/m],
  [/^sudo podman start /, /^dhcpd$/m],
  [/ --output out\/units /, /^written +out\/units\/containers\/systemd\/dhcpd\.container$/m],
  [/ --output out\/machine$/, /^written +out\/machine\/dhcpd\.ign$/m],
];

describe.skipIf(fedora === undefined)('a reader of docs/coreos.md', () => {
  let host: CoreosHost;
  let lease: Lease | undefined;
  beforeAll(async () => {
    if (fedora !== undefined) host = await openCoreosHost(fedora);
  }, 300_000);
  afterAll(async () => {
    await host.close();
  }, 60_000);

  for (const { file, line, text } of commands) {
    const command = inOneLine(text);
    if (isOfToolbox(command)) continue;
    if (isOfSystemd(command)) {
      it(`is a line of shell: ${command}`, () => host.shell(`sh -n -c '${command}'`));
      continue;
    }
    it(`${file}:${line}: ${command}`, async () => {
      // What a reboot leaves of the container.
      if (command.startsWith('sudo podman start ')) await host.shell('sudo podman stop dhcpd');
      const said = await host.shell(text);
      for (const [, expected] of says.filter(([which]) => which.test(command))) {
        expect(said).toMatch(expected);
      }
      if (command.includes('git clone')) await stat(join(host.checkout, '.git/HEAD'));
      if (build.test(command)) await expectWarmBuild(text, said);
      if (serve.test(command)) lease = await expectLease();
      if (command.startsWith('sudo podman start '))
        expect((await expectLease()).address).toBe(lease?.address);
    }, 300_000);
  }

  it('finds everything that a test expects', () => {
    for (const [which] of says) {
      expect(
        commands.filter(({ text }) => which.test(inOneLine(text))),
        String(which),
      ).toHaveLength(1);
    }
  });

  /** The same command again: the volume has kept the packages. */
  async function expectWarmBuild(text: string, first: string): Promise<void> {
    // They belong to the user, not to the container's root or to anybody else.
    const owner = (await stat(host.checkout)).uid;
    expect(owner).not.toBe(0);
    for (const path of ['out/dhcpd.oci.tar', 'dist/cli.js', 'images/scratch/dhcpd.lock.yaml']) {
      expect((await stat(join(host.checkout, path))).uid, path).toBe(owner);
    }
    const downloads = host.downloads();
    expect(downloads).toBeGreaterThan(0);
    const second = await host.shell(text);
    expect(host.downloads()).toBe(downloads);
    expect(digest.exec(second)?.[1]).toBe(digest.exec(first)?.[1]);
    await host.keepDownloads();
  }

  async function expectLease(): Promise<Lease> {
    await expect
      .poll(() => host.shell('sudo podman logs dhcpd'), { timeout: 15_000 })
      .toContain('Server starting service.');
    const given = await leaseByUdhcpc(run, host.lab, 'reader');
    expect(given.address).toMatch(/^192\.0\.2\.1\d\d$/);
    const top = await host.shell('sudo podman top dhcpd huser capeff args');
    expect(top).toMatch(/^177 +NET_BIND_SERVICE,NET_RAW +\S+\/dhcpd .* eth0 *$/m);
    return given;
  }
});

/**
 * These are not run: a toolbox is a container of Fedora's own image, which comes from Fedora's registry with `core`'s
 * home directory in it. That the programs they run inside it do what they say is shown by the tests of those.
 */
describe('what docs/coreos.md says of toolbox', () => {
  const inToolbox = commands.map(({ text }) => inOneLine(text)).filter(isOfToolbox);

  it.skipIf(!requireTools('bash')).each(inToolbox)('is a line of shell: %s', async (line) => {
    await run({ argv: ['bash', '-n', '-c', line], environment: baseEnvironment(process.env) });
    expect(line).toMatch(/^toolbox (?:create|run) /);
  });

  it('runs npm scripts that exist, and what they need', async () => {
    const named = inToolbox.flatMap((line) => /npm run ([\w:-]+)/.exec(line)?.[1] ?? []);
    expect(named).toContain('build:fedora');
    for (const name of named) {
      const script = npmScripts()[name];
      expect(script, name).toMatch(/^node dist\/cli\.js /);
      const definition = / (images\/\S+)$/.exec(script ?? '')?.[1];
      if (definition !== undefined)
        await expect(readFile(join(project, definition), 'utf8')).resolves.toMatch(
          /^name: dhcpd(?:-fedora)?$/m,
        );
    }
    const installed = inToolbox.findIndex((line) => / dnf install .*\bnodejs npm\b/.test(line));
    const used = inToolbox.findIndex((line) => / npm (?:ci|run)\b/.test(line));
    expect(installed).toBeGreaterThan(0);
    expect(used).toBeGreaterThan(installed);
  });
});
