import type { Service } from './service.js';
import { commandLine, literal, unitText, type UnitFile } from './unit-text.js';

/**
 * Units that look at the configuration whenever it changes: a good one restarts the server, a bad one leaves it alone.
 *
 * @param command what looks
 */
export function configWatch(
  { name, title, config }: Service,
  command: readonly string[],
): readonly UnitFile[] {
  if (config === undefined) return [];
  const path = unitText([
    ['Unit', [['Description', literal(`Watches the configuration of ${title}`)]]],
    ['Path', [['PathChanged', config.host.replaceAll('%', '%%')]]],
  ]);
  const service = unitText([
    [
      'Unit',
      [
        ['Description', literal(`Restarts ${title} when its new configuration is good`)],
        // An editor that saves often is no reason to stop looking.
        ['StartLimitIntervalSec', '0'],
      ],
    ],
    [
      'Service',
      [
        ['Type', 'oneshot'],
        ['ExecStart', commandLine(command)],
      ],
    ],
  ]);
  return [
    { path: `systemd/system/${name}-config.path`, text: path, notes: [] },
    { path: `systemd/system/${name}-config.service`, text: service, notes: [] },
  ];
}
