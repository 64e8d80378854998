import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { project } from './commands.js';

/** Where a documented command is run by documents.test.ts. */
export interface Run {
  /**
   * `project`: a fresh copy of the repository. `lab`: the same copy, on the machine with the interface eth0 that the
   * README speaks of. `empty`: a directory of its own.
   */
  readonly where: 'project' | 'lab' | 'empty';
  /** What its output has, beside what the document shows. */
  readonly says?: RegExp;
  /** A command that must have run directly before, because another one has replaced its results. */
  readonly after?: string;
  /** Arguments that make it short enough for a test. */
  readonly more?: string;
  /** Why it cannot run on the other architecture: it names what only this one has. In terms of `process.arch`. */
  readonly only?: 'x64';
  /** Only root can, here; elsewhere a user with subordinate IDs. */
  readonly root?: true;
}

const digest = /^digest +sha256:[0-9a-f]{64}$/m;
const bothArchitectures = 'npm run build:scratch -- --arch x86_64,aarch64';

/** Every documented command that documents.test.ts runs, as it stands in the document. */
export const runs: ReadonlyMap<string, Run> = new Map<string, Run>([
  ['npm run build:scratch', { where: 'project', says: digest }],
  ['podman load -i out/dhcpd.oci.tar', { where: 'lab', says: /^Loaded image: localhost\/dhcpd:latest$/m }],
  [
    'podman run --detach --name dhcpd --network host --init --read-only ' +
      '--cap-drop all --cap-add NET_RAW --cap-add NET_BIND_SERVICE --security-opt no-new-privileges ' +
      '--volume dhcpd-leases:/var/lib/dhcp --volume /etc/dhcp:/etc/dhcp:ro localhost/dhcpd eth0',
    { where: 'lab', says: /^[0-9a-f]{64}$/m },
  ],
  [
    'npm run quadlet -- --distro fedora --interface eth0 --podman-version 6.0',
    { where: 'project', says: /^unchanged +quadlet\/containers\/systemd\/dhcpd\.container$/m },
  ],
  ['npm run quadlet -- --help', { where: 'project', says: /^ +--podman-version/m }],
  ['npm run smoke', { where: 'project', root: true }],
  ['npm run smoke -- --list', { where: 'project', says: /^cut-lease-file +\S/m }],
  ['npm run plan', { where: 'project', says: /^0?755 +0:0 +\d+ +\/usr\/sbin\/dhcpd +isc-dhcp-server/m }],
  ['npm run why /lib/x86_64-linux-gnu/libc.so.6', { where: 'project', only: 'x64' }],
  [
    bothArchitectures,
    { where: 'project', says: /^x86_64 .* sha256:[0-9a-f]{64}\naarch64 .* sha256:[0-9a-f]{64}$/m },
  ],
  ['npm run build:scratch -- --locked', { where: 'project', says: digest }],
  ['npm run build:scratch -- --offline', { where: 'project', says: digest }],
  ['npm run lock', { where: 'project', says: /dhcpd\.lock\.yaml: (?:nothing has changed|\d+ changes?)$/m }],
  ['npx dhcpd-scratch build images/scratch/dnsmasq.yaml', { where: 'project', says: digest }],
  ['npx dhcpd-scratch plan images/scratch/dnsmasq.yaml', { where: 'project', says: /\/usr\/sbin\/dnsmasq/ }],
  ['npm run doctor', { where: 'project', says: /^ok +Debian archive +\S+ \w+ of \d{4}-\d\d-\d\d$/m }],
  [
    'npx dhcpd-scratch cache clean',
    { where: 'project', says: /: removed [1-9]\d* files, [0-9.]+ (?:Ki|Mi)B$/m },
  ],
  [
    'npm run bench',
    { where: 'project', more: '-- --runs 1 --only debian', says: /^warm \/ floor +[0-9.]+ x/m },
  ],
  [
    'podman pull --arch arm64 oci-archive:out/dhcpd.oci.tar:localhost/dhcpd:latest',
    { where: 'lab', after: bothArchitectures, says: /^[0-9a-f]{64}$/m },
  ],
  ['apt-get download dnsmasq-base', { where: 'empty' }],
  ['dpkg-deb -x dnsmasq-base_*.deb unpacked', { where: 'empty' }],
  ['unpacked/usr/sbin/dnsmasq --help', { where: 'empty', says: /^Usage: dnsmasq/ }],
  ['man -l unpacked/usr/share/man/man8/dnsmasq.8.gz', { where: 'empty', says: /--dhcp-range/ }],
]);

/** Documents whose commands are all run, in their order, by a test of their own. */
export const runWhole: ReadonlyMap<string, string> = new Map([
  ['docs/coreos.md', 'test/docs/coreos.test.ts'],
  ['docs/operations.md', 'test/vm/documents.test.ts'],
]);

/** The commands of the README about Fedora, in their order, which test/docs/fedora.test.ts runs. */
export const runOnFedora: readonly string[] = [
  'npm run build:scratch -- --distro fedora',
  'npm run build:fedora',
  'npm run compare',
];

/** The commands of the README that need systemd, in their order, which test/vm/documents.test.ts runs. */
export const runInMachine: readonly string[] = [
  'sudo podman load -i out/dhcpd.oci.tar',
  'sudo install -D -m 0644 config/dhcpd.conf.example /etc/dhcp/dhcpd.conf',
  'sudo npm run quadlet -- --interface eth0 --output /etc',
  'sudo systemctl daemon-reload && sudo systemctl start dhcpd',
];

/** The commands of docs/operations.md about SELinux, which test/vm/selinux.test.ts runs, and what they say. */
export const runUnderSelinux: ReadonlyMap<string, RegExp> = new Map([
  ['ls -Zd /etc/dhcp', /^system_u:object_r:container_file_t:s0 \/etc\/dhcp\n$/],
  ['sudo ausearch --message AVC --start recent', /^type=AVC .* denied /m],
]);

/** Documented commands that are part of the checks themselves, and the file that runs them. */
export const runBy: ReadonlyMap<string, string> = new Map([
  ['.ci/run', '.github/workflows/ci.yml'],
  ['npm run host:fedora', 'test/support/fedora-stand-in.ts'],
  ['npm run host:vm', 'test/vm/machine.ts'],
  ['npx dhcpd-scratch lock images/fedora/dhcpd.yaml', 'test/docs/fedora.test.ts'],
]);

/** Whether `.ci/run` does everything that the command does, by itself or inside its npm scripts. */
export function isPartOfCi(command: string): boolean {
  const script = readFileSync(join(project, '.ci/run'), 'utf8');
  const steps = [...script.matchAll(/^ *step '[^']+' (.+)$/gm)].map(
    ([, step = '']) => step.split(' -- ')[0] ?? '',
  );
  const parts = steps.flatMap((step) => [step, ...partsOf(step)]);
  const isRun = (part: string): boolean =>
    parts.includes(part) || (/^vitest run test\/[\w/]+$/.test(part) && parts.includes('vitest run'));
  return isRun(command) || (partsOf(command).length > 0 && partsOf(command).every(isRun));
}

/** What npm runs for `npm run NAME` or `npm test`, down to commands that are no npm scripts. */
function partsOf(command: string): readonly string[] {
  const name = /^npm (?:run )?([\w:]+)$/.exec(command)?.[1];
  const body = name === undefined ? undefined : npmScripts()[name];
  return (body?.split(' && ') ?? []).flatMap((part) => {
    const inner = partsOf(part);
    return inner.length === 0 ? [part] : inner;
  });
}

export function npmScripts(): Readonly<Record<string, string>> {
  const manifest = JSON.parse(readFileSync(join(project, 'package.json'), 'utf8')) as {
    readonly scripts: Readonly<Record<string, string>>;
  };
  return manifest.scripts;
}
