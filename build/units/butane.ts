import { Scalar, stringify } from 'yaml';

import type { Service } from './service.js';
import type { UnitOptions } from './unit-options.js';
import { marker, type UnitFile } from './unit-text.js';

/** A file of the configuration, by its path below the directory of the configuration. */
export interface ConfigFile {
  readonly path: string;
  readonly text: string;
}

interface Directory {
  readonly path: string;
  readonly mode: number;
  readonly user?: { readonly id: number };
  readonly group?: { readonly id: number };
}

/** What a machine is to have, as both languages say it. */
interface Machine {
  readonly directories: readonly Directory[];
  readonly files: readonly { readonly path: string; readonly mode: number; readonly text: string }[];
  readonly units: readonly { readonly name: string; readonly contents?: string; readonly enabled?: true }[];
}

/**
 * A machine of Fedora CoreOS that runs the service from its first boot: as Butane config, fcos 1.4.0, and as what Butane
 * makes of that, Ignition config 3.3.0.
 *
 * @param units what `generateUnits` gave
 */
export function coreosFiles(
  service: Service,
  units: readonly UnitFile[],
  config: readonly ConfigFile[],
  options: UnitOptions,
): readonly UnitFile[] {
  const machine = machineOf(service, units, config, options);
  const notes = notesOf(service, config);
  return [
    { path: `${service.name}.bu`, text: butaneText(machine, notes), notes },
    { path: `${service.name}.ign`, text: ignitionText(machine), notes: [] },
  ];
}

/** Of the units for systemd itself, below the directory that stands for /etc. */
const systemd = 'systemd/system/';

function machineOf(
  { config, state, account, image }: Service,
  units: readonly UnitFile[],
  configFiles: readonly ConfigFile[],
  { macvlan }: UnitOptions,
): Machine {
  const owner = { user: { id: account }, group: { id: account } };
  return {
    directories: [
      // Others than root must be able to read it.
      ...(config === undefined ? [] : [{ path: config.host, mode: 0o755 }]),
      ...(state === undefined || 'volume' in state.from
        ? []
        : [{ path: state.from.directory, mode: 0o750, ...owner }]),
    ],
    files: [
      ...units
        .filter(({ path }) => !path.startsWith(systemd))
        .map(({ path, text }) => ({ path: `/etc/${path}`, mode: 0o644, text })),
      ...(config === undefined
        ? []
        : configFiles.map(({ path, text }) => ({ path: `${config.host}/${path}`, mode: 0o644, text }))),
    ],
    units: [
      ...units
        .filter(({ path }) => path.startsWith(systemd))
        .map(({ path, text }) => ({ name: path.slice(systemd.length), contents: text })),
      ...(image.includes('@') ? [] : [{ name: 'podman-auto-update.timer', enabled: true as const }]),
      ...(macvlan === undefined ? [] : [{ name: 'netavark-dhcp-proxy.socket', enabled: true as const }]),
    ],
  };
}

function notesOf({ image, config }: Service, files: readonly ConfigFile[]): readonly string[] {
  return [
    ...(image.startsWith('localhost/')
      ? [
          `no machine can get ${image} at its first boot: push the image to a registry and name it with --image, or load it into the machine`,
        ]
      : []),
    ...(config !== undefined && files.length === 0
      ? [`the machine gets no configuration: give one with --config-from, or put it into ${config.host}`]
      : []),
  ];
}

/** Butane Configuration Specification, Fedora CoreOS v1.4.0 (coreos/butane, docs/config-fcos-v1_4.md). */
function butaneText({ directories, files, units }: Machine, notes: readonly string[]): string {
  const head = [
    `# ${marker}: what is changed here is lost when it runs again.`,
    ...notes.map((note) => `# Note: ${note}.`),
  ];
  const document = {
    variant: 'fcos',
    version: '1.4.0',
    storage: {
      ...(directories.length === 0 ? {} : { directories }),
      files: files.map(({ path, mode, text }) => ({ path, mode, contents: { inline: inlineText(text) } })),
    },
    systemd: { units },
  };
  const text = stringify(document, { lineWidth: 0, blockQuote: 'literal', aliasDuplicateObjects: false })
    // Modes as people read them. Nothing else has such a line: texts are in blocks, which are indented further.
    .replace(/^( {4,6})mode: ([0-9]+)$/gm, (_, indent: string, mode: string) => {
      return `${indent}mode: 0${Number(mode).toString(8)}`;
    });
  return `${head.join('\n')}\n${text}`;
}

/** In a block where it has lines. Quoted otherwise: Butane's YAML takes no tab in a bare word. */
function inlineText(text: string): Scalar {
  const scalar = new Scalar(text);
  scalar.type = /\S.*\n/.test(text) ? Scalar.BLOCK_LITERAL : Scalar.QUOTE_DOUBLE;
  return scalar;
}

/** Ignition Configuration Specification v3.3.0 (coreos/ignition, docs/configuration-v3_3.md). */
function ignitionText({ directories, files, units }: Machine): string {
  const document = {
    ignition: { version: '3.3.0' },
    storage: {
      ...(directories.length === 0 ? {} : { directories }),
      files: files.map(({ path, mode, text }) => ({
        path,
        mode,
        contents: { compression: '', source: dataUrl(text) },
      })),
    },
    systemd: { units },
  };
  return `${JSON.stringify(document, undefined, 2)}\n`;
}

/** RFC 2397, the shorter way. */
function dataUrl(text: string): string {
  const escaped = `data:,${encodeURIComponent(text)}`;
  const encoded = `data:;base64,${Buffer.from(text).toString('base64')}`;
  return encoded.length < escaped.length ? encoded : escaped;
}
