import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { readFileSync, writeFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openDeb } from '../../build/package/deb.js';
import { createPackageTree } from '../../build/package/tree.js';
import { planRootfs, type RootfsPlan } from '../../build/rootfs/plan.js';
import { openCache, type Cache } from '../../build/support/cache.js';
import { cannot } from '../../build/support/errors.js';
import { definition, from, tinyPackages, tinySuite, tinyTools } from '../cli/tiny.js';
import { Place } from '../support/cli.js';
import { debOf, sha256Of } from '../support/deb.js';
import { makeArchive } from '../support/debian-archive.js';
import { buildProgram } from '../support/elf-compile.js';
import { requireTools } from '../support/tools.js';
import { gnuLong, type TarSpec } from '../support/tar-builder.js';

/** With the headers that long names need. */
function long(spec: TarSpec): (TarSpec | Buffer)[] {
  const { name, linkName = '' } = spec;
  return [
    gnuLong('L', String(name)),
    ...(linkName === '' ? [] : [gnuLong('K', String(linkName))]),
    { ...spec, name: 'short', ...(linkName === '' ? {} : { linkName: 'short' }) },
  ];
}

describe('a name of a package', () => {
  let directory: string;
  let cache: Cache;
  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), 'names-'));
    cache = await openCache(join(directory, 'cache'));
  });
  afterAll(() => {
    rmSync(directory, { recursive: true });
  });

  async function planOf(path: string, ...members: readonly TarSpec[]): Promise<RootfsPlan> {
    const bytes = debOf(members.flatMap(long));
    const file = join(directory, 'package.deb');
    writeFileSync(file, bytes);
    const tree = createPackageTree(new Map());
    const contents = await openDeb(file, sha256Of(bytes), cache);
    try {
      await tree.add(contents);
      return planRootfs({
        tree,
        wanted: [{ path, reason: { kind: 'declared', field: 'files' } }],
        user: { name: 'tiny', id: 177 },
        state: undefined,
        config: undefined,
        capabilities: [],
        inventory: undefined,
        loaderCache: undefined,
        epoch: 0,
      });
    } finally {
      await contents.close();
    }
  }

  it.each([
    ['a line end', 'a\nb'],
    ['a terminal sequence', 'a\u001b[2Jb'],
    ['a C1 control character', 'a\u009b2Jb'],
    ['a change of writing direction', 'a\u202eb'],
    ['more bytes than a file system takes', 'ä'.repeat(128)],
  ])('with %s does not come into the image', async (_, name) => {
    const refused = /^cannot put .* in the image: its name /;
    await expect(planOf(`/${name}`, { name })).rejects.toThrow(refused);
    await expect(planOf(`/d/${name}/f`, { name: `d/${name}/f` })).rejects.toThrow(refused);
    // As a link on the way, and as what such a link says.
    const link = { name, type: '2', linkName: 'f' };
    await expect(planOf(`/${name}`, { name: 'f' }, link)).rejects.toThrow(refused);
    const says = { name: 'l', type: '2', linkName: `${name}/../f` };
    await expect(planOf('/l', { name: `${name}/`, type: '5' }, { name: 'f' }, says)).rejects.toThrow(refused);
  });

  it('is of no use when everybody may write to the file', async () => {
    const file = { name: 'usr/lib/x', mode: 0o666 };
    await expect(planOf('/usr/lib/x', file)).rejects.toThrow(
      'cannot put /usr/lib/x of package sample in the image: everybody may write to it',
    );
  });

  it('that is only odd comes into the image', async () => {
    const name = `${'ä'.repeat(127)}-`;
    expect((await planOf(`/${name}`, { name })).entries.map(({ path }) => path)).toContain(name);
  });
});

describe('a message', () => {
  it('is one printable line, its hint too', () => {
    const error = cannot('find', 'x', 'y', { hint: 'did you mean a\u001b[2Jb\nc?' });
    expect(error.hint).toBe('did you mean a [2Jb c?');
  });
});

describe.skipIf(!requireTools(...tinyTools))('a note of a program', () => {
  it('cannot command the terminal that plan prints it to', async () => {
    const place = new Place({ 'tiny.yaml': definition });
    const json = String.raw`[{\"soname\":[\"lib\\u001b[2Jx.so\"],\"feature\":\"a\\nb\\u202e\"}]`;
    const program = buildProgram(place.path('tinyd'), {
      source: `
        __asm__(".pushsection .note.dlopen,\\"a\\",%note\\n.balign 4\\n.long 4\\n.long 2f-1f\\n.long 0x407c0c0a\\n"
          ".asciz \\"FDO\\"\\n1:\\n.asciz \\"${json.replaceAll('\\', '\\\\').replaceAll('\\\\"', String.raw`\\\"`)}\\"\\n2:\\n.balign 4\\n.popsection\\n");
        int main(void) { return 0; }`,
    });
    const packages = tinyPackages().map((spec) =>
      spec.name === 'tiny-server'
        ? { ...spec, files: { 'usr/sbin/tinyd': { content: readFileSync(program), mode: 0o755 } } }
        : spec,
    );
    const archive = await makeArchive({ suites: [tinySuite(packages)] });
    try {
      const text = await place.ok(['plan', 'tiny.yaml', '-q', ...from(archive)]);
      expect(text).toContain('lib?[2Jx.so');
      expect(text).toContain('a?b?');
    } finally {
      await archive.remove();
      place.remove();
    }
  });
});
