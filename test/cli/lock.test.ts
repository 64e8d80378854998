import { existsSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { formatLock, readLock, type LockedTarget, type LockFile } from '../../build/repository/lock.js';
import { readLayout } from '../support/oci.js';
import { errorLines, Place, type RunOptions } from '../support/cli.js';
import { requireTools } from '../support/tools.js';
import type { ArchiveServer, PackageSpec, TestArchive } from '../support/debian-archive.js';
import {
  architecture,
  definition,
  from,
  makeTinyArchive,
  release,
  tinyPackages,
  tinySuite,
  tinyTools,
} from './tiny.js';

describe.skipIf(!requireTools(...tinyTools))('the lock file', () => {
  let archive: TestArchive;
  let server: ArchiveServer;
  let packages: readonly PackageSpec[];
  let place: Place;
  const places: Place[] = [];
  const lockFile = (): string => readFileSync(place.path('tiny.lock.yaml'), 'utf8');
  const parsed = async (): Promise<LockFile> => {
    const lock = await readLock(place.path('tiny.lock.yaml'));
    if (lock === undefined) throw new Error('there is no lock file');
    return lock;
  };
  const build = async (...options: readonly string[]): Promise<string> => built({}, ...options);
  /** Builds and gives the digest, which is that of what lies in the output directory. */
  async function built(how: RunOptions, ...options: readonly string[]): Promise<string> {
    const stdout = await place.ok(
      ['build', 'tiny.yaml', '--compression', 'none', ...from(archive, server.url), ...options],
      how,
    );
    const digest = /^digest +(\S+)$/m.exec(stdout)?.[1];
    expect(digest).toBe(readLayout(join(place.out, 'tiny.oci')).top.digest);
    return digest ?? '';
  }
  async function refused(code: number, ...options: readonly string[]): Promise<string> {
    const before = place.list('out');
    const outcome = await place.run(['build', 'tiny.yaml', '-q', ...from(archive, server.url), ...options]);
    const lines = errorLines(outcome);
    expect(lines).toHaveLength(1);
    expect(outcome.code).toBe(code);
    expect(place.list('out')).toEqual(before);
    return lines[0] ?? '';
  }
  /** As the message of what to run repeats it. */
  const origin = (): string => from(archive, server.url).join(' ');
  const versionOf = async (name: string): Promise<string | undefined> =>
    (await parsed()).targets[0]?.packages.find((locked) => locked.name === name)?.version;
  /** Takes one package out of the cache. */
  const forget = async (name: string): Promise<void> => {
    const { sha256 = '' } =
      (await parsed()).targets[0]?.packages.find((locked) => locked.name === name) ?? {};
    rmSync(join(place.cache, 'blobs/sha256', sha256.slice(0, 2), sha256.slice(2)));
  };
  const publishNewer = (): Promise<void> =>
    archive.publish(tinySuite([...packages.filter(({ name }) => name !== 'tiny-server'), newer()]));
  const newer = (): PackageSpec => {
    const found = tinyPackages('1.1-1').find(({ name }) => name === 'tiny-server');
    if (found === undefined) throw new Error('there is no tiny-server');
    return found;
  };

  beforeAll(async () => {
    packages = tinyPackages();
    archive = await makeTinyArchive();
    server = await archive.serve();
  });
  afterEach(() => {
    for (const made of places.splice(0)) made.remove();
    server.intercept = undefined;
  });
  afterAll(async () => {
    await archive.remove();
  });
  const start = async (): Promise<string> => {
    place = new Place({ 'tiny.yaml': definition });
    places.push(place);
    return build('-q');
  };

  it('is written by the first build and not touched by the next, which gives the same image', async () => {
    const digest = await start();
    const text = lockFile();
    expect(formatLock(await parsed())).toBe(text);
    expect((await parsed()).targets.map((target) => target.packages.map(({ name }) => name))).toEqual([
      ['base-files', 'libc6', 'libinner2', 'libouter1', 'tiny-server'],
    ]);
    expect(await build()).toBe(digest);
    expect(await build('--locked')).toBe(digest);
    expect(lockFile()).toBe(text);
  });

  it('is enough for another machine: --locked asks for its packages and for nothing else', async () => {
    const digest = await start();
    const text = lockFile();
    rmSync(place.cache, { recursive: true });
    server.requests.length = 0;
    expect(await build('--locked')).toBe(digest);
    expect(server.requests).toHaveLength(5);
    expect(server.requests.every((path) => path.startsWith('pool/'))).toBe(true);
    expect(lockFile()).toBe(text);
  });

  it('keeps a build from taking a newer package, and lock takes it', async () => {
    const digest = await start();
    await publishNewer();
    try {
      expect(await build()).toBe(digest);
      expect(await versionOf('tiny-server')).toBe('1.0-1');
      const stdout = await place.ok(['lock', 'tiny.yaml', '-q', ...from(archive, server.url)]);
      expect(stdout).toContain(
        `debian ${release} ${architecture}: tiny-server 1.0-1 -> 1.1-1\ntiny.lock.yaml: `,
      );
      expect(await versionOf('tiny-server')).toBe('1.1-1');
      expect(await build('--locked')).not.toBe(digest);
    } finally {
      await archive.publish(tinySuite(packages));
    }
  });

  it('is given up, with a word, when a package is gone; --locked says what to run', async () => {
    await start();
    const text = lockFile();
    await publishNewer();
    await forget('tiny-server');
    try {
      const gone = await refused(1, '--locked');
      expect(gone).toMatch(/^error: cannot fetch \S*tiny-server_1\.0-1_\S+: the server does not have it; /);
      expect(gone).toContain('run npx dhcpd-scratch lock tiny.yaml');
      expect(lockFile()).toBe(text);
      const { code, stderr, stdout } = await place.run(['build', 'tiny.yaml', ...from(archive, server.url)]);
      expect(code, stderr).toBe(0);
      expect(stderr).toMatch(/^choosing packages anew: cannot fetch \S*tiny-server_1\.0-1_/m);
      expect(stdout).toContain('tiny.lock.yaml (written)\n');
      expect(await versionOf('tiny-server')).toBe('1.1-1');
    } finally {
      await archive.publish(tinySuite(packages));
    }
  });

  it('names no package of the inventory when the definition switches it off', async () => {
    await start();
    expect(await versionOf('base-files')).toBeDefined();
    place.write('tiny.yaml', `${definition}inventory: false\n`);
    await build();
    expect(await versionOf('base-files')).toBeUndefined();
    const plan: unknown = JSON.parse(
      await place.ok(['plan', 'tiny.yaml', '--json', ...from(archive, server.url)]),
    );
    expect(JSON.stringify(plan)).toContain('/usr/sbin/tinyd');
    expect(JSON.stringify(plan)).not.toMatch(/os-release|status\.d/);
  });

  it('of a changed definition is chosen anew, and what is lost by that is said', async () => {
    await start();
    const lock = await parsed();
    const other = { ...theOnly(lock), release: 'earlier' };
    place.write('tiny.lock.yaml', formatLock({ ...lock, targets: [...lock.targets, other] }));
    place.write('tiny.yaml', `${definition}# changed\n`);
    const { stderr } = await place.run(['build', 'tiny.yaml', ...from(archive, server.url)]);
    expect(stderr).toMatch(/warning: .*the definition has changed .*chosen anew/);
    expect(stderr).toMatch(/warning: the lock file no longer names packages of debian earlier \S+:/);
    expect((await parsed()).targets.map((target) => target.release)).toEqual([release]);
  });

  it('is renewed for every architecture that it has', async () => {
    await start();
    const lock = await parsed();
    const target = theOnly(lock);
    const other = { ...target, architecture: 's390x' as const };
    place.write('tiny.lock.yaml', formatLock({ ...lock, targets: [...lock.targets, other] }));
    const outcome = await place.run(['lock', 'tiny.yaml', '-q', ...from(archive, server.url)]);
    expect(errorLines(outcome).join()).toMatch(/s390x/);
  });

  it('is refused by --locked when it is missing, or the definition has changed', async () => {
    await start();
    const text = lockFile();
    place.write('tiny.yaml', `${definition}# a remark\n`);
    expect(await refused(2, '--locked')).toBe(
      `error: cannot use ${place.path('tiny.lock.yaml')}: the definition has changed since it was written; run npx dhcpd-scratch lock tiny.yaml ${origin()}`,
    );
    expect(lockFile()).toBe(text);
    await build();
    expect(lockFile()).not.toBe(text);
    await build('--locked');
    rmSync(place.path('tiny.lock.yaml'));
    expect(await refused(2, '--locked')).toBe(
      `error: cannot use ${place.path('tiny.lock.yaml')}: there is no such lock file; run npx dhcpd-scratch lock tiny.yaml ${origin()}`,
    );
    expect(existsSync(place.path('tiny.lock.yaml'))).toBe(false);
    expect(await refused(2, '--locked', '--lock-file', 'nowhere/x.yaml')).toContain(
      'there is no such lock file',
    );
  });

  it('is refused by --locked for an architecture or release that it does not name', async () => {
    await start();
    const other = architecture === 's390x' ? 'riscv64' : 's390x';
    const lost = (suite: string, arch: string, options: string): string =>
      `error: cannot build from ${place.path('tiny.lock.yaml')}: it names no packages of Debian ${suite} for ${arch}; ` +
      `run npx dhcpd-scratch lock tiny.yaml ${options}`;
    expect(await refused(2, '--locked', '--arch', other)).toBe(
      lost(release, other, `${origin()} --arch ${other}`),
    );
    expect(await refused(2, '--locked', '--suite', 'bookworm')).toBe(
      lost('bookworm', architecture, `--suite bookworm ${origin()} --arch ${architecture}`),
    );
  });

  it('cannot be renewed under --locked', async () => {
    place = new Place({ 'tiny.yaml': definition });
    places.push(place);
    const outcome = await place.run(['lock', 'tiny.yaml', '--locked', ...from(archive, server.url)]);
    expect(outcome.code).toBe(2);
    expect(errorLines(outcome)).toEqual([
      "error: cannot read the command line: unknown option '--locked'; see npx dhcpd-scratch lock --help",
    ]);
  });

  it('keeps what it holds for other architectures and releases', async () => {
    await start();
    const lock = await parsed();
    const [mine] = lock.targets;
    if (mine === undefined) throw new Error('there is no target');
    const others = [
      { ...mine, release: 'older' },
      { ...mine, architecture: 's390x' as const },
      { ...mine, architecture: 'riscv64' as const },
    ].filter((target) => target.release !== release || target.architecture !== architecture);
    const stale = { ...mine, packages: mine.packages.map((locked) => ({ ...locked, version: '0.1' })) };
    place.write('tiny.lock.yaml', formatLock({ ...lock, targets: [...others, stale] }));
    const options = ['--arch', architecture, ...from(archive, server.url)];
    const stdout = await place.ok(['lock', 'tiny.yaml', ...options]);
    expect(stdout).not.toContain('older');
    expect(await parsed()).toEqual({
      ...lock,
      targets: expect.arrayContaining([mine, ...others]) as unknown,
    });
    expect((await parsed()).targets).toHaveLength(others.length + 1);
  });

  describe('offline', () => {
    it('builds from the cache, and asks nobody', async () => {
      const digest = await start();
      server.requests.length = 0;
      expect(await build('--offline')).toBe(digest);
      expect(await build('--offline', '--locked')).toBe(digest);
      expect(server.requests).toEqual([]);
    });

    it('says what is missing', async () => {
      await start();
      await forget('libc6');
      const line = await refused(1, '--offline');
      expect(line).toMatch(/^error: cannot fetch libc6 2\.0-1: .*--offline.*; run it once without --offline/);
      rmSync(place.cache, { recursive: true });
      expect(await refused(1, '--offline', '--locked')).toMatch(
        /--offline is given .*; run it once without --offline/,
      );
      rmSync(place.path('tiny.lock.yaml'));
      expect(await refused(1, '--offline')).toMatch(/--offline is given .*; run it once without --offline/);
    });
  });

  describe('SOURCE_DATE_EPOCH', () => {
    it('sets every time in the image', async () => {
      const plain = await start();
      const environment = { SOURCE_DATE_EPOCH: '1234567890' };
      const dated = await built({ environment });
      expect(dated).not.toBe(plain);
      const [image] = readLayout(join(place.out, 'tiny.oci')).images;
      expect(image?.config).toMatchObject({ created: '2009-02-13T23:31:30Z' });
      expect(await built({ environment })).toBe(dated);
      expect(await built({ environment: { SOURCE_DATE_EPOCH: '' } })).toBe(plain);
    });

    it.each(['yesterday', '-1', '1e9', '999999999999', ' 5'])('is refused as %j', async (value) => {
      place = new Place({ 'tiny.yaml': definition });
      places.push(place);
      const outcome = await place.run(['build', 'tiny.yaml', '-q', ...from(archive)], {
        environment: { SOURCE_DATE_EPOCH: value },
      });
      expect(outcome.code).toBe(2);
      expect(errorLines(outcome)).toEqual([
        expect.stringMatching(
          /^error: cannot use SOURCE_DATE_EPOCH=.*: it is no number of seconds since 1970; ./,
        ),
      ]);
    });
  });
});

function theOnly({ targets }: LockFile): LockedTarget {
  const [target, ...others] = targets;
  if (target === undefined || others.length > 0) throw new Error('there is not one target');
  return target;
}
