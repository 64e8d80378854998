import { failedCommand, type Exec } from '../support/exec.js';
import type { Lab, LabHost } from './lab.js';

/** One line of clients.js. */
export interface ClientEvent {
  readonly event: 'ack' | 'nak' | 'none' | 'release' | 'held' | 'lost';
  readonly how?: 'lease' | 'renew' | 'reboot' | 'discover';
  readonly mac: string;
  readonly address?: string;
  readonly server?: string;
  /** Of the lease. */
  readonly seconds?: number;
}

export interface ManyClients {
  readonly exec: Exec;
  /** Path of the compiled clients.js. */
  readonly program: string;
  readonly lab: Lab;
  /** Default: the lab's first client. */
  readonly host?: LabHost;
  readonly signal: AbortSignal;
}

/** Runs clients.js to its end. That clients were refused or heard nothing is in the events. */
export async function runClients(
  { exec, program, lab, host = lab.client, signal }: ManyClients,
  ...args: readonly string[]
): Promise<readonly ClientEvent[]> {
  try {
    const { stdout } = await exec({
      argv: ['ip', 'netns', 'exec', host.namespace, process.execPath, program, ...args],
      environment: lab.environment,
      timeout: 60_000,
      signal,
    });
    return eventsIn(stdout);
  } catch (error) {
    // Exit code 1 says that an exchange has failed, when the last line is there; every other end is a failure of the program.
    const said = failedCommand(error)?.stdout ?? '';
    if (!/^{"event":"end"/m.test(said)) throw error;
    return eventsIn(said);
  }
}

function eventsIn(stdout: string): readonly ClientEvent[] {
  return (
    stdout
      .split('\n')
      .filter((line) => line !== '' && !line.startsWith('{"event":"end"'))
      // The program's own promise of what it prints.
      .map((line) => JSON.parse(line) as ClientEvent)
  );
}
