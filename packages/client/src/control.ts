/**
 * What happens to a session, apart from its video: one subscription without media for everybody who watches its state or waits
 * for a prompt. It is read as it comes, so nothing in it ever stands behind a chunk that somebody is slow to take.
 */
import { ClosedError, toError } from './errors.js';
import type { AppliedEvent, SessionEvent } from './events.js';
import { type Events, type LogSource, readLog } from './log.js';
import { type State, type ToldState, toState } from './state.js';

/** What became of a prompt. */
export type Outcome =
  | ({ readonly status: 'applied' } & Pick<
      AppliedEvent,
      'block' | 'frame' | 'seconds' | 'recacheMilliseconds' | 'waitedMilliseconds'
    >)
  /** A later one took its place. */
  | { readonly status: 'superseded'; readonly by: string }
  /** Somebody took it back. */
  | { readonly status: 'cancelled' }
  /** The session ended before. */
  | { readonly status: 'discarded' };

export interface ControlStart extends ToldState {
  readonly cursor: string;
  readonly ended: boolean;
}

const OUTCOMES_KEPT = 500;

export class Control {
  private readonly listeners = new Set<(event?: SessionEvent) => void>();
  private readonly outcomes = new Map<string, Outcome>();
  private told: State;
  private connection: 'idle' | 'connecting' | 'open' | 'lost' = 'idle';
  private cursor: string;
  private over: boolean;
  private failed: Error | undefined;
  private events: Events | undefined;
  private shown: State | undefined;

  constructor(
    private readonly source: LogSource,
    start: ControlStart,
    private readonly closed: AbortSignal,
  ) {
    this.told = toState(start);
    this.cursor = start.cursor;
    this.over = start.ended;
  }

  /** The same object as long as nothing changed. */
  get state(): State {
    const now = this.now();
    if (JSON.stringify(now) !== JSON.stringify(this.shown)) this.shown = now;
    return this.shown as State;
  }

  /** Told of every event and every change of the state until the function is called that it gives. */
  watch(listener: (event?: SessionEvent) => void): () => void {
    const entry = (event?: SessionEvent): void => listener(event);
    this.listeners.add(entry);
    this.start();
    return () => {
      this.listeners.delete(entry);
      if (this.listeners.size === 0) this.stop();
    };
  }

  /** What an answer of the service said, which may be newer than the stream. */
  learn(told: ToldState): void {
    if (this.over) return;
    this.told = toState(told);
    this.tell();
  }

  /** What becomes of a prompt that was asked for since this began. */
  outcome(receiptId: string, signal?: AbortSignal): Promise<Outcome> {
    return new Promise((resolve, reject) => {
      const done = new AbortController();
      const settle = (): void => {
        const outcome = this.outcomes.get(receiptId) ?? (this.over ? ({ status: 'discarded' } as const) : undefined);
        const broken = signal?.aborted ? toError(signal.reason) : this.failed;
        if (outcome) resolve(outcome);
        else if (broken) reject(broken);
        else return;
        done.abort();
      };
      const leave = this.watch(settle);
      done.signal.addEventListener('abort', leave);
      signal?.addEventListener('abort', settle, { signal: done.signal });
      settle();
    });
  }

  private now(): State {
    if (this.failed) return { status: 'lost', error: this.failed };
    if (this.over || this.told.status === 'ended') return this.told;
    if (this.connection === 'connecting') return { status: 'connecting' };
    return this.connection === 'lost' ? { status: 'reconnecting' } : this.told;
  }

  private start(): void {
    if (this.events || this.over || this.failed) return;
    this.connection = 'connecting';
    const source: LogSource = {
      ...this.source,
      silenceMilliseconds: () => this.source.silenceMilliseconds(),
      onConnection: (state) => this.connected(state),
      onHeartbeat: (event) => {
        this.told = toState(event);
        this.connected('open');
      },
    };
    const events = readLog(source, { after: this.cursor, media: 'NONE' }, this.closed);
    this.events = events;
    void this.run(events);
  }

  private stop(): void {
    void this.events?.return();
    this.events = undefined;
    this.connection = 'idle';
  }

  private async run(events: Events): Promise<void> {
    try {
      for await (const event of events) if (events === this.events) this.take(event);
    } catch (error) {
      if (events !== this.events) return;
      this.failed = this.closed.aborted ? new ClosedError() : toError(error);
      this.tell();
    }
  }

  private take(event: SessionEvent): void {
    this.cursor = event.cursor;
    this.connection = 'open';
    if (event.type === 'state') this.told = toState(event);
    if (event.type === 'applied') this.settle(event.receiptId, { ...event, status: 'applied' });
    if (event.type === 'superseded') this.settle(event.receiptId, { status: 'superseded', by: event.supersededBy });
    if (event.type === 'cancelled') this.settle(event.receiptId, { status: 'cancelled' });
    if (event.type === 'ended') {
      this.told = toState(event);
      this.over = true;
    }
    this.tell(event);
  }

  private settle(receiptId: string, outcome: Outcome): void {
    this.outcomes.set(receiptId, outcome);
    if (this.outcomes.size > OUTCOMES_KEPT) this.outcomes.delete(this.outcomes.keys().next().value as string);
  }

  private connected(state: 'open' | 'lost'): void {
    this.connection = state;
    this.tell();
  }

  private tell(event?: SessionEvent): void {
    for (const listener of [...this.listeners]) {
      try {
        listener(event);
      } catch (error) {
        queueMicrotask(() => {
          throw error; // As of an event's listener: its own fault, which must not stop the stream.
        });
      }
    }
  }
}
