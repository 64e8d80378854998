import { checkCommand } from './check-command.js';
import { configWatch } from './config-watch.js';
import { containerUnit } from './container-unit.js';
import { leaseRoom } from './lease-room.js';
import { lanNetwork, shimService } from './macvlan.js';
import { has } from './podman-version.js';
import { isLocal, type Service } from './service.js';
import type { UnitOptions } from './unit-options.js';
import { unitText, type UnitFile } from './unit-text.js';

/** Every file that a host needs to run the service, in a fixed order. */
export function generateUnits(service: Service, options: UnitOptions): readonly UnitFile[] {
  return [
    containerUnit(service, options),
    ...imageUnit(service, options),
    ...volumeUnit(service, options),
    ...lanNetwork(service, options),
    ...shimService(service, options.macvlan),
    ...leaseRoom(service, checkCommand('reserve', service, { pull: false })),
    ...configWatch(service, checkCommand('reload', service, { pull: false })),
    { path: 'dhcpd-scratch/check', text: options.script, notes: [] },
  ];
}

/**
 * Files that other options would have given: left by an earlier run, they would still count.
 *
 * @param volume name of the volume of the leases, if there could be one
 */
export function otherPaths(
  name: string,
  volume: string | undefined,
  files: readonly UnitFile[],
): readonly string[] {
  const possible = [
    `containers/systemd/${name}.image`,
    ...(volume === undefined ? [] : [`containers/systemd/${volume}.volume`]),
    `containers/systemd/${name}-lan.network`,
    ...['shim.service', 'room.path', 'room.timer', 'room.service', 'config.path', 'config.service'].map(
      (ending) => `systemd/system/${name}-${ending}`,
    ),
  ];
  return possible.filter((path) => !files.some((file) => file.path === path));
}

function imageUnit(service: Service, { podman }: UnitOptions): readonly UnitFile[] {
  if (!has(podman, 'Policy')) return [];
  const policy = isLocal(service) ? 'never' : 'missing';
  const text = unitText([
    ['Unit', [['Description', `Image of ${service.title}`]]],
    [
      'Image',
      [
        ['Image', service.image],
        ['Policy', policy],
      ],
    ],
    // The server waits for its first image as long as that takes; once it is here, nothing is asked of the network.
    [
      'Service',
      policy === 'never'
        ? []
        : [
            ['Restart', 'on-failure'],
            ['RestartSec', '30'],
            ['RestartMode', 'direct'],
          ],
    ],
  ]);
  return [{ path: `containers/systemd/${service.name}.image`, text, notes: [] }];
}

function volumeUnit({ state, title }: Service, { podman }: UnitOptions): readonly UnitFile[] {
  if (state === undefined || !('volume' in state.from) || !has(podman, 'VolumeName')) return [];
  const { volume } = state.from;
  const text = unitText([
    ['Unit', [['Description', `Leases of ${title}`]]],
    ['Volume', [['VolumeName', volume]]],
  ]);
  return [{ path: `containers/systemd/${volume}.volume`, text, notes: [] }];
}
