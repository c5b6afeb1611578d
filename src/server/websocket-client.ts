import type { Socket } from 'node:net';
import type { RawData, WebSocket } from 'ws';
import type { ServerConfig } from './config.js';
import type { Logger } from '../sessions/index.js';

export interface ClientLimits extends Pick<
  ServerConfig,
  'bodySeconds' | 'maxBodyBytes' | 'maxLoginBytes' | 'maxUnsentBytes' | 'stallSeconds'
> {
  log: Logger;
  /** Called when it has logged in: it counts no longer as a stranger of its address. */
  login: () => void;
  /** Told of what is sent. */
  written: (bytes: number) => void;
}

/** A client that does not answer a goodbye is cut off after this. */
const GOODBYE_MILLISECONDS = 1000;

const TOO_BIG = 1009;
const INTERNAL = 1011;
/** Of graphql-transport-ws. */
const BAD_REQUEST = 4400;

/** How graphql-ws calls a message that only a server sends, such as `next`. */
const OUT_OF_PLACE = /^Unexpected message of type \w+ received$/;

/** Of a message, before its type: an id with everything escaped, and what is around it. */
const LONGEST_HEAD = 4096;

/** An event of an operation, as graphql-ws writes it: `{"id":"…","type":"next",…`. */
const EVENT = /^\{"id":("(?:[^"\\]|\\.)*"),"type":"next"/;

/** Of a control frame that a client sends, with its mask. */
const CONTROL_HEAD_BYTES = 6;

/** What a close frame has room for. */
const REASON_BYTES = 123;

/** One WebSocket with its bounds: how much it may send before it has logged in, and how much it may leave unread. */
export class WebSocketClient {
  private stranger = true;
  private closing = false;
  /** Of the message that has not come to its end; control frames between its fragments aside. */
  private received = 0;
  private deadline: NodeJS.Timeout | undefined;
  /** Events that wait to be sent, by operation: each waits for its last one, so there is at most one of each. */
  private readonly events = new Map<string, { bytes: number }>();

  constructor(
    private readonly webSocket: WebSocket,
    private readonly socket: Socket,
    private readonly limits: ClientLimits,
  ) {
    webSocket.on('error', (error) => limits.log.debug({ error }, 'A WebSocket broke'));
    webSocket.on('ping', (data) => this.pong(data));
    webSocket.on('pong', (data) => this.controlled(data));
    this.boundMessage();
    this.boundStranger();
    this.keepAlive();
  }

  loggedIn(): void {
    this.stranger = false;
    this.limits.login();
  }

  /** Resolves when the operating system took it, and for a client that has gone: nobody waits for that one. */
  send(text: string): Promise<void> {
    if (this.webSocket.readyState !== this.webSocket.OPEN) return Promise.resolve();
    const bytes = Buffer.from(text);
    const [, quoted] = EVENT.exec(text.slice(0, LONGEST_HEAD)) ?? [];
    const id = quoted === undefined ? undefined : (JSON.parse(quoted) as string);
    const event = { bytes: bytes.length };
    if (id !== undefined) this.events.set(id, event);
    return new Promise((resolve) => {
      this.webSocket.send(bytes, { binary: false }, () => {
        // The client may use an id again.
        if (id !== undefined && this.events.get(id) === event) this.events.delete(id);
        resolve();
      });
      this.boundUnsent();
      this.limits.written(bytes.length);
    });
  }

  /** The client does not wait for the operation any more: what is left of its event counts as unsent. */
  completed(id: string): void {
    if (this.events.delete(id)) this.boundUnsent();
  }

  /** Says goodbye once: a client that goes on sending is told nothing more. */
  close(code: number, reason: string): void {
    if (this.closing) return;
    this.closing = true;
    this.webSocket.close(code, shortened(reason));
    const timer = setTimeout(() => this.webSocket.terminate(), GOODBYE_MILLISECONDS);
    this.webSocket.once('close', () => clearTimeout(timer));
  }

  /** Bytes of a message that has not come to its end. */
  get unfinished(): number {
    return this.received;
  }

  take(data: RawData, take: (text: string) => Promise<void>): void {
    this.rested(0);
    const bytes = Buffer.isBuffer(data) ? data : Array.isArray(data) ? Buffer.concat(data) : Buffer.from(data);
    const limit = this.stranger ? this.limits.maxLoginBytes : this.limits.maxBodyBytes;
    if (bytes.length > limit) return this.close(TOO_BIG, `Message too large; the limit is ${limit} bytes`);
    if (this.webSocket.readyState === this.webSocket.OPEN) this.settle(take(bytes.toString()));
  }

  /** What the protocol's library could not do is a defect, of this connection alone, but for what no client may send. */
  settle(work: Promise<void>): void {
    work.catch((error: unknown) => {
      if (error instanceof Error && OUT_OF_PLACE.test(error.message))
        return this.close(BAD_REQUEST, 'Invalid message received');
      this.limits.log.error({ error }, 'A message on a WebSocket could not be served');
      this.close(INTERNAL, 'Internal server error');
    });
  }

  private pong(data: Buffer): void {
    this.controlled(data);
    if (this.webSocket.readyState !== this.webSocket.OPEN) return;
    this.webSocket.pong(data, false, () => undefined);
    this.boundUnsent();
  }

  private boundUnsent(): void {
    const limit = this.stranger ? this.limits.maxLoginBytes * 2 : this.limits.maxUnsentBytes;
    const events = [...this.events.values()].reduce((sum, { bytes }) => sum + bytes, 0);
    if (this.webSocket.bufferedAmount - events > limit) this.webSocket.terminate();
  }

  /** A message must come to its end in time. Counted before its library takes the bytes, which may end it. */
  private boundMessage(): void {
    this.socket.prependListener('data', (bytes: Buffer) => {
      this.received += bytes.length;
      this.deadline ??= setTimeout(() => this.webSocket.terminate(), this.limits.bodySeconds * 1000).unref();
    });
    this.webSocket.once('close', () => clearTimeout(this.deadline));
  }

  /** A ping or pong of the client's, which may come between the fragments of a message. */
  private controlled(data: Buffer): void {
    this.rested(Math.max(0, this.received - data.length - CONTROL_HEAD_BYTES));
  }

  private rested(bytes: number): void {
    this.received = bytes;
    if (bytes > 0) return;
    clearTimeout(this.deadline);
    this.deadline = undefined;
  }

  /** Its library takes a message together up to the larger limit; before the login two of the smaller must do. */
  private boundStranger(): void {
    let received = 0;
    const count = (bytes: Buffer) => {
      received += bytes.length;
      if (!this.stranger) this.socket.off('data', count);
      else if (received > 2 * this.limits.maxLoginBytes + 1024)
        this.close(TOO_BIG, 'Not authenticated: send connection_init first');
    };
    this.socket.on('data', count);
  }

  /** Pings keep a healthy connection active; on one that takes nothing they would only add to what it leaves. */
  private keepAlive(): void {
    const milliseconds = this.limits.stallSeconds * 1000;
    const timer = setInterval(() => {
      if (this.webSocket.readyState === this.webSocket.OPEN && this.webSocket.bufferedAmount === 0)
        this.webSocket.ping();
    }, milliseconds / 2);
    this.socket.setTimeout(milliseconds, () => this.webSocket.terminate());
    this.webSocket.once('close', () => clearInterval(timer));
  }
}

/** As much of a reason as a close frame has room for, in whole characters. */
function shortened(reason: string): string {
  const characters = [...reason.slice(0, REASON_BYTES)];
  while (Buffer.byteLength(characters.join('')) > REASON_BYTES) characters.pop();
  return characters.join('');
}
