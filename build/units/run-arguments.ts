import type { Service } from './service.js';

/**
 * Options of podman-run(1) and what follows them, for a container that may do no more than the units let it. Name,
 * network and logging are the caller's. Private directories have the container's own SELinux label, shared ones that of
 * all containers.
 */
export function runArguments(service: Service): {
  readonly options: readonly string[];
  /** Arguments after the image. */
  readonly command: readonly string[];
} {
  const { account, capabilities, config, state, command } = service;
  return {
    options: [
      ...['--user', `${account}:${account}`],
      ...['--cap-drop', 'all', ...capabilities.flatMap((name) => ['--cap-add', name])],
      ...['--security-opt', 'no-new-privileges', '--read-only', '--read-only-tmpfs=false'],
      ...(config === undefined ? [] : ['--volume', `${config.host}:${config.container}:ro,z`]),
      ...(state === undefined ? [] : ['--volume', `${stateSource(service)}:${state.container}:Z`]),
    ],
    command,
  };
}

/** Volume or directory, as `--volume` names it. */
export function stateSource({ state }: Service): string {
  if (state === undefined) return '';
  return 'volume' in state.from ? state.from.volume : state.from.directory;
}
