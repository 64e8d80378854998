import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { createFetcher } from '../../../build/repository/fetch.js';
import { chooseRpmSources } from '../../../build/repository/fedora/sources.js';
import { openCache } from '../../../build/support/cache.js';
import { silentLog } from '../../../build/support/log.js';

const directory = mkdtempSync(join(tmpdir(), 'sources-'));
const cache = await openCache(join(directory, 'cache'));
afterAll(() => {
  rmSync(directory, { recursive: true });
});

interface Chosen {
  /** Name, and where it is. */
  readonly sources: readonly (readonly [string, string])[];
  readonly info: readonly string[];
  readonly warned: readonly string[];
}

/** What is chosen on a host with these files. */
async function choose(
  release: string,
  files: Readonly<Record<string, string>>,
  mirrors: readonly string[] = [],
): Promise<Chosen> {
  const root = mkdtempSync(join(directory, 'root-'));
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), text);
  }
  const info: string[] = [];
  const warned: string[] = [];
  const log = {
    ...silentLog,
    info: (message: string) => info.push(message),
    warn: (message: string) => warned.push(message.replaceAll(`${root}/`, '')),
  };
  const { signal } = new AbortController();
  const offline = true;
  const sources = await chooseRpmSources({
    ...{ release, architecture: 'x86_64', mirrors, offline, cache, log, signal, root },
    connect: () => Promise.resolve(createFetcher({ log, signal, cache, offline, environment: {} })),
  });
  return {
    sources: sources.map((one) => [one.id, one.metalink ?? one.mirrorlist ?? one.bases.join(' ')] as const),
    info,
    warned,
  };
}

const fedora45 = 'ID=fedora\nNAME="Fedora Linux"\nVERSION_ID=45\n';
const rawhide = 'ID=fedora\nNAME="Fedora Linux"\nVERSION="46 (Rawhide Prerelease)"\nVERSION_ID=46\n';
const rocky = 'ID="rocky"\nNAME="Rocky Linux"\nID_LIKE="rhel centos fedora"\nVERSION_ID="9.4"\n';
const repos = 'etc/yum.repos.d/a.repo';
const own = '[fedora]\nbaseurl=http://h/$releasever/\n';

const lists = (release: string): Chosen['sources'] => [
  ['fedora', `https://mirrors.fedoraproject.org/metalink?repo=fedora-${release}&arch=x86_64`],
  ['updates', `https://mirrors.fedoraproject.org/metalink?repo=updates-released-f${release}&arch=x86_64`],
];
const said = (release: string, reason: string): readonly string[] => [
  `taking packages of ${release} for x86_64 from Fedora's mirrors: ${reason}; --mirror URL names others`,
];

describe('chooseRpmSources', () => {
  it('takes those of a Fedora of that release', async () => {
    const chosen = await choose('45', { 'etc/os-release': fedora45, [repos]: own });
    expect(chosen).toEqual({ sources: [['fedora', 'http://h/45/']], info: [], warned: [] });
  });

  it.each([
    ['44', fedora45, 'Fedora Linux 45, not Fedora 44'],
    ['rawhide', fedora45, 'Fedora Linux 45, not Fedora Rawhide'],
    ['45', rawhide, 'Fedora Rawhide, not Fedora 45'],
    ['45', rocky, 'Rocky Linux 9.4, not Fedora 45'],
    ['45', 'ID=nobara\nNAME=Nobara\nID_LIKE=fedora\nVERSION_ID=45\n', 'Nobara 45, not Fedora 45'],
    ['45', 'ID=debian\nNAME="Debian GNU/Linux"\nVERSION_ID="12"\n', 'Debian GNU/Linux 12, not Fedora 45'],
    ['45', '', 'no system that says its name, not Fedora 45'],
  ])('takes those of Fedora for release %s on %j', async (release, osRelease, reason) => {
    const { sources, info } = await choose(release, { 'etc/os-release': osRelease, [repos]: own });
    const title = release === 'rawhide' ? 'Fedora Rawhide' : `Fedora ${release}`;
    expect(info).toEqual(said(title, `this host is ${reason}`));
    const list = 'https://mirrors.fedoraproject.org/metalink?repo=rawhide&arch=x86_64';
    expect(sources).toEqual(release === 'rawhide' ? [['rawhide', list]] : lists(release));
  });

  it.each(['46', 'rawhide'])('takes those of Rawhide for release %s there', async (release) => {
    const file = '[fedora]\nenabled=0\n[rawhide]\nbaseurl=http://h/$releasever/\n';
    const host = { 'etc/os-release': rawhide };
    const { sources, info } = await choose(release, { ...host, [repos]: file });
    expect([sources, info]).toEqual([[['rawhide', 'http://h/rawhide/']], []]);
    const none = await choose(release, host);
    expect(none.sources.map(([id]) => id)).toEqual(['rawhide']);
    expect(none.info).toEqual(said('Fedora Rawhide', 'no repository is enabled on this host'));
  });

  it.each(['9', '9.4'])('takes those of an enterprise system for its release %s', async (release) => {
    const file = '[baseos]\nbaseurl=http://h/$releasever/\n';
    const { sources, info } = await choose(release, { 'etc/os-release': rocky, [repos]: file });
    expect([sources, info]).toEqual([[['baseos', 'http://h/9/']], []]);
    await expect(choose(release, { 'etc/os-release': rocky })).rejects.toThrow(
      'cannot choose repositories of Rocky Linux 9.4: none is enabled on this host',
    );
  });

  it('takes those of Fedora where the host has none of them, but not where they were disabled', async () => {
    const host = { 'etc/os-release': fedora45 };
    const other = '[other]\nbaseurl=http://o/\n';
    const missing = await choose('45', { ...host, [repos]: other });
    expect(missing.sources).toEqual(lists('45'));
    expect(missing.info).toEqual(said('Fedora 45', 'no repository of this host is named fedora or rawhide'));
    const disabled = `${own}enabled=0\n`;
    const replaced = await choose('45', { ...host, [repos]: `${disabled}${other}` });
    expect([replaced.sources, replaced.info]).toEqual([[['other', 'http://o/']], []]);
    const none = await choose('45', { ...host, [repos]: disabled });
    expect(none.sources).toEqual(lists('45'));
    expect(none.info).toEqual(said('Fedora 45', 'no repository is enabled on this host'));
  });

  it('warns of a proxy of dnf also where its repositories do not count', async () => {
    const { warned } = await choose('45', { 'etc/dnf/dnf.conf': '[main]\nproxy=http://p/\n' });
    expect(warned).toEqual([
      'etc/dnf/dnf.conf [main]: the option proxy is not followed, set http_proxy and https_proxy in the environment',
    ]);
  });

  it.each(['metalink', 'mirrorlist'])(
    'asks a %s of --mirror for the release and its updates',
    async (kind) => {
      const url = `https://m.example/${kind}`;
      for (const [written, told] of [
        [url, []],
        [`${url}/`, []],
        [
          `${url}?repo=fedora-45&token=secret`,
          [`${url} is asked for the release and its updates, whatever the query of --mirror says`],
        ],
      ] as const) {
        const { sources, info } = await choose('45', {}, [written]);
        expect(sources).toEqual([
          ['fedora', `${url}?repo=fedora-45&arch=x86_64`],
          ['updates', `${url}?repo=updates-released-f45&arch=x86_64`],
        ]);
        expect(info).toEqual(told);
      }
    },
  );
});
