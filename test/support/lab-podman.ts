import type { Lab } from '../../build/smoke/lab.js';
import * as smoke from '../../build/smoke/podman.js';
import * as emulation from '../../build/support/emulation.js';
import type { Architecture } from '../../build/support/architecture.js';
import type { Exec } from '../../build/support/exec.js';
import { hostArchitecture } from './host.js';

export type { LabContainer, LabPodman, PodmanSettings } from '../../build/smoke/podman.js';

/** Podman in the lab, on the machine that runs the tests. */
export function openPodman(exec: Exec, lab: Lab): Promise<smoke.LabPodman> {
  return smoke.openPodman({ exec, environment: process.env }, lab);
}

/** Whether this host runs programs of the architecture. */
export function canRun(architecture: Architecture): boolean {
  return emulation.canRun(architecture, hostArchitecture);
}
