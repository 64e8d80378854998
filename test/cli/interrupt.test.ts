import { execFileSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readLock } from '../../build/repository/lock.js';
import { readLayout } from '../support/oci.js';
import { errorLines, Place, temporaryNames } from '../support/cli.js';
import { privateStorage } from '../support/buildah.js';
import { buildLibrary } from '../support/elf-compile.js';
import { requireThat, requireTools } from '../support/tools.js';
import type { ArchiveServer, TestArchive } from '../support/debian-archive.js';
import { definition, from, makeTinyArchive, tinyTools } from './tiny.js';

const steps = 26;

describe.skipIf(!requireTools(...tinyTools))('a build that is ended from outside', () => {
  let archive: TestArchive;
  let server: ArchiveServer;
  /** Of the image with these times. */
  const digests = new Map<string, string>();
  const epochs = ['1500000000', '1600000000'] as const;
  /** Milliseconds of a whole build. */
  let cold = 0;
  let warm = 0;
  const args = (url?: string): readonly string[] => [
    ...['build', 'tiny.yaml', '-q', '--compression', 'none'],
    ...from(archive, url),
  ];

  beforeAll(async () => {
    archive = await makeTinyArchive();
    server = await archive.serve();
    const place = new Place({ 'tiny.yaml': definition });
    try {
      for (const SOURCE_DATE_EPOCH of epochs) {
        const begin = performance.now();
        await place.ok(args(), { environment: { SOURCE_DATE_EPOCH } });
        if (cold === 0) cold = performance.now() - begin;
        else warm = performance.now() - begin;
        digests.set(SOURCE_DATE_EPOCH, readLayout(place.path('out/tiny.oci')).top.digest);
      }
      expect(new Set(digests.values()).size).toBe(2);
    } finally {
      place.remove();
    }
  });
  afterAll(async () => {
    await archive.remove();
  });

  /** Gives the work a place of its own. */
  async function inPlace(work: (place: Place) => Promise<void>): Promise<void> {
    const place = new Place({ 'tiny.yaml': definition });
    try {
      await work(place);
    } finally {
      place.remove();
    }
  }

  /** Fails unless what has been published is whole. Gives the digests of the layout and of the archive, if there are. */
  async function published(place: Place): Promise<readonly (string | undefined)[]> {
    await readLock(place.path('tiny.lock.yaml'));
    let packed: string | undefined;
    const archived = place.path('out/tiny.oci.tar');
    if (existsSync(archived)) {
      const unpacked = place.path('unpacked');
      mkdirSync(unpacked);
      execFileSync('tar', ['-xf', archived, '-C', unpacked]);
      packed = readLayout(unpacked).top.digest;
      rmSync(unpacked, { recursive: true });
    }
    const layout = place.path('out/tiny.oci');
    return [existsSync(layout) ? readLayout(layout).top.digest : undefined, packed];
  }

  /** The same, where layout and archive must belong together. */
  async function whole(place: Place): Promise<string | undefined> {
    const [layout, packed] = await published(place);
    expect(packed).toBe(layout);
    return layout;
  }

  /** After a kill: whether it came between the renames that publish the two, which the next build repairs. */
  async function isParted(place: Place): Promise<boolean> {
    const [layout, packed] = await published(place);
    for (const digest of [layout, packed]) expect([...digests.values(), undefined]).toContain(digest);
    return layout !== packed;
  }

  /** The next build after the end of one: right, and nothing of the dead is left. */
  async function recovers(place: Place, SOURCE_DATE_EPOCH: string): Promise<void> {
    await place.ok(args(), { environment: { SOURCE_DATE_EPOCH } });
    expect(await whole(place)).toBe(digests.get(SOURCE_DATE_EPOCH));
    expect(readLayout(place.path('out/tiny.oci')).top.digest).toBe(digests.get(SOURCE_DATE_EPOCH));
    expect(temporaryNames(place.list())).toEqual([]);
    expect(place.list('cache/dhcpd-scratch/partial')).toEqual([]);
  }

  describe.concurrent('by kill -9', { timeout: 300_000 }, () => {
    it('leaves no result or a whole one, with an empty cache', async () => {
      let killed = 0;
      let parted = 0;
      for (let step = 0; step < steps; step += 1) {
        await inPlace(async (place) => {
          const { signal } = await place.run(args(), {
            environment: { SOURCE_DATE_EPOCH: epochs[0] },
            interrupt: { signals: ['SIGKILL'], when: sleep((cold * step) / (steps - 1)) },
          });
          if (signal === 'SIGKILL') killed += 1;
          if (await isParted(place)) parted += 1;
          await recovers(place, epochs[0]);
        });
      }
      // The two renames take a thousandth of the time.
      expect(parted).toBeLessThan(2);
      expect(killed).toBeGreaterThan(steps / 2);
    });

    it('leaves the old result or the new one, with a full cache', async () => {
      await inPlace(async (place) => {
        await place.ok(args(), { environment: { SOURCE_DATE_EPOCH: epochs[1] } });
        let parted = 0;
        for (let step = 0; step < steps; step += 1) {
          const epoch = epochs[step % 2] ?? epochs[0];
          await place.run(args(), {
            environment: { SOURCE_DATE_EPOCH: epoch },
            interrupt: { signals: ['SIGKILL'], when: sleep((warm * step) / (steps - 1)) },
          });
          if (await isParted(place)) parted += 1;
          await recovers(place, epoch);
        }
        expect(parted).toBeLessThan(2);
      });
    });

    it('at each change that it makes to the file system', async () => {
      await inPlace(async (place) => {
        const shim = buildLibrary(place.path('kill-at.so'), {
          source: killAt,
          flags: ['-D_GNU_SOURCE', '-lc'],
        });
        const run = (killAfter: number, epoch: string): ReturnType<Place['run']> =>
          place.run(args(), {
            environment: {
              SOURCE_DATE_EPOCH: epoch,
              LD_PRELOAD: shim,
              KILL_AT: String(killAfter),
            },
          });
        await place.ok(args(), { environment: { SOURCE_DATE_EPOCH: epochs[1] } });
        let at = 1;
        let parted = 0;
        let wasParted = false;
        for (; at < 200; at += 1) {
          const epoch = epochs[at % 2] ?? epochs[0];
          // So that it is written again.
          rmSync(place.path('tiny.lock.yaml'), { force: true });
          const { signal, code } = await run(at, epoch);
          const isNow = await isParted(place);
          if (isNow && !wasParted) parted += 1;
          wasParted = isNow;
          if (signal === null) {
            expect(code).toBe(0);
            await recovers(place, epoch);
            break;
          }
          expect(signal).toBe('SIGKILL');
          // Most runs begin with what the one before left; that everything goes away is looked at now and then.
          if (at % 6 === 0) {
            await recovers(place, epoch);
            wasParted = false;
          }
        }
        // Two results and a lock file, at the least.
        expect(at).toBeGreaterThan(5);
        // The old layout goes away, the new one comes, the archive comes: two gaps, met once, or twice when the run
        // before has left something to remove.
        expect(parted).toBeLessThan(5);
      });
    });
  });

  it.skipIf(!requireTools('prlimit'))('by a full disk leaves the old result', async () => {
    await inPlace(async (place) => {
      await place.ok(args(), { environment: { SOURCE_DATE_EPOCH: epochs[1] } });
      // The layer fits, the archive that holds it does not.
      const { images } = readLayout(place.path('out/tiny.oci'));
      const layer = statSync(images[0]?.layer ?? '').size;
      const outcome = await place.run(args(), {
        environment: { SOURCE_DATE_EPOCH: epochs[0] },
        under: ['prlimit', `--fsize=${layer + 2048}`],
      });
      expect(outcome.code).toBe(1);
      expect(errorLines(outcome)).toEqual([expect.stringMatching(/^error: cannot write .*\.oci\.tar: /)]);
      expect(await whole(place)).toBe(digests.get(epochs[1]));
      expect(temporaryNames(place.list())).toEqual([]);
    });
  });

  describe.each([
    ['SIGHUP', 129],
    ['SIGINT', 130],
    ['SIGTERM', 143],
  ] as const)('by %s', (signal, code) => {
    it('says so in one line, leaves nothing, and goes on next time', async () => {
      await inPlace(async (place) => {
        let arrived = (): void => undefined;
        const when = new Promise<void>((resolve) => (arrived = resolve));
        server.intercept = (path) => {
          if (path.includes('/libc6_')) arrived();
          return undefined;
        };
        const outcome = await place.run(args(server.url), {
          interrupt: { signals: [signal], when },
        });
        server.intercept = undefined;
        expect(errorLines(outcome)).toEqual([`error: stopped by ${signal}`]);
        expect(outcome.code).toBe(code);
        expect(place.list().filter((name) => !/^(?:cache|apt)/.test(name))).toEqual(['tiny.yaml']);
        expect(temporaryNames(place.list())).toEqual([]);
        await recovers(place, epochs[0]);
      });
    });

    it('at any time', { timeout: 120_000 }, async () => {
      await inPlace(async (place) => {
        for (let step = 3; step <= 10; step += 1) {
          const outcome = await place.run(args(), {
            environment: { SOURCE_DATE_EPOCH: epochs[0] },
            interrupt: { signals: [signal], when: sleep((cold * step) / 10) },
          });
          // It may have been ready before, or not have begun to listen.
          if (outcome.signal !== null || outcome.code === 0) continue;
          expect(outcome.code, outcome.stderr).toBe(code);
          if (outcome.stdout === '') expect(errorLines(outcome)).toEqual([`error: stopped by ${signal}`]);
          expect(temporaryNames(place.list())).toEqual([]);
          expect([digests.get(epochs[0]), undefined]).toContain(await whole(place));
          rmSync(place.cache, { recursive: true, force: true });
          rmSync(join(place.out), { recursive: true, force: true });
        }
        await recovers(place, epochs[0]);
      });
    });
  });

  it.skipIf(!requireTools('buildah') || !requireThat(process.getuid?.() === 0, 'root')).each([
    { signals: ['SIGHUP'], code: 129 },
    { signals: ['SIGTERM'], code: 143 },
    { signals: ['SIGINT', 'SIGINT', 'SIGTERM'], code: 130 },
  ] as const)(
    'by $signals, the buildah engine clears its working container away',
    async ({ signals, code }) => {
      await inPlace(async (place) => {
        await place.ok(args());
        const storage = privateStorage(place.path('storage'));
        try {
          const before = storage.content();
          // Says when the container is there, and gives the signals time to arrive before the next command.
          mkdirSync(place.path('bin'));
          const real = execFileSync('sh', ['-c', 'command -v buildah'], { encoding: 'utf8' }).trim();
          place.write(
            'bin/buildah',
            `#!/bin/sh\n${real} "$@" || exit\n[ "$1" != from ] || { touch ${place.path('begun')}; sleep 1; }\n`,
          );
          chmodSync(place.path('bin/buildah'), 0o755);
          const environment = {
            ...storage.environment,
            PATH: `${place.path('bin')}:${storage.environment['PATH'] ?? ''}`,
          };
          const begun = async (): Promise<void> => {
            while (!existsSync(place.path('begun'))) await sleep(10);
            expect(storage.content().length).toBeGreaterThan(before.length);
          };
          const outcome = await place.run([...args(), '--engine', 'buildah'], {
            environment,
            interrupt: { signals, when: begun() },
          });
          expect(existsSync(place.path('begun'))).toBe(true);
          expect(storage.content()).toEqual(before);
          expect(errorLines(outcome)).toEqual([`error: stopped by ${signals[0]}`]);
          expect(outcome).toMatchObject({ code, signal: null });
        } finally {
          storage.remove();
        }
      });
    },
  );

  it('three builds at once share a cache and an output directory', async () => {
    await inPlace(async (place) => {
      const environment = { SOURCE_DATE_EPOCH: epochs[0] };
      const outcomes = await Promise.all([1, 2, 3].map(() => place.run(args(), { environment })));
      for (const { code, stdout, stderr } of outcomes) {
        expect(code, stderr).toBe(0);
        expect(stdout).toContain(digests.get(epochs[0]));
      }
      expect(await whole(place)).toBe(digests.get(epochs[0]));
      expect(temporaryNames(place.list())).toEqual([]);
    });
  });
});

/** Ends the process just before its KILL_AT-th change of names in the file system. */
const killAt = `
#include <dlfcn.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/types.h>
#include <unistd.h>
static atomic_int count;
static void step(void) {
  const char *at = getenv("KILL_AT");
  if (at != NULL && atomic_fetch_add(&count, 1) + 1 == atoi(at)) kill(getpid(), SIGKILL);
}
#define WRAP(name, parameters, arguments) \\
  int name parameters { \\
    static int (*real) parameters; \\
    if (real == NULL) real = (int (*) parameters) dlsym(RTLD_NEXT, #name); \\
    step(); \\
    return real arguments; \\
  }
WRAP(rename, (const char *from, const char *to), (from, to))
WRAP(mkdir, (const char *path, mode_t mode), (path, mode))
WRAP(rmdir, (const char *path), (path))
WRAP(unlink, (const char *path), (path))
WRAP(fsync, (int file), (file))
`;
