/** Who watches which session: open streams here, what was fetched here, and what other servers say of theirs. */

import type { Clock } from '../ports.js';

class Audience {
  private readonly streams = new Map<string, number>();
  /** When something of a session was last fetched or a stream of it closed here, by the monotonic clock. */
  private readonly seen = new Map<string, number>();
  /** The same at other servers, by the clock of this one. */
  private readonly elsewhere = new Map<string, number>();

  constructor(
    protected readonly clock: Clock,
    /** Called when a session gets watched that was not. */
    private readonly onBegun: (sessionId: string) => void,
  ) {}

  /** Open streams of a session at this server. */
  viewers(sessionId: string): number {
    return this.streams.get(sessionId) ?? 0;
  }

  /** Counts a stream until what it returns is called. */
  begin(sessionId: string): () => void {
    this.streams.set(sessionId, this.viewers(sessionId) + 1);
    if (this.viewers(sessionId) === 1) this.onBegun(sessionId);
    let open = true;
    return () => {
      if (!open) return;
      open = false;
      const left = this.viewers(sessionId) - 1;
      if (left > 0) this.streams.set(sessionId, left);
      else this.streams.delete(sessionId);
      this.touch(sessionId);
    };
  }

  /** Counts as watching at this moment. */
  touch(sessionId: string): void {
    const known = this.seen.has(sessionId);
    this.seen.set(sessionId, this.clock.monotonic());
    if (!known) this.onBegun(sessionId);
  }

  /** Another server says that it was watched there so long ago. */
  hear(sessionId: string, millisecondsAgo: number): void {
    const at = this.clock.monotonic() - millisecondsAgo;
    this.elsewhere.set(sessionId, Math.max(at, this.elsewhere.get(sessionId) ?? at));
  }

  /** When somebody last watched, anywhere, by the monotonic clock; minus infinity for never. */
  last(sessionId: string): number {
    if (this.viewers(sessionId) > 0) return this.clock.monotonic();
    return Math.max(this.seen.get(sessionId) ?? -Infinity, this.elsewhere.get(sessionId) ?? -Infinity);
  }

  /** How many milliseconds ago each session was watched at this server, as far as that is at most `within`. */
  here(within: number): Record<string, number> {
    const now = this.clock.monotonic();
    this.forget(now - within);
    const ago = new Map([...this.seen].map(([id, at]) => [id, Math.round(now - at)]));
    for (const id of this.streams.keys()) ago.set(id, 0);
    return Object.fromEntries(ago);
  }

  private forget(before: number): void {
    for (const times of [this.seen, this.elsewhere]) {
      for (const [id, at] of times) if (at < before) times.delete(id);
    }
  }
}

export class Watching extends Audience {
  /** Those among them who take the video as fast as it plays, and never say where they are. */
  private readonly byClock: Audience;

  constructor(clock: Clock, onBegun: (sessionId: string) => void) {
    super(clock, onBegun);
    this.byClock = new Audience(clock, onBegun);
  }

  /** With `byClock` unless its viewer says how far it is, or plays nothing. */
  override begin(sessionId: string, byClock = true): () => void {
    const ends = [super.begin(sessionId), ...(byClock ? [this.byClock.begin(sessionId)] : [])];
    return () => ends.forEach((end) => end());
  }

  /** For what plays it without a stream: it asked for the playlist. */
  touchByClock(sessionId: string): void {
    this.touch(sessionId);
    this.byClock.touch(sessionId);
  }

  hearByClock(sessionId: string, millisecondsAgo: number): void {
    this.byClock.hear(sessionId, millisecondsAgo);
  }

  hereByClock(within: number): Record<string, number> {
    return this.byClock.here(within);
  }

  /** Whether somebody watched by the clock within so many milliseconds, anywhere. */
  isByClock(sessionId: string, within: number): boolean {
    return this.clock.monotonic() - this.byClock.last(sessionId) <= within;
  }
}
