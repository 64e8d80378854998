import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { StandInServer } from '../../build/host/fedora-stand-in/server.js';
import { run } from '../../build/support/exec.js';
import { privateStorage, type PrivateStorage } from '../support/buildah.js';
import { fedoraRegistryTools, startFedoraRegistry } from '../support/fedora-registry.js';
import { fedoraStandIn } from '../support/fedora-stand-in.js';
import type { Registry } from '../support/registry.js';
import { requireThat, requireTools } from '../support/tools.js';
import { documentedCommands, inOneLine } from './commands.js';
import { openFreshCopy, type FreshCopy } from './fresh-copy.js';
import { runOnFedora } from './runs.js';

const ready =
  requireThat(process.getuid?.() === 0, 'root, for network namespaces') &&
  requireTools('git', 'npm', 'ip', 'ethtool', 'podman', 'runc', ...fedoraRegistryTools);
const standIn = ready ? await fedoraStandIn() : undefined;

const commands = documentedCommands().filter(
  ({ file, text }) => file === 'README.md' && runOnFedora.includes(inOneLine(text)),
);

/** As the README has them, but for mirrors that can be reached: nothing else of the words is changed. */
describe.skipIf(standIn === undefined)('a reader of the README who builds from Fedora', () => {
  let copy: FreshCopy;
  let directory: string;
  let storage: PrivateStorage;
  let registry: Registry;
  let server: StandInServer;
  beforeAll(async () => {
    if (standIn === undefined) return;
    directory = await mkdtemp(join(tmpdir(), 'docs-fedora-'));
    registry = await startFedoraRegistry(standIn, directory);
    storage = privateStorage(join(directory, 'storage'));
    server = await standIn.serve();
    copy = await openFreshCopy();
  }, 400_000);
  afterAll(async () => {
    await copy.remove();
    await server.close();
    await registry.close();
    storage.remove();
    await rm(directory, { recursive: true, force: true });
  }, 60_000);

  async function perform(line: string): Promise<string> {
    const { stdout } = await run({
      argv: ['sh', '-c', line],
      cwd: copy.directory,
      environment: {
        ...copy.environment,
        ...storage.environment,
        XDG_CACHE_HOME: copy.environment['XDG_CACHE_HOME'] ?? '',
        CONTAINERS_REGISTRIES_CONF: registry.configuration,
      },
      timeout: 280_000,
    });
    return stdout.replace(/^\n(?:> .*\n)+\n/, '');
  }

  it('finds each of them once, in this order', () => {
    expect(commands.map(({ text }) => inOneLine(text))).toEqual(runOnFedora);
  });

  const [scratch = '', fedora = '', compare = ''] = runOnFedora;
  const from = (): string => `--mirror ${server.url}/metalink --keyring ${standIn?.keyFile ?? ''}`;

  it(
    scratch,
    async () => {
      const said = await perform(`${scratch} ${from()}`);
      expect(said).toMatch(/^digest +sha256:[0-9a-f]{64}$/m);
      expect(said).toMatch(/ files from \d+ packages \(45\)$/m);
    },
    300_000,
  );

  it(
    fedora,
    async () => {
      const said = await perform(`${fedora} -- ${from()}`);
      expect(said).toMatch(/^image +localhost\/dhcpd-fedora:latest$/m);
      expect(said).toMatch(
        / packages upon the \d+ of registry\.fedoraproject\.org\/fedora-minimal:45@sha256:[0-9a-f]{64} \(45\)$/m,
      );
      expect(said).toMatch(/^lock +images\/fedora\/dhcpd\.lock\.yaml \(written\)$/m);
      // The base of the first time, by its digest.
      const again = await perform(`${fedora} -- --locked ${from()}`);
      expect(again).toMatch(/^lock +images\/fedora\/dhcpd\.lock\.yaml$/m);
      const renewed = await perform('npx dhcpd-scratch lock images/fedora/dhcpd.yaml');
      expect(renewed).toBe('images/fedora/dhcpd.lock.yaml: nothing has changed\n');
    },
    300_000,
  );

  it(
    compare,
    async () => {
      const said = await perform(compare);
      const shown = commands.at(-1)?.output ?? '';
      expect(rowsOf(said)).toEqual(rowsOf(shown));
      expect(said).toMatch(/^time to first OFFER +[0-9.]+ ms +[0-9.]+ ms +x [0-9.]+$/m);
      const row = (name: string): readonly number[] =>
        (new RegExp(`^${name} +(\\d+) +(\\d+)`, 'm').exec(said) ?? []).slice(1).map(Number);
      for (const name of ['packages', 'programs', 'shells', 'setuid and setgid files']) {
        const [ours = NaN, theirs = NaN] = row(name);
        expect(theirs, name).toBeGreaterThan(ours);
      }
    },
    300_000,
  );
});

/** What each row of a table is about, in its order. */
function rowsOf(table: string): readonly string[] {
  return table
    .trimEnd()
    .split('\n')
    .map((line) => line.split(/ {2,}/)[0] ?? '');
}
