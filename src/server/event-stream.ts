import { isAsyncIterable, type Plugin } from 'graphql-yoga';
import type { ApiContext } from '../api/index.js';

const CURSOR = /^[\w-]{1,200}$/;
const EVENT = Buffer.from('event: next');

/**
 * Events over SSE carry their cursor as `id`, so that what resumes by itself, as browsers' `EventSource` does, goes on behind
 * the last one: the cursor comes back in `Last-Event-ID`.
 */
export function eventIds(): Plugin {
  return {
    onSubscribe({ args, extendContext }) {
      const { request } = args.contextValue as { request?: Request };
      const lastEventId = request?.headers.get('last-event-id');
      if (lastEventId) extendContext({ lastEventId } satisfies Partial<ApiContext> as object);
    },
    onResultProcess(hook) {
      const { result, resultProcessor } = hook;
      if (!resultProcessor || !isAsyncIterable(result)) return;
      hook.setResultProcessor(async (events, api) => {
        const cursors: (string | undefined)[] = [];
        const noted = noting(events as AsyncIterable<unknown>, cursors) as typeof events;
        const response = await resultProcessor(noted, api, 'text/event-stream');
        const { status, headers, body } = response;
        return new api.Response(body && named(body, cursors, api.ReadableStream), { status, headers });
      }, 'text/event-stream');
    },
  };
}

/** Hands on what comes, and its cursor where the operation asks for it. */
function noting(events: AsyncIterable<unknown>, cursors: (string | undefined)[]): AsyncIterable<unknown> {
  const iterator = events[Symbol.asyncIterator]();
  return {
    [Symbol.asyncIterator]: () => ({
      next: async () => {
        const result = await iterator.next();
        if (!result.done) cursors.push(cursorOf(result.value));
        return result;
      },
      return: async (value: unknown) => (await iterator.return?.(value)) ?? { done: true, value },
    }),
  };
}

function cursorOf(result: unknown): string | undefined {
  const [event] = Object.values((result as { data?: Record<string, { cursor?: unknown } | null> | null }).data ?? {});
  return typeof event?.cursor === 'string' && CURSOR.test(event.cursor) ? event.cursor : undefined;
}

/** Writes `id` before the events. Holds nothing back: it reads when it is read. */
function named(
  body: ReadableStream<Uint8Array>,
  cursors: (string | undefined)[],
  Stream: typeof ReadableStream,
): ReadableStream<Uint8Array> {
  const reader = body.getReader();
  return new Stream<Uint8Array>(
    {
      async pull(controller) {
        const { value, done } = await reader.read();
        if (done) return controller.close();
        const bytes = Buffer.from(value);
        const cursor = bytes.subarray(0, EVENT.length).equals(EVENT) ? cursors.shift() : undefined;
        controller.enqueue(cursor === undefined ? bytes : Buffer.concat([Buffer.from(`id: ${cursor}\n`), bytes]));
      },
      cancel: (reason) => reader.cancel(reason),
    },
    { highWaterMark: 0 },
  );
}
