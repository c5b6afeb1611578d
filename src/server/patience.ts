/** How long is waited for the store, from a request down to one attempt: whoever waits has more time than what it waits for. */
import type { ServerConfig } from './config.js';

export interface Patience {
  /** Until one attempt of one operation begins to answer: two of them fit into a request. */
  attemptSeconds: number;
  /** Until a request that waits for the store answers STORAGE: before `requestSeconds` ends it. */
  answerSeconds: number;
  /** Until what nobody waits for, a session's own writing, is given up and the session is paused. */
  storeRetrySeconds: number;
  /** For all that a shutdown writes: what is left of `shutdownSeconds` is for streams, threads and devices. */
  storeFarewellSeconds: number;
}

export function patienceOf(
  config: Pick<ServerConfig, 'requestSeconds' | 'storeRetrySeconds' | 'shutdownSeconds'>,
): Patience {
  const answerSeconds = 0.8 * config.requestSeconds;
  return {
    attemptSeconds: Math.min(15, answerSeconds / 2),
    answerSeconds,
    storeRetrySeconds: config.storeRetrySeconds,
    storeFarewellSeconds: 0.6 * config.shutdownSeconds,
  };
}
