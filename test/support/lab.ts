import * as smoke from '../../build/smoke/lab.js';
import type { Exec } from '../../build/support/exec.js';

export { serverAddress, type Lab } from '../../build/smoke/lab.js';

/** The environment of every program in the lab. */
export const labEnvironment = smoke.labEnvironment(process.env);

/** A lab that is also taken away when the tests are told to stop. A process that is killed leaves it to the next lab. */
export async function openLab(exec: Exec): Promise<smoke.Lab> {
  const lab = await smoke.openLab({ exec, environment: process.env });
  const stop = (signal: NodeJS.Signals): void => {
    void close().finally(() => process.kill(process.pid, signal));
  };
  const close = async (): Promise<void> => {
    process.off('SIGINT', stop);
    process.off('SIGTERM', stop);
    await lab.close();
  };
  process.once('SIGINT', stop);
  process.once('SIGTERM', stop);
  return { ...lab, close };
}
