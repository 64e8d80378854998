export { leaseByDhclient, leaseByUdhcpc, type Lease } from '../../build/smoke/real-clients.js';
