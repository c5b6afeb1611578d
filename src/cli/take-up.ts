/** What a server does beside serving when it begins: it tries the store out and takes up what earlier servers left. */
import { setTimeout as delay } from 'node:timers/promises';
import { type Logger, type ObjectStore, type Sessions, StoreError } from '../sessions/index.js';
import { probe } from '../storage/index.js';

export interface TakeUpParts {
  sessions: Pick<Sessions, 'start'>;
  store: ObjectStore;
  logger: Logger;
  /** Ends the attempts. */
  signal: AbortSignal;
  /** The store will not do, whatever time passes; the message is for people. */
  onUnusable: (message: string) => void;
}

const FIRST_WAIT = 500;
const LONGEST_WAIT = 10_000;

/**
 * Goes on until the store lets it happen; never rejects. A store that cannot be used is given up at once. One that is full cannot
 * be tried out, but the sessions begin: what they remove makes room.
 */
export async function takeUp({ sessions, store, logger, signal, onUnusable }: TakeUpParts): Promise<void> {
  let [tried, begun] = [false, false];
  for (let wait = FIRST_WAIT; !signal.aborted; wait = Math.min(2 * wait, LONGEST_WAIT)) {
    try {
      tried ||= await tryOut(store);
      if (!begun) await sessions.start();
      begun = true;
      if (tried) return;
    } catch (error) {
      if (error instanceof StoreError && error.code === 'UNUSABLE') {
        logger.error({ error }, 'the store cannot be used');
        return onUnusable('The store cannot be used; see the log for the reason.');
      }
      if (signal.aborted) return;
      logger.warn({ error }, 'cannot take over sessions of earlier servers from the store; trying again');
    }
    await delay(wait, undefined, { signal, ref: false }).catch(() => undefined);
  }
}

/** False when the store is full. */
async function tryOut(store: ObjectStore): Promise<boolean> {
  try {
    await probe(store);
    return true;
  } catch (error) {
    if (error instanceof StoreError && error.code === 'NO_SPACE') return false;
    throw error;
  }
}
