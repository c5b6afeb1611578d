/** Work that nobody waits for and that must be done all the same, however long the store fails. */

import type { Logger } from '../policy.js';
import type { Vault } from '../stored/vault.js';

/** Between two attempts, in milliseconds, unless the store is known to work before. */
const RETRY = 30_000;

export interface PersistenceParts {
  vault: Pick<Vault, 'rest'>;
  logger: Logger;
  /** For the log, when an attempt failed. */
  what: string;
  /** Ends the attempts. */
  signal: AbortSignal;
}

/** Until an attempt succeeds. Never rejects. */
export async function untilDone(
  work: () => Promise<void>,
  { vault, logger, what, signal }: PersistenceParts,
): Promise<void> {
  while (!signal.aborted) {
    try {
      return await work();
    } catch (error) {
      logger.warn({ error }, `${what}; trying again`);
    }
    await vault.rest(RETRY, signal);
  }
}
