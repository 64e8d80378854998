import { parseArchitecture, type Architecture } from '../../build/support/architecture.js';

/** The architecture of the machine that runs the tests. */
export const hostArchitecture: Architecture = parseArchitecture(process.arch);

/** Of the two that definitions are built and tested for, the one that this machine is not. */
export const otherArchitecture: Architecture = hostArchitecture === 'aarch64' ? 'x86_64' : 'aarch64';
