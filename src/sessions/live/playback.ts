import type { Clock } from '../ports.js';

/**
 * Where an ideal viewer is: playback starts with the first chunk and stalls when it runs out of video. Keeps REALTIME
 * generation from running further ahead than `leadSeconds`, and says by when the next block has to be there.
 */
export class Playback {
  /** When second 0 would have been played, had playback never stalled. */
  private zeroAt: number | undefined;
  private available = 0;

  constructor(
    private readonly clock: Clock,
    private readonly leadSeconds: number,
    private readonly blockSeconds: number,
  ) {}

  /** Video up to `endSeconds` has become available, beginning at `startSeconds`. */
  delivered(startSeconds: number, endSeconds: number): void {
    const now = this.clock.monotonic();
    const ranOut = this.zeroAt === undefined || now > this.zeroAt + startSeconds * 1_000;
    if (ranOut) this.zeroAt = now - startSeconds * 1_000;
    this.available = endSeconds;
  }

  /** How long the next block must not be begun yet. */
  waitMilliseconds(): number {
    const ahead = this.deadline() - this.clock.monotonic();
    return ahead - Math.max(0, this.leadSeconds - this.blockSeconds) * 1_000;
  }

  /** When playback reaches the end of what is there. */
  deadline(): number {
    return this.zeroAt === undefined ? this.clock.monotonic() : this.zeroAt + this.available * 1_000;
  }
}
