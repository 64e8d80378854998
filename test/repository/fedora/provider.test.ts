import { describe, expect, it } from 'vitest';
import {
  chooseProvider,
  type Candidate,
  type Choice,
  type ProviderOptions,
} from '../../../build/repository/fedora/provider.js';
import { packageOf } from '../../support/package-tree.js';

interface Made {
  readonly name: string;
  readonly provides?: readonly string[];
  readonly requires?: readonly string[];
  /** Paths, relative to the root. */
  readonly files?: readonly string[];
}

/** Chooses the provider of libx.so.1, which package `needing` of the service `server` needs. */
async function choose(
  packages: readonly Made[],
  changes: Partial<ProviderOptions<Candidate>> = {},
): Promise<{ readonly choice: Choice<Candidate> | undefined; readonly opened: readonly string[] }> {
  const opened: string[] = [];
  const candidate = ({ name, requires = [] }: Made): Candidate => ({ name, requires });
  const choice = await chooseProvider(
    { soname: 'libx.so.1', neededBy: 'needing', root: 'server', directories: ['lib64', 'usr/lib64'] },
    {
      architecture: 'x86_64',
      prefer: [],
      isTaken: () => false,
      open: ({ name }) => {
        opened.push(name);
        const files = packages.find((one) => one.name === name)?.files ?? [];
        return Promise.resolve(packageOf(name, ...files.map((path) => ({ kind: 'file', path }) as const)));
      },
      index: {
        find: (name) => {
          const found = packages.find((one) => one.name === name);
          return found === undefined ? undefined : candidate(found);
        },
        providers: (capability) =>
          packages.filter(({ provides = [] }) => provides.includes(capability)).map(candidate),
        owners: (paths) =>
          Promise.resolve(
            packages
              .filter(({ files = [] }) => files.some((path) => paths.includes(`/${path}`)))
              .map(candidate),
          ),
      },
      ...changes,
    },
  );
  return { choice, opened };
}

const provides = ['libx.so.1()(64bit)'];

describe('chooseProvider', () => {
  it('takes the only package that provides the soname, and opens none', async () => {
    const { choice, opened } = await choose([
      { name: 'x', provides },
      { name: 'x32', provides: ['libx.so.1'] },
    ]);
    expect(choice?.candidate.name).toBe('x');
    expect(choice?.explanation).toBe('x alone provides libx.so.1()(64bit)');
    expect(opened).toEqual([]);
  });

  it('asks for the soname as 32-bit packages spell it', async () => {
    const both = [
      { name: 'x', provides },
      { name: 'x32', provides: ['libx.so.1'] },
    ];
    expect((await choose(both, { architecture: 'i686' })).choice?.candidate.name).toBe('x32');
  });

  it('finds a library that no package says it provides by its path, in either spelling', async () => {
    const { choice } = await choose([{ name: 'x', files: ['usr/lib64/libx.so.1'] }]);
    expect(choice?.explanation).toBe('x alone holds libx.so.1');
    expect((await choose([{ name: 'x', files: ['opt/libx.so.1'] }])).choice).toBeUndefined();
  });

  const many = [
    { name: 'x-a', provides, files: ['usr/lib64/libx.so.1'] },
    { name: 'x-b', provides, files: ['usr/lib64/libx.so.1'] },
    { name: 'x-c', provides, files: ['usr/lib64/bundle/libx.so.1'] },
  ];

  it.each<[string, readonly Made[], Partial<ProviderOptions<Candidate>>, string, string]>([
    ['the definition prefers', [], { prefer: ['y', 'x-b'] }, 'x-b', 'the definition prefers x-b'],
    [
      'the needing package requires',
      [{ name: 'needing', requires: ['x-b', 'y'] }],
      {},
      'x-b',
      'needing requires x-b',
    ],
    [
      'the root package requires',
      [{ name: 'needing' }, { name: 'server', requires: ['x-c'] }],
      {},
      'x-c',
      'server requires x-c',
    ],
  ])('among several takes the one that %s', async (_, more, changes, name, explanation) => {
    const { choice, opened } = await choose([...many, ...more], changes);
    expect([choice?.candidate.name, choice?.explanation]).toEqual([name, explanation]);
    expect(opened).toEqual([]);
  });

  it('passes over packages in hand, which do not have it where the loader searches', async () => {
    const { choice } = await choose(many.slice(1), { isTaken: ({ name }) => name === 'x-c' });
    expect(choice?.explanation).toBe('x-b alone provides libx.so.1()(64bit)');
    const alone = await choose(many.slice(0, 1), { isTaken: () => true });
    expect(alone.choice?.candidate.name).toBe('x-a');
  });

  it('among several takes the one that has the file where the loader searches', async () => {
    const { choice, opened } = await choose(many.slice(1));
    expect(choice?.explanation).toBe('x-b alone has it where the loader searches');
    expect(opened).toEqual(['x-b', 'x-c']);
  });

  it('refuses to guess', async () => {
    await expect(choose(many)).rejects.toThrow(
      'cannot choose the package of libx.so.1: x-a and x-b all provide it',
    );
    await expect(choose([...many, { name: 'needing', requires: ['x-a', 'x-b'] }])).rejects.toMatchObject({
      hint: 'name one of them under packages.fedora.prefer in the definition',
    });
  });
});
