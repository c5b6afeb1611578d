/** Work that nobody waits for and that must be done all the same, however long the store fails. */

import type { Logger } from '../policy.js';
import type { Clock } from '../ports.js';

/** Between two attempts, in milliseconds. */
const RETRY = 5_000;

export interface PersistenceParts {
  clock: Clock;
  logger: Logger;
  /** For the log, when an attempt failed. */
  what: string;
  /** Ends the attempts. */
  signal: AbortSignal;
}

/** Until an attempt succeeds. Never rejects. */
export async function untilDone(
  work: () => Promise<void>,
  { clock, logger, what, signal }: PersistenceParts,
): Promise<void> {
  while (!signal.aborted) {
    try {
      return await work();
    } catch (error) {
      logger.warn({ error }, `${what}; trying again`);
    }
    await clock.sleep(RETRY, signal);
  }
}
