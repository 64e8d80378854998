import { has } from './podman-version.js';
import type { Service } from './service.js';
import type { Macvlan, UnitOptions } from './unit-options.js';
import { commandLine, deviceUnit, literal, unitText, type UnitFile } from './unit-text.js';

/** Bytes of an interface's name that the kernel has room for. */
const longestName = 15;

export function shimName(parent: string): string {
  return `shim-${parent}`.slice(0, longestName);
}

export function shimUnit(name: string): string {
  return `${name}-shim.service`;
}

export function lanNetwork({ name, title }: Service, { macvlan, podman }: UnitOptions): readonly UnitFile[] {
  if (macvlan === undefined) return [];
  const notes = [
    `containers join with Network=${name}-lan.network; the addresses need netavark-dhcp-proxy.socket`,
    ...(has(podman, 'NetworkName') ? [] : [`Podman calls the network systemd-${name}-lan`]),
  ];
  const text = unitText(
    [
      ['Unit', [['Description', literal(`Network whose addresses ${title} hands out`)]]],
      [
        'Network',
        [
          ...(has(podman, 'NetworkName') ? [['NetworkName', `${name}-lan`] as const] : []),
          ['Driver', 'macvlan'],
          ['IPAMDriver', 'dhcp'],
          ['Options', literal(`parent=${macvlan.parent}`)],
        ],
      ],
    ],
    notes,
  );
  return [{ path: `containers/systemd/${name}-lan.network`, text, notes }];
}

export function shimService({ name, title }: Service, macvlan: Macvlan | undefined): readonly UnitFile[] {
  if (macvlan === undefined) return [];
  const { parent, shimAddress } = macvlan;
  const shim = shimName(parent);
  const device = deviceUnit(parent);
  const ip = (...words: readonly string[]): string => commandLine(['/usr/sbin/ip', ...words]);
  const text = unitText([
    [
      'Unit',
      [
        ['Description', literal(`Interface of the host for containers on ${parent}, for ${title}`)],
        ['Wants', device],
        ['After', device],
        ['StartLimitIntervalSec', '0'],
      ],
    ],
    [
      'Service',
      [
        ['Type', 'oneshot'],
        ['RemainAfterExit', 'yes'],
        ['ExecStartPre', `-${ip('link', 'delete', 'dev', shim)}`],
        ['ExecStart', ip('link', 'add', 'link', parent, 'name', shim, 'type', 'macvlan', 'mode', 'bridge')],
        ['ExecStart', ip('address', 'add', shimAddress, 'dev', shim)],
        ['ExecStart', ip('link', 'set', 'dev', shim, 'up')],
        ['ExecStop', ip('link', 'delete', 'dev', shim)],
        ['Restart', 'on-failure'],
        ['RestartSec', '5'],
      ],
    ],
  ]);
  return [{ path: `systemd/system/${shimUnit(name)}`, text, notes: [] }];
}
