import { isAbsolute, join, normalize, resolve } from 'node:path';

import type { Context } from './context.js';
import { readConfigFiles, readText } from './config-files.js';
import { definitionFile } from './request.js';
import { findLeft, writeGenerated, type GeneratedState } from './write-generated.js';
import { loadDefinition } from '../definition/load.js';
import { parseInterfaceAddress } from '../dhcpd-conf/interfaces.js';
import { formatNetwork, networkOf } from '../dhcpd-conf/ipv4.js';
import { mainFile } from '../dhcpd-conf/read.js';
import { chooseFamily, type FamilyChoice } from '../family.js';
import { imageReference } from '../image/reference.js';
import { cannot, reasonOf } from '../support/errors.js';
import { baseEnvironment, run } from '../support/exec.js';
import { coreosFiles, type ConfigFile } from '../units/butane.js';
import { generateUnits, otherPaths } from '../units/generate.js';
import { shimName } from '../units/macvlan.js';
import {
  firstWith,
  has,
  newestPodman,
  parsePodmanVersion,
  versionText,
  type PodmanVersion,
} from '../units/podman-version.js';
import { serviceOf, type Service } from '../units/service.js';
import type { Macvlan, UnitOptions } from '../units/unit-options.js';

export interface QuadletOptions {
  readonly distro: FamilyChoice;
  readonly image?: string;
  /** As often as the option is given, each with one name or more. */
  readonly interface?: readonly string[];
  readonly config?: string;
  readonly leases?: string;
  readonly name?: string;
  readonly podmanVersion?: string;
  readonly macvlan?: string;
  readonly shimAddress?: string;
  readonly rootless?: boolean;
  readonly butane?: boolean;
  readonly configFrom?: string;
  readonly output: string;
  readonly check?: boolean;
  readonly json?: boolean;
}

/** `quadlet [DEFINITION]`: writes the files with which systemd and Podman run the image as a service. */
export async function quadlet(definition: string, options: QuadletOptions, context: Context): Promise<void> {
  if (options.rootless === true) {
    throw cannot(
      'write',
      'units for a rootless Podman',
      'only root may open port 67 and packet sockets of the host',
      {
        hint: 'install them as root; the server itself runs without root',
        exitCode: 2,
      },
    );
  }
  if (options.configFrom !== undefined && options.butane !== true) {
    throw cannot('use', '--config-from', 'only --butane takes a configuration along', {
      hint: 'for the units alone, copy it into the directory of --config',
      exitCode: 2,
    });
  }
  const macvlan = macvlanOf(options);
  const { service, volume } = await chosenService(definition, options, macvlan, context);
  const podman = await podmanOf(options, context);
  if (macvlan !== undefined && !has(podman, 'dhcpNetworks')) {
    throw cannot('make', 'a network for containers', `it came with Podman ${firstWith('dhcpNetworks')}`, {
      hint: 'leave --macvlan out',
      exitCode: 2,
    });
  }
  const unitOptions: UnitOptions = {
    podman,
    macvlan,
    script: await readText(join(context.packageDirectory, 'quadlet/dhcpd-scratch/check')),
  };
  const units = generateUnits(service, unitOptions);
  const files =
    options.butane === true
      ? coreosFiles(service, units, await configFiles(service, options, context), unitOptions)
      : units;
  const notes = [...new Set([...units, ...files].flatMap((file) => file.notes))];
  for (const note of notes) context.log.info(`note: ${note}`);
  const output = resolve(context.cwd, options.output);
  const others = options.butane === true ? [] : otherPaths(service.name, volume, units);
  const states = [
    ...(await writeGenerated(output, files, options.check === true)),
    ...(await findLeft(output, others)),
  ];
  for (const { path } of states.filter(({ state }) => state === 'left')) {
    context.log.warn(`${join(options.output, path)} is of an earlier run with other options: remove it`);
  }
  context.print(
    options.json === true
      ? `${JSON.stringify({ output: options.output, files: states, notes }, undefined, 2)}\n`
      : states.map(({ path, state }) => `${state.padEnd(9)}  ${join(options.output, path)}\n`).join(''),
  );
  if (options.check === true) expectSame(states, options);
}

/** The version that is named, or that of this host when it has Quadlet, or the newest that is known. */
async function podmanOf({ podmanVersion }: QuadletOptions, context: Context): Promise<PodmanVersion> {
  if (podmanVersion !== undefined) return parsePodmanVersion(podmanVersion);
  try {
    const { stdout } = await run({
      argv: ['podman', '--version'],
      environment: baseEnvironment(context.environment),
      signal: context.signal,
      timeout: 10_000,
    });
    const own = parsePodmanVersion(stdout.trim().replace(/^podman version /, ''));
    context.log.info(`for Podman ${versionText(own)}, as it is on this host`);
    return own;
  } catch (error) {
    context.signal.throwIfAborted();
    context.log.info(`for Podman ${versionText(newestPodman)}; --podman-version names another one`);
    context.log.debug(reasonOf(error));
    return newestPodman;
  }
}

/** What a new machine serves from: the user's own files, or for dhcpd the example. */
async function configFiles(
  service: Service,
  { configFrom }: QuadletOptions,
  context: Context,
): Promise<readonly ConfigFile[]> {
  if (configFrom !== undefined) {
    const files = await readConfigFiles(resolve(context.cwd, configFrom));
    if (service.program === 'dhcpd' && !files.some(({ path }) => path === mainFile)) {
      throw cannot('use', configFrom, `no ${mainFile} is in it`, { exitCode: 2 });
    }
    return files;
  }
  if (service.program !== 'dhcpd') return [];
  context.log.info('note: the configuration is the example, for 192.0.2.0/24; --config-from takes yours');
  const example = join(context.packageDirectory, 'config/dhcpd.conf.example');
  return [{ path: mainFile, text: await readText(example) }];
}

async function chosenService(
  definition: string,
  options: QuadletOptions,
  macvlan: Macvlan | undefined,
  context: Context,
): Promise<{ readonly service: Service; readonly volume: string | undefined }> {
  const loaded = await loadDefinition(definitionFile(definition, context));
  const { family } = await chooseFamily(options.distro, loaded);
  const name = options.name === undefined ? loaded.name : nameOf(options.name);
  const given = (options.interface ?? []).flatMap((list) => list.split(',')).map(interfaceOf);
  const all = macvlan === undefined ? given : [...given, macvlan.parent, shimName(macvlan.parent)];
  const [first, ...rest] = [...new Set(all)];
  if (first === undefined) {
    throw cannot('write', `units of ${name}`, 'nothing says which interface it serves', {
      hint: 'give --interface, such as --interface eth0; `ip -brief link` lists them',
      exitCode: 2,
    });
  }
  const service = serviceOf(loaded, {
    name,
    image: imageOf(options.image ?? loaded.name),
    interfaces: [first, ...rest],
    family,
    config: options.config === undefined ? undefined : directoryOf('--config', options.config),
    state: options.leases === undefined ? undefined : directoryOf('--leases', options.leases),
  });
  expectApart(service);
  const volume = loaded.state === undefined ? undefined : `${name}-${loaded.state.volume}`;
  return { service, volume };
}

/** Everybody may read the configuration, nobody the leases; and each record would be a change of the configuration. */
function expectApart({ config, state }: Service): void {
  if (config === undefined || state === undefined || 'volume' in state.from) return;
  const [here, there] = [`${config.host}/`, `${state.from.directory}/`];
  if (!here.startsWith(there) && !there.startsWith(here)) return;
  throw cannot('use', `--leases ${state.from.directory}`, `the configuration is in ${config.host}`, {
    hint: 'give each a directory of its own, neither in the other',
    exitCode: 2,
  });
}

function expectSame(states: readonly GeneratedState[], options: QuadletOptions): void {
  const other = states
    .filter(({ state }) => state !== 'unchanged')
    .map(({ path }) => join(options.output, path));
  if (other.length === 0) return;
  throw cannot('accept', options.output, `not what would be generated: ${other.join(', ')}`, {
    hint: 'run the command without --check',
  });
}

/** Unit, container and volume get it. */
function nameOf(text: string): string {
  // Quadlet makes NAME-image.service of NAME.image, and so on.
  const [, of, ending] = /^(.+)-(image|volume|network|config|room|shim)$/.exec(text) ?? [];
  if (of !== undefined && ending !== undefined) {
    throw cannot(
      'use',
      `the name ${JSON.stringify(text)}`,
      `a server named ${of} has a unit ${text}.service`,
      {
        hint: `choose one that does not end in -${ending}`,
        exitCode: 2,
      },
    );
  }
  if (/^(?=.{1,63}$)[a-z0-9]+(-[a-z0-9]+)*$/.test(text)) return text;
  throw cannot(
    'use',
    `the name ${JSON.stringify(text)}`,
    'it may hold small letters, digits and single dashes',
    {
      exitCode: 2,
    },
  );
}

/** What the kernel takes for a name (dev_valid_name), and one word for all that reads it. */
function interfaceOf(text: string): string {
  const size = Buffer.byteLength(text);
  const isValid = size > 0 && size <= 15 && text !== '.' && text !== '..' && /^[!-.0-9;-~]+$/.test(text);
  if (isValid && !text.startsWith('-')) return text;
  throw cannot('serve', `the interface ${JSON.stringify(text)}`, 'no interface can have that name', {
    hint: '`ip -brief link` lists those of this machine',
    exitCode: 2,
  });
}

function imageOf(text: string): string {
  const [, name, digest] = /^([^@]*)@(sha256:[0-9a-f]{64})$/.exec(text) ?? [];
  if (name === undefined || digest === undefined) return imageReference(text);
  // A tag beside a digest is not looked at, and older Podman refuses it.
  return `${imageReference(name).replace(/:[^:/]*$/, '')}@${digest}`;
}

/** systemd and Podman split at some characters, in places where nothing can quote them. */
function directoryOf(option: string, text: string): string {
  const wrong = (reason: string): Error =>
    cannot('use', `${option} ${JSON.stringify(text)}`, reason, {
      hint: 'give a directory such as /etc/dhcp',
      exitCode: 2,
    });
  if (!isAbsolute(text)) throw wrong('it is no absolute path');
  if (!/^[^\s:,"'\\\p{C}]+$/u.test(text))
    throw wrong('Quadlet takes no directory with spaces, quotes, colons, commas or backslashes');
  const directory = normalize(text).replace(/\/$/, '');
  if (directory === '') throw wrong('the root directory is more than the server needs');
  if (shared.test(directory)) throw wrong('others keep their files there, and SELinux would label them anew');
  return directory;
}

/** What Podman relabels for nobody (go-selinux, label.Relabel), as far as it is a directory. */
const shared =
  /^\/(?:bin|boot|dev|etc|etc\/pki|home|lib|lib64|media|opt|proc|root|run|sbin|srv|sys|system|tmp|usr|var|var\/lib|var\/log)$/;

function macvlanOf({ macvlan, shimAddress }: QuadletOptions): Macvlan | undefined {
  if (macvlan === undefined && shimAddress === undefined) return undefined;
  if (macvlan === undefined || shimAddress === undefined) {
    throw cannot('make', 'a network for containers', '--macvlan and --shim-address belong together', {
      hint: 'such as --macvlan eth0 --shim-address 192.0.2.3/24',
      exitCode: 2,
    });
  }
  const wrong = (reason: string): Error =>
    cannot('use', `--shim-address ${JSON.stringify(shimAddress)}`, reason, {
      hint: 'give a free one of the network, such as 192.0.2.3/24',
      exitCode: 2,
    });
  const parsed = parseInterfaceAddress(shimAddress);
  // ip(8) reads no zeros before a number.
  if (parsed === undefined || parsed.length === 0 || /(?:^|[./])0[0-9]/.test(shimAddress)) {
    throw wrong('it is no IPv4 address with a prefix');
  }
  const { address, length } = parsed;
  const network = networkOf(address, length);
  if (length < 31 && (address === network.first || address === network.last)) {
    throw wrong(`it stands for all of ${formatNetwork(network)}`);
  }
  return { parent: interfaceOf(macvlan), shimAddress };
}
