import type { SubscriberGate } from '../api/index.js';

/** Counts subscriptions per session and refuses those beyond the bound. */
export class CountingGate implements SubscriberGate {
  private readonly counts = new Map<string, number>();
  private sum = 0;

  constructor(private readonly perSession: number) {}

  get total(): number {
    return this.sum;
  }

  enter(sessionId: string): (() => void) | undefined {
    const count = this.counts.get(sessionId) ?? 0;
    if (count >= this.perSession) return undefined;
    this.add(sessionId, 1);
    let inside = true;
    return () => {
      if (inside) this.add(sessionId, -1);
      inside = false;
    };
  }

  private add(sessionId: string, difference: number): void {
    const count = (this.counts.get(sessionId) ?? 0) + difference;
    this.sum += difference;
    if (count > 0) this.counts.set(sessionId, count);
    else this.counts.delete(sessionId);
  }
}
