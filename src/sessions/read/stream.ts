/**
 * A subscription: the log from a cursor on. It is pulled, so a reader that does not read holds nothing but its cursor;
 * what the memory ring no longer has comes from the store.
 */

import type { SubscribeOptions } from '../sessions.js';
import type { Context } from '../live/context.js';
import { invalid } from '../errors.js';
import type { FrameChunk, Heartbeat, SessionEvent, StoredEvent } from '../events.js';
import { readChunk } from '../stored/chunks.js';
import type { SessionKeys } from '../stored/keys.js';
import { LogReader, SEGMENT } from '../stored/log.js';
import type { EventRing } from './ring.js';
import type { Session } from '../session.js';
import { Signal } from '../signal.js';

export interface StreamSource {
  readonly context: Context;
  readonly keys: SessionKeys;
  /** The owner's memory, while the owner is this server. */
  ring(): EventRing | undefined;
  load(): Promise<Session>;
}

async function* follow(
  source: StreamSource,
  sessionId: string,
  options: SubscribeOptions,
): AsyncGenerator<SessionEvent, void, undefined> {
  const reader = await EventReader.open(source, sessionId, options);
  try {
    for (;;) {
      const event = await reader.next();
      if (!event) return;
      yield event;
    }
  } finally {
    reader.close();
  }
}

/** The same, which counts as watching while it lasts. */
export async function* watch(
  source: StreamSource,
  options: SubscribeOptions,
): AsyncGenerator<SessionEvent, void, undefined> {
  const { id } = source.keys;
  const end = source.context.watching.begin(id, options.byClock);
  try {
    yield* follow(source, id, options);
  } finally {
    end();
  }
}

class EventReader {
  private readonly log: LogReader;
  private readonly grown = new Signal();
  private readonly unlisten: (() => void)[];
  /** What was read from the store and not handed out yet; without media bytes. */
  private fetched: StoredEvent[] = [];
  private announced = 0;
  private ended = false;
  private spokeAt: number;
  /** Its place in the line as it was told last. */
  private place: number | undefined;

  private constructor(
    private readonly source: StreamSource,
    sessionId: string,
    private readonly options: SubscribeOptions,
    private cursor: number,
  ) {
    this.log = new LogReader(source.context.vault, source.keys);
    this.spokeAt = source.context.clock.monotonic();
    const { cluster, line } = source.context;
    this.unlisten = [
      cluster.onAnnounce(sessionId, (sequence) => {
        this.announced = Math.max(this.announced, sequence);
        this.grown.notify();
      }),
      line.onChange(() => this.grown.notify()),
    ];
  }

  static async open(source: StreamSource, sessionId: string, options: SubscribeOptions): Promise<EventReader> {
    const session = await source.load();
    const reader = new EventReader(source, sessionId, options, await startCursor(source, session, options.after ?? 0));
    reader.ended = reader.isComplete(session);
    return reader;
  }

  close(): void {
    for (const end of this.unlisten) end();
  }

  /** `undefined` at the end of the session or of the subscription. */
  async next(): Promise<SessionEvent | undefined> {
    while (!this.ended && !this.options.signal?.aborted) {
      const event = (await this.nextStored()) ?? (await this.waitForMore());
      if (event) this.spokeAt = this.source.context.clock.monotonic();
      if (event) return event;
    }
    return undefined;
  }

  private async nextStored(): Promise<StoredEvent | undefined> {
    const event = this.source.ring()?.next(this.cursor) ?? (await this.nextFromStore());
    if (!event) return undefined;
    this.cursor = event.sequence;
    this.ended = event.type === 'SessionEnded';
    return event.type === 'FrameChunk' ? this.withMedia(event) : event;
  }

  private async nextFromStore(): Promise<StoredEvent | undefined> {
    while (this.fetched[0] && this.fetched[0].sequence <= this.cursor) this.fetched.shift();
    if (this.fetched.length === 0 && !this.upToDate()) this.fetched = await this.log.after(this.cursor);
    return this.fetched.shift();
  }

  /** The owner is here and has nothing newer: no need to ask the store. */
  private upToDate(): boolean {
    const newest = this.source.ring()?.newest();
    return newest !== undefined && newest.sequence <= this.cursor;
  }

  private async withMedia(event: FrameChunk): Promise<FrameChunk> {
    const { data, ...bare } = event;
    if (!this.options.inline) return bare;
    return { ...bare, data: data ?? (await readChunk(this.source.context.vault, event)) };
  }

  /** Nothing will ever come after the cursor. */
  private isComplete({ finishedAt, lastSequence }: Session): boolean {
    return finishedAt !== undefined && lastSequence <= this.cursor;
  }

  /** How long to wait for a wake-up: an owner that is elsewhere may have no way to send one. */
  private patience(): number {
    if (this.source.ring()) return Infinity;
    const { clock, policy } = this.source.context;
    return Math.max(policy.pollSeconds * 1_000, (clock.monotonic() - this.spokeAt) / 2);
  }

  /** Waits for the log to grow; a Heartbeat when it does not for too long. */
  private async waitForMore(): Promise<Heartbeat | undefined> {
    const { clock, policy } = this.source.context;
    if (this.announced > this.cursor) return undefined;
    const rest = this.spokeAt + policy.heartbeatSeconds * 1_000 - clock.monotonic();
    const place = this.source.context.line.placeOf(this.source.keys.id);
    if (rest > 0 && place === this.place) {
      await this.grown.wait(clock, Math.min(rest, this.patience()), this.options.signal);
      return undefined;
    }
    const session = await this.source.load();
    const { state, reason, failure, queue, lastSequence } = session;
    this.ended = this.isComplete(session);
    if (this.ended || lastSequence > this.cursor) return undefined;
    this.place = place;
    return {
      type: 'Heartbeat',
      at: clock.now(),
      state,
      ...(reason && { reason }),
      ...(failure && { failure }),
      ...(queue && { queue }),
      lastSequence,
    };
  }
}

async function startCursor(source: StreamSource, session: Session, after: number | 'live'): Promise<number> {
  if (after === 'live') return newestKeyChunk(source, session);
  if (!Number.isInteger(after) || after < 0 || after > session.lastSequence) {
    throw invalid(
      'after',
      `The cursor does not belong to this session, whose newest event is ${session.lastSequence}.`,
    );
  }
  return after;
}

/** The cursor just before the newest chunk at which decoding may begin. */
async function newestKeyChunk(source: StreamSource, session: Session): Promise<number> {
  const log = new LogReader(source.context.vault, source.keys);
  for (let index = Math.floor(Math.max(0, session.lastSequence - 1) / SEGMENT); index >= 0; index--) {
    const { events } = await log.segment(index);
    const chunk = events.findLast((event) => event.type === 'FrameChunk' && event.keyframe);
    if (chunk) return chunk.sequence - 1;
  }
  return 0;
}
