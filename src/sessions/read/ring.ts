import type { FrameChunk, StoredEvent } from '../events.js';

export interface RingLimits {
  events: number;
  bytes: number;
}

/** The newest events of a session with their media bytes, bounded in number and in bytes. */
export class EventRing {
  private events: StoredEvent[] = [];
  private bytes = 0;

  constructor(private readonly limits: RingLimits) {}

  push(event: StoredEvent): void {
    this.events.push(event);
    this.bytes += sizeOf(event);
    while (this.events.length > 1 && (this.events.length > this.limits.events || this.bytes > this.limits.bytes)) {
      this.bytes -= sizeOf(this.events.shift() as StoredEvent);
    }
  }

  /** The event right after a cursor; `undefined` when it is not (or no longer) here. */
  next(cursor: number): StoredEvent | undefined {
    const first = this.events[0];
    return first && cursor + 1 >= first.sequence ? this.events[cursor + 1 - first.sequence] : undefined;
  }

  /** The chunk of this number, while it is here. */
  chunk(number: number): FrameChunk | undefined {
    return this.events.find((event): event is FrameChunk => event.type === 'FrameChunk' && event.chunk === number);
  }

  newest(): StoredEvent | undefined {
    return this.events.at(-1);
  }
}

function sizeOf(event: StoredEvent): number {
  return 256 + (event.type === 'FrameChunk' ? (event.data?.length ?? 0) : 0);
}
