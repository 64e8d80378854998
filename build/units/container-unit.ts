import { checkCommand } from './check-command.js';
import { roomUnits } from './lease-room.js';
import { shimName, shimUnit } from './macvlan.js';
import { firstWith, has, versionText } from './podman-version.js';
import { stateSource } from './run-arguments.js';
import { isLocal, keepsRoom, type Service } from './service.js';
import type { UnitOptions } from './unit-options.js';
import { commandLine, deviceUnit, literal, unitText, type Section, type UnitFile } from './unit-text.js';

type Lines = Section[1];

/** The .container file (podman-systemd.unit(5)): the rights of run-arguments.ts in Quadlet's words. */
export function containerUnit(service: Service, options: UnitOptions): UnitFile {
  const notes = [...missing(service, options), ...replaced(service, options), ...pinned(service)];
  const text = unitText(
    [
      ['Unit', unitLines(service, options)],
      ['Container', containerLines(service, options)],
      ['Service', serviceLines(service, options)],
      ['Install', [['WantedBy', 'multi-user.target']]],
    ],
    notes,
  );
  return { path: `containers/systemd/${service.name}.container`, text, notes };
}

function unitLines(service: Service, { macvlan }: UnitOptions): Lines {
  const { name, title, url, interfaces, config } = service;
  const shim = macvlan === undefined ? undefined : shimName(macvlan.parent);
  const devices = interfaces.filter((own) => own !== shim).map(deviceUnit);
  return [
    ['Description', literal(title)],
    ...(url === undefined ? [] : [['Documentation', literal(url)] as const]),
    // The devices may come later than the network, or the network without them: both are waited for, neither for ever.
    ['Wants', ['network-online.target', ...devices].join(' ')],
    ['After', ['network-online.target', ...devices].join(' ')],
    ...(shim === undefined
      ? []
      : ([
          ['Wants', shimUnit(name)],
          ['After', shimUnit(name)],
        ] as const)),
    ...(config === undefined ? [] : [['Wants', `${name}-config.path`] as const]),
    ...(keepsRoom(service) ? [['Wants', roomUnits(name).join(' ')] as const] : []),
    ['StartLimitIntervalSec', '0'],
  ];
}

function containerLines(service: Service, { podman }: UnitOptions): Lines {
  const { name, image, account, capabilities, config, state, command } = service;
  const source =
    state !== undefined && 'volume' in state.from && has(podman, 'VolumeName')
      ? `${state.from.volume}.volume`
      : literal(stateSource(service));
  return [
    ['ContainerName', name],
    ['Image', has(podman, 'Policy') ? `${name}.image` : image],
    key(podman, 'Pull', 'never', '--pull=never'),
    ...update(service, podman),
    ['Network', 'host'],
    ['User', String(account)],
    ['Group', String(account)],
    ['DropCapability', 'all'],
    ...capabilities.map((capability) => ['AddCapability', capability] as const),
    ['NoNewPrivileges', 'true'],
    ['ReadOnly', 'true'],
    key(podman, 'ReadOnlyTmpfs', 'false', '--read-only-tmpfs=false'),
    // dhcpd as process 1 would not hear SIGTERM.
    ['RunInit', 'true'],
    key(podman, 'LogDriver', 'journald', '--log-driver=journald'),
    ...(config === undefined
      ? []
      : [['Volume', `${literal(config.host)}:${literal(config.container)}:ro,z`] as const]),
    ...(state === undefined ? [] : [['Volume', `${source}:${literal(state.container)}:Z`] as const]),
    ['Exec', commandLine(command)],
  ];
}

function serviceLines(service: Service, { podman }: UnitOptions): Lines {
  const pull = !has(podman, 'Policy') && !isLocal(service);
  return [
    ['ExecStartPre', commandLine(checkCommand('start', service, { pull }))],
    // Ready is who holds its sockets: `podman auto-update` goes back to the old image when this fails.
    ['ExecStartPost', commandLine(checkCommand('ready', service, { pull }))],
    ['Restart', 'always'],
    // 2 s at first, a minute in the end; systemd 254 and later know the steps, others stay at 2 s.
    ['RestartSec', '2'],
    ['RestartSteps', '8'],
    ['RestartMaxDelaySec', '60'],
    ['TimeoutStartSec', '900'],
    ['TimeoutStopSec', '15'],
    // The init ends as SIGTERM ends the server: a unit that was stopped has not failed.
    ['SuccessExitStatus', '143'],
  ];
}

function update(service: Service, podman: UnitOptions['podman']): Lines {
  if (isPinned(service)) return [];
  const from = isLocal(service) ? 'local' : 'registry';
  return [has(podman, 'AutoUpdate') ? ['AutoUpdate', from] : ['Label', `io.containers.autoupdate=${from}`]];
}

function isPinned({ image }: Service): boolean {
  return image.includes('@');
}

/** A key, or the option of podman-run(1) that it stands for. */
function key(
  podman: UnitOptions['podman'],
  name: 'Pull' | 'ReadOnlyTmpfs' | 'LogDriver',
  value: string,
  option: string,
): readonly [string, string] {
  return has(podman, name) ? [name, value] : ['PodmanArgs', option];
}

/** What is not there as a file. */
function missing(service: Service, { podman }: UnitOptions): readonly string[] {
  const { name, state } = service;
  return [
    ...(has(podman, 'Policy')
      ? []
      : [
          `without ${name}.image, because Policy= came with Podman ${firstWith('Policy')}: ${
            isLocal(service) ? 'load the image' : 'the check before the start gets the image'
          }`,
        ]),
    ...(has(podman, 'VolumeName') || state === undefined || !('volume' in state.from)
      ? []
      : [
          `without ${state.from.volume}.volume, because VolumeName= came with Podman ${firstWith('VolumeName')}: the first start makes the volume`,
        ]),
  ];
}

/** What is said in other words. */
function replaced(service: Service, { podman }: UnitOptions): readonly string[] {
  const names = (['LogDriver', 'Pull', 'ReadOnlyTmpfs'] as const)
    .filter((name) => !has(podman, name))
    .map((name) => `${name}= is an option in PodmanArgs=, because it came with Podman ${firstWith(name)}`);
  return has(podman, 'AutoUpdate') || isPinned(service)
    ? names
    : [
        ...names,
        `AutoUpdate= is a Label= for Podman ${versionText(podman)}, because it came with Podman ${firstWith('AutoUpdate')}`,
      ];
}

function pinned(service: Service): readonly string[] {
  return isPinned(service) ? ['without AutoUpdate=, because the digest says which image it is for good'] : [];
}
