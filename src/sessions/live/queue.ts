/**
 * Jobs done strictly one after another, in order. A job that fails stops the queue and keeps its place: `retry` begins
 * with it again, so nothing queued is ever lost or reordered.
 */
export class OrderedQueue {
  private readonly jobs: (() => Promise<void>)[] = [];
  private running = false;
  private stopped: { error: unknown } | undefined;
  private watchers = new Set<() => void>();

  constructor(private readonly limit: number) {}

  push(job: () => Promise<void>): void {
    this.jobs.push(job);
    void this.work();
  }

  /** Why the queue stands still. */
  get failure(): unknown {
    return this.stopped?.error;
  }

  get empty(): boolean {
    return this.jobs.length === 0;
  }

  get stalled(): boolean {
    return this.stopped !== undefined;
  }

  retry(): void {
    this.stopped = undefined;
    void this.work();
  }

  /** Drops what was queued; for a session that is lost to another server. */
  clear(): void {
    this.jobs.length = 0;
    this.stopped = undefined;
    this.changed();
  }

  /** Resolves when there is room for another job; rejects with the failure. */
  room(): Promise<void> {
    return this.until(() => this.jobs.length < this.limit);
  }

  /** Resolves when everything is done; rejects with the failure. */
  idle(): Promise<void> {
    return this.until(() => this.jobs.length === 0);
  }

  private async until(reached: () => boolean): Promise<void> {
    for (;;) {
      if (this.stopped) throw this.stopped.error;
      if (reached()) return;
      await new Promise<void>((resolve) => this.watchers.add(resolve));
    }
  }

  private async work(): Promise<void> {
    if (this.running) return;
    this.running = true;
    for (let job = this.jobs[0]; job && !this.stopped; job = this.jobs[0]) {
      try {
        await job();
        if (this.jobs[0] === job) this.jobs.shift();
      } catch (error) {
        if (this.jobs[0] === job) this.stopped = { error };
      }
      this.changed();
    }
    this.running = false;
  }

  private changed(): void {
    const watchers = this.watchers;
    this.watchers = new Set();
    for (const wake of watchers) wake();
  }
}
