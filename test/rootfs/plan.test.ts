import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { PackageContents } from '../../build/package/contents.js';
import { planRootfs, type PlanInput, type RootfsEntry } from '../../build/rootfs/plan.js';
import { describeReason } from '../../build/rootfs/reason.js';
import { ToolError } from '../../build/support/errors.js';
import { compareBytes } from '../../build/support/order.js';
import { packageOf, treeOf } from '../support/package-tree.js';

const server = packageOf(
  'server',
  { kind: 'file', path: 'usr/sbin/served', mode: 0o755 },
  { kind: 'file', path: 'usr/sbin/setuid', mode: 0o4755 },
  { kind: 'file', path: 'usr/sbin/setgid', mode: 0o2755 },
  { kind: 'symlink', path: 'usr/lib/libx.so.1', target: 'libx.so.1.2' },
  { kind: 'file', path: 'usr/lib/libx.so.1.2' },
  { kind: 'symlink', path: 'usr/share/data', target: '/srv/data' },
  { kind: 'file', path: 'srv/data/table', uid: 5, gid: 6 },
  { kind: 'symlink', path: 'etc/served', target: '/usr/share/served' },
  { kind: 'file', path: 'usr/share/served/default.conf' },
  { kind: 'fifo', path: 'run/pipe' },
  { kind: 'character-device', path: 'dev/null' },
);
async function inputOf(more: Partial<PlanInput> = {}, packages = [server]): Promise<PlanInput> {
  return {
    tree: await treeOf(...packages),
    wanted: [{ path: '/usr/sbin/served', reason: { kind: 'root', program: '/usr/sbin/served' } }],
    user: { name: 'served', id: 177 },
    state: undefined,
    config: undefined,
    capabilities: [],
    inventory: undefined,
    loaderCache: undefined,
    epoch: 1,
    ...more,
  };
}

const wants = (...paths: readonly string[]): Pick<PlanInput, 'wanted'> => ({
  wanted: paths.map((path) => ({ path, reason: { kind: 'declared', field: 'files' } })),
});

async function refusal(more: Partial<PlanInput>, packages?: PackageContents[]): Promise<string> {
  const input = await inputOf(more, packages);
  try {
    planRootfs(input);
  } catch (error) {
    if (!(error instanceof ToolError)) throw error;
    expect(error.message).not.toContain('\n');
    expect(error.hint).toMatch(/\S/);
    return error.message;
  }
  throw new Error('nothing was refused');
}

function find(entries: readonly RootfsEntry[], path: string): RootfsEntry {
  const found = entries.find((entry) => entry.path === path);
  if (found === undefined) throw new Error(`${path} is not in the plan`);
  return found;
}
describe('planRootfs', () => {
  it('holds the wanted files with their links, owners and reasons', async () => {
    const { entries, epoch } = planRootfs(
      await inputOf(wants('/lib/libx.so.1', '/usr/share/data/table', '/usr/lib/../sbin/served')),
    );
    expect(epoch).toBe(1);
    expect(entries.map(({ path, kind }) => `${path} ${kind}`)).toEqual([
      'etc directory',
      'etc/group text',
      'etc/passwd text',
      'lib symlink',
      'srv directory',
      'srv/data directory',
      'srv/data/table file',
      'usr directory',
      'usr/lib directory',
      'usr/lib/libx.so.1 symlink',
      'usr/lib/libx.so.1.2 file',
      'usr/sbin directory',
      'usr/sbin/served file',
      'usr/share directory',
      'usr/share/data symlink',
    ]);
    expect(find(entries, 'lib')).toMatchObject({ target: 'usr/lib', owner: undefined, mode: 0o777 });
    expect(find(entries, 'usr/lib/libx.so.1')).toMatchObject({ target: 'libx.so.1.2', owner: server });
    expect(find(entries, 'srv/data/table')).toMatchObject({ uid: 5, gid: 6, owner: server });
    expect(describeReason(find(entries, 'usr/share/data').reason)).toBe('leads to /srv/data/table');
    expect(describeReason(find(entries, 'srv').reason)).toBe('leads to /srv/data/table');
    const file = find(entries, 'usr/sbin/served');
    expect(file.kind === 'file' ? (await file.read()).toString() : '').toBe('usr/sbin/served');
  });

  it('adds account, configuration, state and inventory', async () => {
    const { entries } = planRootfs(
      await inputOf({
        config: '/etc/served',
        state: { directory: '/var/lib/served', volume: 'leases', files: ['a.leases', 'b'] },
        inventory: (packages) => packages.map(({ name }) => ({ path: `var/lib/dpkg/${name}`, text: name })),
      }),
    );
    expect(find(entries, 'etc/passwd')).toMatchObject({
      content: Buffer.from('served:x:177:177::/:/sbin/nologin\n'),
      mode: 0o644,
    });
    expect(find(entries, 'etc/group')).toMatchObject({ content: Buffer.from('served:x:177:\n') });
    expect(find(entries, 'etc/served')).toMatchObject({ kind: 'directory', uid: 0, mode: 0o755 });
    expect(find(entries, 'var/lib/served')).toMatchObject({ kind: 'directory', uid: 177, gid: 177 });
    expect(find(entries, 'var/lib/served/b')).toMatchObject({
      kind: 'text',
      content: Buffer.alloc(0),
      uid: 177,
      gid: 177,
    });
    expect(find(entries, 'var/lib')).toMatchObject({ kind: 'directory', uid: 0 });
    expect(find(entries, 'var/lib/dpkg/server')).toMatchObject({
      kind: 'text',
      content: Buffer.from('server'),
    });
  });

  it('is sorted by bytes, each entry once, each below a directory, whatever is asked in whatever order', async () => {
    const names = fc.array(fc.constantFrom('a', 'b', 'é', 'z', '-', '.x', 'A', '\u{1f600}', '\uffee'), {
      minLength: 1,
      maxLength: 3,
    });
    const paths = fc.uniqueArray(
      names.map((parts) => ['usr', ...parts, 'file'].join('/')),
      { minLength: 1, maxLength: 8 },
    );
    await fc.assert(
      fc.asyncProperty(paths, fc.array(fc.nat(), { minLength: 8 }), async (files, keys) => {
        const contents = packageOf('p', ...files.map((path) => ({ kind: 'file' as const, path })));
        const shuffled = files
          .map((path, index) => ({ path, key: keys[index] ?? 0 }))
          .sort((a, b) => a.key - b.key)
          .map(({ path }) => `/${path}`);
        const plan = planRootfs(await inputOf(wants(...shuffled), [contents]));
        const found = plan.entries.map(({ path }) => path);
        expect(found).toEqual([...new Set(found)].sort(compareBytes));
        for (const path of found.filter((name) => name.includes('/'))) {
          expect(find(plan.entries, path.slice(0, path.lastIndexOf('/'))).kind).toBe('directory');
          expect(found.indexOf(path.slice(0, path.lastIndexOf('/')))).toBeLessThan(found.indexOf(path));
        }
        const ordered = planRootfs(await inputOf(wants(...files.map((path) => `/${path}`)), [contents]));
        expect(ordered.entries.map(({ path, kind }) => [path, kind])).toEqual(
          plan.entries.map(({ path, kind }) => [path, kind]),
        );
      }),
      { numRuns: 100 },
    );
  });

  it('gives parent directories a reason that does not hang on the order of the wanted files', async () => {
    const both = ['/usr/sbin/served', '/usr/lib/libx.so.1'];
    const [a, b] = [
      planRootfs(await inputOf(wants(...both))),
      planRootfs(await inputOf(wants(...both.reverse()))),
    ];
    expect(a.entries.map(({ reason }) => describeReason(reason))).toEqual(
      b.entries.map(({ reason }) => describeReason(reason)),
    );
  });

  it.each(['setuid', 'setgid'])('refuses a %s program', async (name) => {
    expect(await refusal(wants(`/usr/sbin/${name}`))).toBe(
      `cannot put /usr/sbin/${name} of package server in the image: it is setuid or setgid, and the image must not hold a way to more privileges`,
    );
  });

  it('refuses what is missing, and what is no regular file', async () => {
    for (const path of ['/usr/sbin/none', '/usr/sbin', '/run/pipe', '/dev/null', '/', '/usr/sbin/served/']) {
      expect(await refusal(wants(path))).toBe(
        `cannot put ${path} in the image: no package of this image holds it`,
      );
    }
  });

  it('refuses directories that collide with what packages hold', async () => {
    const both = { config: '/etc/served', ...wants('/etc/served/default.conf') };
    expect(await refusal(both)).toMatch(
      /^cannot plan \/etc\/served: it would be a symlink and a directory at once$/,
    );
    expect(await refusal({ config: '/etc/served/conf.d', ...wants('/etc/served/default.conf') })).toBe(
      'cannot plan /etc/served/conf.d: /etc/served is a symlink',
    );
    expect(await refusal({ config: '/usr/sbin/served' })).toMatch(/a file and a directory at once$/);
    const state = { directory: '/usr/sbin/served/state', volume: 'v', files: [] };
    expect(await refusal({ state })).toBe('cannot plan /usr/sbin/served/state: /usr/sbin/served is a file');
    expect(
      await refusal({
        state: { ...state, directory: '/srv/data', files: ['table'] },
        ...wants('/srv/data/table'),
      }),
    ).toMatch(/a file and a text at once$/);
  });

  it('refuses a file in place of the accounts, which it would otherwise replace', async () => {
    const shadowing = packageOf('base-passwd', { kind: 'file', path: 'etc/passwd' });
    expect(await refusal(wants('/etc/passwd'), [shadowing])).toMatch(/^cannot plan \/etc\/passwd: /);
  });

  it('takes a file capability that the definition declares, and no other', async () => {
    const capability = Buffer.from('0100000200240000000000000000000000000000', 'hex');
    const contents = packageOf('p', { kind: 'file', path: 'usr/sbin/capable', mode: 0o755, capability });
    const wanted = wants('/usr/sbin/capable');
    expect(await refusal({ ...wanted, capabilities: ['NET_RAW'] }, [contents])).toMatch(
      /it carries the file capability NET_BIND_SERVICE, which the definition does not declare$/,
    );
    expect(await refusal(wanted, [contents])).toMatch(/NET_BIND_SERVICE, NET_RAW/);
    const plan = planRootfs(
      await inputOf({ ...wanted, capabilities: ['NET_RAW', 'NET_BIND_SERVICE'] }, [contents]),
    );
    expect(find(plan.entries, 'usr/sbin/capable')).toMatchObject({ capability });
    const broken = packageOf('p', {
      kind: 'file',
      path: 'usr/sbin/capable',
      capability: Buffer.from('broken'),
    });
    expect(await refusal(wanted, [broken])).toBe(
      'cannot read the file capability of /usr/sbin/capable: the attribute has an unknown form',
    );
  });

  it('sees the capability of a file through its hard link', async () => {
    const capability = Buffer.from('0100000200240000000000000000000000000000', 'hex');
    const contents = packageOf(
      'p',
      { kind: 'file', path: 'usr/sbin/capable', mode: 0o755, capability },
      { kind: 'hardlink', path: 'usr/sbin/linked', mode: 0o755, target: 'usr/sbin/capable' },
    );
    expect(await refusal(wants('/usr/sbin/linked'), [contents])).toMatch(/it carries the file capability/);
  });
});
