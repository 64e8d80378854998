import { cannot } from './errors.js';

/**
 * The time that outputs are to have, where the user says so (reproducible-builds.org, SOURCE_DATE_EPOCH).
 *
 * @returns seconds since the epoch
 * @throws ToolError with exit code 2 for what is no such number
 */
export function sourceDateEpoch(
  environment: Readonly<Record<string, string | undefined>>,
): number | undefined {
  const given = environment['SOURCE_DATE_EPOCH'];
  if (given === undefined || given === '') return undefined;
  if (!/^\d{1,11}$/.test(given)) {
    throw cannot('use', `SOURCE_DATE_EPOCH=${given}`, 'it is no number of seconds since 1970', {
      hint: 'unset it, or give it whole seconds, such as those of date +%s',
      exitCode: 2,
    });
  }
  return Number(given);
}
