/** Chance that can be had again. */
export interface Dice {
  readonly seed: number;
  /** The next number from 0 to 1 (mulberry32). */
  readonly roll: () => number;
}

/** Thrown anew each time, or as POWER_SEED says. */
export function takeDice(): Dice {
  const seed = numberFrom('POWER_SEED', Date.now() % 1_000_000);
  let state = seed;
  return {
    seed,
    roll: () => {
      state = (state + 0x6d2b79f5) | 0;
      let mixed = Math.imul(state ^ (state >>> 15), state | 1);
      mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
      return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
    },
  };
}

/** A positive number of the environment. @throws Error */
export function numberFrom(name: string, otherwise: number): number {
  const text = process.env[name];
  if (text === undefined) return otherwise;
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < 1) throw new Error(`${name} takes a number`);
  return value;
}
