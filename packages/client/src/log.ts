/** The log of a session, read by cursor: every event once and in order, across any number of broken connections. */
import { ClosedError, ServiceError, UnauthorizedError, retryIn, toError } from './errors.js';
import { absolute, type HeartbeatEvent, type SessionEvent, toEvent } from './events.js';
import {
  type MediaDelivery,
  SessionStream,
  type SessionStreamSubscription,
  type StreamStart,
} from './generated/operations.js';
import { Inbox, SilenceError } from './inbox.js';
import { asyncDispose, backoff, wait } from './time.js';
import type { Stop, Wire } from './wire/wire.js';

export interface LogOptions {
  /** The cursor of the last event that was processed. */
  after?: string;
  /** Where to begin without `after`. */
  from?: StreamStart;
  /** How chunks bring their bytes: by `URL` unless said otherwise, `INLINE`, or `NONE`. */
  media?: MediaDelivery;
  /** Whoever watches, by a name of your own, if it says by `session.acknowledge` how far it has seen. */
  viewer?: string;
  signal?: AbortSignal;
}

export interface LogSource {
  readonly wire: Wire;
  readonly base: string;
  readonly id: string;
  /** How long a stream may bring nothing, not even a heartbeat. */
  silenceMilliseconds(): number;
  onConnection?(state: 'open' | 'lost'): void;
  onHeartbeat?(event: HeartbeatEvent): void;
}

/** Ends with the session, by `return()`, or fails by the signal and where repeating is of no use. */
export interface Events extends AsyncIterable<SessionEvent>, AsyncDisposable {
  next(): Promise<IteratorResult<SessionEvent, undefined>>;
  return(): Promise<IteratorResult<SessionEvent, undefined>>;
  [Symbol.asyncIterator](): Events;
}

/** Events that wait for a slow reader; beyond them the subscription ends, and the log is read on from there later. */
const WAITING_AT_MOST = 512;
/** So many of the last cursors are remembered, to tell what came twice. */
const REMEMBERED = 256;
const FINAL: ReadonlySet<string> = new Set(['NOT_FOUND', 'INVALID_INPUT']);

export function readLog(source: LogSource, options: LogOptions, closed: AbortSignal): Events {
  const returned = new AbortController();
  const signal = AbortSignal.any([closed, returned.signal, ...(options.signal ? [options.signal] : [])]);
  const events = follow(source, options, signal);
  const done = { done: true, value: undefined } as const;
  const iterator: Events = {
    next: () =>
      events.next().catch((error: unknown) => {
        if (returned.signal.aborted) return done;
        throw error;
      }),
    return: async () => {
      returned.abort(new ClosedError());
      await events.return(undefined).catch(() => undefined);
      return done;
    },
    [Symbol.asyncIterator]: () => iterator,
    [asyncDispose]: async () => void (await iterator.return()),
  };
  return iterator;
}

async function* follow(
  source: LogSource,
  { after, from = 'START', media = 'URL', viewer }: LogOptions,
  signal: AbortSignal,
): AsyncGenerator<SessionEvent, undefined, undefined> {
  const order = new Order(after, after === undefined && from === 'START' ? 0 : undefined);
  for (let attempt = 0; ; attempt++) {
    signal.throwIfAborted();
    let pause = backoff(attempt);
    const connection = connect(source, { id: source.id, after: after ?? null, from, media, viewer: viewer ?? null });
    try {
      for (;;) {
        const data = await connection.inbox.take(source.silenceMilliseconds(), signal);
        if (!data) break;
        const event = toEvent(data.sessionStream);
        attempt = 0;
        if (event?.type === 'heartbeat') source.onHeartbeat?.(event);
        if (!event || event.type === 'heartbeat' || order.repeats(event)) continue;
        if (order.leavesOut(event)) {
          after = order.sure;
          break;
        }
        after = event.cursor;
        yield order.take(absolute(event, source.base));
        if (event.type === 'ended') return undefined;
      }
      if (connection.full) pause = 0;
    } catch (reason) {
      const error = toError(reason);
      if (signal.aborted || error instanceof UnauthorizedError) throw error;
      if (error instanceof ServiceError && FINAL.has(error.code)) throw error;
      pause = retryIn(error) || pause;
      if (error instanceof SilenceError) connection.stop(true);
    } finally {
      connection.stop();
    }
    if (pause === 0) continue;
    source.onConnection?.('lost');
    await wait(pause, signal);
  }
}

interface Connection {
  readonly inbox: Inbox<SessionStreamSubscription>;
  /** Ended because its reader is slow. */
  readonly full: boolean;
  stop: Stop;
}

function connect(
  source: LogSource,
  variables: { id: string; after: string | null; from: StreamStart; media: MediaDelivery; viewer: string | null },
): Connection {
  let stop: Stop = () => undefined;
  let full = false;
  const inbox = new Inbox<SessionStreamSubscription>(
    WAITING_AT_MOST,
    () => source.onConnection?.('open'),
    () => {
      full = true;
      stop();
    },
  );
  stop = source.wire.subscribe(SessionStream, variables, inbox);
  return {
    inbox,
    get full() {
      return full;
    },
    stop: (dead) => stop(dead),
  };
}

/** What a session promises of its order, held against what comes. */
class Order {
  private readonly cursors = new Set<string>();
  private begun = false;

  /** `sure` is the cursor up to which surely nothing is missing: chunks are counted, other events are not. */
  constructor(
    public sure: string | undefined,
    private nextChunk: number | undefined,
  ) {}

  repeats(event: SessionEvent): boolean {
    if (event.type === 'chunk' && this.nextChunk !== undefined && event.index < this.nextChunk) return true;
    return this.cursors.has(event.cursor);
  }

  leavesOut(event: SessionEvent): boolean {
    if (this.nextChunk === undefined) return false;
    return (
      (event.type === 'chunk' && event.index > this.nextChunk) ||
      (event.type === 'ended' && event.chunks > this.nextChunk)
    );
  }

  /** The event; a chunk without `init` where an earlier one brought it: every subscription's first one does. */
  take<Event extends SessionEvent>(event: Event): Event {
    this.cursors.add(event.cursor);
    if (this.cursors.size > REMEMBERED) this.cursors.delete(this.cursors.values().next().value as string);
    if (event.type !== 'chunk') return event;
    this.nextChunk = event.index + 1;
    this.sure = event.cursor;
    const again = this.begun;
    this.begun = true;
    return again ? { ...event, init: null } : event;
  }
}
