/** Wrong credentials, counted by the address that sends them: who guesses is let guess slowly. */

import { LRUCache } from 'lru-cache';
import type { Meter } from '../../sessions/index.js';

const WINDOW_SECONDS = 60;
/** Addresses that are remembered to have sent too many; the meter has the counts. */
const REMEMBERED = 10_000;

export class FailedLogins {
  private readonly until = new LRUCache<string, number>({ max: REMEMBERED });

  constructor(
    private readonly meter: Meter,
    /** Per minute; 0 for no bound. */
    private readonly most: number,
    private readonly now: () => number = () => performance.now(),
  ) {}

  /** Seconds until it may try again; undefined where it may now. */
  waitOf(address: string): number | undefined {
    const left = (this.until.get(address) ?? -Infinity) - this.now();
    return left > 0 ? Math.ceil(left / 1_000) : undefined;
  }

  async note(address: string): Promise<void> {
    if (this.most === 0 || this.waitOf(address) !== undefined) return;
    const rule = { name: 'address:logins', most: this.most, seconds: WINDOW_SECONDS };
    const wait = await this.meter.take(rule, address, 1);
    if (wait !== undefined) this.until.set(address, this.now() + wait * 1_000);
  }
}
