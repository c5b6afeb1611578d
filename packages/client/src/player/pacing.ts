/** How fast to play, and when not at all: at the live edge, a steady little behind it; where video comes too slowly, in stretches. */
import type { Arrivals } from './arrivals.js';

export interface Situation {
  readonly now: number;
  /** Seconds of video that can be played without a gap. */
  readonly ahead: number;
  /** The element has no next picture to show. */
  readonly starved: boolean;
  /** The buffer takes no more than so many seconds. */
  readonly aheadAtMost: number;
  /** Nothing is missing up to the end. */
  readonly complete: boolean;
  /** Playback is to be as near to the live edge as is safe. */
  readonly following: boolean;
  /** The viewer has it stand still. */
  readonly paused: boolean;
}

export interface Pace {
  /** 0 while it holds. */
  readonly rate: number;
  /** Until it plays on, as far as can be told; set while it holds. */
  readonly waitSeconds?: number;
}

const SLOWEST = 0.95;
const FASTEST = 1.1;
/** Nobody sees speeds that differ by less. */
const STEP = 0.01;
/** What is left when playback has run out, whatever rounding says. */
const EMPTY_SECONDS = 0.04;
/** Of so little an element may show nothing more: Firefox stops some pictures before the end. */
const LAST_SECONDS = 0.3;
/** So long it plays at least between two waits. */
const STRETCH_SECONDS = 6;
const LONGEST_WAIT_FOR_SECONDS = 8;
/** What timers and decoding need. */
const LEAST_MARGIN_SECONDS = 0.15;
const MOST_MARGIN_SECONDS = 3;
/** Chunks come at intervals: the margin is what was left at the worst moment of such a time. */
const WINDOW_SECONDS = 1.6;

export class Pacing {
  holding = true;
  /** How often playback ran out of video. */
  stalls = 0;
  stalledSeconds = 0;
  /** How much is wanted to be there, in seconds: to play on at all while it holds, else to stay as safe as it is. */
  wantedSeconds = LEAST_MARGIN_SECONDS;
  private stalledAt: number | undefined;
  private aheads: { readonly at: number; readonly ahead: number }[] = [];

  constructor(private readonly arrivals: Arrivals) {}

  /** What is aimed at to be left in the buffer when the next chunk comes, in seconds. */
  get marginSeconds(): number {
    return clamp(LEAST_MARGIN_SECONDS + 1.5 * this.arrivals.jitterSeconds, LEAST_MARGIN_SECONDS, MOST_MARGIN_SECONDS);
  }

  /** Playback goes elsewhere, and has to begin anew there. */
  restart(): void {
    this.holding = true;
    this.stalledAt = undefined;
    this.aheads = [];
  }

  next(situation: Situation): Pace {
    const { ahead, complete } = situation;
    if (complete) this.holding = false;
    else if (this.holding) this.holding = ahead < this.needed(situation);
    else if (hasRunOut(situation)) this.stall(situation.now);
    this.count(situation.now);
    this.wantedSeconds = this.holding ? this.needed(situation) : this.marginSeconds;
    if (!this.holding) return { rate: complete ? 1 : this.rate(situation) };
    const waitSeconds = (this.needed(situation) - ahead) / Math.max(0.05, this.arrivals.speed);
    return { rate: 0, waitSeconds: Math.max(0, waitSeconds) };
  }

  private stall(now: number): void {
    this.restart();
    this.stalls++;
    this.stalledAt = now;
  }

  private count(now: number): void {
    if (this.stalledAt === undefined) return;
    this.stalledSeconds += now - this.stalledAt;
    this.stalledAt = this.holding ? now : undefined;
  }

  /** What has to be there so that it plays for a while: the slower video comes, the more. */
  private needed({ aheadAtMost }: Situation): number {
    const missing = STRETCH_SECONDS * (1 - Math.min(1, this.arrivals.speed));
    const wanted = Math.min(LONGEST_WAIT_FOR_SECONDS, Math.max(this.marginSeconds, missing));
    return Math.max(EMPTY_SECONDS, Math.min(wanted, aheadAtMost / 2));
  }

  private rate({ now, ahead, following, paused }: Situation): number {
    if (!following || paused) {
      this.aheads = [];
      return 1;
    }
    this.aheads = [...this.aheads.filter(({ at }) => now - at < WINDOW_SECONDS), { at: now, ahead }];
    const left = this.aheads.reduce((least, entry) => Math.min(least, entry.ahead), Infinity);
    const tooMuch = left - this.marginSeconds;
    if (Math.abs(tooMuch) < LEAST_MARGIN_SECONDS / 2) return 1;
    const rate = 1 + (tooMuch > 0 ? tooMuch / 5 : tooMuch / 4);
    return Math.round(clamp(rate, SLOWEST, FASTEST) / STEP) * STEP;
  }
}

/** Not where it only decodes slowly: then there is more. */
function hasRunOut({ ahead, starved, paused }: Situation): boolean {
  return !paused && (ahead < EMPTY_SECONDS || (starved && ahead < LAST_SECONDS));
}

const clamp = (value: number, least: number, most: number): number => Math.min(most, Math.max(least, value));
