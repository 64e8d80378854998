import { execFileSync } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { type ConfigurationView, readLdSoConf } from '../../build/elf/ld-so-conf.js';
import { findTool, requireThat } from '../support/tools.js';

const top = mkdtempSync(join(tmpdir(), 'ld-so-conf-'));
afterAll(() => {
  rmSync(top, { recursive: true });
});

/** A directory seen as the root directory. */
function rootedView(root: string): ConfigurationView {
  return {
    read: (path) => readFile(join(root, path)).catch(() => undefined),
    list: (directory) => {
      try {
        return readdirSync(join(root, directory));
      } catch {
        return [];
      }
    },
  };
}

function write(root: string, files: Readonly<Record<string, string>>): void {
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(join(root, dirname(path)), { recursive: true });
    writeFileSync(join(root, path), text);
  }
}

let count = 0;
function place(): string {
  count += 1;
  return join(top, String(count));
}

const ldconfig = findTool('ldconfig') ?? '/sbin/ldconfig';
const usable = requireThat(process.platform === 'linux' && process.getuid?.() === 0, 'root, for ldconfig -r');

const cases: readonly (readonly [string, Readonly<Record<string, string>>])[] = [
  ['plain lines, comments and spaces', { 'etc/ld.so.conf': '# first\n\n  /a  # why\n/b/c///\n/a\n\t/d\n' }],
  ['hwcap lines', { 'etc/ld.so.conf': 'hwcap 0 nosegneg\n/a\n' }],
  [
    'includes in the order of their names',
    {
      'etc/ld.so.conf': '/z\ninclude ld.so.conf.d/*.conf\n/y\n',
      'etc/ld.so.conf.d/b.conf': '/b\n',
      'etc/ld.so.conf.d/a.conf': '/a\n/z\n',
      'etc/ld.so.conf.d/B.conf': '/d\n',
      'etc/ld.so.conf.d/.hidden.conf': '/hidden\n',
      'etc/ld.so.conf.d/c.conf.bak': '/bak\n',
    },
  ],
  [
    'several patterns, absolute and nested ones',
    {
      'etc/ld.so.conf': 'include   x?.conf\t[ab-c]x.conf /etc/sub*/[!a].conf none.conf sub1/../x1.conf\n',
      'etc/x1.conf': '/c\n',
      'etc/ax.conf': 'include sub1/deep.conf\n',
      'etc/cx.conf': '/d\n',
      'etc/sub1/deep.conf': 'include ../deeper.conf\n/b/c\n',
      'etc/deeper.conf': '/y\n',
      'etc/sub1/a.conf': '/bad\n',
      'etc/sub2/b.conf': '/z\n',
    },
  ],
];

describe.skipIf(!usable)('readLdSoConf', () => {
  it.each(cases)('reads %s as ldconfig does', async (_, files) => {
    expect(await compared(files)).not.toEqual([]);
  });

  it('reads directories with a type as an ldconfig does that knows types', async ({ skip }) => {
    const read = await compared({ 'etc/ld.so.conf': '/a=libc6\n/b/c =libc5\n' });
    if (read.length === 0) skip('this ldconfig takes the type for a part of the name');
    expect(read).toEqual(['/a', '/b/c']);
  });

  /** Checks that what we read is what ldconfig reads. @returns what that is */
  async function compared(files: Readonly<Record<string, string>>): Promise<readonly unknown[]> {
    const root = place();
    write(root, files);
    for (const directory of ['a', 'b/c', 'c', 'd', 'y', 'z', 'hidden', 'bad', 'bak']) {
      mkdirSync(join(root, directory), { recursive: true });
    }
    const text = execFileSync(ldconfig, ['-v', '-N', '-X', '-r', root], {
      encoding: 'utf8',
      env: { LC_ALL: 'C' },
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    // Built-in directories come last and do not exist here.
    const real = [...text.matchAll(/^(\/[^:]*):/gm)].map((match) => match[1]);
    const exists = new Set(real);
    const found = await readLdSoConf(rootedView(root));
    expect(found.filter((directory) => exists.has(directory))).toEqual(real);
    expect(found.filter((directory) => /hidden|bad|bak/.test(directory))).toEqual([]);
    return real;
  }
});

describe('readLdSoConf, hostile', () => {
  it('gives nothing for a missing file, relative and damaged lines', async () => {
    const root = place();
    expect(await readLdSoConf(rootedView(root))).toEqual([]);
    write(root, { 'etc/ld.so.conf': 'relative\n=x\ninclude\n/good\n/zero\0\ninclude [\n/' });
    expect(await readLdSoConf(rootedView(root))).toEqual(['/good', '/']);
  });

  it('ends circles', async () => {
    const root = place();
    write(root, { 'etc/ld.so.conf': 'include ld.so.conf\n' });
    await expect(readLdSoConf(rootedView(root))).rejects.toThrow(
      'cannot read /etc/ld.so.conf: it includes more than 256 files',
    );
  });

  it('is quick with patterns of many stars', async () => {
    const name = 'a'.repeat(250);
    const started = performance.now();
    const directories = await readLdSoConf({
      read: (path) =>
        Promise.resolve(
          path === '/etc/ld.so.conf' ? Buffer.from(`include ${'*a'.repeat(120)}*b\n/x`) : undefined,
        ),
      list: () => Array.from({ length: 100 }, (_, index) => `${name}${index}`),
    });
    expect(directories).toEqual(['/x']);
    expect(performance.now() - started).toBeLessThan(1000);
  });

  it('does not follow what cannot be read', async () => {
    const root = place();
    write(root, { 'etc/ld.so.conf': 'include a.conf\n/b', 'etc/a.conf': '/a' });
    chmodSync(join(root, 'etc/a.conf'), 0);
    const view = rootedView(root);
    const guarded = {
      ...view,
      read: (path: string) => (path.endsWith('a.conf') ? Promise.resolve(undefined) : view.read(path)),
    };
    expect(await readLdSoConf(guarded)).toEqual(['/b']);
  });
});
