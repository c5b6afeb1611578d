/** How fast to play, so that it stays near the live edge without running dry; and how long to wait when it did. */

const SLOWEST = 0.95;
const FASTEST = 1.1;
const ARRIVALS = 20;
/** While generation is slower than playback: so much at least is played on end. */
const SLOW_SPAN_SECONDS = 4;

export class Pace {
  private readonly arrivals: { readonly at: number; readonly end: number }[] = [];

  /** A chunk has come, at a time in seconds. */
  arrived(at: number, end: number): void {
    this.arrivals.push({ at, end });
    if (this.arrivals.length > ARRIVALS) this.arrivals.shift();
  }

  /** Seconds of video that came in a second, of late; 1 until that is known. */
  get speed(): number {
    const [first, last] = [this.arrivals[0], this.arrivals.at(-1)];
    if (!first || !last || this.arrivals.length < 4 || last.at - first.at < 1) return 1;
    return (last.end - first.end) / (last.at - first.at);
  }

  /** How far behind the edge to play: a block, and as much as chunks were late beside each other. */
  get lead(): number {
    const delays = this.arrivals.map(({ at, end }) => at - end);
    const jitter = delays.length < 2 || this.slow ? 0 : Math.max(...delays) - Math.min(...delays);
    return Math.min(4, 0.5 + jitter);
  }

  /** It comes slower than it plays. */
  get slow(): boolean {
    return this.speed < SLOWEST;
  }

  /** For a distance from the live edge. */
  rate(lag: number): number {
    const error = lag - this.lead;
    if (Math.abs(error) < 0.15) return 1;
    return Math.min(FASTEST, Math.max(SLOWEST, 1 + error * 0.1));
  }

  /** So much must be buffered before it plays on. */
  get enough(): number {
    return this.slow ? Math.max(this.lead, SLOW_SPAN_SECONDS) : this.lead;
  }

  /** Seconds until so much is there. */
  waitFor(missing: number): number {
    return Math.max(0, missing) / Math.max(0.05, this.speed);
  }
}
