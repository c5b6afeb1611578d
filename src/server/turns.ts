import { setImmediate as nextTurn } from 'node:timers/promises';

/**
 * Turns of the event loop from one beginning to the next. It takes one new connection a turn: if it began an operation
 * in each, a crowd's connections would wait in the system's queue, and with them everybody's, `/healthz` included.
 */
const APART = 4;

/**
 * Lets operations begin one after the other, with room for everything else between them, and addresses in turn: whoever
 * asks for little does not wait for all that somebody else asked for before.
 */
export class Turns {
  /** By address; who is next stands first. */
  private readonly waiting = new Map<string, (() => void)[]>();
  private passing = false;

  next(address: string): Promise<void> {
    return new Promise((begin) => {
      const queue = this.waiting.get(address);
      if (queue) queue.push(begin);
      else this.waiting.set(address, [begin]);
      if (!this.passing) void this.pass();
    });
  }

  private async pass(): Promise<void> {
    this.passing = true;
    while (this.waiting.size > 0) {
      for (let turn = 0; turn < APART; turn++) await nextTurn();
      for (const [address, queue] of this.waiting) {
        const begin = queue.shift();
        this.waiting.delete(address);
        if (queue.length > 0) this.waiting.set(address, queue);
        begin?.();
        break;
      }
    }
    this.passing = false;
  }
}
