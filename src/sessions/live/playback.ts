import type { Clock } from '../ports.js';
import type { Viewers } from './viewers.js';

export interface PlaybackParts {
  readonly clock: Clock;
  readonly leadSeconds: number;
  readonly blockSeconds: number;
  /** Those who say how far they are. */
  readonly viewers: Viewers;
  /** Whether somebody watches who does not. */
  isByClock(): boolean;
}

/**
 * Where an ideal viewer is: playback starts with the first chunk and stalls when it runs out of video. Keeps REALTIME
 * generation from running further ahead than `leadSeconds`, of the furthest viewer too where all say how far they are, and says
 * by when the next block has to be there.
 */
export class Playback {
  /** When second 0 would have been played, had playback never stalled. */
  private zeroAt: number | undefined;
  private available = 0;

  constructor(private readonly parts: PlaybackParts) {}

  /** Video up to `endSeconds` has become available, beginning at `startSeconds`. */
  delivered(startSeconds: number, endSeconds: number): void {
    const now = this.parts.clock.monotonic();
    const ranOut = this.zeroAt === undefined || now > this.zeroAt + startSeconds * 1_000;
    if (ranOut) this.zeroAt = now - startSeconds * 1_000;
    this.available = endSeconds;
  }

  /** How long the next block must not be begun yet. Infinity: until a viewer says more. */
  waitMilliseconds(): number {
    const { leadSeconds, blockSeconds, viewers, clock } = this.parts;
    const byClock = this.byClock() - clock.monotonic() - Math.max(0, leadSeconds - blockSeconds) * 1_000;
    if (!this.acknowledged) return byClock;
    return Math.max(byClock, viewers.untilNeeded(this.available + blockSeconds, Math.max(leadSeconds, blockSeconds)));
  }

  /** When playback reaches the end of what is there. */
  deadline(): number {
    return this.acknowledged ? this.parts.viewers.soonest(this.available) : this.byClock();
  }

  private byClock(): number {
    return this.zeroAt === undefined ? this.parts.clock.monotonic() : this.zeroAt + this.available * 1_000;
  }

  private get acknowledged(): boolean {
    return this.zeroAt !== undefined && !this.parts.viewers.none && !this.parts.isByClock();
  }
}
