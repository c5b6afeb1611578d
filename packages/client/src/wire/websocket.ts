/** Subscriptions over one WebSocket, by graphql-ws. It never repeats an operation: that would replay a session. */
import { type Client, createClient } from 'graphql-ws/client';
import { ConnectionError, RequestError, UnauthorizedError } from '../errors.js';
import type { Token } from './token.js';
import type { Answer, Carrier, Operation, Sink, Stop } from './wire.js';

const FORBIDDEN = 4403;
const ACKNOWLEDGED_WITHIN_MS = 10_000;

export class WebSocketWire implements Carrier {
  /** Whether the service ever accepted a WebSocket of this client. */
  accepted = false;
  private readonly client: Client;
  private readonly opening = new Set<() => void>();
  private connected = false;

  constructor(url: string, token: Token, webSocketImpl: unknown) {
    let used: string | undefined;
    this.client = createClient({
      url: url.replace(/^http/, 'ws'),
      webSocketImpl: heard(webSocketImpl),
      retryAttempts: 0,
      connectionAckWaitTimeout: ACKNOWLEDGED_WITHIN_MS,
      connectionParams: async () => {
        used = await token.get();
        return used === undefined ? {} : { authorization: `Bearer ${used}` };
      },
      on: {
        connected: () => {
          this.connected = this.accepted = true;
          for (const open of this.opening) open();
          this.opening.clear();
        },
        closed: (event) => {
          this.connected = false;
          if ((event as { code?: number } | undefined)?.code === FORBIDDEN) token.refuse(used);
        },
      },
    });
  }

  subscribe<Data, Variables>(operation: Operation<Data, Variables>, variables: Variables, sink: Sink<Data>): Stop {
    let over = false;
    const open = (): void => void (!over && sink.open());
    const end = (tell: () => void): void => {
      this.opening.delete(open);
      if (!over) tell();
      over = true;
    };
    if (this.connected) queueMicrotask(open);
    else this.opening.add(open);
    const payload = {
      query: operation.text,
      variables: variables as Record<string, unknown>,
    };
    const unsubscribe = this.client.subscribe<Data>(payload, {
      next: (answer) => {
        const { data, errors } = answer as Answer<Data>;
        if (over) return;
        if (data) sink.next(data);
        else end(() => sink.error(new RequestError(errors?.[0]?.message ?? 'The stream failed.')));
      },
      error: (reason) => end(() => sink.error(meaning(reason))),
      complete: () => end(() => sink.complete()),
    });
    return (dead = false) => {
      end(() => undefined);
      unsubscribe();
      if (dead) this.client.terminate();
    };
  }

  close(): void {
    void this.client.dispose();
  }
}

/** One that is closed while it connects emits an error that nobody listens to any more, which would end Node. */
function heard(given: unknown): unknown {
  return class extends (given as typeof WebSocket) {
    constructor(url: string | URL, protocols?: string | string[]) {
      super(url, protocols);
      this.addEventListener('error', () => undefined);
    }
  };
}

/** A close event, the errors of GraphQL, or what the token's source threw. */
function meaning(reason: unknown): Error {
  if (Array.isArray(reason))
    return new RequestError((reason as { message: string }[])[0]?.message ?? 'The stream failed.');
  if (reason instanceof UnauthorizedError) return reason;
  const { code, reason: text } = reason as { code?: number; reason?: string };
  const told = code === undefined ? '' : ` (${[code, text].filter(Boolean).join(' ')})`;
  return new ConnectionError(`The WebSocket broke${told}.`, { cause: reason });
}

/** The next attempt asks for another token: no reason to try another way. */
export const tokenRefused = ({ cause }: Error): boolean => (cause as { code?: number } | undefined)?.code === FORBIDDEN;
