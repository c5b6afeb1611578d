/** Work in the background of this process: one job per key, of each kind a few at once, in order of arrival. */

import type { Clock, Job, JobRun, Jobs } from '../ports.js';

interface Running {
  cancelled: AbortController;
  done: Promise<void>;
  progress?: number;
}

/** What is done of one kind. */
interface Lane {
  atOnce: number;
  work: (run: JobRun) => Promise<void>;
  waiting: string[];
  running: Map<string, Running>;
  /** When jobs were last begun, for those that are not to be begun too often. */
  begun: Map<string, number>;
}

export class InProcessJobs implements Jobs {
  private readonly lanes = new Map<Job['kind'], Lane>();
  private closed = false;

  constructor(private readonly clock: Pick<Clock, 'monotonic'>) {}

  handle(kind: Job['kind'], atOnce: number, work: Lane['work']): void {
    this.lanes.set(kind, { atOnce, work, waiting: [], running: new Map(), begun: new Map() });
  }

  start(job: Job, { notWithin = 0 }: { notWithin?: number } = {}): void {
    const lane = this.lane(job.kind);
    if (this.closed || this.find(job)) return;
    const now = this.clock.monotonic();
    if (notWithin > 0 && now - (lane.begun.get(job.key) ?? -Infinity) < notWithin) return;
    if (notWithin > 0) lane.begun.set(job.key, now);
    lane.waiting.push(job.key);
    this.next(lane);
  }

  find({ kind, key }: Job): { progress?: number } | undefined {
    const { running, waiting } = this.lane(kind);
    const found = running.get(key);
    if (!found) return waiting.includes(key) ? {} : undefined;
    return found.progress === undefined ? {} : { progress: found.progress };
  }

  async cancel({ kind, key }: Job): Promise<void> {
    const { waiting, running } = this.lane(kind);
    const at = waiting.indexOf(key);
    if (at >= 0) waiting.splice(at, 1);
    const found = running.get(key);
    found?.cancelled.abort();
    await found?.done;
  }

  /** What this process forgets ends with it. */
  onLost(listener: () => void): void {
    void listener;
  }

  async close(): Promise<void> {
    this.closed = true;
    const ends = [...this.lanes].flatMap(([kind, { waiting, running }]) => {
      waiting.length = 0;
      return [...running.keys()].map((key) => this.cancel({ kind, key }));
    });
    await Promise.all(ends);
  }

  private lane(kind: Job['kind']): Lane {
    const lane = this.lanes.get(kind);
    if (!lane) throw new Error(`nobody does jobs of the kind ${kind}`);
    return lane;
  }

  private next(lane: Lane): void {
    while (lane.running.size < lane.atOnce) {
      const key = lane.waiting.shift();
      if (key === undefined) return;
      const cancelled = new AbortController();
      const running: Running = { cancelled, done: Promise.resolve() };
      lane.running.set(key, running);
      running.done = lane
        .work({ key, signal: cancelled.signal, progress: (share) => void (running.progress = share) })
        .catch(() => undefined)
        .then(() => {
          lane.running.delete(key);
          this.next(lane);
        });
    }
  }
}
