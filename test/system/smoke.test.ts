import { existsSync } from 'node:fs';
import { chmod, mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { run } from '../../build/support/exec.js';
import { openCoreosUser, coreosUserTools } from '../docs/coreos-user.js';
import { errorLines, Place, program, type Outcome } from '../support/cli.js';
import { hostArchitecture, otherArchitecture } from '../support/host.js';
import { buildImage } from '../support/lab-image.js';
import { canRun } from '../support/lab-podman.js';
import { findTool, requireThat, requireTools } from '../support/tools.js';

const ready =
  requireThat(process.getuid?.() === 0, 'root, for network namespaces') &&
  requireTools(
    ...['ip', 'ethtool', 'podman', 'runc', 'setpriv', 'nsenter', 'strace'],
    ...['udhcpc', 'dhclient', 'dhcpcd', 'fallocate', 'nft'],
  );
const emulated =
  ready && requireThat(canRun(otherArchitecture), 'an emulator for the foreign architecture in binfmt_misc');

interface Run {
  readonly architecture: string;
  readonly emulated: boolean;
  readonly checks: readonly {
    readonly name: string;
    readonly state: string;
    readonly seconds: number;
    readonly reason: string | null;
  }[];
}

const names = [
  ...['first-start-volume', 'first-start-directory', 'example-config', 'stop'],
  ...['lease-udhcpc', 'lease-dhclient', 'lease-dhcpcd'],
  ...['renew', 'release', 'fixed-address', 'changing-client-id', 'recorded-before-ack'],
  ...['same-address-after-restart', 'same-address-after-recreation'],
  ...['same-address-after-kill', 'same-address-after-update'],
  ...['two-networks', 'exhausted-pool', 'many-clients', 'behind-a-firewall'],
  ...['account-and-capabilities', 'nothing-outside-the-volume', 'bad-config'],
  ...['cut-lease-file', 'garbage-in-lease-file', 'full-disk'],
];
const onlyForDhcpd = [
  ...['example-config', 'changing-client-id', 'behind-a-firewall'],
  ...['cut-lease-file', 'garbage-in-lease-file', 'full-disk'],
];

/** A Podman that forgets what it is told, or is told something else. */
const podman = (change: string): Readonly<Record<string, string>> => ({
  podman: `args=()\nfor arg; do\n${change}\nargs+=("$arg"); done\nexec REAL "\${args[@]}"`,
});

/** Each with the check that is to see it, and what that says. */
const faults: readonly [string, Readonly<Record<string, string>>, string, RegExp][] = [
  [
    'a right is not taken away',
    podman('[ "$arg" = NET_RAW ] && args+=(NET_RAW --cap-add CHOWN) && continue'),
    'account-and-capabilities',
    /CapPrm is "0000000000002401"/,
  ],
  [
    'the account is another one',
    podman('[ "$arg" = 177:177 ] && arg=177:0'),
    'account-and-capabilities',
    /its group is \["0"/,
  ],
  [
    'the root is writable',
    podman('[ "$arg" = --read-only ] && continue'),
    'nothing-outside-the-volume',
    /what is mounted to be written is \["\/"/,
  ],
  [
    'the leases are in no volume',
    podman('[[ $arg = same-address-*:/var/lib/* ]] && arg="$RANDOM-$arg"'),
    'same-address-after-recreation',
    /the address afterwards is/,
  ],
  [
    'the server is process 1',
    podman('[ "$arg" = --init ] && continue'),
    'stop',
    /it had to be killed after 2 s/,
  ],
  [
    'leases are not flushed',
    podman('[[ $arg = *:/etc/dhcp:ro,z ]] && echo "dont-use-fsync true;" >>"${arg%%:*}/dhcpd.conf"'),
    'recorded-before-ack',
    /not flushed to disk, before the ACK/,
  ],
  ['nobody mends a lease file', { cmp: 'exit 0' }, 'cut-lease-file', /\d+ of \d+ files: .* is lost/],
  ['nobody takes garbage out', { cmp: 'exit 0' }, 'garbage-in-lease-file', /\d of 8 files: /],
  [
    'there is no firewall',
    { nft: 'exit 0' },
    'behind-a-firewall',
    /the firewall has let the first requests in/,
  ],
  [
    'the firewall keeps the answers back',
    {
      nft: 'sed "s/chain input/chain output { type filter hook output priority 0; policy drop; }\\n&/" | REAL "$@"',
    },
    'behind-a-firewall',
    /udhcpc was not renew within 15 s/,
  ],
  [
    'no room is kept for leases',
    { fallocate: 'exit 0' },
    'full-disk',
    /leases are acknowledged and not recorded/,
  ],
  [
    'a broken configuration is accepted',
    podman('[ "$arg" = -t ] && arg=--version'),
    'bad-config',
    /the broken configuration is accepted|it was not restarted|has ended/,
  ],
];

const config = (check: string, edit: string): string =>
  `[[ $arg = */${check}/config:/etc/dhcp:ro,z ]] && sed -i '${edit}' "\${arg%%:*}/dhcpd.conf"`;
const otherVolume = (state: string): string => `[[ $arg = ${state}:/var/lib/* ]] && arg="other:\${arg#*:}"`;
const forget = (check: string): string =>
  `[[ "$* " = *" start ${check} " ]] && : >"$2/volumes/${check}-leases/_data/dhcpd.leases"`;

/** Each for one check alone, by the names of what belongs to it; all of them in one lab. */
const smallFaults: readonly (readonly [check: string, change: string, reason: RegExp])[] = [
  ['first-start-volume', otherVolume('first-start-volume-leases'), /says that nobody has/],
  ['first-start-directory', otherVolume('*/first-start-directory/*'), /says that nobody has/],
  [
    'example-config',
    config('example-config', 's/range .*;/range 192.0.2.20 192.0.2.30;/'),
    /not in its range/,
  ],
  ['lease-udhcpc', config('lease-udhcpc', 's/time 600/time 300/'), /for 300 s in place of 600/],
  ['lease-dhclient', config('lease-dhclient', 's/lan.test/wan.test/'), /what it was given is .*"wan\.test"/],
  ['lease-dhcpcd', config('lease-dhcpcd', '/routers/d'), /what it was given is .*""/],
  ['renew', config('renew', 's/threshold 0/threshold 100/'), /the renewal is not recorded/],
  ['release', config('release', 's/192.0.2.50;/192.0.2.59;/'), /the next client’s address is/],
  ['fixed-address', config('fixed-address', '/^host/,$d'), /the host’s address is/],
  ['changing-client-id', config('changing-client-id', '/uids/d'), /the number of its addresses is 3/],
  ['same-address-after-restart', forget('same-address-after-restart'), /the address afterwards is/],
  ['same-address-after-kill', forget('same-address-after-kill'), /the address afterwards is/],
  [
    'same-address-after-update',
    '[[ $arg = same-address-after-update-leases:* ]] && arg="$RANDOM-$arg"',
    /the address afterwards is/,
  ],
  [
    'two-networks',
    config('two-networks', 's/100.50 198.51.100.59/100.70 198.51.100.79/'),
    /the second network got/,
  ],
  [
    'exhausted-pool',
    config('exhausted-pool', 's/192.0.2.51;/192.0.2.52;/'),
    /what the third client heard is "ack"/,
  ],
  [
    'many-clients',
    '[[ "$* " = *"volume inspect "*" many-clients-leases " ]] && cd "$(mktemp -d -p "${0%/*}")" && : >dhcpd.leases && pwd && exit',
    /200 leases are not recorded/,
  ],
];

describe.skipIf(!ready)('the smoke lab', () => {
  let work = '';
  let place: Place;
  const images = new Map<string, string>();
  const build = async (name: string): Promise<void> => {
    const directory = join(work, name);
    await mkdir(directory);
    const arch = `${hostArchitecture},${otherArchitecture}`;
    const built = await buildImage(run, directory, join(work, 'cache'), [
      ...[`images/scratch/${name}.yaml`, '--engine', 'oci', '--arch', arch],
    ] as [string, ...string[]]);
    images.set(name, built.archive);
  };
  beforeAll(async () => {
    work = await mkdtemp(join(tmpdir(), 'smoke-'));
    await chmod(work, 0o755);
    place = new Place();
    for (const name of ['dhcpd', 'dnsmasq']) await build(name);
  }, 240_000);
  afterAll(async () => {
    place.remove();
    await rm(work, { recursive: true, force: true });
  });

  const smoke = (name: string, ...args: readonly string[]): readonly string[] => [
    ...['smoke', name, '--image', images.get(name) ?? '', ...args],
  ];
  const runsOf = ({ stdout }: Outcome): readonly Run[] =>
    (JSON.parse(stdout) as { readonly runs: readonly Run[] }).runs;

  it('finds dhcpd good on both architectures', async () => {
    const both = emulated ? [hostArchitecture, otherArchitecture] : [hostArchitecture];
    const outcome = await place.run(smoke('dhcpd', '--arch', both.join(','), '--json'));
    const runs = runsOf(outcome);
    expect(runs.map(({ architecture }) => architecture)).toEqual(both);
    expect(runs.map((one) => one.emulated)).toEqual(both.map((name) => name !== hostArchitecture));
    for (const { checks } of runs) {
      expect(checks.map(({ name, state, reason }) => ({ name, state, reason }))).toEqual(
        names.map((name) => ({ name, state: 'ok', reason: null })),
      );
    }
    expect(outcome.code).toBe(0);
  }, 600_000);

  it('finds dnsmasq good, and says what is not for it', { timeout: 240_000 }, async () => {
    const outcome = await place.run(smoke('dnsmasq', '--json'));
    expect(runsOf(outcome)[0]?.checks.map(({ name, state, reason }) => ({ name, state, reason }))).toEqual(
      names.map((name) =>
        onlyForDhcpd.includes(name)
          ? { name, state: 'skipped', reason: 'only for dhcpd' }
          : { name, state: 'ok', reason: null },
      ),
    );
    expect(outcome.code).toBe(0);
  });

  it('works for a user without any right', { timeout: 240_000 }, async (context) => {
    if (!requireTools(...coreosUserTools, 'unshare')) return;
    const user = await openCoreosUser();
    context.onTestFinished(() => user.close());
    await user.configure({ containers: '', storage: '[storage]\ndriver = "overlay"\n' });
    await user.own();
    const said = await user.run(
      `TMPDIR=$HOME '${process.execPath}' '${program}' ${smoke('dhcpd').join(' ')}; ls -d "$HOME"/dhcpd-lab* 2>&1 || true`,
    );
    expect(said).toMatch(/^not root: running in a user namespace$/m);
    expect(said).toMatch(new RegExp(`^${names.length} ok, 0 failed, 0 skipped in`, 'm'));
    expect(said).toMatch(/cannot access '.*dhcpd-lab\*'/);
  });

  it.each([1500, 4000, 9000])(
    'leaves nothing behind when it is stopped after %d ms',
    { timeout: 60_000 },
    async (after) => {
      const before = await leftovers();
      const outcome = await place.run(
        smoke('dhcpd', '--only', 'first-start-directory,renew,cut-lease-file,full-disk'),
        {
          interrupt: { signals: ['SIGINT'], when: new Promise((resolve) => setTimeout(resolve, after)) },
        },
      );
      expect([outcome.code, outcome.stderr.split('\n').at(-2)]).toEqual([130, 'error: stopped by SIGINT']);
      expect((await leftovers()).filter((one) => !before.includes(one))).toEqual([]);
    },
  );

  /** Programs that stand before the machine's own; `REAL` in their text is the path of the program of that name. */
  async function smokeWith(programs: Readonly<Record<string, string>>, only: string): Promise<string> {
    const directory = await mkdtemp(join(work, 'programs-'));
    for (const [name, text] of Object.entries(programs)) {
      const file = join(directory, name);
      await writeFile(file, `#!/bin/bash\n${text.replaceAll('REAL', findTool(name) ?? name)}\n`);
      await chmod(file, 0o755);
    }
    const outcome = await place.run(smoke('dhcpd', '--only', only), {
      environment: { PATH: `${directory}:${process.env['PATH'] ?? ''}` },
    });
    expect(outcome.code, outcome.stdout + outcome.stderr).toBe(1);
    return outcome.stdout;
  }
  it.each([
    [
      'noexec',
      /^error: cannot open a lab in .*: no program may be started there .*; set TMPDIR to another directory$/,
    ],
    [
      'size=1m',
      /^error: cannot load .*: no space left on device.*; set TMPDIR to a directory with more room$/,
    ],
  ])(
    'says what is wrong with a temporary directory mounted %s',
    { timeout: 60_000 },
    async (option, message) => {
      const tmp = await mkdtemp(join(work, 'tmp-'));
      const command = (...argv: [string, ...string[]]): Promise<unknown> =>
        run({ argv, environment: { PATH: process.env['PATH'] ?? '' } });
      await command('mount', '-t', 'tmpfs', '-o', option, 'tmpfs', tmp);
      try {
        const outcome = await place.run(smoke('dhcpd'), { environment: { TMPDIR: tmp } });
        expect([outcome.code, ...errorLines(outcome)]).toEqual([1, expect.stringMatching(message)]);
        expect(await readdir(tmp)).toEqual([]);
      } finally {
        await command('umount', '--lazy', tmp);
      }
    },
  );

  it.each([
    ['full-disk', 'full-disk/state-1'],
    ['cut-lease-file', 'cut-lease-file/state-2-root/etc/dhcp'],
  ])('when it was killed in %s, the next run clears away', { timeout: 120_000 }, async (check, mounted) => {
    const tmp = await mkdtemp(join(work, 'killed '));
    const environment = { TMPDIR: tmp };
    const mounts = async (): Promise<string> =>
      (await run({ argv: ['mount'], environment: { PATH: process.env['PATH'] ?? '' } })).stdout;
    const isThere = async (): Promise<void> => {
      const isIt = (line: string): boolean => line.includes(tmp) && line.includes(mounted);
      while (!(await mounts()).split('\n').some(isIt))
        await new Promise((resolve) => setTimeout(resolve, 50));
    };
    const killed = await place.run(smoke('dhcpd', '--only', check), {
      environment,
      interrupt: { signals: ['SIGKILL'], when: isThere() },
    });
    expect(killed.signal, killed.stdout + killed.stderr).toBe('SIGKILL');
    const [left = ''] = await readdir(tmp);
    expect(left).toMatch(/^dhcpd-lab-/);
    // A directory that only root can enter, with a long name and a space in it.
    await place.ok(smoke('dhcpd', '--only', 'garbage-in-lease-file,renew'), { environment });
    expect(await readdir(tmp)).toEqual([]);
    expect(await mounts()).not.toContain(tmp);
    const owner = left.split('-').slice(0, 3).join('-');
    expect((await readdir('/run/netns')).filter((name) => name.startsWith(owner))).toEqual([]);
  });

  const mustFail = (said: string, check: string, reason: RegExp): void => {
    const line = said.split('\n').find((one) => one.includes(`  ${check} `)) ?? '';
    expect(line, said).toMatch(new RegExp(`^FAIL  ${check}  +[0-9.]+ s  `));
    expect(line).toMatch(reason);
  };
  describe('sees that', () => {
    it.each(faults)('%s', { timeout: 120_000 }, async (_what, programs, only, reason) => {
      mustFail(await smokeWith(programs, only), only, reason);
    });

    it('leases are not given, not kept or not recorded as they should be', { timeout: 240_000 }, async () => {
      const said = await smokeWith(
        podman(smallFaults.map(([, change]) => change).join('\n')),
        smallFaults.map(([check]) => check).join(','),
      );
      for (const [check, , reason] of smallFaults) mustFail(said, check, reason);
    });

    it('each of its checks can fail', () => {
      const failing = [...faults.map(([, , check]) => check), ...smallFaults.map(([check]) => check)];
      expect(names.filter((name) => !failing.includes(name))).toEqual([]);
    });
  });
});

/** Of labs whose process has ended: directories, namespaces and mounts. */
async function leftovers(): Promise<readonly string[]> {
  const read = async (directory: string): Promise<readonly string[]> => readdir(directory).catch(() => []);
  const { stdout } = await run({ argv: ['mount'], environment: { PATH: process.env['PATH'] ?? '' } });
  return [
    ...(await read(tmpdir())),
    ...(await read('/run')),
    ...(await read('/run/netns')),
    ...stdout.split('\n'),
  ].filter((line) => {
    const owner = /dhcpd-lab-(\d+)-/.exec(line)?.[1];
    return owner !== undefined && !existsSync(`/proc/${owner}`);
  });
}
