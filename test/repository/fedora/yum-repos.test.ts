import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import { parseIni } from '../../../build/repository/fedora/ini.js';
import { readYumRepositories, type YumRepositories } from '../../../build/repository/fedora/yum-repos.js';
import type { Architecture } from '../../../build/support/architecture.js';
import { silentLog } from '../../../build/support/log.js';
import { requireTools } from '../../support/tools.js';

const directory = mkdtempSync(join(tmpdir(), 'yum-repos-'));
afterAll(() => {
  rmSync(directory, { recursive: true });
});

function rootOf(files: Readonly<Record<string, string>>): string {
  const root = mkdtempSync(join(directory, 'root-'));
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), text);
  }
  return root;
}

async function read(
  files: Readonly<Record<string, string>> | string,
  architecture: Architecture = 'x86_64',
): Promise<YumRepositories & { readonly warned: readonly string[] }> {
  const root = typeof files === 'string' ? files : rootOf(files);
  const warned: string[] = [];
  const log = { ...silentLog, warn: (message: string) => warned.push(message.replaceAll(`${root}/`, '')) };
  return { ...(await readYumRepositories({ root, release: '45', architecture, log })), warned };
}

const repo = 'etc/yum.repos.d/a.repo';

describe('readYumRepositories', () => {
  it('reads what Fedora ships', async () => {
    const { sources, warned } = await read({
      'etc/yum.repos.d/fedora.repo': `[fedora]
name=Fedora $releasever - $basearch
#baseurl=http://download.example/pub/fedora/linux/releases/$releasever/Everything/$basearch/os/
metalink=https://mirrors.fedoraproject.org/metalink?repo=fedora-$releasever&arch=$basearch
enabled=1
countme=1
metadata_expire=7d
repo_gpgcheck=0
type=rpm
gpgcheck=1
gpgkey=file:///etc/pki/rpm-gpg/RPM-GPG-KEY-fedora-$releasever-$basearch
skip_if_unavailable=False

[fedora-debuginfo]
enabled=0
metalink=https://mirrors.fedoraproject.org/metalink?repo=fedora-debug-$releasever&arch=$basearch
`,
    });
    expect(warned).toEqual([]);
    expect(sources).toMatchObject([
      {
        id: 'fedora',
        bases: [],
        metalink: 'https://mirrors.fedoraproject.org/metalink?repo=fedora-45&arch=x86_64',
        mirrorlist: undefined,
        gpgKeys: ['file:///etc/pki/rpm-gpg/RPM-GPG-KEY-fedora-45-x86_64'],
        repoGpgCheck: false,
        priority: 99,
        cost: 1000,
        moduleHotfixes: false,
        skipIfUnavailable: false,
        isOfHost: true,
        configuredAt: expect.stringMatching(/etc\/yum\.repos\.d\/fedora\.repo \[fedora\]$/) as string,
      },
    ]);
  });

  it('reads lists, continuation lines and every option', async () => {
    const { sources, warned } = await read({
      [repo]: `; comment
[x]
baseurl = http://a.example/1 , https://b.example/2/
   http://c.example/$arch/
# comment between
\tfile:///srv/x
gpgkey=/keys/one
  https://k.example/two
excludepkgs=foo* bar
exclude=baz
priority=10
cost=5
module_hotfixes=True
repo_gpgcheck=yes
gpgcheck=0
enabled=
`,
    });
    expect(sources[0]).toMatchObject({
      bases: ['http://a.example/1/', 'https://b.example/2/', 'http://c.example/x86_64/', 'file:///srv/x/'],
      gpgKeys: ['/keys/one', 'https://k.example/two'],
      excludes: ['foo*', 'bar', 'baz'],
      priority: 10,
      cost: 5,
      moduleHotfixes: true,
      repoGpgCheck: true,
    });
    expect(warned).toEqual([
      `${repo} [x]: gpgcheck=0 is not followed, packages need a signature here all the same`,
    ]);
  });

  it('puts variables in', async () => {
    const { sources } = await read(
      {
        'etc/yum/vars/stream': '9-yum\n',
        'etc/dnf/vars/stream': '9-stream\nmore\n',
        'etc/dnf/vars/releasever': '7',
        [repo]: `[a-\${stream}]\nbaseurl=http://h/$stream/\${releasever}/$releasever_major/$unknown/\${none:-other}/\${stream:+set}/$basearch/\${arch}/$`,
      },
      'armv7l',
    );
    expect([sources[0]?.id, sources[0]?.bases]).toEqual([
      'a-9-stream',
      ['http://h/9-stream/45/45/$unknown/other/set/armhfp/armv7hl/$/'],
    ]);
  });

  it('takes what dnf.conf says for all', async () => {
    const { sources } = await read({
      'etc/dnf/dnf.conf': '[main]\nrepo_gpgcheck=1\nexcludepkgs=kernel*\n',
      [repo]: '[a]\nbaseurl=http://h/\n[b]\nbaseurl=http://h/\nrepo_gpgcheck=0\nexclude=x\n',
    });
    expect(sources.map(({ repoGpgCheck, excludes }) => [repoGpgCheck, excludes])).toEqual([
      [true, ['kernel*']],
      [false, ['kernel*', 'x']],
    ]);
  });

  it('reads the directories of dnf 5: the first repository of a name counts, even disabled', async () => {
    const { sources, known, warned } = await read({
      'etc/dnf/dnf.conf': '[inside]\nbaseurl=http://h/conf/\n',
      'etc/yum.repos.d/fedora.repo': '[fedora]\nbaseurl=http://h/own/\n[updates]\nenabled=0\n',
      'etc/distro.repos.d/a.repo': '[fedora]\nbaseurl=http://h/etc/\n[distro]\nbaseurl=http://h/etc/\n',
      'usr/share/dnf5/repos.d/fedora.repo':
        '[fedora]\nbaseurl=http://h/usr/\n[updates]\nbaseurl=http://h/\n[late]\nbaseurl=http://h/$where/\n',
      'usr/share/dnf5/vars.d/where': 'usr',
    });
    expect(sources.map(({ id, bases }) => [id, ...bases])).toEqual([
      ['inside', 'http://h/conf/'],
      ['fedora', 'http://h/own/'],
      ['distro', 'http://h/etc/'],
      ['late', 'http://h/usr/'],
    ]);
    expect([...known]).toEqual(['inside', 'fedora', 'updates', 'distro', 'late']);
    expect(warned).toEqual([]);
  });

  it('takes variables of the administrator before those of the distribution', async () => {
    const { sources } = await read({
      'usr/share/dnf5/vars.d/a': 'usr',
      'usr/share/dnf5/vars.d/b': 'usr',
      'usr/share/dnf5/vars.d/c': 'usr',
      'etc/yum/vars/b': 'yum',
      'etc/yum/vars/c': 'yum',
      'etc/dnf/vars/c': 'dnf',
      [repo]: '[x]\nbaseurl=http://h/$a/$b/$c/',
    });
    expect(sources[0]?.bases).toEqual(['http://h/usr/yum/dnf/']);
  });

  it('applies overrides by file name and pattern, the last one last', async () => {
    const { sources, known } = await read({
      [repo]: `[fedora]
baseurl=http://h/
excludepkgs=a
[fedora-debuginfo]
baseurl=http://h/
enabled=0
[updates]
baseurl=http://h/
[copr:x]
baseurl=http://h/`,
      'usr/share/dnf5/repos.override.d/50-vendor.repo': '[*]\nskip_if_unavailable=1\nenabled=1\npriority=7',
      'usr/share/dnf5/repos.override.d/60-same.repo': '[*]\npriority=8',
      'etc/dnf/repos.override.d/60-same.repo': '[new]\nbaseurl=http://h/\n[copr:?]\nenabled=0',
      'etc/dnf/repos.override.d/99-config_manager.repo':
        '[fedora*]\nskip_if_unavailable=0\nexcludepkgs=b\n[fedora-*]\nenabled=0\n[updates]\nbaseurl=http://i/',
      'etc/dnf/repos.override.d/ignored.conf': '[*]\nenabled=0',
    });
    expect(
      sources.map((source) => [source.id, source.skipIfUnavailable, source.priority, source.excludes]),
    ).toEqual([
      ['fedora', false, 7, ['a', 'b']],
      ['updates', true, 7, []],
    ]);
    expect(sources[1]?.bases).toEqual(['http://i/']);
    expect(known).not.toContain('new');
  });

  it('takes skip_if_unavailable of its own, of dnf.conf, or of what goes before that', async () => {
    const skipping = async (files: Readonly<Record<string, string>>): Promise<readonly boolean[]> => {
      const sections = '[a]\nbaseurl=http://h/\n[b]\nbaseurl=http://h/\nskip_if_unavailable=False\n';
      const { sources } = await read({ ...files, [repo]: sections });
      return sources.map(({ skipIfUnavailable }) => skipIfUnavailable);
    };
    const [vendor, own] = ['usr/share/dnf5/libdnf.conf.d/20-x.conf', 'etc/dnf/libdnf5.conf.d/20-x.conf'];
    const yes = '[main]\nskip_if_unavailable=True\n';
    expect(await skipping({})).toEqual([false, false]);
    expect(await skipping({ 'etc/dnf/dnf.conf': yes })).toEqual([true, false]);
    expect(await skipping({ [vendor]: yes })).toEqual([true, false]);
    expect(await skipping({ [vendor]: yes, [own]: '' })).toEqual([false, false]);
    expect(await skipping({ [vendor]: yes, 'etc/dnf/dnf.conf': '[main]\nskip_if_unavailable=0\n' })).toEqual([
      false,
      false,
    ]);
  });

  it('says that dnf has a proxy of its own', async () => {
    const follow = 'is not followed, set http_proxy and https_proxy in the environment';
    const { warned } = await read({
      'etc/dnf/dnf.conf': '[main]\nproxy=http://me:secret@p/\nreposdir=/x\n',
      [repo]: '[a]\nbaseurl=http://h/\nproxy=http://p/\n[b]\nbaseurl=http://h/\nproxy=_none_\n',
    });
    expect(warned).toEqual([
      `etc/dnf/dnf.conf [main]: the option proxy ${follow}`,
      'etc/dnf/dnf.conf [main]: the option reposdir is not followed',
      `${repo} [a]: the option proxy ${follow}`,
    ]);
  });

  it('warns of what it leaves out', async () => {
    const { sources, warned } = await read({
      [repo]: `before=1
[none]
name=x
[odd id]
baseurl=http://h/
[bad]
baseurl=ftp://h/ nonsense
[good]
baseurl=http://user:secret@h/ ftp://user:secret@h/
nonsense
 continued
enabled=maybe
priority=high
proxy=http://p/
includepkgs=a
metalink=nonsense
`,
      'etc/yum.repos.d/b.repo': '[good]\nbaseurl=http://other/\n',
      'etc/yum.repos.d/c.txt': '[other]\nbaseurl=http://other/\n',
    });
    expect(sources.map(({ id }) => id)).toEqual(['good']);
    expect(warned.join('\n')).not.toContain('secret');
    expect(warned).toEqual([
      `${repo}:1: the line is left out, it is not of the form NAME=VALUE`,
      `${repo}:10: the line is left out, it is not of the form NAME=VALUE`,
      `${repo}:11: the line is left out, it is not of the form NAME=VALUE`,
      `etc/yum.repos.d/b.repo [good]: left out, there is another repository of that name`,
      `${repo} [none]: left out, it has none of baseurl, metalink and mirrorlist`,
      `${repo} [odd id]: left out, its name has characters that dnf does not allow`,
      `${repo} [bad]: left out, ftp://h/ is no http, https or file URL`,
      `${repo} [bad]: left out, nonsense is no http, https or file URL`,
      `${repo} [bad]: left out, it has none of baseurl, metalink and mirrorlist`,
      `${repo} [good]: enabled is "maybe", neither yes nor no`,
      `${repo} [good]: the option includepkgs is not followed`,
      `${repo} [good]: the option proxy is not followed, set http_proxy and https_proxy in the environment`,
      `${repo} [good]: left out, ftp://h/ is no http, https or file URL`,
      `${repo} [good]: metalink is nonsense, no http, https or file URL`,
      `${repo} [good]: priority is "high", no number`,
    ]);
  });

  it('has nothing on a host without dnf', async () => {
    expect(await read({})).toEqual({ sources: [], known: new Set(), warned: [] });
  });

  it.skipIf(!requireTools('mkfifo'))('waits for no FIFO, and reads no directory', async () => {
    const root = rootOf({ 'etc/yum.repos.d/z.repo/x': '', [repo]: '[a]\nbaseurl=http://h/\n' });
    execFileSync('mkfifo', [join(root, 'etc/yum.repos.d/fifo.repo')]);
    writeFileSync(join(root, 'etc/yum.repos.d/large.repo'), Buffer.alloc(2 ** 20 + 1, '#'));
    writeFileSync(join(root, 'etc/yum.repos.d/nul.repo'), '\0');
    const { sources, warned } = await read(root);
    expect(sources).toHaveLength(1);
    expect(warned).toEqual([
      'etc/yum.repos.d/fifo.repo is left out: it is not a regular file',
      'etc/yum.repos.d/large.repo is left out: it is larger than 1048576 bytes',
      'etc/yum.repos.d/nul.repo is left out: it holds a NUL byte',
      'etc/yum.repos.d/z.repo is left out: it is not a regular file',
    ]);
  });

  it.skipIf(!requireTools('dnf'))('sees the repositories that dnf sees', async () => {
    const text = `[one]
name=one $basearch
baseurl=http://h/$releasever/$basearch/
  http://i/
[two]
name=two
enabled=0
baseurl=http://h/
[three]
name=three
mirrorlist=http://h/list
enabled = True
[four]
name=four
baseurl=http://h/
enabled=no
`;
    const root = rootOf({ [repo]: text });
    const listed = execFileSync(
      'dnf',
      [
        ...[
          '--quiet',
          `--installroot=${root}`,
          `--setopt=reposdir=${root}/etc/yum.repos.d`,
          '--releasever=45',
        ],
        ...[`--setopt=cachedir=${root}/cache`, '--forcearch=x86_64', '--noplugins', 'repolist', '--enabled'],
      ],
      {
        encoding: 'utf8',
        env: { PATH: process.env['PATH'], LC_ALL: 'C', HOME: root },
        stdio: ['ignore', 'pipe', 'pipe'],
      },
    );
    const theirs = listed
      .split('\n')
      .slice(1)
      .flatMap((line) => line.split(/\s+/)[0] ?? [])
      .filter((id) => id !== '');
    expect((await read(root)).sources.map(({ id }) => id).sort()).toEqual(theirs.sort());
  });

  it('takes any text without harm', async () => {
    const piece = fc.constantFrom(
      '[a]',
      '[',
      ']',
      '\n',
      '=',
      'baseurl',
      'http://h/',
      ' ',
      '\t',
      '$',
      '${',
      '}',
      ':-',
      '#',
      ';',
      '\ufeff',
      '\0',
      '\ud800',
      '__proto__',
      'enabled=1',
    );
    await fc.assert(
      fc.asyncProperty(fc.array(piece, { maxLength: 30 }), async (pieces) => {
        parseIni(pieces.join(''), () => undefined);
        await read({ [repo]: pieces.join('') });
      }),
      { numRuns: 200 },
    );
    const begin = Date.now();
    await read({
      [repo]: `[a]\nbaseurl=${'${'.repeat(50_000)}${'$a:'.repeat(50_000)}\n${' '.repeat(100_000)}x`,
    });
    expect(Date.now() - begin).toBeLessThan(2000);
  });
});
