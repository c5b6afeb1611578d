import WebSocket from 'ws';

/** An event as it came over the wire. */
export interface WireEvent {
  __typename: string;
  cursor: string;
  [field: string]: unknown;
}

/** A subscription at the wire: one event per pull, and nothing is read from the socket between pulls while paused. */
export interface WireStream extends AsyncIterable<WireEvent> {
  next(): Promise<IteratorResult<WireEvent, undefined>>;
  /** Stops reading from the socket: the network's buffers fill up. */
  pause(): void;
  resume(): void;
  /** Breaks the connection without a word. */
  cut(): void;
}

export const STREAM = /* GraphQL */ `
  subscription ($id: ID!, $after: Cursor, $from: StreamStart, $media: MediaDelivery) {
    sessionStream(sessionId: $id, after: $after, from: $from, media: $media) {
      __typename
      ... on SessionEvent {
        cursor
        at
      }
      ... on FrameChunk {
        index
        startSeconds
        durationSeconds
        byteLength
        url
        data
        init {
          codec
          mimeType
          url
          data
        }
      }
      ... on PromptRequested {
        receiptId
        prompt
        expectedBlock
      }
      ... on PromptApplied {
        receiptId
        prompt
        block
        frame
        seconds
        recacheMilliseconds
        waitedMilliseconds
      }
      ... on PromptSuperseded {
        receiptId
        supersededBy
      }
      ... on StateChanged {
        state
        previous
        reason
      }
      ... on Heartbeat {
        state
      }
      ... on SessionEnded {
        state
        reason
        chunks
        frames
        seconds
        artifacts {
          kind
          url
        }
      }
      ... on Error {
        code
        message
      }
    }
  }
`;

export interface StreamVariables {
  id: string;
  after?: string;
  from?: 'START' | 'LIVE';
  media?: 'INLINE' | 'URL' | 'NONE';
}

export interface Transport {
  name: string;
  open(url: string, variables: StreamVariables): WireStream;
}

interface Payload {
  data?: { sessionStream: WireEvent };
  errors?: unknown;
}

/** What came in and was not asked for yet. */
class Inbox {
  private readonly events: WireEvent[] = [];
  private wake: () => void = () => undefined;
  private over: { error?: Error } | undefined;

  push(payload: Payload): void {
    if (payload.data && !payload.errors) this.events.push(payload.data.sessionStream);
    else this.over = { error: new Error(JSON.stringify(payload)) };
    this.wake();
  }

  end(error?: Error): void {
    this.over ??= { error };
    this.wake();
  }

  async next(): Promise<IteratorResult<WireEvent, undefined>> {
    for (;;) {
      const event = this.events.shift();
      if (event) return { done: false, value: event };
      if (this.over?.error) throw this.over.error;
      if (this.over) return { done: true, value: undefined };
      await new Promise<void>((resolve) => (this.wake = resolve));
    }
  }
}

function webSocketStream(url: string, variables: StreamVariables): WireStream {
  const inbox = new Inbox();
  const socket = new WebSocket(`${url.replace('http', 'ws')}/graphql`, 'graphql-transport-ws');
  const send = (message: object) => socket.send(JSON.stringify(message));
  socket.on('open', () => send({ type: 'connection_init' }));
  socket.on('error', () => undefined);
  socket.on('close', (code) => inbox.end(new Error(`closed with ${code}`)));
  socket.on('message', (bytes: Buffer) => {
    const { type, payload } = JSON.parse(bytes.toString()) as { type: string; payload: Payload };
    if (type === 'connection_ack') send({ id: '1', type: 'subscribe', payload: { query: STREAM, variables } });
    if (type === 'next') inbox.push(payload);
    if (type === 'error') inbox.push({ errors: payload });
    if (type === 'complete') {
      inbox.end();
      socket.close();
    }
  });
  const stream = {
    next: () => inbox.next(),
    pause: () => socket.pause(),
    resume: () => socket.resume(),
    cut: () => socket.terminate(),
    [Symbol.asyncIterator]: () => ({
      next: () => inbox.next(),
      return: async () => (socket.terminate(), { done: true as const, value: undefined }),
    }),
  };
  return stream;
}

function sseStream(url: string, variables: StreamVariables): WireStream {
  const inbox = new Inbox();
  const controller = new AbortController();
  let gate = Promise.resolve();
  let open = () => undefined as void;
  void (async () => {
    const response = await fetch(`${url}/graphql`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', accept: 'text/event-stream' },
      body: JSON.stringify({ query: STREAM, variables }),
      signal: controller.signal,
    });
    const decoder = new TextDecoder();
    let text = '';
    for await (const bytes of response.body as unknown as AsyncIterable<Uint8Array>) {
      text += decoder.decode(bytes, { stream: true });
      const blocks = text.split('\n\n');
      text = blocks.pop() ?? '';
      for (const block of blocks) readBlock(block, inbox);
      await gate;
    }
    inbox.end(new Error('closed'));
  })().catch((error: unknown) => inbox.end(error as Error));
  return {
    next: () => inbox.next(),
    pause: () => void (gate = new Promise((resolve) => (open = resolve))),
    resume: () => open(),
    cut: () => controller.abort(),
    [Symbol.asyncIterator]: () => ({
      next: () => inbox.next(),
      return: async () => (controller.abort(), { done: true as const, value: undefined }),
    }),
  };
}

function readBlock(block: string, inbox: Inbox): void {
  const lines = block.split('\n');
  const event = lines.find((line) => line.startsWith('event: '))?.slice(7);
  const data = lines.find((line) => line.startsWith('data: '))?.slice(6);
  if (event === 'next' && data) inbox.push(JSON.parse(data) as Payload);
  if (event === 'complete') inbox.end();
}

export const TRANSPORTS: Transport[] = [
  { name: 'graphql-transport-ws', open: webSocketStream },
  { name: 'SSE', open: sseStream },
];

/** Everything until the stream ends or `enough` says so; then the connection is cut. */
export async function collect(
  stream: WireStream,
  enough: (event: WireEvent, all: WireEvent[]) => boolean = () => false,
): Promise<WireEvent[]> {
  const all: WireEvent[] = [];
  for await (const event of stream) {
    if (event.__typename !== 'Heartbeat') all.push(event);
    if (enough(event, all)) break;
  }
  return all;
}
