/** Keeps the buffer around the picture that is shown: one step after the other, each planned from what is there at that moment. */
import { backoff, wait } from '../time.js';
import { DecodeError } from './append-queue.js';
import type { Arrivals } from './arrivals.js';
import type { Chunk, ChunkIndex } from './chunk-index.js';
import { Loads, type Load } from './loads.js';
import { type Budget, plan, type Step } from './plan.js';
import { playableUntil, SLACK_SECONDS } from './ranges.js';
import type { Screen } from './screen.js';

export interface Feeding {
  readonly screen: Screen;
  readonly index: ChunkIndex;
  readonly arrivals: Arrivals;
  readonly load: Load;
  /** All chunks from the first one on. */
  lookUp(signal: AbortSignal): Promise<readonly Chunk[]>;
  /** Seconds. */
  now(): number;
  /** The buffer changed. */
  onChange(): void;
}

/** Without anything that wakes it, it looks again after so long. */
const IDLE_MS = 500;
/** Where the browser refuses even this much, there is nothing to be done. */
const LEAST_SECONDS = 1;
const LEAST_BEHIND_SECONDS = 0.25;
/** Chunks that are fetched before their turn. */
const FETCHED_BEFORE = 2;
/** Room comes as playback goes on. */
const FULL_MS = 250;
/** A chunk that leaves the buffer as it was is not tried for ever. */
const TRIES = 3;

export class Feeder {
  bytes = 0;
  private readonly loads: Loads;
  private wake: () => void = () => undefined;
  private lost = { index: -1, times: 0 };
  private failures = 0;

  constructor(
    private readonly feeding: Feeding,
    public budget: Budget,
  ) {
    this.loads = new Loads(feeding.load);
  }

  /** Something changed: a chunk was announced, playback went on or elsewhere. */
  nudge(): void {
    this.wake();
  }

  /** Until the signal ends it. Fails with what cannot be mended: the browser cannot decode the video, or has no room for a second of it. */
  async run(signal: AbortSignal): Promise<void> {
    const leave = (): void => {
      this.loads.close();
      this.wake();
    };
    signal.addEventListener('abort', leave, { once: true });
    while (!signal.aborted) {
      const { seconds, ranges } = this.feeding.screen;
      const step = plan(seconds, ranges, this.feeding.index, this.budget);
      const pause = await this.take(step, signal);
      if (pause > 0 && !signal.aborted) await this.idle(pause);
    }
  }

  /** Milliseconds until it makes sense to look again. */
  private async take(step: Step, signal: AbortSignal): Promise<number> {
    const { screen, arrivals, index } = this.feeding;
    switch (step.do) {
      case 'append':
        return this.append(step.chunk, signal);
      case 'remove':
        await screen.remove(step.range);
        return 0;
      case 'look up':
        return this.lookUp(signal);
      case 'end':
        await screen.lasts(index.edgeSeconds);
        await screen.end();
        return IDLE_MS;
      case 'rest':
        arrivals.forget();
        return IDLE_MS;
      case 'wait':
        return IDLE_MS;
    }
  }

  private async append(chunk: Chunk, signal: AbortSignal): Promise<number> {
    const bytes = await this.fetched(chunk, signal);
    if (!bytes || signal.aborted) return 0;
    const { screen, arrivals, index } = this.feeding;
    try {
      await screen.lasts(index.edgeSeconds);
      await screen.append(bytes);
    } catch (error) {
      if ((error as Error).name !== 'QuotaExceededError') throw error;
      return this.full(error as Error);
    }
    this.loads.drop(chunk.index);
    this.bytes += bytes.length;
    arrivals.add(this.feeding.now(), chunk, index.newest?.index === chunk.index);
    this.mustBeThere(chunk);
    this.feeding.onChange();
    return 0;
  }

  /** Undefined when something happened meanwhile, or the network failed: what to do is planned anew. */
  private async fetched(chunk: Chunk, signal: AbortSignal): Promise<Uint8Array<ArrayBuffer> | undefined> {
    const wanted: [Chunk, ...Chunk[]] = [chunk];
    for (let next = this.feeding.index.after(chunk); next && wanted.length <= FETCHED_BEFORE;)
      next = this.feeding.index.after(wanted[wanted.push(next) - 1] as Chunk);
    const woken = new Promise<undefined>((resolve) => (this.wake = () => resolve(undefined)));
    try {
      const bytes = await Promise.race([this.loads.get(wanted), woken]);
      if (bytes) this.failures = 0;
      return bytes;
    } catch {
      if (signal.aborted) return undefined;
      this.loads.close();
      await this.lookUp(signal); // The URLs may have expired.
      return undefined;
    }
  }

  private async lookUp(signal: AbortSignal): Promise<number> {
    if (this.failures > 0) await wait(backoff(this.failures), signal).catch(() => undefined);
    this.failures++; // Until something is fetched.
    await this.feeding.lookUp(signal).then(
      (chunks) => this.feeding.index.fill(chunks),
      () => undefined,
    );
    return 0;
  }

  /** Makes room, and keeps less from now on. Nothing is fetched again: the chunk waits. */
  private async full(error: Error): Promise<number> {
    const { screen } = this.feeding;
    const { seconds, ranges } = screen;
    const until = playableUntil(ranges, seconds);
    const kept = ranges.reduce((sum, { start, end }) => sum + end - start, 0);
    if (kept < LEAST_SECONDS) throw error;
    const apart = ranges.find(({ start }) => start > until + SLACK_SECONDS);
    if (apart) {
      await screen.remove(apart);
      return 0;
    }
    const { behindSeconds, aheadSeconds } = this.budget;
    const least = behindSeconds <= LEAST_BEHIND_SECONDS;
    this.budget = {
      behindSeconds: Math.max(LEAST_BEHIND_SECONDS, Math.min(behindSeconds / 4, until - seconds)),
      aheadSeconds: least ? Math.max(LEAST_SECONDS, Math.min(aheadSeconds, until - seconds)) : aheadSeconds,
    };
    return least ? FULL_MS : 0;
  }

  private mustBeThere({ index, startSeconds, durationSeconds }: Chunk): void {
    const middle = startSeconds + durationSeconds / 2;
    const there = this.feeding.screen.ranges.some(({ start, end }) => start <= middle && end >= middle);
    const times = there || this.lost.index !== index ? 0 : this.lost.times;
    this.lost = { index, times: there ? 0 : times + 1 };
    if (this.lost.times >= TRIES) throw new DecodeError();
  }

  private async idle(milliseconds: number): Promise<void> {
    let timer: ReturnType<typeof setTimeout> | undefined;
    await new Promise<void>((resolve) => {
      this.wake = resolve;
      timer = setTimeout(resolve, milliseconds);
    });
    clearTimeout(timer);
  }
}
