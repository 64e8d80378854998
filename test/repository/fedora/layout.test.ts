import { describe, expect, it } from 'vitest';
import type { PackageContents, SymlinkEntry } from '../../../build/package/contents.js';
import { createPackageTree } from '../../../build/package/tree.js';
import { directoryLinks, fedoraLoader, sonameCapability } from '../../../build/repository/fedora/layout.js';
import { packageOf } from '../../support/package-tree.js';

type Entries = Parameters<typeof packageOf> extends [string, ...infer Rest] ? Rest : never;

function rpmOf(name: string, entries: Entries, ghostLinks: readonly SymlinkEntry[] = []): PackageContents {
  return {
    ...packageOf(name, ...entries),
    metadata: {
      format: 'rpm',
      epoch: undefined,
      version: '1',
      release: '1',
      vendor: '',
      license: '',
      sourceRpm: '',
      installedSize: 0,
      signer: undefined,
      ghostLinks,
    },
  };
}

const link = (path: string, target: string): SymlinkEntry => ({
  kind: 'symlink',
  path,
  target,
  mode: 0o777,
  uid: 0,
  gid: 0,
  userName: 'root',
  groupName: 'root',
  mtime: 0,
});
const directory = (path: string) => ({ kind: 'directory', path }) as const;

describe('directoryLinks', () => {
  const shipped = [
    ...['usr', 'usr/bin', 'usr/lib', 'usr/lib64', 'run', 'var', 'etc'].map(directory),
    link('bin', 'usr/bin'),
    link('lib', 'usr/lib'),
    link('lib64', '/usr/lib64'),
    link('sbin', 'usr/sbin'),
    link('var/run', '../run'),
    link('etc/mtab', '../proc/self/mounts'),
  ] as const;

  it('takes the links of the filesystem package that lead to its directories, over other links too', () => {
    const links = directoryLinks([rpmOf('filesystem', [...shipped, link('usr/sbin', 'bin')])]);
    expect([...links]).toEqual([
      ['bin', 'usr/bin'],
      ['lib', 'usr/lib'],
      ['lib64', '/usr/lib64'],
      ['sbin', 'usr/sbin'],
      ['var/run', '../run'],
      ['usr/sbin', 'bin'],
    ]);
  });

  it('takes links that the package only owns', () => {
    const links = directoryLinks([rpmOf('filesystem', [...shipped], [link('usr/sbin', 'bin')])]);
    expect(links.get('usr/sbin')).toBe('bin');
    expect(links.get('sbin')).toBe('usr/sbin');
  });

  it('looks at no other package, and ends on links in a circle', () => {
    expect(directoryLinks([rpmOf('bash', [directory('usr/bin'), link('bin', 'usr/bin')])]).size).toBe(0);
    const circle = [directory('a'), link('b', 'c'), link('c', 'b'), link('d', 'd')] as const;
    expect(directoryLinks([rpmOf('filesystem', [...circle])]).size).toBe(0);
  });

  it('makes a tree in which both merges hold', async () => {
    const filesystem = rpmOf('filesystem', [...shipped], [link('usr/sbin', 'bin')]);
    const tree = createPackageTree(directoryLinks([filesystem]));
    await tree.add(filesystem);
    await tree.add(rpmOf('server', [{ kind: 'file', path: 'usr/sbin/served', mode: 0o755 }]));
    await tree.add(rpmOf('libc', [{ kind: 'file', path: 'lib64/libc.so.6' }]));
    expect(tree.lookup('sbin/served')?.path).toBe('usr/bin/served');
    expect(tree.lookup('usr/lib64/libc.so.6')?.path).toBe('usr/lib64/libc.so.6');
    expect(tree.lookup('lib64/libc.so.6')?.links.map(({ path, owner }) => [path, owner?.name])).toEqual([
      ['lib64', 'filesystem'],
    ]);
  });
});

it('sonameCapability spells what libraries provide', () => {
  expect(sonameCapability('libc.so.6', 'aarch64')).toBe('libc.so.6()(64bit)');
  expect(sonameCapability('libc.so.6', 'i686')).toBe('libc.so.6');
});

it('fedoraLoader searches lib64 where libraries are 64-bit', () => {
  expect(fedoraLoader('aarch64')).toEqual({ builtIn: ['/lib64', '/usr/lib64'], lib: 'lib64' });
  expect(fedoraLoader('armv7l')).toEqual({ builtIn: ['/lib', '/usr/lib'], lib: 'lib' });
});
