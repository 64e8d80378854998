import { readFileSync } from 'node:fs';
import { afterAll, describe, expect, it } from 'vitest';
import { proposalsOf, withProposals } from '../config/proposals.js';
import { requireThat, requireTools } from '../support/tools.js';
import { RealDhcpd, shown } from './real-dhcpd.js';

const real = new RealDhcpd();
afterAll(() => {
  real.remove();
});
const ready =
  real.isThere &&
  requireThat(process.getuid?.() === 0, 'root, for a network namespace') &&
  requireTools('unshare', 'ip', 'udhcpc');

const subnet = 'subnet 192.0.2.0 netmask 255.255.255.0 { range 192.0.2.100 192.0.2.120; }';
const mac = '02:00:00:00:00:99';

describe.skipIf(!ready)('what the check warns of happens', { timeout: 60_000 }, () => {
  it('a lease is cut down to max-lease-time, the server’s own without one', async () => {
    const both = `default-lease-time 7200; max-lease-time 3600; ${subnet}`;
    expect(shown(await real.problems(both))).toHaveLength(1);
    expect(await real.lease(both, mac)).toMatchObject({ lease: '3600' });
    const one = `default-lease-time 604800; ${subnet}`;
    expect(shown(await real.problems(one))).toHaveLength(1);
    expect(await real.lease(one, mac)).toMatchObject({ lease: '86400' });
  });

  it('a fixed address in no subnet is never given', async () => {
    const text = `${subnet} host a { hardware ethernet ${mac}; fixed-address 198.51.100.9; }`;
    expect(shown(await real.problems(text))).toHaveLength(1);
    expect(await real.lease(text, mac)).toMatchObject({ ip: '192.0.2.100' });
  });
});

describe.skipIf(!ready)('config/dhcpd.conf.example with what it proposes', { timeout: 60_000 }, () => {
  const example = readFileSync(new URL('../../config/dhcpd.conf.example', import.meta.url), 'utf8');
  const chosen = proposalsOf(example).filter(({ text }) => !/deny unknown|^ddns-update-style/m.test(text));
  const text = withProposals(example, chosen);

  it('gives containers addresses of their own, for ten minutes', async () => {
    expect(await real.lease(text, '0a:00:00:00:00:99')).toMatchObject({ ip: '192.0.2.200', lease: '600' });
    expect(await real.lease(text, mac)).toMatchObject({ ip: '192.0.2.100', lease: '3600' });
    expect(await real.lease(text, '0a:00:00:00:00:11')).toMatchObject({ ip: '192.0.2.11', hostname: 'web' });
    expect(await real.lease(example, '0a:00:00:00:00:99')).toMatchObject({
      ip: '192.0.2.100',
      lease: '3600',
    });
  });

  it('sends routes, and the boot file of the kind of machine', async () => {
    const asked = ['-O', 'staticroutes', '-O', 'hostname'];
    expect(await real.lease(text, mac, asked)).toMatchObject({
      staticroutes: '198.51.100.0/24 192.0.2.254 0.0.0.0/0 192.0.2.1',
      siaddr: '192.0.2.2',
      boot_file: 'pxelinux.0',
    });
    expect(await real.lease(text, mac, ['-x', '0x5d:0007'])).toMatchObject({ boot_file: 'shimx64.efi' });
    expect(await real.lease(text, mac, ['-x', '0x5d:000b'])).toMatchObject({ boot_file: 'shimaa64.efi' });
  });
});
