import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import type { Redis } from 'ioredis';
import type { Job, JobRun, Jobs } from '../../sessions/ports.js';
import { BullLane } from './bull-lane.js';
import { connect, type Timing, TIMING } from './connection.js';

const PREFIX = 'longlive:jobs';
/** Whoever finds another one than before knows that the server forgot what it had. */
const GENERATION = `${PREFIX}:generation`;
/** A fail-over loses its last second and nobody notices: what the store says is compared so often. */
const COMPARE_MS = 60_000;
/** For others to answer for what they run, when it is cancelled. */
const CANCEL_MS = 10_000;
/** For what runs here to be put back, at the end. */
const FAREWELL_MS = 5_000;

export interface BullJobsOptions {
  url: string;
  timing?: Partial<Timing>;
  /** How soon the jobs of a server that is gone are begun elsewhere. */
  lockMs?: number;
  compareMs?: number;
}

/**
 * Jobs that several servers share by BullMQ, on a Valkey or Redis server that may fail, forget or hang at any time. What was
 * started here and is not known there is offered again at every look, so that nothing has to be answered for when it is started.
 */
export class BullJobs implements Jobs {
  private readonly timing: Timing;
  private readonly redis: Redis;
  private readonly lanes = new Map<Job['kind'], BullLane>();
  private readonly listeners: (() => void)[] = [];
  private readonly over = new AbortController();
  private readonly loop: Promise<void>;
  private hurry = new AbortController();
  private generation: string | undefined;
  private comparedAt = performance.now();

  constructor(private readonly options: BullJobsOptions) {
    this.timing = { ...TIMING, ...options.timing };
    this.redis = connect(options.url, this.timing);
    this.loop = this.keepOn();
  }

  handle(kind: Job['kind'], atOnce: number, work: (run: JobRun) => Promise<void>): void {
    const { url, lockMs = 10_000 } = this.options;
    this.lanes.set(kind, new BullLane({ kind, atOnce, work, url, timing: this.timing, lockMs, prefix: PREFIX }));
  }

  start({ kind, key }: Job, { notWithin = 0 }: { notWithin?: number } = {}): void {
    if (this.over.signal.aborted) return;
    if (this.lane(kind).want(key, notWithin)) this.hurry.abort();
  }

  find({ kind, key }: Job): { progress?: number } | undefined {
    return this.lane(kind).find(key);
  }

  cancel({ kind, key }: Job): Promise<void> {
    return this.lane(kind).cancel(key, CANCEL_MS);
  }

  onLost(listener: () => void): void {
    this.listeners.push(listener);
  }

  async close(): Promise<void> {
    if (this.over.signal.aborted) return;
    this.over.abort();
    this.hurry.abort();
    await this.loop;
    await Promise.all([...this.lanes.values()].map((lane) => lane.close(FAREWELL_MS)));
    this.redis.disconnect();
  }

  private lane(kind: Job['kind']): BullLane {
    const lane = this.lanes.get(kind);
    if (!lane) throw new Error(`nobody does jobs of the kind ${kind}`);
    return lane;
  }

  private async keepOn(): Promise<void> {
    while (!this.over.signal.aborted) {
      this.hurry = new AbortController();
      // While the other side is away nothing else is to be done: `ValkeyCluster` tells of that.
      await this.look().catch(() => undefined);
      const signal = AbortSignal.any([this.over.signal, this.hurry.signal]);
      await delay(this.timing.lookMs, undefined, { signal }).catch(() => undefined);
    }
  }

  private async look(): Promise<void> {
    await this.redis.setnx(GENERATION, randomUUID());
    const now = (await this.redis.get(GENERATION)) ?? undefined;
    const forgotten = this.generation !== undefined && this.generation !== now;
    this.generation = now;
    for (const lane of this.lanes.values()) {
      if (forgotten) lane.offerAgain();
      await lane.look(this.redis);
    }
    if (!forgotten && performance.now() - this.comparedAt < (this.options.compareMs ?? COMPARE_MS)) return;
    this.comparedAt = performance.now();
    for (const listener of this.listeners) listener();
  }
}
