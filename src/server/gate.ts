import type { SubscriberGate } from '../api/index.js';

/** Counts per key, subscriptions of a session or sockets of an address, and refuses those beyond the bound. */
export class CountingGate implements SubscriberGate {
  private readonly counts = new Map<string, number>();
  private sum = 0;

  constructor(private readonly perKey: number) {}

  get total(): number {
    return this.sum;
  }

  enter(key: string): (() => void) | undefined {
    const count = this.counts.get(key) ?? 0;
    if (count >= this.perKey) return undefined;
    this.add(key, 1);
    let inside = true;
    return () => {
      if (inside) this.add(key, -1);
      inside = false;
    };
  }

  private add(key: string, difference: number): void {
    const count = (this.counts.get(key) ?? 0) + difference;
    this.sum += difference;
    if (count > 0) this.counts.set(key, count);
    else this.counts.delete(key);
  }
}
