import { keepsRoom, type Service } from './service.js';
import { commandLine, literal, unitText, type UnitFile } from './unit-text.js';

/** What starts and stops with the server, and says when room is to be taken. */
export function roomUnits(name: string): readonly string[] {
  return [`${name}-room.path`, `${name}-room.timer`];
}

/** Where the script notes which directory a volume is. */
const notes = '/run/dhcpd-scratch';

/**
 * Units that keep room on the disk for the next leases, as long as the server runs: dhcpd acknowledges what it could not
 * write down. The path unit takes it at once when the server has written its file anew, the timer when it is used up.
 *
 * @param command what takes the room
 */
export function leaseRoom(service: Service, command: readonly string[]): readonly UnitFile[] {
  if (!keepsRoom(service)) return [];
  const { name, title, state } = service;
  const directory =
    state === undefined || 'volume' in state.from ? `${notes}/${name}.leases` : state.from.directory;
  const description = ['Description', literal(`Keeps room for leases of ${title}`)] as const;
  const path = unitText([
    [
      'Unit',
      [
        description,
        ['PartOf', `${name}.service`],
        ['After', `${name}.service`],
        // Path units come before all services otherwise, and so before the server.
        ['DefaultDependencies', 'no'],
      ],
    ],
    // Another file under this name, or one that was closed: not each record that is written.
    ['Path', [['PathChanged', `${directory.replaceAll('%', '%%')}/dhcpd.leases`]]],
  ]);
  const timer = unitText([
    // It stops with the server.
    ['Unit', [description, ['PartOf', `${name}.service`]]],
    [
      'Timer',
      [
        ['OnActiveSec', '10'],
        ['OnUnitInactiveSec', '30'],
        ['AccuracySec', '5'],
      ],
    ],
  ]);
  const once = unitText([
    ['Unit', [description, ['StartLimitIntervalSec', '0']]],
    [
      'Service',
      [
        ['Type', 'oneshot'],
        ['ExecStart', commandLine(command)],
        // Twice a minute its start and end would fill the journal; what the script says stays.
        ['LogLevelMax', 'notice'],
        ['SyslogLevel', 'warning'],
      ],
    ],
  ]);
  return [
    { path: `systemd/system/${name}-room.path`, text: path, notes: [] },
    { path: `systemd/system/${name}-room.timer`, text: timer, notes: [] },
    { path: `systemd/system/${name}-room.service`, text: once, notes: [] },
  ];
}
