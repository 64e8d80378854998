import { execFileSync, spawnSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { imageReference } from '../../build/image/reference.js';
import { createOciEngine } from '../../build/image/oci.js';
import { finishDirectory, takePlaces, writeFileAtomically } from '../../build/support/atomic.js';
import { openCache } from '../../build/support/cache.js';
import { errorLines, Place, program } from '../support/cli.js';
import { sampleInputs, sampleTarget } from '../support/oci.js';
import { requireThat, requireTools } from '../support/tools.js';

const isRoot = requireThat(process.getuid?.() === 0, 'root, to have files of other users');
const nobody = 65534;

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'host-'));
});
afterEach(() => {
  rmSync(directory, { recursive: true, force: true });
});
const at = (name: string): string => join(directory, name);

describe('what a user has in the output directory', () => {
  it('is not replaced by a layout, unless it is one', async () => {
    const target = sampleTarget(directory);
    const inputs = await sampleInputs(directory, ['x86_64']);
    mkdirSync(at('dhcpd.oci'));
    writeFileSync(at('dhcpd.oci/thesis.txt'), 'years of work');
    await expect(createOciEngine().build(inputs, target)).rejects.toThrow(
      `cannot write ${at('dhcpd.oci')}: it is a directory of something else`,
    );
    expect(readFileSync(at('dhcpd.oci/thesis.txt'), 'utf8')).toBe('years of work');
    rmSync(at('dhcpd.oci/thesis.txt'));
    await createOciEngine().build(inputs, target);
    await createOciEngine().build(inputs, target);
    expect(existsSync(at('dhcpd.oci/oci-layout'))).toBe(true);
  });
});

describe.skipIf(!isRoot)('what another user has laid out', () => {
  it('as our leftover stays: to remove it is to walk where that user leads', async () => {
    const old = new Date(Date.now() - 30 * 24 * 3600 * 1000);
    const names = ['.it.00000000-1-000000000000.tmp', '.it.00000000-1-000000000000.old'];
    for (const name of names) {
      mkdirSync(at(name));
      writeFileSync(join(at(name), 'x'), '');
      chownSync(at(name), nobody, nobody);
      utimesSync(at(name), old, old);
    }
    await writeFileAtomically(at('it'), 'text');
    rmSync(at('it'));
    await takePlaces([await finishDirectory(at('it'), () => Promise.resolve())]);
    expect(readdirSync(directory).sort()).toEqual([...names, 'it'].sort());
    expect(readdirSync(at('it'))).toEqual([]);
  });

  it('as our cache is not used, by root neither', async () => {
    await openCache(at('cache'));
    chmodSync(at('cache'), 0o755);
    chownSync(at('cache'), nobody, nobody);
    await expect(openCache(at('cache'))).rejects.toThrow('other users can write to it');
  });
});

describe('a reference of an image', () => {
  it.each([
    ['localhost/dhcpd:latest', 'localhost/dhcpd:latest'],
    ['localhost/dhcpd', 'localhost/dhcpd:latest'],
    ['example.org:5000/net/dhcpd_x.y:v1.2-3', 'example.org:5000/net/dhcpd_x.y:v1.2-3'],
    ['[::1]:5000/a__b---c:V_1', '[::1]:5000/a__b---c:V_1'],
    ['dhcpd:1', 'localhost/dhcpd:1'],
    ['team/dhcpd', 'localhost/team/dhcpd:latest'],
  ])('%s is good', (text, reference) => {
    expect(imageReference(text)).toBe(reference);
  });

  const bad = [
    ...[
      '',
      ' ',
      'Dhcpd',
      'localhost/Dhcpd:1',
      'localhost/dhcpd:',
      'localhost/dhcpd:-x',
      '-dhcpd',
      'a b',
      'a;b',
    ],
    ...[`a@sha256:${'0'.repeat(64)}`, 'localhost//a', '/a', 'a/', 'localhost/a:b:c', 'a\nb', 'ä', '../a'],
    ...[
      `localhost/a:${'x'.repeat(129)}`,
      `localhost/${'a'.repeat(256)}`,
      'docker://a',
      '$(id)',
      'localhost:x/a',
    ],
  ];
  it.each(bad.map((text) => [text]))('%j is refused', (text) => {
    expect(() => imageReference(text)).toThrow(/^cannot use the reference /);
  });

  it.skipIf(!isRoot || !requireTools('buildah'))('is what buildah takes', () => {
    const works = (reference: string): boolean =>
      spawnSync(
        'buildah',
        [
          '--root',
          at('root'),
          '--runroot',
          at('run'),
          '--storage-driver=vfs',
          'tag',
          'nothing-here',
          reference,
        ],
        {
          encoding: 'utf8',
        },
      ).stderr.includes('nothing-here');
    expect(works('localhost/dhcpd:latest')).toBe(true);
  });

  it('is looked at before any work', async () => {
    const place = new Place();
    try {
      const outcome = await place.run(['build', 'dhcpd', '--reference', 'A;b']);
      expect(outcome.code).toBe(2);
      expect(errorLines(outcome)[0]).toMatch(/^error: cannot use the reference "A;b": /);
    } finally {
      place.remove();
    }
  });
});

describe('the program', () => {
  let place: Place;
  beforeEach(() => {
    place = new Place();
  });
  afterEach(() => {
    place.remove();
  });
  const shell = (script: string) =>
    spawnSync('sh', ['-c', script, 'sh', process.execPath, program], {
      cwd: place.directory,
      env: { ...place.environment },
      encoding: 'utf8',
      timeout: 20_000,
    });

  it.skipIf(!requireThat(existsSync('/dev/full'), '/dev/full'))('says so when stdout is full', () => {
    const { status, stderr } = shell('"$1" "$2" doctor --offline >/dev/full');
    expect(stderr).toBe('error: cannot write standard output: no space is left on the device\n');
    expect(status).toBe(1);
  });

  it.skipIf(!requireThat(existsSync('/dev/full'), '/dev/full'))(
    'gives its exit code when stderr is full',
    () => {
      expect(shell('"$1" "$2" plan ./nowhere.yaml 2>/dev/full').status).toBe(2);
    },
  );

  it('says so when its directory is gone', () => {
    const { status, stderr } = shell('mkdir gone && cd gone && rmdir ../gone && "$1" "$2" plan dhcpd');
    expect(stderr).toBe(
      'error: cannot find the current directory: no such file or directory; change to one that exists\n',
    );
    expect(status).toBe(2);
  });

  it('does not wait for ever for a directory that the kernel denies', async () => {
    const { makeDirectories } = await import('../../build/support/directories.js');
    await expect(makeDirectories('/proc/foo/bar')).rejects.toThrow(/ENOENT|EACCES|EPERM/);
    await makeDirectories(at('a/b/c'));
    await makeDirectories(at('a/b/c'));
    expect(existsSync(at('a/b/c'))).toBe(true);
    writeFileSync(at('file'), '');
    await expect(makeDirectories(at('file'))).rejects.toThrow('EEXIST');
    expect(execFileSync('stat', ['-c', '%F', at('a')], { encoding: 'utf8' })).toBe('directory\n');
  });
});
