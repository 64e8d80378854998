import type { Check } from '../check.js';
import { damagedLeaseChecks } from './damaged-leases.js';
import { firewallCheck } from './firewall.js';
import { fullDiskCheck } from './full-disk.js';
import { leaseChecks } from './lease.js';
import { networkChecks } from './network.js';
import { recordedFirstCheck } from './recorded-first.js';
import { rightsChecks } from './rights.js';
import { sameAddressChecks } from './same-address.js';
import { startChecks } from './start.js';

/** Every check, in the order in which they run. */
export const allChecks: readonly Check[] = [
  ...startChecks,
  ...leaseChecks,
  recordedFirstCheck,
  ...sameAddressChecks,
  ...networkChecks,
  firewallCheck,
  ...rightsChecks,
  ...damagedLeaseChecks,
  fullDiskCheck,
];
