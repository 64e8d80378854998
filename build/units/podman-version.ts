import { cannot } from '../support/errors.js';

/** Podman's version, as far as Quadlet's language depends on it. */
export interface PodmanVersion {
  readonly major: number;
  readonly minor: number;
}

/** What is assumed of a host that nobody has said anything about: the newest that this program knows. */
export const newestPodman: PodmanVersion = { major: 6, minor: 0 };
const oldestPodman: PodmanVersion = { major: 4, minor: 4 };

/**
 * The first version that has each thing; what is not named here, 4.4 had already. Taken from Podman's release notes and
 * its `pkg/systemd/quadlet/quadlet.go`, and from the `downgrade` functions of podlet (`src/quadlet/container.rs` and its
 * neighbours), which list the keys of each version up to 5.0.
 */
const since = {
  LogDriver: { major: 4, minor: 5 },
  /** netavark's DHCP proxy, which `IPAMDriver=dhcp` needs. */
  dhcpNetworks: { major: 4, minor: 5 },
  AutoUpdate: { major: 4, minor: 6 },
  Pull: { major: 4, minor: 6 },
  NetworkName: { major: 4, minor: 7 },
  VolumeName: { major: 4, minor: 7 },
  ReadOnlyTmpfs: { major: 4, minor: 8 },
  /** In a .image file; such files are read since 4.8, and pulled at every start before there was this key. */
  Policy: { major: 5, minor: 6 },
} satisfies Record<string, PodmanVersion>;

export type Feature = keyof typeof since;

export function has(version: PodmanVersion, feature: Feature): boolean {
  return !isOlder(version, since[feature]);
}

/** Such as `5.6`. */
export function firstWith(feature: Feature): string {
  return versionText(since[feature]);
}

export function versionText({ major, minor }: PodmanVersion): string {
  return `${major}.${minor}`;
}

/** @param text such as `5.4`, `5.4.2` or RHEL's `4.9.4-rhel` @throws ToolError with exit code 2 */
export function parsePodmanVersion(text: string): PodmanVersion {
  const [, major, minor] =
    /^([1-9][0-9]?)\.([0-9]{1,3})(?:\.[0-9]{1,3}(?:[-+~][0-9A-Za-z.+~-]+)?)?$/.exec(text) ?? [];
  const wrong = (reason: string): Error =>
    cannot('write', `units for Podman ${JSON.stringify(text)}`, reason, {
      hint: '`podman --version` prints it, such as 5.4',
      exitCode: 2,
    });
  if (major === undefined || minor === undefined) throw wrong('it is no version');
  const version = { major: Number(major), minor: Number(minor) };
  if (isOlder(version, oldestPodman)) throw wrong('Quadlet came with Podman 4.4');
  return version;
}

function isOlder(a: PodmanVersion, b: PodmanVersion): boolean {
  return a.major < b.major || (a.major === b.major && a.minor < b.minor);
}
