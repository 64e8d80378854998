import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { loadDefinition } from '../../build/definition/load.js';
import { programOf, unpackPackage } from './unpack.js';

const directory = resolve(import.meta.dirname, '../../images/scratch');
const files = readdirSync(directory).filter((name) => name.endsWith('.yaml') && !name.endsWith('.lock.yaml'));
const images = await Promise.all(files.map((name) => loadDefinition(join(directory, name))));

describe('images/scratch', () => {
  it('holds the two services', () => {
    expect(files.sort()).toEqual(['dhcpd.yaml', 'dnsmasq.yaml']);
  });

  it.each(images)('$name: the file has its name, and tells editors the schema', ({ file, name }) => {
    expect(file).toBe(join(directory, `${name}.yaml`));
    const line = /^# yaml-language-server: \$schema=(\S+)\n/.exec(readFileSync(file, 'utf8'));
    expect(resolve(directory, line?.[1] ?? '')).toBe(resolve(directory, '../../schema/image.schema.json'));
  });

  it('gives each service an account and a volume of its own', () => {
    const differing = (values: readonly unknown[]): boolean => new Set(values).size === values.length;
    expect(differing(images.map(({ user }) => user.id))).toBe(true);
    expect(differing(images.map(({ user }) => user.name))).toBe(true);
    expect(differing(images.map(({ state }) => state?.volume))).toBe(true);
  });
});

/** How each program is asked whether it takes its arguments: the configuration directory, then the question. */
const questions = {
  dhcpd: {
    configuration: 'subnet 192.0.2.0 netmask 255.255.255.0 { range 192.0.2.10 192.0.2.20; }\n',
    arguments: (run: readonly string[], config: string) => [...run, '-t', '-cf', join(config, 'test.conf')],
  },
  dnsmasq: {
    configuration: 'dhcp-range=192.0.2.10,192.0.2.20,1h\n',
    arguments: (run: readonly string[], config: string) => [
      ...run.map((argument) => argument.replace('/etc/dnsmasq.d', config)),
      '--test',
    ],
  },
};

describe.each(images)('$name and its real program', (image) => {
  const chosen = image.packages.debian;
  const unpacked = chosen === undefined ? undefined : unpackPackage(chosen.package);
  const program = programOf(unpacked, image.roots[0]);
  const question = Object.entries(questions).find(([name]) => name === image.name)?.[1];
  const config = mkdtempSync(join(tmpdir(), 'config-'));
  afterAll(() => {
    unpacked?.remove();
    rmSync(config, { recursive: true });
  });

  const ask = (...further: readonly string[]): { status: number | null; output: string } => {
    if (question === undefined) throw new Error(`no question for ${image.name}`);
    writeFileSync(join(config, 'test.conf'), question.configuration);
    const asked = question.arguments([...image.run, ...image.command, ...further], config);
    const { status, stdout, stderr } = spawnSync(program ?? '', asked, { encoding: 'utf8' });
    return { status, output: stdout + stderr };
  };

  it.skipIf(program === undefined)('takes the arguments', () => {
    expect(ask()).toEqual({ status: 0, output: expect.any(String) as string });
    expect(ask('--no-such-argument').status).not.toBe(0);
  });

  it.skipIf(program === undefined)('reads its configuration from the directory', () => {
    const named = [...image.run, readFileSync(program ?? '', 'latin1')];
    expect(
      named.some(
        (text) =>
          text.includes(`${image.config ?? ''}/dhcpd.conf\0`) || text.includes(`=${image.config ?? ''},`),
      ),
    ).toBe(true);
  });

  it.skipIf(program === undefined)('keeps its state where the definition says', () => {
    const bytes = readFileSync(program ?? '');
    expect(image.state?.files.length).toBeGreaterThan(0);
    for (const file of image.state?.files ?? []) {
      expect(bytes.includes(`${chosen?.state ?? ''}/${file}\0`), file).toBe(true);
    }
  });
});
