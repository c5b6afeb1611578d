/**
 * The session's log in the store: segments of SEGMENT events, one JSON line each. Sealed segments never change; the
 * newest one is rewritten on every append, only if it is still what we wrote last, so two writers can never both
 * succeed. Sequence n always lies in segment floor((n - 1) / SEGMENT).
 */

import type { StoredEvent } from '../events.js';
import { DamagedError, sealText, unsealText } from './checksum.js';
import type { SessionKeys } from './keys.js';
import { asStored, fromStored } from './names.js';
import type { Clock } from '../ports.js';
import { OwnershipLost, type Vault } from './vault.js';

export const SEGMENT = 64;

/** An event without its place in the log. */
export type Draft = StoredEvent extends infer E ? (E extends StoredEvent ? Omit<E, 'sequence' | 'at'> : never) : never;

/** Rejects with DamagedError where the log is not what was written. */
export class LogReader {
  constructor(
    private readonly vault: Vault,
    private readonly keys: SessionKeys,
  ) {}

  /** What follows a cursor, up to the end of its segment; empty when nothing does (yet). */
  async after(cursor: number): Promise<StoredEvent[]> {
    const { events } = await this.at(cursor);
    return events.slice(cursor % SEGMENT);
  }

  /** The segment that has what follows a cursor, which is known to have existed: that it is still there is checked. */
  async at(cursor: number): Promise<{ index: number; events: StoredEvent[]; etag: string | undefined }> {
    const index = Math.floor(cursor / SEGMENT);
    const segment = await this.segment(index);
    const behind = cursor % SEGMENT;
    const before = behind === 0 && index > 0 && segment.events.length === 0 ? this.keys.segment(index - 1) : undefined;
    if (before !== undefined && !(await this.vault.head(before))) throw disappeared(before);
    if (segment.events.length < behind) throw disappeared(this.keys.segment(index));
    return { index, ...segment };
  }

  async *all(cursor = 0): AsyncGenerator<StoredEvent> {
    for (let events = await this.after(cursor); events.length > 0; events = await this.after(cursor)) {
      yield* events;
      cursor += events.length;
    }
  }

  async segment(index: number): Promise<{ events: StoredEvent[]; etag: string | undefined }> {
    const key = this.keys.segment(index);
    const stored = await this.vault.read(key);
    return { events: stored ? parseSegment(stored.bytes, key, index) : [], etag: stored?.etag };
  }
}

export interface AppendOptions {
  /** Media bytes that go with a FrameChunk in memory, not into the log. */
  data?: Uint8Array;
  /**
   * Skips the event when this is true. Asked when it is known what the log holds: an append that was rejected may
   * have reached the store all the same.
   */
  unless?: () => boolean;
}

interface Waiting extends AppendOptions {
  draft: Draft;
  resolve(): void;
  reject(error: unknown): void;
}

interface Tail {
  index: number;
  events: StoredEvent[];
  etag: string | undefined;
}

/** The owner's end of the log. Appends are written in order; what waits while a write is under way shares the next. */
export class SessionLog {
  private waiting: Waiting[] = [];
  private writing = false;
  /** A write whose outcome is unknown: it failed, but may have reached the store. */
  private uncertain: StoredEvent[] = [];

  private constructor(
    private readonly vault: Vault,
    private readonly keys: SessionKeys,
    private readonly clock: Clock,
    private readonly onCommitted: (event: StoredEvent) => void,
    private tail: Tail,
  ) {}

  /** Opens the log for writing where it ends; `after` is a sequence known to exist, to save reading from the start. */
  static async open(
    vault: Vault,
    keys: SessionKeys,
    clock: Clock,
    after: number,
    onCommitted: (event: StoredEvent) => void,
  ): Promise<SessionLog> {
    const reader = new LogReader(vault, keys);
    let tail: Tail = await reader.at(after);
    for (;;) {
      for (const event of tail.events) if (event.sequence > after) onCommitted(event);
      if (tail.events.length < SEGMENT) break;
      tail = { index: tail.index + 1, ...(await reader.segment(tail.index + 1)) };
    }
    return new SessionLog(vault, keys, clock, onCommitted, tail);
  }

  get lastSequence(): number {
    return this.tail.index * SEGMENT + this.tail.events.length;
  }

  /** Resolves when the event is durable. Rejects with STORAGE (it is open whether it was logged) or OwnershipLost. */
  append(draft: Draft, options: AppendOptions = {}): Promise<void> {
    return new Promise((resolve, reject) => {
      this.waiting.push({ ...options, draft, resolve, reject });
      if (!this.writing) void this.drain();
    });
  }

  /** Rejects with OwnershipLost unless the log still ends with what we wrote, or are writing. */
  async confirm(): Promise<void> {
    const { tail, uncertain } = this;
    const key = this.keys.segment(tail.index);
    const etag = (await this.vault.head(key))?.etag;
    if (etag === undefined && tail.etag !== undefined) throw disappeared(key);
    const ours = etag === tail.etag ? await this.isLast(tail) : await this.isOurs(tail, uncertain);
    // What was written here meanwhile is no reason to doubt.
    if (this.tail !== tail || this.uncertain !== uncertain) return this.confirm();
    if (!ours) throw new OwnershipLost(key);
  }

  /** A successor of a full segment's writer begins the next one and leaves that as it is. */
  private async isLast(tail: Tail): Promise<boolean> {
    if (tail.events.length < SEGMENT) return true;
    return (await this.vault.head(this.keys.segment(tail.index + 1))) === undefined;
  }

  private async isOurs(tail: Tail, uncertain: readonly StoredEvent[]): Promise<boolean> {
    if (uncertain.length === 0) return false;
    const { events } = await new LogReader(this.vault, this.keys).segment(tail.index);
    return JSON.stringify(events) === JSON.stringify([...tail.events, ...uncertain]);
  }

  private async drain(): Promise<void> {
    this.writing = true;
    while (this.waiting.length > 0) {
      const batch = this.waiting.splice(0);
      try {
        await this.adoptUncertain();
        if (this.tail.events.length >= SEGMENT) await this.beginSegment();
        this.waiting.unshift(...batch.splice(Math.min(SEGMENT - this.tail.events.length, upToChange(batch))));
        await this.writeBatch(batch);
      } catch (error) {
        for (const entry of batch) entry.reject(error);
      }
    }
    this.writing = false;
  }

  /** Not in a store that has lost the one before, such as an empty one in its place. */
  private async beginSegment(): Promise<void> {
    const { index } = this.tail;
    const before = this.keys.segment(index);
    if (!(await this.vault.head(before))) throw disappeared(before);
    this.tail = { index: index + 1, events: [], etag: undefined };
  }

  private async writeBatch(batch: Waiting[]): Promise<void> {
    const needed = batch.filter(({ unless }) => !unless?.());
    const events = needed.map(({ draft }, i) => this.place(draft, i));
    if (events.length > 0) await this.write(events);
    needed.forEach(({ data }, i) => this.onCommitted(withData(events[i] as StoredEvent, data)));
    for (const entry of batch) entry.resolve();
  }

  private place(draft: Draft, offset: number): StoredEvent {
    return { sequence: this.lastSequence + 1 + offset, at: this.clock.now(), ...draft };
  }

  private async write(events: StoredEvent[]): Promise<void> {
    const all = [...this.tail.events, ...events];
    this.uncertain = events;
    const etag = await this.vault.putOwned(
      this.keys.segment(this.tail.index),
      formatSegment(all),
      this.tail.etag,
      JSONL,
    );
    this.uncertain = [];
    this.tail = { ...this.tail, events: all, etag };
  }

  /** After a failed write, finds out whether it arrived after all; if so, its events count. */
  private async adoptUncertain(): Promise<void> {
    if (this.uncertain.length === 0) return;
    const stored = await new LogReader(this.vault, this.keys).segment(this.tail.index);
    if (!stored.etag && this.tail.etag) throw disappeared(this.keys.segment(this.tail.index));
    if (stored.etag !== this.tail.etag) {
      if (JSON.stringify(stored.events) !== JSON.stringify([...this.tail.events, ...this.uncertain])) {
        throw new OwnershipLost(this.keys.segment(this.tail.index));
      }
      this.tail = { ...this.tail, ...stored };
      this.uncertain.forEach((event) => this.onCommitted(event));
    }
    this.uncertain = [];
  }
}

function disappeared(key: string): DamagedError {
  return new DamagedError(key, 'has disappeared from the store, or lacks what was in it');
}

/** Whether what stands behind a change of state is still wanted is known only when that is logged. */
function upToChange(batch: readonly Waiting[]): number {
  const change = batch.findIndex(({ draft }) => draft.type === 'StateChanged');
  return change < 0 ? batch.length : change + 1;
}

function withData(event: StoredEvent, data: Uint8Array | undefined): StoredEvent {
  return event.type === 'FrameChunk' && data ? { ...event, data } : event;
}

const JSONL = { contentType: 'application/x-ndjson' };

export function formatSegment(events: StoredEvent[]): Uint8Array {
  return new TextEncoder().encode(events.map((event) => sealText(JSON.stringify(asStored(event))) + '\n').join(''));
}

/** Throws DamagedError. */
export function parseSegment(bytes: Uint8Array, key: string, index: number): StoredEvent[] {
  const lines = new TextDecoder().decode(bytes).split('\n');
  if (lines.pop() !== '') throw new DamagedError(key, 'is truncated in its last line');
  return lines.map((line, i) => parseLine(line, `Line ${i + 1} of ${key}`, index * SEGMENT + i + 1));
}

/** Throws DamagedError, which calls the line `what`. */
export function parseLine(line: string, what: string, sequence: number): StoredEvent {
  const json = unsealText(line, what);
  let stored: Partial<StoredEvent> | null;
  try {
    stored = JSON.parse(json) as typeof stored;
  } catch (error) {
    throw new DamagedError(what, 'is damaged: it is not JSON', error);
  }
  if (stored?.sequence === sequence && typeof stored.type === 'string') return fromStored(stored);
  throw new DamagedError(what, `is not the event that belongs there, number ${sequence}`);
}
