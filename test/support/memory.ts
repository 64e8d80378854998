import { expect } from 'vitest';

/** Bytes that reading hostile input may add to the most memory that the process has ever had (getrusage(2)). */
const allowance = 400 * 1024 ** 2;
const before = peak();

/** Expects that this process has never needed much more memory than when the test file was loaded. */
export function expectModestMemory(): void {
  expect(peak() - before).toBeLessThan(allowance);
}

function peak(): number {
  return process.resourceUsage().maxRSS * 1024;
}
