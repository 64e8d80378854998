import { cpSync, mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { BuiltImage } from '../../build/image/engine.js';
import { Place, type RunOptions } from '../support/cli.js';
import { requireTools } from '../support/tools.js';
import type { TestArchive } from '../support/debian-archive.js';
import { definition, from, makeTinyArchive, tinyTools } from './tiny.js';

describe.skipIf(!requireTools(...tinyTools))('the same lock file', () => {
  let archive: TestArchive;
  let place: Place;
  let first: BuiltImage;
  const image = async (where: Place, args: readonly string[], how?: RunOptions): Promise<BuiltImage> =>
    // The program's own promise of what it prints.
    JSON.parse(await where.ok([...args, '--json', ...from(archive)], how)) as BuiltImage;
  beforeAll(async () => {
    archive = await makeTinyArchive();
    place = new Place({ 'tiny.yaml': definition });
    first = await image(place, ['build', 'tiny.yaml']);
  });
  afterAll(async () => {
    place.remove();
    await archive.remove();
  });

  /** Builds as another user might, with nothing but the definition and the lock file of the first. */
  async function elsewhere(how: RunOptions, args: readonly string[] = ['build', 'tiny.yaml']): Promise<void> {
    const other = new Place();
    try {
      mkdirSync(other.path('deep/er'), { recursive: true });
      for (const name of ['tiny.yaml', 'tiny.lock.yaml']) {
        for (const to of ['.', 'deep/er']) cpSync(place.path(name), join(other.directory, to, name));
      }
      const built = await image(other, args, { ...how, cwd: other.path(how.cwd ?? '.') });
      expect(built.digest).toBe(first.digest);
      const name = join(built.layout.slice(built.layout.lastIndexOf('/') + 1), 'index.json');
      expect(readFileSync(join(built.layout, '..', name))).toEqual(
        readFileSync(join(first.layout, 'index.json')),
      );
      expect(readFileSync(built.archive).equals(readFileSync(first.archive))).toBe(true);
    } finally {
      other.remove();
    }
  }

  it.each<[string, RunOptions]>([
    ['umask 077', { under: ['sh', '-c', 'umask 077; exec "$@"', 'sh'] }],
    ['umask 000', { under: ['sh', '-c', 'umask 000; exec "$@"', 'sh'] }],
    [
      'language and time zone',
      { environment: { LC_ALL: 'tr_TR.UTF-8', LANG: 'tr_TR.UTF-8', TZ: 'Pacific/Chatham' } },
    ],
    ['working directory', { cwd: 'deep/er' }],
    ['colour and terminal settings', { environment: { FORCE_COLOR: '1', TERM: 'xterm', COLUMNS: '20' } }],
    ['Node settings', { environment: { NODE_OPTIONS: '--max-old-space-size=256 --stack-trace-limit=1' } }],
  ])('gives the same bytes with another %s', async (_, how) => {
    await elsewhere(how);
  });

  it('gives the same bytes with the cache in the home directory', async () => {
    await elsewhere({ environment: { XDG_CACHE_HOME: undefined } });
    await elsewhere({ environment: { XDG_CACHE_HOME: 'relative/is/ignored' } }, [
      'build',
      './tiny.yaml',
      '--locked',
    ]);
  });

  it.skipIf(!requireTools('faketime'))('gives the same bytes in another year', async () => {
    // The archive's Release would be from the future, or from the past.
    await elsewhere({ under: ['faketime', '-f', '-400d'] }, ['build', 'tiny.yaml', '--locked']);
    await elsewhere({ under: ['faketime', '-f', '+4000d'] }, ['build', 'tiny.yaml', '--locked']);
  });

  it('gives the same contents, whatever the compression', async () => {
    const zstd = await image(place, ['build', 'tiny.yaml', '--compression', 'zstd', '-o', 'zstd']);
    const none = await image(place, ['build', 'tiny.yaml', '--compression', 'none', '-o', 'none']);
    expect(new Set([first, zstd, none].map((built) => built.manifests[0]?.diffId)).size).toBe(1);
    expect(new Set([first, zstd, none].map((built) => built.digest)).size).toBe(3);
    expect(none.manifests[0]?.layerDigest).toBe(none.manifests[0]?.diffId);
    const again = await image(place, ['build', 'tiny.yaml', '--compression', 'zstd', '-o', 'zstd']);
    expect(again.digest).toBe(zstd.digest);
  });

  it('gives the same image from packages chosen anew', async () => {
    const other = new Place({ 'tiny.yaml': definition });
    try {
      expect((await image(other, ['build', 'tiny.yaml'])).digest).toBe(first.digest);
      expect(readFileSync(other.path('tiny.lock.yaml'))).toEqual(readFileSync(place.path('tiny.lock.yaml')));
    } finally {
      other.remove();
    }
  });
});
