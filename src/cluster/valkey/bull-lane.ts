import { setTimeout as delay } from 'node:timers/promises';
import type { Job as BullJob, Queue, Worker } from 'bullmq';
import type { Redis } from 'ioredis';
import type { Job, JobRun } from '../../sessions/ports.js';
import { connect, type Timing } from './connection.js';

export interface LaneOptions {
  kind: Job['kind'];
  atOnce: number;
  work: (run: JobRun) => Promise<void>;
  url: string;
  timing: Timing;
  lockMs: number;
  prefix: string;
}

interface Running {
  cancelled: AbortController;
  done: Promise<void>;
  progress?: number;
  toldProgress?: number;
}

interface Open {
  queue: Queue;
  worker: Worker;
  connection: Redis;
}

interface Wanted {
  notWithin: number;
  /** Whether the other side has taken it. */
  added: boolean;
}

/** At which of BullMQ's lists a job that is not over stands. */
const UNFINISHED = ['active', 'waiting', 'prioritized', 'delayed'] as const;
const MOST_SEEN = 1_000;
/** Between two questions whether a job is gone. */
const ASK_MS = 200;
/** A server that dies with it again and again is no reason to forget a job that the store still has. */
const MOST_STALLS = 100;

/** The jobs of one kind: a queue of BullMQ, and the worker of this server. */
export class BullLane {
  private readonly wanted = new Map<string, Wanted>();
  private readonly running = new Map<string, Running>();
  /** What the last look found, with how far it is. */
  private seen = new Map<string, number | undefined>();
  private opened: Promise<Open> | undefined;
  private closed = false;

  constructor(private readonly options: LaneOptions) {}

  /** Whether it is new here. What others have is offered again, which changes nothing: the last look may be older than its end. */
  want(key: string, notWithin: number): boolean {
    if (this.wanted.has(key) || this.running.has(key)) return false;
    this.wanted.set(key, { notWithin, added: false });
    return true;
  }

  find(key: string): { progress?: number } | undefined {
    const running = this.running.get(key);
    const progress = running?.progress ?? this.seen.get(key);
    if (!running && !this.seen.has(key) && !this.wanted.has(key)) return undefined;
    return progress === undefined ? {} : { progress };
  }

  /** The other side has forgotten everything. */
  offerAgain(): void {
    this.seen.clear();
    for (const [key, wanted] of this.wanted) if (!this.running.has(key)) wanted.added = false;
  }

  async look(redis: Redis): Promise<void> {
    const { queue } = await this.open(redis);
    const offered = [...this.wanted].filter(([, { added }]) => !added);
    for (const [key, wanted] of offered) {
      await queue.add(this.options.kind, {}, this.optionsOf(key, wanted));
      wanted.added = true;
    }
    const keys = await queue.getRanges([...UNFINISHED], 0, MOST_SEEN);
    const active = (await queue.getJobs(['active'], 0, MOST_SEEN)) as (BullJob | undefined)[];
    const progress = new Map(active.flatMap((job) => (job?.id === undefined ? [] : [[job.id, shareOf(job)] as const])));
    this.seen = new Map(keys.map((key) => [key, progress.get(key)]));
    const fresh = new Set(offered.map(([key]) => key));
    // What was asked for during this look has not been offered yet.
    for (const [key, { added }] of this.wanted)
      if (added && !this.seen.has(key) && !fresh.has(key)) this.wanted.delete(key);
    for (const job of active) if (job) await this.exchange(job);
  }

  /** Resolves when nobody has the job any more, or after the time. Who is away is told by what the store says. */
  async cancel(key: string, milliseconds: number): Promise<void> {
    this.wanted.delete(key);
    const running = this.running.get(key);
    running?.cancelled.abort();
    await running?.done;
    try {
      const open = await this.opened;
      const deadline = performance.now() + milliseconds;
      while (open && performance.now() < deadline) {
        const job = (await open.queue.getJob(key)) as BullJob | undefined;
        if (!job) break;
        // What somebody works on cannot be removed: he is told.
        await job.remove().catch(() => job.updateData({ cancelled: true }));
        await delay(ASK_MS);
      }
    } catch {
      // The other side is away.
    }
    this.seen.delete(key);
  }

  /** What runs here is put back, for others to go on with. */
  async close(milliseconds: number): Promise<void> {
    this.closed = true;
    this.wanted.clear();
    for (const { cancelled } of this.running.values()) cancelled.abort();
    const open = await this.opened?.catch(() => undefined);
    await Promise.all([...this.running.values()].map(({ done }) => done));
    if (!open) return;
    const politely = open.worker.close().then(() => true);
    const done = await Promise.race([politely.catch(() => false), delay(milliseconds, false)]);
    if (!done) await Promise.race([open.worker.close(true).catch(() => undefined), delay(ASK_MS)]);
    await Promise.race([open.queue.close().catch(() => undefined), delay(ASK_MS)]);
    open.connection.disconnect();
  }

  /** Loaded when it is needed: most services have no Redis. What could not be opened is tried again. */
  private open(redis: Redis): Promise<Open> {
    this.opened ??= this.begin(redis).catch((error: unknown) => {
      this.opened = undefined;
      throw error;
    });
    return this.opened;
  }

  private async begin(redis: Redis): Promise<Open> {
    const { kind, atOnce, url, timing, lockMs, prefix } = this.options;
    const bull = await import('bullmq');
    // A worker of BullMQ turns without a pause where commands fail at once, so here they wait until their time is over.
    const patience = { commandTimeout: 2 * timing.commandMs, enableOfflineQueue: true, maxRetriesPerRequest: null };
    const connection = connect(url, timing, patience);
    const queue = new bull.Queue(kind, { connection: redis, prefix, skipVersionCheck: true, skipMetasUpdate: true });
    const worker = new bull.Worker(kind, (job, token) => this.carryOut(job, token, bull.DelayedError), {
      ...{ connection, prefix, concurrency: atOnce, skipVersionCheck: true },
      ...{ lockDuration: lockMs, stalledInterval: lockMs / 2, maxStalledCount: MOST_STALLS },
      // A blocked connection hears something before it is taken for dead, and tries again soon.
      ...{ drainDelay: 1, runRetryDelay: timing.lookMs },
      ...{ removeOnComplete: { count: 0 }, removeOnFail: { count: 0 } },
    });
    queue.on('error', () => undefined);
    worker.on('error', () => undefined);
    try {
      await Promise.race([queue.waitUntilReady(), never(timing.commandMs)]);
    } catch (error) {
      void worker.close(true).catch(() => undefined);
      connection.disconnect();
      throw error;
    }
    return { queue, worker, connection };
  }

  private optionsOf(key: string, { notWithin }: Wanted): object {
    return {
      jobId: key,
      ...(notWithin > 0 && { deduplication: { id: key, ttl: notWithin } }),
      ...{ removeOnComplete: true, removeOnFail: true },
    };
  }

  /** Twice at once only where the other side took this server for dead. */
  private async carryOut(job: BullJob, token: string | undefined, Delayed: new () => Error): Promise<void> {
    const key = job.id ?? '';
    const before = this.running.get(key);
    if (before) return before.done;
    const cancelled = new AbortController();
    const running: Running = { cancelled, done: Promise.resolve() };
    this.running.set(key, running);
    if (this.closed) cancelled.abort();
    const run = { key, signal: cancelled.signal, progress: (share: number) => void (running.progress = share) };
    running.done = this.options.work(run).catch(() => undefined);
    await running.done;
    this.running.delete(key);
    if (!this.closed || !cancelled.signal.aborted) return;
    await job.moveToDelayed(Date.now() + 1, token);
    throw new Delayed();
  }

  /** How far it is, told by whoever does it; that it is to end, told by whoever cancelled it. */
  private async exchange(job: BullJob): Promise<void> {
    const running = this.running.get(job.id ?? '');
    if (!running) return;
    if ((job.data as { cancelled?: boolean } | undefined)?.cancelled) running.cancelled.abort();
    if (running.progress === undefined || running.progress === running.toldProgress) return;
    running.toldProgress = running.progress;
    await job.updateProgress(running.progress);
  }
}

function shareOf({ progress }: BullJob): number | undefined {
  return typeof progress === 'number' && progress > 0 ? progress : undefined;
}

async function never(milliseconds: number): Promise<never> {
  await delay(milliseconds);
  throw new Error('the other side does not answer');
}
