/** How far those have seen who say so, and when they will have seen more. */

import type { ViewerPosition } from '../session.js';
import type { Clock } from '../ports.js';

/** Whoever says nothing for so long is gone, in milliseconds; browsers let a page that is hidden act once a minute. */
const GONE_AFTER = 120_000;
/** So long it is believed that a picture which moved goes on moving, in milliseconds. */
const BELIEVED = 2_500;
/** More are forgotten, those first who were silent longest. */
const COUNTED = 256;
/** What a viewer may want to be there ahead of it, in seconds. */
const AHEAD_AT_MOST = 10;

interface Heard extends ViewerPosition {
  at: number;
}

export class Viewers {
  private readonly heard = new Map<string, Heard>();

  constructor(private readonly clock: Pick<Clock, 'monotonic'>) {}

  hear(position: ViewerPosition): void {
    this.heard.delete(position.viewer);
    this.heard.set(position.viewer, { ...position, at: this.clock.monotonic() });
    for (const oldest of this.heard.keys()) {
      if (this.heard.size <= COUNTED) return;
      this.heard.delete(oldest);
    }
  }

  get none(): boolean {
    return this.present().length === 0;
  }

  /**
   * In how many milliseconds the first of them will have no more than `leadSeconds`, or what it wants, of the `available` video
   * ahead. Infinity: that is not known before one says more.
   */
  untilNeeded(available: number, leadSeconds: number): number {
    const waits = this.present().map(({ playing, seconds, aheadSeconds = 0, at }) => {
      const missing = (available - Math.max(leadSeconds, Math.min(aheadSeconds, AHEAD_AT_MOST)) - seconds) * 1_000;
      if (missing <= 0) return 0;
      return playing && missing <= BELIEVED ? at + missing - this.clock.monotonic() : Infinity;
    });
    return Math.min(...waits);
  }

  /** When the first of them would see the moment if those that stand still went on now, by the monotonic clock. */
  soonest(moment: number): number {
    const now = this.clock.monotonic();
    return Math.min(
      ...this.present().map(({ playing, seconds, at }) => (playing ? at : now) + (moment - seconds) * 1_000),
    );
  }

  private present(): Heard[] {
    const since = this.clock.monotonic() - GONE_AFTER;
    for (const [viewer, { at }] of this.heard) if (at < since) this.heard.delete(viewer);
    return [...this.heard.values()];
  }
}
