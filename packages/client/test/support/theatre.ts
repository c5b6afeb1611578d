/** A session that is being made, a screen that plays it, and the parts of the player between them, in simulated time. */
import { vi } from 'vitest';
import { Arrivals } from '../../src/player/arrivals.js';
import { type Chunk, ChunkIndex, endOf } from '../../src/player/chunk-index.js';
import { Feeder } from '../../src/player/feeder.js';
import { Pacing } from '../../src/player/pacing.js';
import type { Budget } from '../../src/player/plan.js';
import { playableUntil, type Range } from '../../src/player/ranges.js';
import type { Screen } from '../../src/player/screen.js';

export const CHUNK_SECONDS = 0.75;
const TICK_MS = 200;

/** Merges what touches, and cuts out what goes. */
export class FakeScreen implements Screen {
  seconds = 0;
  ranges: readonly Range[] = [];
  duration = 0;
  ended = false;
  starved = false;
  readonly appended: number[] = [];
  refused = 0;
  mostKept = 0;

  /** It takes no more video than so many seconds. */
  constructor(
    private readonly quotaSeconds = Infinity,
    /** It stops so long before the end of what there is. */
    private readonly lastSeconds = 0,
  ) {}

  get kept(): number {
    return this.ranges.reduce((sum, { start, end }) => sum + end - start, 0);
  }

  async append(bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    const { index, start, end } = JSON.parse(new TextDecoder().decode(bytes)) as Range & { index: number };
    if (this.kept + end - start > this.quotaSeconds) {
      this.refused++;
      throw Object.assign(new Error('full'), { name: 'QuotaExceededError' });
    }
    await Promise.resolve();
    this.ended = false;
    this.appended.push(index);
    const apart = this.ranges.filter((range) => range.end < start - 1e-6 || range.start > end + 1e-6);
    const touching = this.ranges.filter((range) => !apart.includes(range));
    const merged = {
      start: Math.min(start, ...touching.map((range) => range.start)),
      end: Math.max(end, ...touching.map((range) => range.end)),
    };
    this.ranges = [...apart, merged].sort((a, b) => a.start - b.start);
    this.mostKept = Math.max(this.mostKept, this.kept);
  }

  async remove({ start, end }: Range): Promise<void> {
    this.ranges = this.ranges
      .flatMap((range) => [
        { start: range.start, end: Math.min(range.end, start) },
        { start: Math.max(range.start, end), end: range.end },
      ])
      .filter((range) => range.end - range.start > 1e-6);
  }

  async lasts(seconds: number): Promise<void> {
    this.duration = Math.max(this.duration, seconds);
  }

  async end(): Promise<void> {
    this.ended = true;
  }

  close(): void {}

  /** Plays as long as there is something to play. */
  play(seconds: number): void {
    const until = playableUntil(this.ranges, this.seconds) - (this.ended ? 0 : this.lastSeconds);
    this.starved = this.seconds + seconds > until;
    this.seconds = Math.min(this.seconds + seconds, Math.max(until, this.seconds));
  }
}

export interface Show {
  /** When each chunk is announced, in seconds. The session ends with the last one. */
  readonly at: readonly number[];
  readonly following?: boolean;
  readonly quotaSeconds?: number;
  /** The screen stops so long before the end of what there is. */
  readonly lastSeconds?: number;
  readonly budget?: Budget;
  /** How long the bytes of a chunk take, in seconds; `fail` for a network that fails. */
  readonly loads?: (index: number, now: number) => number | 'fail';
  /** Seeks, by when. */
  readonly seeks?: readonly { readonly at: number; readonly to: number }[];
  /** The player joined with this chunk; those before it have to be looked up. */
  readonly joined?: number;
}

export class Theatre {
  readonly screen: FakeScreen;
  readonly index = new ChunkIndex();
  readonly arrivals = new Arrivals();
  readonly pacing = new Pacing(this.arrivals);
  readonly feeder: Feeder;
  /** Of the ticks: what was played at which speed. */
  readonly rates: number[] = [];
  readonly leads: number[] = [];
  /** When playback ran out of video. */
  readonly stalledAt: number[] = [];
  /** How long the picture stood still without saying so, at the most. */
  frozenSeconds = 0;
  lookedUp = 0;
  failure: unknown;
  private frozen = 0;
  private readonly closing = new AbortController();
  private readonly chunks: readonly Chunk[];

  constructor(private readonly show: Show) {
    this.screen = new FakeScreen(show.quotaSeconds, show.lastSeconds);
    this.chunks = show.at.map((_, index) => ({
      ...{ index, startSeconds: index * CHUNK_SECONDS, durationSeconds: CHUNK_SECONDS, url: `c/${index}` },
      generateMilliseconds: 1000 * ((show.at.at(-1) ?? 0) - (show.at.at(-2) ?? 0)),
    }));
    const load = async (url: string): Promise<Uint8Array<ArrayBuffer>> => {
      const chunk = this.chunks[Number(url.slice(2))] as Chunk;
      const takes = show.loads?.(chunk.index, this.now) ?? 0.02;
      if (takes === 'fail') throw new Error('no network');
      await new Promise((resolve) => setTimeout(resolve, takes * 1000));
      return new TextEncoder().encode(
        JSON.stringify({ index: chunk.index, start: chunk.startSeconds, end: endOf(chunk) }),
      );
    };
    const { screen, index, arrivals } = this;
    this.feeder = new Feeder(
      {
        ...{ screen, index, arrivals, load, now: () => this.now, onChange: () => undefined },
        lookUp: async () => {
          this.lookedUp++;
          return this.chunks.slice(0, this.announced);
        },
      },
      show.budget ?? { aheadSeconds: 20, behindSeconds: 30 },
    );
    void this.feeder.run(this.closing.signal).catch((error: unknown) => (this.failure = error));
  }

  get over(): boolean {
    return this.index.complete && this.screen.seconds >= this.index.edgeSeconds - 1e-6;
  }

  /** How long it played each time without a wait. */
  get stretches(): number[] {
    const texts = this.rates.map((rate) => (rate > 0 ? 'x' : ' ')).join('');
    return texts.split(/ +/).flatMap(({ length }) => (length > 0 ? [(length * TICK_MS) / 1000] : []));
  }

  /** Until everything was played, or so many seconds. */
  async run(atMostSeconds: number): Promise<void> {
    const joined = this.show.joined ?? 0;
    const seeks = [...(this.show.seeks ?? [])];
    let next = joined;
    if (joined > 0) this.screen.seconds = joined * CHUNK_SECONDS;
    while (this.now < atMostSeconds && !this.over && !this.failure) {
      for (; next < this.chunks.length && (this.show.at[next] as number) <= this.now; next++) this.announce(next);
      if (seeks[0] && seeks[0].at <= this.now) this.seek((seeks.shift() as { to: number }).to);
      await vi.advanceTimersByTimeAsync(TICK_MS);
      this.tick();
    }
    this.closing.abort();
    await vi.advanceTimersByTimeAsync(1000);
  }

  private get now(): number {
    return Date.now() / 1000;
  }

  private get announced(): number {
    return this.show.at.filter((at) => at <= this.now).length;
  }

  private announce(index: number): void {
    this.index.add(this.chunks[index] as Chunk);
    this.index.complete = index === this.chunks.length - 1;
    this.feeder.nudge();
  }

  private seek(to: number): void {
    this.screen.seconds = Math.min(to, this.index.edgeSeconds);
    this.pacing.restart();
    this.arrivals.forget();
    this.feeder.nudge();
  }

  private tick(): void {
    const { screen, index, feeder } = this;
    const until = playableUntil(screen.ranges, screen.seconds);
    const complete = index.complete && until >= index.edgeSeconds - 0.1;
    const { rate } = this.pacing.next({
      ...{ now: this.now, ahead: until - screen.seconds, complete, following: this.show.following ?? false },
      ...{ paused: false, starved: screen.starved, aheadAtMost: feeder.budget.aheadSeconds },
    });
    if (this.pacing.stalls > this.stalledAt.length) this.stalledAt.push(this.now);
    const before = screen.seconds;
    screen.play((rate * TICK_MS) / 1000);
    this.frozen = rate > 0 && screen.seconds === before && !this.over ? this.frozen + TICK_MS / 1000 : 0;
    this.frozenSeconds = Math.max(this.frozenSeconds, this.frozen);
    this.rates.push(rate);
    this.leads.push(index.edgeSeconds - screen.seconds);
  }
}
