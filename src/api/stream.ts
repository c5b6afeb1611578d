import { checkViewer, DomainError, type SessionEvent, type SubscribeOptions } from '../sessions/index.js';
import { cancellable } from './cancellable.js';
import type { ApiContext } from './context.js';
import { type ApiError, toApiError } from './errors.js';
import { formatCursor, localId, parseCursor } from './ids.js';

export type MediaDelivery = 'INLINE' | 'URL' | 'NONE';

export interface StreamArgs {
  sessionId: string;
  after?: string | null;
  from?: 'START' | 'LIVE' | null;
  media?: MediaDelivery | null;
  viewer?: string | null;
}

/** An event with what its fields need beyond itself. */
export type Streamed<Event extends SessionEvent = SessionEvent> = Event extends SessionEvent
  ? {
      event: Event;
      sessionId: string;
      /** Of the newest event delivered in this stream, this one included. */
      cursor: string;
      delivery: MediaDelivery;
      /** On the first chunk of a stream: it also brings the init segment. */
      first: boolean;
    }
  : never;

/**
 * The session's log from the cursor on, one pull at a time. Expected failures come as one last item. A client that resumes
 * repeats the operation as it was, so what it was handed last comes first.
 */
export function sessionStream(
  args: StreamArgs,
  context: ApiContext,
): AsyncGenerator<Streamed | ApiError, void, undefined> {
  const { lastEventId } = context;
  return cancellable((signal) => follow(lastEventId ? { ...args, after: lastEventId } : args, context, signal));
}

async function* follow(
  args: StreamArgs,
  context: ApiContext,
  signal: AbortSignal,
): AsyncGenerator<Streamed | ApiError, void, undefined> {
  try {
    const sessionId = localId('Session', args.sessionId, 'sessionId');
    const options = subscribeOptions(sessionId, args, signal);
    // First: that another's session is full is not for everybody.
    await context.sessions.mayWatch(sessionId, signal);
    const leave = enter(sessionId, context);
    try {
      yield* decorate(context, sessionId, args, options);
    } finally {
      leave();
    }
  } catch (error) {
    yield toApiError(error, context);
  }
}

function subscribeOptions(
  sessionId: string,
  { after, from, media, viewer }: StreamArgs,
  signal: AbortSignal,
): SubscribeOptions {
  const start = from === 'LIVE' ? 'live' : undefined;
  if (viewer != null) checkViewer(viewer);
  return {
    ...{ after: after == null ? start : parseCursor(sessionId, after), inline: media === 'INLINE', signal },
    byClock: viewer == null && media !== 'NONE',
  };
}

function enter(sessionId: string, { gate, facts }: ApiContext): () => void {
  const leave = gate.enter(sessionId);
  if (leave) return leave;
  const message = `This session has reached its limit of ${facts.maxSubscribersPerSession} subscribers on this server; try again later or play its HLS playlist.`;
  throw new DomainError('AT_CAPACITY', message, { retryAfterSeconds: 10 });
}

async function* decorate(
  context: ApiContext,
  sessionId: string,
  args: StreamArgs,
  options: SubscribeOptions,
): AsyncGenerator<Streamed> {
  let cursor = args.after ?? (args.from === 'LIVE' ? undefined : formatCursor(sessionId, 0));
  let chunks = 0;
  for await (const event of context.sessions.subscribe(sessionId, options)) {
    context.observe(event);
    if (event.type !== 'Heartbeat') cursor = formatCursor(sessionId, event.sequence);
    // Heartbeats come to those who have seen everything: at the live edge that is the newest event.
    else cursor ??= formatCursor(sessionId, event.lastSequence);
    const first = event.type === 'FrameChunk' && chunks++ === 0;
    yield { event, sessionId, cursor, delivery: args.media ?? 'URL', first } as Streamed;
  }
}
