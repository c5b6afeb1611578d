/** Requests over HTTP; subscriptions over a WebSocket, or over SSE where WebSockets are missing or refused. */
import type { HttpWire } from './http.js';
import type { Operation, Sink, Stop, Wire } from './wire.js';
import { tokenRefused, type WebSocketWire } from './websocket.js';

export class Wires implements Wire {
  /** Attempts since a subscription was last established. */
  private failures = 0;
  private refused = false;

  constructor(
    private readonly http: HttpWire,
    private readonly socket: WebSocketWire | undefined,
  ) {}

  request<Data, Variables>(
    operation: Operation<Data, Variables>,
    variables: Variables,
    signal?: AbortSignal,
  ): Promise<Data> {
    return this.http.request(operation, variables, signal);
  }

  file(url: string, signal?: AbortSignal): Promise<Uint8Array<ArrayBuffer>> {
    return this.http.file(url, signal);
  }

  /** By turns, until one works. SSE stays only where no WebSocket was ever accepted: a restart ends both for a while. */
  subscribe<Data, Variables>(operation: Operation<Data, Variables>, variables: Variables, sink: Sink<Data>): Stop {
    const { socket } = this;
    if (!socket || this.refused) return this.http.subscribe(operation, variables, sink);
    const overSse = this.failures % 2 === 1;
    let opened = false;
    const watched: Sink<Data> = {
      open: () => {
        opened = true;
        this.failures = 0;
        if (overSse && !socket.accepted) this.refused = true;
        sink.open();
      },
      next: (data) => sink.next(data),
      error: (reason) => {
        if (!opened && !tokenRefused(reason)) this.failures++;
        sink.error(reason);
      },
      complete: () => sink.complete(),
    };
    return (overSse ? this.http : socket).subscribe(operation, variables, watched);
  }

  close(): void {
    this.socket?.close();
  }
}
