import { describe, expect, it } from 'vitest';
import { closeLibraries, type LibraryClosure, type LoaderConfig } from '../../build/elf/closure.js';
import { cannot, ToolError } from '../../build/support/errors.js';
import { buildElf, tag } from '../support/elf-builder.js';

/** A big-endian 64-bit object, which cannot be the host's, that needs others. */
function object(soname: string, ...needs: readonly string[]): Buffer {
  const strings = [
    ...needs.map((name) => [tag.NEEDED, name] as const),
    ...(soname === '' ? [] : [[tag.SONAME, soname] as const]),
  ];
  return buildElf({ class: 64, data: 'big', machine: 22, type: 3, strings });
}

const loader = '/lib/ld64.so.1';
function program(...needs: readonly string[]): Buffer {
  const strings = needs.map((name) => [tag.NEEDED, name] as const);
  return buildElf({ class: 64, data: 'big', machine: 22, type: 3, interpreter: loader, strings });
}

/** What a package brings: files, or the path of another for a link, and directories that it names in ld.so.conf.d, before those named already. */
interface Brought {
  readonly files: Readonly<Record<string, Buffer | string>>;
  readonly directories?: readonly string[];
}

/** A system that begins with one program and grows as its providers are asked. */
class Growing {
  readonly files = new Map<string, Buffer | string>();
  /** Names that a provider was asked for, in order. */
  readonly asked: string[] = [];
  readonly #providers: (soname: string) => Brought | undefined;
  #configured: readonly string[] = [];

  constructor(files: Readonly<Record<string, Buffer>>, providers: (soname: string) => Brought | undefined) {
    this.#providers = providers;
    this.#add({ files });
  }

  close(
    roots: readonly string[] = ['/bin/a'],
    dlopen: readonly string[] = [],
  ): Promise<LibraryClosure<string>> {
    // eslint-disable-next-line @typescript-eslint/no-this-alias -- a getter of its own
    const system = this;
    const config: LoaderConfig = {
      architecture: 's390x',
      builtIn: ['/lib'],
      lib: 'lib',
      get configured() {
        return system.#configured;
      },
    };
    return closeLibraries({
      roots,
      dlopen: dlopen.length === 0 ? [] : [{ by: 'a', loads: dlopen }],
      view: {
        lookup: (path) => {
          const found = this.files.get(path);
          const real = typeof found === 'string' ? found : path;
          const bytes = this.files.get(real);
          if (!(bytes instanceof Buffer)) return undefined;
          return { path: real, owner: 'a package', read: () => Promise.resolve(bytes) };
        },
      },
      config,
      provide: (soname) => {
        this.asked.push(soname);
        const brought = this.#providers(soname);
        if (brought !== undefined) this.#add(brought);
        return Promise.resolve(brought !== undefined);
      },
    });
  }

  #add({ files, directories = [] }: Brought): void {
    for (const [path, bytes] of Object.entries(files)) this.files.set(path, bytes);
    this.#configured = [...directories, ...this.#configured];
  }
}

/** Packages by the soname that is asked for. */
function packages(all: Readonly<Record<string, Brought>>): (soname: string) => Brought | undefined {
  return (soname) => all[soname];
}

const glibc: Brought = { files: { [loader]: object('ld64.so.1'), '/lib/libc.so.6': object('libc.so.6') } };

function paths(closure: LibraryClosure<string>): readonly string[] {
  return closure.objects.map(({ path, through }) => `${path} (${through ?? 'root'})`);
}

describe('a list of directories that grows with the packages', () => {
  it('is read again when a provider has come, and the loader comes first', async () => {
    const system = new Growing(
      { '/bin/a': program('libone.so', 'libc.so.6') },
      packages({
        [loader]: glibc,
        'libone.so': {
          files: { '/opt/one/libone.so': object('libone.so', 'libtwo.so') },
          directories: ['/opt/one'],
        },
        'libtwo.so': { files: { '/opt/two/libtwo.so': object('libtwo.so') }, directories: ['/opt/two'] },
      }),
    );
    expect(paths(await system.close())).toEqual([
      '/bin/a (root)',
      '/opt/one/libone.so (configured)',
      '/lib/libc.so.6 (built-in)',
      '/opt/two/libtwo.so (configured)',
      `${loader} (path)`,
    ]);
    expect(system.asked).toEqual([loader, 'libone.so', 'libtwo.so']);
  });

  it('serves what dlopen loads, too', async () => {
    const system = new Growing(
      { '/bin/a': program('libc.so.6') },
      packages({
        [loader]: glibc,
        'plugin.so': { files: { '/opt/p/plugin.so': object('plugin.so') }, directories: ['/opt/p'] },
      }),
    );
    expect(paths(await system.close(['/bin/a'], ['plugin.so']))).toContain('/opt/p/plugin.so (configured)');
  });

  it('hides what was found in a built-in directory before', async () => {
    const system = new Growing(
      {
        '/bin/a': program('libshared.so', 'liblate.so'),
        '/lib/libshared.so': object('libshared.so', 'libold.so'),
      },
      packages({
        [loader]: glibc,
        'libold.so': { files: { '/lib/libold.so': object('libold.so') } },
        'liblate.so': {
          files: { '/opt/liblate.so': object('liblate.so'), '/opt/libshared.so': object('libshared.so') },
          directories: ['/opt'],
        },
      }),
    );
    // As the loader sees it in the end: libold.so was needed by a file that is not loaded.
    expect(paths(await system.close())).toEqual([
      '/bin/a (root)',
      '/opt/libshared.so (configured)',
      '/opt/liblate.so (configured)',
      `${loader} (path)`,
    ]);
    expect(system.asked).toEqual([loader, 'liblate.so', 'libold.so']);
  });

  it('reveals what no directory held before', async () => {
    const system = new Growing(
      { '/bin/a': program('libhidden.so', 'liblate.so') },
      packages({
        [loader]: glibc,
        'liblate.so': {
          files: { '/opt/liblate.so': object('liblate.so'), '/opt/libhidden.so': object('libhidden.so') },
          directories: ['/opt'],
        },
      }),
    );
    expect(paths(await system.close())).toContain('/opt/libhidden.so (configured)');
    expect(system.asked).toEqual([loader, 'libhidden.so', 'liblate.so']);
  });

  it('serves a program for another, whichever comes first', async () => {
    const [first, second] = [program('libhidden.so'), program('liblate.so')];
    for (const roots of [
      ['/bin/a', '/bin/b'],
      ['/bin/b', '/bin/a'],
    ]) {
      const system = new Growing(
        { '/bin/a': first, '/bin/b': second },
        packages({
          [loader]: glibc,
          'liblate.so': {
            files: { '/opt/liblate.so': object('liblate.so'), '/opt/libhidden.so': object('libhidden.so') },
            directories: ['/opt'],
          },
        }),
      );
      expect(paths(await system.close(roots))).toHaveLength(5);
    }
  });

  it('names all that the cache must hold, whichever program needs it', async () => {
    const strings = [
      [tag.NEEDED, 'libone.so.1'],
      [tag.RUNPATH, '/opt'],
    ] as const;
    const host = { class: 64, data: 'big', machine: 22, type: 3 } as const;
    const system = new Growing(
      {
        // Finds it by itself; the other needs the cache for it.
        '/bin/a': buildElf({ ...host, interpreter: loader, strings }),
        '/bin/b': program('libone.so.1', 'libtwo.so.1', 'libtwo.so', 'libc.so.6'),
      },
      packages({
        [loader]: glibc,
        'libone.so.1': { files: { '/opt/libone.so.1': object('libone.so.1') }, directories: ['/opt'] },
        'libtwo.so.1': {
          files: { '/opt/libtwo.so.1': object('libtwo.so.1'), '/opt/libtwo.so': '/opt/libtwo.so.1' },
        },
      }),
    );
    const closure = await system.close(['/bin/a', '/bin/b']);
    expect(closure.objects.map(({ path, otherPaths }) => [path, ...otherPaths].join(' '))).toContain(
      '/opt/libtwo.so.1 /opt/libtwo.so',
    );
    expect(closure.cached).toEqual([
      { soname: 'libone.so.1', path: '/opt/libone.so.1' },
      { soname: 'libtwo.so.1', path: '/opt/libtwo.so.1' },
      { soname: 'libtwo.so', path: '/opt/libtwo.so' },
    ]);
  });

  it('passes on what a provider fails with, even when another has come', async () => {
    const system = new Growing({ '/bin/a': program('libone.so', 'libtwo.so') }, (soname) => {
      if (soname === 'libtwo.so') throw cannot('fetch', 'two.rpm', 'the mirror is gone');
      return soname === loader ? glibc : { files: { [`/lib/${soname}`]: object(soname) } };
    });
    await expect(system.close()).rejects.toThrow('cannot fetch two.rpm: the mirror is gone');
    expect(system.asked).toEqual([loader, 'libone.so', 'libtwo.so']);
  });

  it('tells of what is missing once, when nothing more comes', async () => {
    const system = new Growing(
      { '/bin/a': program('libone.so', 'libnone.so') },
      packages({
        [loader]: glibc,
        'libone.so': { files: { '/opt/libone.so': object('libone.so') }, directories: ['/opt'] },
      }),
    );
    await expect(system.close()).rejects.toThrow(
      'cannot load libnone.so: no directory of the search path holds it; needed by /bin/a; searched /opt, /lib',
    );
    expect(system.asked).toEqual([loader, 'libone.so', 'libnone.so']);
  });

  it('ends when packages call for each other without end', async () => {
    let last = 0;
    const system = new Growing({ '/bin/a': program('libturn.so', 'libc.so.6') }, (soname) => {
      if (soname === loader) return glibc;
      last += 1;
      const files = {
        [`/opt/${last}/${soname}`]: object(soname),
        [`/opt/${last}/libturn.so`]: object('libturn.so', `libnext${last}.so`),
      };
      return { files, directories: [`/opt/${last}`] };
    });
    const error: unknown = await system.close().catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(ToolError);
    expect(String(error)).toContain(
      'cannot load /bin/a: each package that is added makes another one necessary',
    );
    expect(last).toBeLessThan(100);
  });
});
