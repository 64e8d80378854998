import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { loadDefinition } from '../../build/definition/load.js';
import type { Family, ImageDefinition } from '../../build/definition/definition.js';
import { run } from '../../build/support/exec.js';
import { checkCommand } from '../../build/units/check-command.js';
import { generateUnits } from '../../build/units/generate.js';
import { parsePodmanVersion, versionText } from '../../build/units/podman-version.js';
import { runArguments } from '../../build/units/run-arguments.js';
import { serviceOf, type Service } from '../../build/units/service.js';
import { deviceUnit, type UnitFile } from '../../build/units/unit-text.js';
import type { UnitOptions } from '../../build/units/unit-options.js';
import { checkout } from '../support/lab-image.js';
import { debianSuite, type DebianSuite } from '../support/debian-suite.js';
import { unquote } from '../support/systemd-words.js';

/** What Quadlet itself reads and writes, and systemd reads: of two releases, on every combination of the options. */
const suites = await Promise.all(
  (['trixie', 'forky'] as const).map(async (name) => ({ name, found: await debianSuite(name) })),
);
const environment = { PATH: process.env['PATH'] ?? '/usr/bin:/bin', LC_ALL: 'C' };
const versions = ['4.4', '4.5', '4.6', '4.7', '4.8', '5.4', '5.6', '5.8'];

interface Choice {
  readonly definition: string;
  readonly family: Family;
  readonly image: string;
  readonly interfaces: readonly [string, ...string[]];
  readonly config: string | undefined;
  readonly state: string | undefined;
  readonly name: string | undefined;
  readonly macvlan: UnitOptions['macvlan'];
}

const digest = `sha256:${'5'.repeat(64)}`;
const choices: readonly Choice[] = ['dhcpd', 'dnsmasq'].flatMap((definition) =>
  (['fedora', 'debian'] as const).flatMap((family) =>
    ['localhost/dhcpd:latest', 'quay.io:443/dhcp/server:4.4', `quay.io/dhcp/server@${digest}`].flatMap(
      (image) =>
        [undefined, '/srv/100%/$conf;#&*`(x)[=]'].flatMap((config) =>
          [undefined, '/srv/leases%n$HOME'].flatMap((state) =>
            ([['eth0'], ['br-lan', 'a%i$b"c\'d', 'en.5@x']] as const).flatMap((interfaces) =>
              [undefined, { parent: 'eth0', shimAddress: '192.0.2.3/24' }].map((macvlan) => ({
                ...{ definition, family, image, config, state, interfaces, macvlan },
                name: config === undefined ? undefined : 'lan-dhcp',
              })),
            ),
          ),
        ),
    ),
  ),
);

let work = '';
const definitions = new Map<string, ImageDefinition>();
beforeAll(async () => {
  work = await mkdtemp(join(tmpdir(), 'quadlet-'));
  for (const name of ['dhcpd', 'dnsmasq'])
    definitions.set(name, await loadDefinition(join(checkout, `images/scratch/${name}.yaml`)));
});
afterAll(() => rm(work, { recursive: true, force: true }));

describe.each(suites)('Quadlet of $name', ({ name, found }) => {
  const own = { trixie: '5.4', forky: '5.8' }[name];
  if (found === undefined) {
    it.skip('is not here', () => undefined);
    return;
  }
  const suite = found;

  it('is the version that is meant', async () => {
    const { stdout } = await run({
      argv: suite.command('usr/libexec/podman/quadlet', '-version'),
      environment,
    });
    expect(versionText(parsePodmanVersion(stdout.trim()))).toBe(own);
  });

  it(`takes all ${choices.length} combinations for its own version, and starts Podman with the rights that are meant`, async () => {
    for (const choice of choices) {
      const { service, units, made } = await convert(suite, choice, own);
      const command = unquote(only(made, `${service.name}.service`, 'ExecStart'));
      expect(command.slice(0, 2)).toEqual(['/usr/bin/podman', 'run']);
      expect(podmanOptions(command, service), JSON.stringify(choice)).toEqual({
        ...expectedOptions(service),
        command: service.command,
      });
      const services = [...made.keys()].filter((path) => path.endsWith('.service'));
      expect(services).toHaveLength(units.filter((path) => /^containers|\.service$/.test(path)).length);
      const check = unquote(only(made, `${service.name}.service`, 'ExecStartPre'));
      expect(check).toEqual(checkCommand('start', service, { pull: check.includes('--pull') }));
      // The generator of 5.x rewrites the lists of units.
      expect(made.get(`${service.name}.service`)).toContain(` ${deviceUnit(service.interfaces[0])}`);
    }
  }, 300_000);

  it('takes what is written for every older version', async () => {
    const older = versions.filter((version) => !isNewer(version, own));
    for (const version of older) {
      // All at once, each under a name of its own.
      const directory = await mkdtemp(join(work, 'older-'));
      let count = 0;
      for (const [index, choice] of choices.entries()) {
        const { files } = generate({ ...choice, name: `c${index}` }, version);
        await writeUnits(directory, files);
        count += files.filter(({ path }) => path.startsWith('containers/')).length;
      }
      const { stdout, stderr } = await dryRun(suite, join(directory, 'containers/systemd'));
      expect(complaintsOf(stderr), version).toEqual([]);
      expect(stdout.match(/^---.*\.service---$/gm), version).toHaveLength(count);
    }
    expect(older.length).toBeGreaterThan(5);
  }, 300_000);

  it('has systemd take all of it without a word', async () => {
    for (const choice of choices) {
      const { made, directory } = await convert(suite, choice, own);
      const files = [...made.keys()].map((name) => join(directory, name));
      const said = await verify(suite, directory, files);
      expect(said, JSON.stringify(choice)).toBe('');
    }
  }, 300_000);

  it('has systemd find what is wrong', async () => {
    const directory = await mkdtemp(join(work, 'wrong-'));
    const file = join(directory, 'wrong.service');
    await writeFile(file, '[Service]\nExecStart=/bin/true\nRestartStep=8\n');
    expect(await verify(suite, directory, [file])).toContain("Unknown key 'RestartStep'");
  });

  it('says which key an older version lacks', async () => {
    const directory = await mkdtemp(join(work, 'unknown-'));
    await writeFile(join(directory, 'x.container'), '[Container]\nImage=localhost/x\nNoSuchKey=1\n');
    const { stderr } = await dryRun(suite, directory).catch((error: unknown) => ({ stderr: String(error) }));
    expect(stderr).toContain("unsupported key 'NoSuchKey'");
  });
});

interface Converted {
  readonly service: Service;
  /** Paths that the generator gave. */
  readonly units: readonly string[];
  /** Of systemd, by name. */
  readonly made: ReadonlyMap<string, string>;
  readonly directory: string;
}

function generate(
  choice: Choice,
  version: string,
): { readonly service: Service; readonly files: readonly UnitFile[] } {
  const definition = definitions.get(choice.definition);
  if (definition === undefined) throw new Error('no definition');
  const [first, ...rest] = choice.interfaces;
  const more = choice.macvlan === undefined ? [] : [choice.macvlan.parent, 'shim-eth0'];
  const service = serviceOf(definition, {
    ...choice,
    interfaces: [first, ...rest, ...more.filter((name) => !choice.interfaces.includes(name))],
  });
  const files = generateUnits(service, {
    podman: parsePodmanVersion(version),
    macvlan: choice.macvlan,
    script: '#!/bin/sh\n',
  });
  return { service, files };
}

async function writeUnits(directory: string, files: readonly UnitFile[]): Promise<void> {
  for (const { path, text } of files) {
    await mkdir(dirname(join(directory, path)), { recursive: true });
    await writeFile(join(directory, path), text);
  }
}

/** What Quadlet says beside the names of the files that it reads. */
function complaintsOf(stderr: string): readonly string[] {
  return stderr.split('\n').filter((line) => line !== '' && !line.includes('Loading source unit file'));
}

/** Writes the units, has Quadlet make services of them, and expects that it has nothing to say. */
async function convert(suite: DebianSuite, choice: Choice, version: string): Promise<Converted> {
  const { service, files } = generate(choice, version);
  const directory = await mkdtemp(join(work, 'units-'));
  await writeUnits(directory, files);
  const { stdout, stderr } = await dryRun(suite, join(directory, 'containers/systemd'));
  expect(complaintsOf(stderr), JSON.stringify({ choice, version })).toEqual([]);
  const made = new Map(
    stdout
      .split(/^---(.*)---$/m)
      .slice(1)
      .flatMap((text, index, all): [string, string][] =>
        index % 2 === 0 ? [[text, all[index + 1] ?? '']] : [],
      ),
  );
  const target = join(directory, 'systemd/system');
  await mkdir(target, { recursive: true });
  for (const [name, text] of made) await writeFile(join(target, name), text);
  for (const name of await readdir(target)) made.set(name, await readFile(join(target, name), 'utf8'));
  return { service, units: files.map(({ path }) => path), made, directory: target };
}

function dryRun(suite: DebianSuite, directory: string): Promise<{ stdout: string; stderr: string }> {
  return run({
    argv: suite.command('usr/libexec/podman/quadlet', '-dryrun'),
    environment: { ...environment, QUADLET_UNIT_DIRS: directory },
  });
}

/** What `systemd-analyze verify` says, with the suite's own units around. */
async function verify(suite: DebianSuite, directory: string, files: readonly string[]): Promise<string> {
  const path = `${directory}:${join(suite.root, 'usr/lib/systemd/system')}`;
  try {
    const { stdout, stderr } = await run({
      argv: suite.command('usr/bin/systemd-analyze', 'verify', '--man=no', ...files),
      environment: { ...environment, SYSTEMD_UNIT_PATH: path },
    });
    return stdout + stderr;
  } catch (error) {
    return String(error);
  }
}

function only(made: ReadonlyMap<string, string>, name: string, key: string): string {
  const lines = (made.get(name) ?? '').split('\n').filter((line) => line.startsWith(`${key}=`));
  expect(lines, `${key} of ${name}`).toHaveLength(1);
  return lines[0]?.slice(key.length + 1) ?? '';
}

/** Options in one spelling, sorted: `--name=value`, `-v` as `--volume`. */
function podmanOptions(
  command: readonly string[],
  service: Service,
): { readonly options: readonly string[]; readonly command: readonly string[] } {
  const end = command.indexOf(service.image);
  expect(end).toBeGreaterThan(2);
  return { options: joinOptions(command.slice(2, end)), command: command.slice(end + 1) };
}

function expectedOptions(service: Service): { readonly options: readonly string[] } {
  const update = service.image.includes('@')
    ? []
    : [
        '--label',
        `io.containers.autoupdate=${service.image.startsWith('localhost/') ? 'local' : 'registry'}`,
      ];
  return {
    options: joinOptions([
      ...runArguments(service).options,
      // What a unit has and a container by hand has not, and the other way round.
      ...['--name', service.name, '--replace', '--rm', '--cgroups=split', '--pull', 'never', '--init'],
      ...['--network', 'host', '--sdnotify=conmon', '--log-driver', 'journald', '-d', ...update],
    ]),
  };
}

const withValue = /^(--(user|cap-drop|cap-add|security-opt|volume|name|pull|network|log-driver|label)|-v)$/;

function joinOptions(words: readonly string[]): readonly string[] {
  const joined: string[] = [];
  for (let index = 0; index < words.length; index += 1) {
    const word = words[index] ?? '';
    if (withValue.test(word)) {
      joined.push(`${word === '-v' ? '--volume' : word}=${words[index + 1] ?? ''}`);
      index += 1;
    } else if (!word.startsWith('--cidfile=')) joined.push(word);
  }
  return joined.map((word) => (word.startsWith('--cap-') ? word.toLowerCase() : word)).sort();
}

function isNewer(a: string, b: string): boolean {
  return (
    Number(a.split('.')[0]) > Number(b.split('.')[0]) ||
    (a.split('.')[0] === b.split('.')[0] && Number(a.split('.')[1]) > Number(b.split('.')[1]))
  );
}
