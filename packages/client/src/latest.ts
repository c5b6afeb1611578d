import { wait } from './time.js';

/**
 * Runs `work` for the newest value only: one at a time, at least so far apart. What a newer value replaced before its turn
 * answers undefined. For prompts that are typed while the video plays.
 */
export function latest<Value, Result>(
  work: (value: Value) => Promise<Result>,
  milliseconds: number,
): (value: Value) => Promise<Result | undefined> {
  let waiting: { value: Value; resolve: (result: Promise<Result> | undefined) => void } | undefined;
  let busy = false;

  const run = async (): Promise<void> => {
    busy = true;
    while (waiting) {
      const { value, resolve } = waiting;
      waiting = undefined;
      const result = work(value);
      resolve(result);
      await Promise.all([result.catch(() => undefined), wait(milliseconds)]); // Who asked is told of the failure.
    }
    busy = false;
  };

  return (value) =>
    new Promise<Result | undefined>((resolve) => {
      waiting?.resolve(undefined);
      waiting = { value, resolve };
      if (!busy) void run();
    });
}
