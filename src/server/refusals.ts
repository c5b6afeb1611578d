import { STATUS_CODES } from 'node:http';
import type { Duplex } from 'node:stream';
import type { Refusal } from './edge.js';
import type { Logger } from '../sessions/index.js';

/** How long a refused client may take to read why, and then to hang up. */
const LINGER_MILLISECONDS = 1000;
const LINES_PER_SECOND = 10;

/** An error outside GraphQL, in one shape everywhere. */
export function errorBody(code: string, message: string): object {
  return { error: { code, message } };
}

/** Answers on a socket that has no response of its own, and closes it: at once for us, within a second for the client. */
export function refuseSocket(socket: Duplex, { status, code, message }: Refusal, headers = ''): void {
  if (socket.destroyed || !socket.writable) {
    socket.destroy();
    return;
  }
  const body = JSON.stringify(errorBody(code, message));
  socket.end(
    `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ''}\r\nconnection: close\r\n${headers}` +
      `content-type: application/json; charset=utf-8\r\ncontent-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
  );
  hangUp(socket);
}

/** Gives the client a moment to read what was written last; what it still sends is thrown away. */
export function hangUp(socket: Duplex): void {
  // Destroyed with unread bytes, the socket would be reset, and the answer lost.
  socket.resume();
  linger(socket);
}

/** The same, but what the client still sends is not even read: it would cost more than the answer is worth. */
export function stopListening(socket: Duplex): void {
  socket.pause();
  linger(socket);
}

function linger(socket: Duplex): void {
  const timer = setTimeout(() => socket.destroy(), LINGER_MILLISECONDS);
  socket.once('close', () => clearTimeout(timer));
}

/** What was refused, in the log: a storm of it is counted instead of written down. */
export class RefusalLog {
  private second = 0;
  private lines = 0;
  private unsaid = 0;

  constructor(
    private readonly log: Logger,
    private readonly now: () => number = Date.now,
  ) {}

  note(refusal: Refusal, details: { address?: string; requestId?: string }): void {
    const second = Math.floor(this.now() / 1000);
    if (second !== this.second) this.turn(second);
    if (++this.lines > LINES_PER_SECOND) this.unsaid++;
    else this.log.info({ ...details, status: refusal.status, code: refusal.code }, `Refused: ${refusal.message}`);
  }

  private turn(second: number): void {
    if (this.unsaid > 0) this.log.info({ count: this.unsaid }, 'Further refused requests are not logged');
    this.second = second;
    this.lines = 0;
    this.unsaid = 0;
  }
}
