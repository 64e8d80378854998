import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { programOf, unpackPackage } from '../definition/unpack.js';

const example = readFileSync(new URL('../../config/dhcpd.conf.example', import.meta.url), 'utf8');

const unpacked = unpackPackage('isc-dhcp-server');
const dhcpd = programOf(unpacked, 'dhcpd');
const directory = mkdtempSync(join(tmpdir(), 'dhcpd-conf-'));
afterAll(() => {
  unpacked?.remove();
  rmSync(directory, { recursive: true });
});

/** What the real dhcpd says of a configuration: its exit code, and its complaints. */
function check(text: string): { readonly status: number | null; readonly complaints: readonly string[] } {
  const file = join(directory, 'dhcpd.conf');
  writeFileSync(file, text);
  const { status, stderr } = spawnSync(dhcpd ?? '', ['-4', '-t', '-cf', file], { encoding: 'utf8' });
  const complaints = stderr.split('\n').filter((line) => /line \d+|warning|error|not /i.test(line));
  return { status, complaints };
}

describe.skipIf(dhcpd === undefined)('config/dhcpd.conf.example', () => {
  it('is accepted by dhcpd without a complaint', () => {
    expect(check(example)).toEqual({ status: 0, complaints: [] });
  });

  it('is accepted with every setting it proposes', () => {
    const proposed = example.replaceAll(/^( *)#(?=[^ \n#])/gm, '$1').replaceAll(/^#( {2}\S.*;)$/gm, '$1');
    expect(proposed.split('\n').filter((line) => /^\s*#[^ ]/.test(line))).toEqual([]);
    expect(proposed).toMatch(/^one-lease-per-client true;$/m);
    expect(proposed).toMatch(/^host web-container \{\n {2}hardware/m);
    expect(check(proposed)).toEqual({ status: 0, complaints: [] });
  });

  it('would be refused with a mistake in it', () => {
    const { status, complaints } = check(example.replace('ping-check true;', 'ping-chekc true;'));
    expect(status).toBe(1);
    expect(complaints.length).toBeGreaterThan(0);
    expect(check(example.replace('range 192.0.2.100', 'range 192.0.3.100')).status).toBe(1);
  });
});

describe('the addresses of the example', () => {
  it('are documentation addresses (RFC 5737), and fixed ones lie outside of the range', () => {
    const addresses = [...example.matchAll(/\b\d+\.\d+\.\d+\.\d+\b/g)].map(([address]) => address);
    expect(addresses.filter((address) => !/^(192\.0\.2\.|255\.255\.255\.0$)/.test(address))).toEqual([]);
    const fixed = [...example.matchAll(/fixed-address 192\.0\.2\.(\d+);/g)].map((match) => Number(match[1]));
    expect(fixed.length).toBeGreaterThan(1);
    expect(fixed.filter((last) => last >= 100 && last <= 199)).toEqual([]);
    const macs = [...example.matchAll(/^#? +hardware ethernet (..)/gm)].map((match) =>
      parseInt(match[1] ?? '', 16),
    );
    expect(macs.map((first) => first & 0b11)).toEqual(macs.map(() => 0b10));
  });
});
