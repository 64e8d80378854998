import { keepsRoom, type Service } from './service.js';
import { commandLine, literal, unitText, type UnitFile } from './unit-text.js';

export function roomTimer(name: string): string {
  return `${name}-room.timer`;
}

/**
 * Units that keep room on the disk for the next leases, as long as the server runs: dhcpd acknowledges what it could not
 * write down.
 *
 * @param command what takes the room
 */
export function leaseRoom(service: Service, command: readonly string[]): readonly UnitFile[] {
  if (!keepsRoom(service)) return [];
  const { name, title } = service;
  const description = ['Description', literal(`Keeps room for leases of ${title}`)] as const;
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
    { path: `systemd/system/${roomTimer(name)}`, text: timer, notes: [] },
    { path: `systemd/system/${name}-room.service`, text: once, notes: [] },
  ];
}
