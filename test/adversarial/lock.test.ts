import { execFileSync } from 'node:child_process';
import { readFileSync, symlinkSync } from 'node:fs';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { formatLock, readLock } from '../../build/repository/lock.js';
import { definition, from, makeTinyArchive, tinyTools } from '../cli/tiny.js';
import { errorLines, Place } from '../support/cli.js';
import type { TestArchive } from '../support/debian-archive.js';
import { requireTools } from '../support/tools.js';

/** A lock file comes with a change somebody else proposes: what it says must be what is built. */
describe.skipIf(!requireTools(...tinyTools))('a lock file from a stranger', () => {
  let archive: TestArchive;
  let place: Place;
  const build = (...more: readonly string[]) =>
    place.run(['build', 'tiny.yaml', '-q', ...from(archive), ...more]);
  const lockText = (): string => readFileSync(place.path('tiny.lock.yaml'), 'utf8');

  beforeAll(async () => {
    archive = await makeTinyArchive();
  });
  afterAll(async () => archive.remove());
  beforeEach(() => {
    place = new Place({ 'tiny.yaml': definition });
  });
  afterEach(() => {
    place.remove();
  });

  it.each([
    ['version', 'version: "2.0-1"', 'version: "9.9-9"', /libc6 9\.9-9.*libc6 2\.0-1/],
    ['name', 'name: libouter1', 'name: libother1', /libother1 1\.0-1.*libouter1 1\.0-1/],
    ['architecture', 'architecture: amd64', 'architecture: riscv64', /base-files 12.*amd64/],
  ])('cannot give a package another %s', async (_, truth, lie, message) => {
    await place.ok(['lock', 'tiny.yaml', '-q', ...from(archive)]);
    expect(lockText()).toContain(truth);
    place.write('tiny.lock.yaml', lockText().replace(truth, lie));
    const outcome = await build('--locked');
    expect(outcome.code).toBe(1);
    expect(errorLines(outcome).join('\n')).toMatch(message);
    expect(place.list('out')).toEqual([]);
  });

  it('is read to its bound alone, and only when it is a file', async () => {
    symlinkSync('/dev/zero', place.path('tiny.lock.yaml'));
    const endless = await build();
    expect(endless.code).toBe(2);
    expect(errorLines(endless)[0]).toMatch(/^error: cannot read lock file .*: it is no regular file; /);
    execFileSync('mkfifo', [place.path('pipe')]);
    expect((await build('--lock-file', 'pipe')).code).toBe(2);
    place.write('large', Buffer.alloc(17 * 1024 ** 2, '#'));
    const large = await build('--lock-file', 'large');
    expect(large.code).toBe(2);
    expect(errorLines(large)[0]).toContain('it is larger than');
  });

  it('can be read again whatever suite or file name an archive has', async () => {
    const locked = {
      name: 'a',
      version: '1',
      architecture: 'all',
      size: 1,
      sha256: '0'.repeat(64),
      why: '/a: root program',
    };
    const packages = [
      { ...locked, suite: 'stable/', path: 'a_1~(b)!_all.deb' },
      { ...locked, name: 'b', suite: 'trial~1/x', path: "pool/b'_1_all.deb" },
    ];
    const lock = {
      definition: '0'.repeat(64),
      targets: [{ family: 'debian', release: 'Trial', architecture: 'x86_64', packages }],
    } as const;
    place.write('odd.yaml', formatLock(lock));
    expect(await readLock(place.path('odd.yaml'))).toEqual(lock);
  });

  it.each(['../../x', 'a/../b', '/etc/passwd', 'http://x/y', 'a?b', 'a#b', 'a\\..\\b', 'a b', 'a//b', './a'])(
    'cannot lead out of the archive with %s',
    async (path) => {
      await place.ok(['lock', 'tiny.yaml', '-q', ...from(archive)]);
      place.write(
        'tiny.lock.yaml',
        lockText().replace(/path: .*/, () => `path: ${JSON.stringify(path)}`),
      );
      const outcome = await build('--locked');
      expect(outcome.code).toBe(2);
      expect(errorLines(outcome)[0]).toContain('path must be a path below the archive');
    },
  );
});
