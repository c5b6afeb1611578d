import type { Clock } from '../../src/sessions/index.js';

interface Sleeper {
  at: number;
  wake: () => void;
}

/** A clock that moves only when told to, or when `until` finds everybody asleep. */
export class VirtualClock implements Clock {
  /** Not the wall clock's: who takes one for the other is found out. */
  private time = 5_000_000;
  private ahead = 1_800_000_000_000;
  private sleepers: Sleeper[] = [];

  now(): number {
    return this.time + this.ahead;
  }

  monotonic(): number {
    return this.time;
  }

  /** Somebody sets the wall clock. */
  jump(milliseconds: number): void {
    this.ahead += milliseconds;
  }

  sleep(milliseconds: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      if (signal?.aborted) return resolve();
      const end = () => {
        this.sleepers = this.sleepers.filter((other) => other !== sleeper);
        signal?.removeEventListener('abort', end);
        resolve();
      };
      const sleeper = { at: this.time + Math.max(0, milliseconds), wake: end };
      this.sleepers.push(sleeper);
      signal?.addEventListener('abort', end);
    });
  }

  /** Lets time pass until the promise settles: whenever nothing else happens, the next sleeper wakes. */
  async until<T>(promise: Promise<T>, limitMilliseconds = 3_600_000): Promise<T> {
    let settled = false;
    const end = () => (settled = true);
    promise.then(end, end);
    const giveUpAt = this.time + limitMilliseconds;
    for (;;) {
      await quiescence();
      if (settled) return promise;
      if (this.sleepers.length === 0) throw new Error('Nothing will ever happen: nobody sleeps.');
      if (this.time >= giveUpAt) throw new Error(`Did not happen within ${limitMilliseconds} ms of virtual time.`);
      this.wakeNext(giveUpAt);
    }
  }

  /** Lets so much time pass. */
  async advance(milliseconds: number): Promise<void> {
    await this.until(this.sleep(milliseconds));
  }

  private wakeNext(limit: number): void {
    const at = Math.min(limit, Math.max(this.time, Math.min(...this.sleepers.map((sleeper) => sleeper.at))));
    this.time = at;
    const due = this.sleepers.filter((sleeper) => sleeper.at <= at);
    this.sleepers = this.sleepers.filter((sleeper) => sleeper.at > at);
    for (const { wake } of due) wake();
  }
}

/** Everything that can happen without time passing has happened. */
export async function quiescence(): Promise<void> {
  for (let i = 0; i < 3; i++) await new Promise((resolve) => setImmediate(resolve));
}
