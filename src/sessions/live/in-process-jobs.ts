/** Work in the background of this process: one job per key, a few at once, in order of arrival. */

import type { Jobs } from '../ports.js';

interface Job {
  key: string;
  cancelled: AbortController;
  work: (signal: AbortSignal) => Promise<void>;
}

export class InProcessJobs implements Jobs {
  private readonly waiting: Job[] = [];
  private readonly running = new Map<string, { job: Job; done: Promise<void> }>();
  private closed = false;

  constructor(private readonly atOnce = 1) {}

  start(key: string, work: Job['work']): void {
    if (this.closed || this.has(key)) return;
    this.waiting.push({ key, cancelled: new AbortController(), work });
    this.next();
  }

  has(key: string): boolean {
    return this.running.has(key) || this.waiting.some((job) => job.key === key);
  }

  async cancel(key: string): Promise<void> {
    const at = this.waiting.findIndex((job) => job.key === key);
    if (at >= 0) this.waiting.splice(at, 1);
    const running = this.running.get(key);
    running?.job.cancelled.abort();
    await running?.done;
  }

  async close(): Promise<void> {
    this.closed = true;
    this.waiting.length = 0;
    await Promise.all([...this.running.keys()].map((key) => this.cancel(key)));
  }

  private next(): void {
    while (this.running.size < this.atOnce) {
      const job = this.waiting.shift();
      if (!job) return;
      const done = job
        .work(job.cancelled.signal)
        .catch(() => undefined)
        .then(() => {
          this.running.delete(job.key);
          this.next();
        });
      this.running.set(job.key, { job, done });
    }
  }
}
