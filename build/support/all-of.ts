/**
 * Like Promise.all, but it waits for all of them also when one fails: nothing goes on behind the back of who tidies up
 * after the failure.
 */
export async function allOf<Result>(work: readonly Promise<Result>[]): Promise<readonly Result[]> {
  await Promise.allSettled(work);
  return Promise.all(work);
}
