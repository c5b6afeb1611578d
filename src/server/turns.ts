import { setImmediate as nextTurn } from 'node:timers/promises';

/**
 * Turns of the event loop from one beginning to the next. It takes one new connection a turn: if it began an operation
 * in each, a crowd's connections would wait in the system's queue, and with them everybody's, `/healthz` included.
 */
const APART = 4;

/** Lets operations begin one after the other, with room for everything else between them. */
export class Turns {
  private last: Promise<void> = Promise.resolve();

  next(): Promise<void> {
    this.last = this.last.then(pass);
    return this.last;
  }
}

async function pass(): Promise<void> {
  for (let turn = 0; turn < APART; turn++) await nextTurn();
}
