import { keepsRoom, type Service } from './service.js';

/** Where the script is on the host. */
const checkScript = '/etc/dhcpd-scratch/check';

/** Command line of the script (quadlet/dhcpd-scratch/check) for one service. */
export function checkCommand(
  mode: 'start' | 'ready' | 'reload' | 'config' | 'reserve',
  service: Service,
  options: { readonly pull: boolean },
): readonly string[] {
  const script = ['/bin/sh', checkScript, mode, '--name', service.name];
  const interfaces = service.interfaces.flatMap((name) => ['--interface', name]);
  if (mode === 'reserve') return [...script, ...state(service)];
  if (mode === 'ready') {
    return [...script, ...interfaces, ...sockets(service), ...(keepsRoom(service) ? state(service) : [])];
  }
  return [
    ...[...script, '--image', service.image, '--account', String(service.account)],
    ...(options.pull ? ['--pull'] : []),
    ...(mode === 'config' ? [] : interfaces),
    ...configuration(service),
    ...(mode === 'config' ? [] : state(service)),
    ...(service.check.length === 0 ? [] : ['--', ...service.check]),
  ];
}

function configuration({ config, program }: Service): readonly string[] {
  if (config === undefined) return [];
  const place = ['--config', config.host, '--config-in', config.container];
  // The one language of subnets that the script knows.
  return program === 'dhcpd' ? [...place, '--subnets', `${config.container}/dhcpd.conf`] : place;
}

function state({ state }: Service): readonly string[] {
  if (state === undefined) return [];
  return [
    ...('volume' in state.from ? ['--volume', state.from.volume] : ['--state', state.from.directory]),
    ...state.files.flatMap((file) => ['--file', file]),
  ];
}

/** What a server holds that serves. dhcpd reads and writes packets itself; others leave that to the kernel. */
function sockets({ ports, program }: Service): readonly string[] {
  return [
    ...(ports.includes('67/udp') ? ['--port', '67'] : []),
    ...(program === 'dhcpd' ? ['--packet'] : []),
  ];
}
