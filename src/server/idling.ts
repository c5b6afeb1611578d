import type { ServerResponse } from 'node:http';
import type { Socket } from 'node:net';

/**
 * Ends a connection on which no further request is whole in time after an answer. To Node whatever comes is activity, empty lines
 * between requests too, and it times the headers only from their first byte.
 */
export class Idling {
  private readonly newest = new WeakMap<Socket, ServerResponse>();
  private readonly timers = new WeakMap<Socket, NodeJS.Timeout>();

  constructor(private readonly milliseconds: number) {}

  /** A request came. */
  busy(socket: Socket, response: ServerResponse): void {
    this.end(socket);
    this.newest.set(socket, response);
    response.once('close', () => {
      // Of several at once the last one counts.
      if (socket.destroyed || this.newest.get(socket) !== response) return;
      if (!this.timers.has(socket)) socket.once('close', () => this.end(socket));
      this.timers.set(socket, setTimeout(() => socket.destroy(), this.milliseconds).unref());
    });
  }

  /** Nothing is waited for any more: it became a WebSocket, or is closed. */
  end(socket: Socket): void {
    clearTimeout(this.timers.get(socket));
    this.newest.delete(socket);
  }
}
