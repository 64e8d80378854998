import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { StandInServer } from '../../build/host/fedora-stand-in/server.js';
import { Place, type RunOptions } from '../support/cli.js';
import { fedoraStandIn, type StandIn } from '../support/fedora-stand-in.js';
import { checkout } from '../support/lab-image.js';
import { requireThat, requireTools } from '../support/tools.js';

const standIn = await fedoraStandIn();
const isReady =
  standIn !== undefined &&
  requireTools('unshare', 'mount') &&
  requireThat(process.getuid?.() === 0, 'root, to give the program another /etc and /usr/share');

/** What a user of Fedora does, with the files that Fedora ships and without an option. */
describe.skipIf(!isReady)('on a host of Fedora', { timeout: 180_000 }, () => {
  // Where it cannot be made, this is read all the same, and nothing of it runs.
  const { release = 0, keyFile = '', fingerprint = '' }: Partial<StandIn> = standIn ?? {};
  const directory = mkdtempSync(join(tmpdir(), 'fedora-host-'));
  let server: StandInServer;
  let place: Place;
  beforeAll(async () => {
    server = await (standIn ?? never()).serve();
  });
  afterAll(async () => {
    await server.close();
    rmSync(directory, { recursive: true });
  });
  beforeEach(() => {
    const shipped = readFileSync(join(checkout, 'images/scratch/dhcpd.yaml'), 'utf8');
    const pins = /( {4}keys:\n)(?: {6}- [0-9A-F]{40}\n)+/;
    const number = / {4}release: \d+\n/;
    expect(shipped).toMatch(pins);
    expect(shipped).toMatch(number);
    const yaml = shipped
      .replace(pins, `$1      - ${fingerprint}\n`)
      .replace(number, `    release: ${release}\n`);
    place = new Place({ 'dhcpd.yaml': yaml });
  });
  afterEach(() => {
    place.remove();
  });

  /** The files of fedora-repos, with the stand-in's server for Fedora's. */
  const repoFiles = (keys: string): Readonly<Record<string, string>> => {
    const section = (id: string, title: string, repo: string, ...lines: readonly string[]): string =>
      [
        `[${id}]`,
        `name=${title}`,
        `#baseurl=http://download.example/pub/fedora/linux/releases/$releasever/Everything/$basearch/os/`,
        `metalink=${server.url}/metalink?repo=${repo}&arch=$basearch`,
        ...lines,
        'repo_gpgcheck=0',
        'type=rpm',
        'gpgcheck=1',
        `gpgkey=file://${keys}/RPM-GPG-KEY-fedora-$releasever-$basearch`,
        '',
      ].join('\n');
    const three = (id: string, title: string, stem: string, version: string): string =>
      [
        section(id, title, `${stem}${version}`, 'enabled=1', 'countme=1', 'skip_if_unavailable=False'),
        section(
          `${id}-debuginfo`,
          `${title} - Debug`,
          `${stem}debug-${version}`,
          'enabled=0',
          'skip_if_unavailable=False',
        ),
        section(
          `${id}-source`,
          `${title} - Source`,
          `${stem}source-${version}`,
          'enabled=0',
          'skip_if_unavailable=False',
        ),
      ].join('\n');
    return {
      'fedora.repo': three('fedora', 'Fedora $releasever - $basearch', 'fedora-', '$releasever'),
      'fedora-updates.repo': three(
        'updates',
        'Fedora $releasever - $basearch - Updates',
        'updates-released-',
        'f$releasever',
      ),
      'fedora-updates-testing.repo': section(
        'updates-testing',
        'Fedora $releasever - $basearch - Test Updates',
        'updates-testing-f$releasever',
        'enabled=0',
      ),
      'fedora-cisco-openh264.repo': section(
        'fedora-cisco-openh264',
        'Fedora $releasever openh264 (From Cisco) - $basearch',
        'fedora-cisco-openh264-$releasever',
        'enabled=1',
        'skip_if_unavailable=True',
      ),
    };
  };

  interface Host {
    /** Where the .repo files are: up to Fedora 44, and since Fedora 45, which has its keys in another place as well. */
    readonly repos: '/etc/yum.repos.d' | '/usr/share/dnf5/repos.d';
    readonly osRelease?: string;
    /** Further files, by absolute path below /etc and /usr/share. */
    readonly files?: Readonly<Record<string, string>>;
  }
  /** Runs the program where /etc and /usr/share are those of such a host. */
  function on({ repos, osRelease = fedora(), files = {} }: Host): RunOptions {
    const root = mkdtempSync(join(directory, 'root-'));
    const write = (path: string, text: string): string => {
      mkdirSync(dirname(join(root, path)), { recursive: true });
      writeFileSync(join(root, path), text);
      return join(root, path);
    };
    write('/etc/os-release', osRelease);
    write('/etc/dnf/dnf.conf', '# see `man dnf.conf` for defaults and possible options\n\n[main]\n');
    write('/usr/share/doc/none', '');
    const pki = repos === '/etc/yum.repos.d' ? '/etc/pki/rpm-gpg' : '/usr/share/pki/rpm-gpg';
    for (const [name, text] of Object.entries(repoFiles(pki))) write(`${repos}/${name}`, text);
    const key = readFileSync(keyFile, 'utf8');
    for (const name of ['primary', 'x86_64', 'aarch64'])
      write(`${pki}/RPM-GPG-KEY-fedora-${release}-${name}`, key);
    for (const [path, text] of Object.entries(files)) write(path, text);
    const script =
      'mount --bind "$1/etc" /etc && mount --bind "$1/usr/share" /usr/share && shift && exec "$@"';
    return { under: ['unshare', '--mount', 'sh', '-c', script, 'sh', root] };
  }
  const fedora = (version = release, variant = ''): string =>
    [
      'NAME="Fedora Linux"',
      `VERSION="${version} (${variant === '' ? 'Server Edition' : variant})"`,
      'RELEASE_TYPE=stable',
      'ID=fedora',
      `VERSION_ID=${version}`,
      `PRETTY_NAME="Fedora Linux ${version}"`,
      `REDHAT_SUPPORT_PRODUCT_VERSION=${version}`,
      `VARIANT_ID=${variant === '' ? 'server' : variant.toLowerCase()}`,
      '',
    ].join('\n');
  const build = ['build', 'dhcpd.yaml'];
  const left = /^warning: cannot fetch \S+\/metalink: .*\[fedora-cisco-openh264\] is left out, /m;

  it.each(['/etc/yum.repos.d', '/usr/share/dnf5/repos.d'] as const)(
    'builds without an option, with the repositories of %s',
    async (repos) => {
      const before = server.requests.length;
      const outcome = await place.run(build, on({ repos }));
      expect(outcome, outcome.stderr).toMatchObject({ code: 0 });
      expect(outcome.stdout).toMatch(/^digest +sha256:[0-9a-f]{64}$/m);
      // What Fedora itself marks as dispensable, and nothing else, may be missing.
      expect(outcome.stderr).toMatch(left);
      expect(outcome.stderr).not.toContain("from Fedora's mirrors");
      const asked = server.requests.slice(before).filter(({ url }) => url.startsWith('/metalink'));
      const lists = asked.map(({ url }) => new URLSearchParams(url.split('?')[1]).get('repo'));
      expect(new Set(lists)).toEqual(
        new Set([`fedora-${release}`, `updates-released-f${release}`, `fedora-cisco-openh264-${release}`]),
      );
    },
  );

  it('obeys what dnf config-manager has written', async () => {
    const off = { '/etc/dnf/repos.override.d/99-config_manager.repo': '[fedora-cisco-*]\nenabled=0\n' };
    const outcome = await place.run(build, on({ repos: '/usr/share/dnf5/repos.d', files: off }));
    expect(outcome, outcome.stderr).toMatchObject({ code: 0 });
    expect(outcome.stderr).not.toContain('openh264');
  });

  it('says how to do without a repository that must be there', async () => {
    const must = { '/etc/dnf/repos.override.d/1.repo': '[fedora-cisco-*]\nskip_if_unavailable=0\n' };
    const outcome = await place.run(build, on({ repos: '/usr/share/dnf5/repos.d', files: must }));
    expect(outcome.code).toBe(1);
    expect(outcome.stderr).toMatch(
      /^error: cannot fetch \S+\/metalink: .*; or switch it off with enabled=0 in \/usr\/share\/dnf5\/repos\.d\/fedora-cisco-openh264\.repo \[fedora-cisco-openh264\]$/m,
    );
  });

  it('goes to the mirrors of Fedora for another release than that of the host', async () => {
    const before = server.requests.length;
    const coreos = on({ repos: '/etc/yum.repos.d', osRelease: fedora(release - 2, 'CoreOS') });
    const outcome = await place.run([...build, '--offline'], coreos);
    expect(outcome.code).toBe(1);
    expect(outcome.stderr).toMatch(
      new RegExp(
        `^taking packages of Fedora ${release} for \\S+ from Fedora's mirrors: this host is Fedora Linux ${release - 2}, not Fedora ${release}; `,
        'm',
      ),
    );
    expect(outcome.stderr).toMatch(/^error: cannot fetch https:\/\/mirrors\.fedoraproject\.org\/metalink: /m);
    expect(server.requests.length).toBe(before);
  });
});

function never(): never {
  throw new Error('there is no stand-in');
}
