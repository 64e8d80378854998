import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Ajv2020 } from 'ajv/dist/2020.js';
import { parse } from 'yaml';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { loadDefinition } from '../../build/definition/load.js';
import { coreosFiles, type ConfigFile } from '../../build/units/butane.js';
import { generateUnits } from '../../build/units/generate.js';
import { newestPodman } from '../../build/units/podman-version.js';
import { serviceOf } from '../../build/units/service.js';
import { checkout } from '../support/lab-image.js';
import { debianSuite } from '../support/debian-suite.js';

const trixie = await debianSuite('trixie');

/** What may stand in a Butane config of fcos 1.4.0, as far as this program writes any of it. */
const schema = {
  type: 'object',
  additionalProperties: false,
  required: ['variant', 'version', 'storage', 'systemd'],
  properties: {
    variant: { const: 'fcos' },
    version: { const: '1.4.0' },
    storage: {
      type: 'object',
      additionalProperties: false,
      properties: {
        directories: { type: 'array', items: { $ref: '#/$defs/node' } },
        files: {
          type: 'array',
          items: {
            $ref: '#/$defs/node',
            required: ['path', 'mode', 'contents'],
            properties: {
              contents: {
                type: 'object',
                additionalProperties: false,
                required: ['inline'],
                properties: { inline: { type: 'string' } },
              },
            },
          },
        },
      },
    },
    systemd: {
      type: 'object',
      additionalProperties: false,
      properties: {
        units: {
          type: 'array',
          items: {
            type: 'object',
            additionalProperties: false,
            required: ['name'],
            properties: {
              name: { type: 'string', pattern: '^[^/]+\\.(service|socket|timer|path)$' },
              enabled: { type: 'boolean' },
              contents: { type: 'string' },
            },
          },
        },
      },
    },
  },
  $defs: {
    node: {
      type: 'object',
      unevaluatedProperties: false,
      required: ['path', 'mode'],
      properties: {
        path: { type: 'string', pattern: '^/' },
        mode: { type: 'integer', minimum: 1, maximum: 0o777 },
        user: { $ref: '#/$defs/owner' },
        group: { $ref: '#/$defs/owner' },
        contents: true,
      },
    },
    owner: { type: 'object', additionalProperties: false, properties: { id: { type: 'integer' } } },
  },
};

interface Node {
  readonly contents?: { readonly inline: string };
}
interface Butane {
  readonly variant: string;
  readonly version: string;
  readonly storage: { readonly directories?: readonly unknown[]; readonly files: readonly Node[] };
  readonly systemd: unknown;
}
interface Ignition {
  readonly ignition: unknown;
  readonly storage: {
    readonly directories?: readonly unknown[];
    readonly files: readonly { readonly contents: { readonly source: string } }[];
  };
  readonly systemd: unknown;
}

/** What YAML, modes and block texts could trip over. */
const hostile: readonly ConfigFile[] = [
  { path: 'dhcpd.conf', text: 'subnet 192.0.2.0 netmask 255.255.255.0 { }\n' },
  { path: 'sub/a b.conf', text: '      mode: 420\n    mode: 8\n  - x: &a *a\n%TAG\n---\n...\n\t#\n\n\n' },
  { path: 'sub/c.conf', text: 'no end of line: \u{1F4E6} \\n "quoted" \'x\' ' },
  { path: 'empty.conf', text: '' },
  { path: 'crlf.conf', text: 'a\r\nb\u0007\n' },
  { path: 'blank.conf', text: '  \n' },
  { path: 'tab.conf', text: 'a\tb' },
];

let work = '';
beforeAll(async () => {
  work = await mkdtemp(join(tmpdir(), 'butane-'));
});
afterAll(() => rm(work, { recursive: true, force: true }));

async function files(
  image: string,
  change: {
    readonly macvlan?: boolean;
    readonly state?: string;
    readonly config?: readonly ConfigFile[];
  } = {},
): Promise<{ readonly bu: string; readonly ign: string; readonly notes: readonly string[] }> {
  const definition = await loadDefinition(join(checkout, 'images/scratch/dhcpd.yaml'));
  const options = {
    podman: newestPodman,
    macvlan: change.macvlan === true ? { parent: 'eth0', shimAddress: '192.0.2.3/24' } : undefined,
    script: '#!/bin/sh\necho "$1"\n',
  };
  const service = serviceOf(definition, {
    ...{ name: undefined, image, interfaces: ['eth0'], family: 'fedora', config: undefined },
    state: change.state,
  });
  const [bu, ign] = coreosFiles(service, generateUnits(service, options), change.config ?? hostile, options);
  return { bu: bu?.text ?? '', ign: ign?.text ?? '', notes: bu?.notes ?? [] };
}

/** The part of Butane's work that this program's configs need, from its specification. */
function translate(bu: Butane): unknown {
  return {
    ignition: { version: '3.3.0' },
    storage: {
      ...(bu.storage.directories === undefined ? {} : { directories: bu.storage.directories }),
      files: bu.storage.files.map(({ contents, ...rest }) => ({
        ...rest,
        contents: { compression: '', text: contents?.inline },
      })),
    },
    systemd: bu.systemd,
  };
}

function decoded(ign: Ignition): unknown {
  return {
    ...ign,
    storage: {
      ...ign.storage,
      files: ign.storage.files.map(({ contents: { source, ...contents }, ...rest }) => ({
        ...rest,
        contents: { ...contents, text: textOf(source) },
      })),
    },
  };
}

function textOf(url: string): string {
  const [, encoding, data = ''] = /^data:(;base64)?,(.*)$/s.exec(url) ?? [];
  return encoding === undefined ? decodeURIComponent(data) : Buffer.from(data, 'base64').toString();
}

const variants = [
  ['a volume', {}],
  ['a directory for the leases', { state: '/var/srv/leases' }],
  ['a network for containers', { macvlan: true }],
  ['no configuration', { config: [] }],
] as const;

describe.each(variants)('a machine with %s', (_, change) => {
  it('says the same in both languages, by the published fields', async () => {
    const { bu, ign } = await files('quay.io/dhcp/server:1', change);
    // Butane reads 0644 as YAML 1.1 does.
    const butane = parse(bu, { version: '1.1' }) as Butane;
    const validate = new Ajv2020({ strictTypes: false }).compile(schema);
    expect(validate(butane), JSON.stringify(validate.errors)).toBe(true);
    expect(decoded(JSON.parse(ign) as Ignition)).toEqual(translate(butane));
    for (const { path, text } of 'config' in change ? [] : hostile) {
      expect(butane.storage.files).toContainEqual({
        ...{ path: `/etc/dhcp/${path}`, mode: 0o644, contents: { inline: text } },
      });
    }
    // A bare word with a tab in it is one in YAML 1.2 alone.
    if (!('config' in change)) expect(bu).toContain('inline: "a\\tb"\n');
  });

  it.skipIf(trixie === undefined)('is taken by Ignition', async () => {
    const { ign } = await files('quay.io/dhcp/server:1', change);
    await expect(ignitionSays(ign)).resolves.toBe('');
  });
});

it.skipIf(trixie === undefined)('Ignition finds what is wrong', async () => {
  const { ign } = await files('quay.io/dhcp/server:1');
  await expect(ignitionSays(ign.replaceAll('"path": "/etc', '"path": "etc'))).resolves.toMatch(
    /path not absolute.*it is refused/s,
  );
  await expect(ignitionSays(ign.replace('"mode": 493', '"mode": 99999'))).resolves.toMatch(
    /illegal file mode.*it is refused/s,
  );
});

describe('a machine', () => {
  it('enables the update and the DHCP client of containers', async () => {
    const enabled = async (image: string, macvlan: boolean): Promise<readonly string[]> => {
      const { ign } = await files(image, { macvlan });
      const { systemd } = JSON.parse(ign) as { systemd: { units: { name: string; enabled?: boolean }[] } };
      return systemd.units.filter((unit) => unit.enabled === true).map(({ name }) => name);
    };
    expect(await enabled('quay.io/dhcp/server:1', false)).toEqual(['podman-auto-update.timer']);
    expect(await enabled('quay.io/dhcp/server:1', true)).toEqual([
      'podman-auto-update.timer',
      'netavark-dhcp-proxy.socket',
    ]);
    expect(await enabled(`quay.io/dhcp/server@sha256:${'0'.repeat(64)}`, false)).toEqual([]);
  });

  it('is said to be without its image, or its configuration', async () => {
    expect((await files('localhost/dhcpd:latest')).notes).toEqual([
      expect.stringMatching(/^no machine can get localhost\/dhcpd:latest at its first boot/),
    ]);
    expect((await files('quay.io/dhcp/server:1')).notes).toEqual([]);
    expect((await files('quay.io/dhcp/server:1', { config: [] })).notes).toEqual([
      expect.stringMatching(/^the machine gets no configuration/),
    ]);
  });
});

/** It says what is wrong on stdout, and ends with 1. */
async function ignitionSays(ign: string): Promise<string> {
  const file = join(work, 'machine.ign');
  await writeFile(file, ign);
  const [program, ...args] = trixie?.command('usr/bin/ignition-validate', file) ?? ['false'];
  return new Promise((resolve) => {
    execFile(program, args, (error, stdout, stderr) => {
      resolve(`${stdout}${stderr}${error === null ? '' : 'it is refused'}`);
    });
  });
}
