import { mkdirSync, readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Place } from '../support/cli.js';
import type { TestArchive } from '../support/debian-archive.js';
import { requireTools } from '../support/tools.js';
import { definition, from, makeTinyArchive, release, tinyTools } from './tiny.js';

const page = readFileSync(new URL('../../docs/json.md', import.meta.url), 'utf8');

/** It has one of everything, a fault as well. */
const configuration = `subnet 192.0.2.0 netmask 255.255.255.0 { range 192.0.2.10 192.0.2.20; }
host printer { hardware ethernet 02:00:00:00:00:10; fixed-address 192.0.2.15; }
`;

/** Reasons and notes that an image of the little archive has no cause for, and what only one upon a base has. */
const elsewhere = /\.reason\.(by|field)$|\.dlopenNotes|\.(upon|basePackages|base)$/;

describe.skipIf(!requireTools(...tinyTools))('docs/json.md', () => {
  let archive: TestArchive;
  let place: Place;
  beforeAll(async () => {
    archive = await makeTinyArchive();
    place = new Place({ 'tiny.yaml': definition });
  });
  afterAll(async () => {
    place.remove();
    await archive.remove();
  });

  it.each([
    ['quadlet', ['quadlet', '--interface', 'eth0', '--podman-version', '5.4', '--output', 'units']],
    ['check', ['check', '--config', 'dhcp', '--interface', 'eth0=192.0.2.1/24']],
  ])('says what %s prints', async (title, words) => {
    mkdirSync(place.path('dhcp'), { recursive: true });
    place.write('dhcp/dhcpd.conf', configuration);
    const { stdout } = await place.run([...words, '--json']);
    expect(keysOf(JSON.parse(stdout))).toEqual(documentedKeys(title));
  });

  it.each([
    ['lock', ['lock', 'tiny.yaml']],
    ['build', ['build', 'tiny.yaml']],
    ['plan', ['plan', 'tiny.yaml']],
    ['why', ['why', '/etc/passwd', 'tiny.yaml']],
    ['why', ['why', '/usr/sbin/tinyd', 'tiny.yaml']],
    ['doctor', ['doctor', '--suite', release]],
    ['cache clean', ['cache', 'clean']],
  ])('says what %s prints', async (title, words) => {
    const source = title === 'cache clean' ? [] : from(archive);
    const { stdout } = await place.run([...words, ...source, '--json']);
    const printed = keysOf(JSON.parse(stdout));
    const documented = documentedKeys(title);
    expect([...printed].filter((key) => !documented.has(key))).toEqual([]);
    if (words[1] === '/etc/passwd') return;
    expect([...documented].filter((key) => !printed.has(key) && !elsewhere.test(key))).toEqual([]);
  });
});

function documentedKeys(title: string): ReadonlySet<string> {
  const section = page.split(/^## /m).find((part) => part.startsWith(`${title}\n`)) ?? '';
  const cells = [...section.matchAll(/^\| (`[^|]*`) +\|/gm)].map(([, cell = '']) => cell);
  return new Set(cells.flatMap((cell) => [...cell.matchAll(/`([^`]+)`/g)].map(([, key = '']) => key)));
}

/** Paths of all values that hold no others; an empty list or null stands for what may be in it. */
function keysOf(value: unknown, path = ''): ReadonlySet<string> {
  if (Array.isArray(value)) return union(value.map((item) => keysOf(item, `${path}[]`)));
  if (typeof value === 'object' && value !== null) {
    const prefix = path === '' ? '' : `${path}.`;
    return union(Object.entries(value).map(([key, inner]) => keysOf(inner, prefix + key)));
  }
  return new Set(value === null && /\.(package|steps)$/.test(path) ? [] : [path]);
}

function union(sets: readonly ReadonlySet<string>[]): ReadonlySet<string> {
  return new Set(sets.flatMap((set) => [...set]));
}
