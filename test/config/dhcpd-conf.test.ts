import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { checkConfiguration } from '../../build/dhcpd-conf/check.js';
import { programOf, unpackPackage } from '../definition/unpack.js';
import { proposalsOf, withProposals, type Proposal } from './proposals.js';

const example = readFileSync(new URL('../../config/dhcpd.conf.example', import.meta.url), 'utf8');
const proposals = proposalsOf(example);

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

/** What our own check says of it. */
async function ownCheck(text: string): Promise<readonly string[]> {
  writeFileSync(join(directory, 'dhcpd.conf'), text);
  const { problems } = await checkConfiguration(directory, [{ name: 'eth0', addresses: ['192.0.2.2/24'] }]);
  return problems.map(({ place, severity, text: what }) => `${String(place.line)}: ${severity}: ${what}`);
}

/** A proposal, and the others that it says it needs. */
function needed(proposal: Proposal): readonly Proposal[] {
  const also = [
    [/"containers";/, /^class "containers"/],
    [/^zone /, /^key /],
  ] as const;
  const more = also.flatMap(([user, provider]) =>
    user.test(proposal.text) ? proposals.filter(({ text }) => provider.test(text)) : [],
  );
  return [...more, proposal];
}

describe('config/dhcpd.conf.example', () => {
  it('is free of problems, as it is and with everything it proposes', async () => {
    expect(await ownCheck(example)).toEqual([]);
    expect(await ownCheck(withProposals(example, proposals))).toEqual([]);
  });

  it('proposes what people look for', () => {
    const words = proposals.map(({ text }) => text.trim().split(/[\s;]/).slice(0, 2).join(' '));
    expect(words).toEqual([
      'ddns-update-style standard',
      'update-conflict-detection false',
      'key dhcp',
      'zone home.arpa.',
      'one-lease-per-client true',
      'ping-timeout-ms 300',
      'class "containers"',
      'next-server 192.0.2.2',
      'if option',
      'deny members',
      'deny unknown-clients',
      'pool {',
      'option ntp-servers',
      'option interface-mtu',
      'option classless-routes',
      'subnet 198.51.100.0',
      'use-host-decl-names true',
      'host web-container',
    ]);
  });
});

describe.skipIf(dhcpd === undefined)('the real dhcpd', () => {
  it('accepts it without a complaint', () => {
    expect(check(example)).toEqual({ status: 0, complaints: [] });
  });

  it.each(proposals.map((proposal): [string, Proposal] => [proposal.text.split('\n')[0] ?? '', proposal]))(
    'accepts what it proposes: %s',
    (_, proposal) => {
      const changed = withProposals(example, needed(proposal));
      expect(changed).not.toBe(example);
      expect(check(changed)).toEqual({ status: 0, complaints: [] });
    },
  );

  it('accepts everything that it proposes together', () => {
    const changed = withProposals(example, proposals);
    expect(changed.split('\n').filter((line) => /^\s*#[^ ]/.test(line))).toEqual([]);
    expect(check(changed)).toEqual({ status: 0, complaints: [] });
  });

  it('would refuse it with a mistake in it, or in a proposal', () => {
    const { status, complaints } = check(example.replace('ping-check true;', 'ping-chekc true;'));
    expect(status).toBe(1);
    expect(complaints.length).toBeGreaterThan(0);
    expect(check(example.replace('range 192.0.2.100', 'range 192.0.3.100')).status).toBe(1);
    for (const proposal of proposals) {
      const broken = { ...proposal, text: proposal.text.replace(/;(?=[^;]*$)/, '') };
      expect(check(withProposals(example, [...needed(proposal).slice(0, -1), broken])).status).toBe(1);
    }
  });
});

describe('the addresses of the example', () => {
  it('are documentation addresses (RFC 5737), and fixed ones lie outside of the ranges', () => {
    const addresses = [...example.matchAll(/\b\d+\.\d+\.\d+\.\d+\b/g)].map(([address]) => address);
    const documentation = /^(192\.0\.2\.|198\.51\.100\.|255\.255\.255\.0$)/;
    expect(addresses.filter((address) => !documentation.test(address))).toEqual([]);
    const fixed = [...example.matchAll(/fixed-address 192\.0\.2\.(\d+);/g)].map((match) => Number(match[1]));
    expect(fixed.length).toBeGreaterThan(1);
    expect(fixed.filter((last) => last >= 100 && last <= 239)).toEqual([]);
    const macs = [...example.matchAll(/^#? +hardware ethernet (..)/gm)].map((match) =>
      parseInt(match[1] ?? '', 16),
    );
    expect(macs.length).toBeGreaterThan(1);
    expect(macs.map((first) => first & 0b11)).toEqual(macs.map(() => 0b10));
  });
});
