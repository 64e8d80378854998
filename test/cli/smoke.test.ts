import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Place } from '../support/cli.js';

describe('smoke', () => {
  let place: Place;
  beforeAll(() => {
    place = new Place();
  });
  afterAll(() => {
    place.remove();
  });

  it('lists its checks, each with what it promises', async () => {
    const { code, stdout, stderr } = await place.run(['smoke', '--list']);
    expect([code, stderr]).toEqual([0, '']);
    const lines = stdout.trimEnd().split('\n');
    expect(lines.length).toBeGreaterThan(20);
    for (const line of lines) expect(line).toMatch(/^[a-z0-9-]+ {2,}\S/);
    expect(stdout).toMatch(/^renew +a client keeps its address/m);
  });

  it('lists them as one JSON document', async () => {
    const { stdout } = await place.run(['smoke', '--list', '--json', '--only', 'renew,full-disk']);
    expect(JSON.parse(stdout)).toEqual({
      checks: [
        { name: 'renew', promise: expect.any(String) as unknown, only: null },
        { name: 'full-disk', promise: expect.any(String) as unknown, only: 'dhcpd' },
      ],
    });
  });

  it.each<[string, readonly string[], string]>([
    [
      'a check that there is not',
      ['--only', 'renew,relaese'],
      'cannot find check relaese: there is none of that name; did you mean release?',
    ],
    [
      'an image that there is not',
      [],
      'cannot read out/dhcpd.oci.tar: there is no such file; build the image first, or name one with --image',
    ],
    ['an architecture that there is not', ['--arch', 'vax'], 'cannot build for architecture "vax"'],
    ['a definition that there is not', ['nothing'], 'cannot find definition nothing'],
    ['one argument too many', ['dhcpd', 'more'], 'cannot read the command line'],
  ])('refuses %s with exit code 2', async (_what, args, message) => {
    const { code, stdout, stderr } = await place.run(['smoke', ...args]);
    expect([code, stdout]).toEqual([2, '']);
    expect(stderr).toContain(`error: ${message}`);
  });
});
