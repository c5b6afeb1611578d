import { readFileSync } from 'node:fs';
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { Progress } from './progress.js';
import type { RefusalLog } from './refusals.js';
import { givingWay } from './unread.js';

/** Descriptors that are kept for files, the store and threads. */
const RESERVED_DESCRIPTORS = 256;
const SWEEP_MILLISECONDS = 1000;
/** What is left unread is looked at whenever so much was written, and in every sweep. */
const LOOK_BYTES = 2 ** 20;

const UNREAD = {
  status: 503,
  code: 'UNREAD',
  message: 'The unread data of all connections exceeds maxUnreadMegabytes; one connection was closed.',
};

export interface ConnectionLimits {
  maxConnections: number;
  maxPipelined: number;
  stallSeconds: number;
  maxUnreadMegabytes: number;
}

/** A WebSocket, as far as its connection is concerned. */
export interface Upgraded {
  /** Whether nothing is under way on it. */
  idle(): boolean;
  /** Bytes of a message that has not come to its end. */
  unfinished(): number;
}

interface Connection {
  /** Requests that came on it and were not answered to the end. */
  readonly requests: Set<IncomingMessage>;
  /** Resolves when the answer to the newest of them was taken. */
  answered: Promise<void>;
  /** Whose it is, as far as requests on it have said. */
  address: string;
  /** Set when it has become a WebSocket. */
  upgraded?: Upgraded;
  /** Bytes of the socket when its newest complete request had been answered. */
  read: number;
  readonly progress: Progress;
}

/**
 * Every socket of the server from its first moment to its last. An error of one ends it alone. At the bound, the connection
 * that idles longest gives way to a new one, so that who holds many open that do nothing keeps nobody out.
 */
export class Connections {
  /** Those used least recently first. */
  private readonly open = new Map<Socket, Connection>();
  private readonly bound: number;
  /** Bytes that were written since what is unread was looked at. */
  private unlooked = 0;
  private readonly sweeper: NodeJS.Timeout;

  constructor(
    server: Server,
    private readonly limits: ConnectionLimits,
    private readonly refusals: RefusalLog,
  ) {
    this.bound = Math.max(16, Math.min(limits.maxConnections, descriptorLimit() - RESERVED_DESCRIPTORS));
    server.on('connection', (socket: Socket) => this.admit(socket));
    server.timeout = limits.stallSeconds * 1000;
    server.on('timeout', (socket: Socket) => this.quiet(socket));
    this.sweeper = setInterval(() => this.sweep(), SWEEP_MILLISECONDS).unref();
    server.once('close', () => clearInterval(this.sweeper));
  }

  get count(): number {
    return this.open.size;
  }

  /**
   * Takes note of a request; `undefined` when its connection has too many at once. Resolves when it may be served: one after the
   * other, so that a connection on which nothing is read holds one answer.
   */
  begin(request: IncomingMessage, response: ServerResponse, address: string): Promise<void> | undefined {
    const { socket } = request;
    const connection = this.open.get(socket);
    if (!connection) return Promise.resolve();
    if (connection.requests.size >= this.limits.maxPipelined) return undefined;
    const { answered } = connection;
    connection.address = address;
    connection.requests.add(request);
    connection.answered = new Promise((resolve) => {
      response.once('close', () => {
        connection.requests.delete(request);
        if (request.complete) connection.read = socket.bytesRead;
        if (this.open.delete(socket)) this.open.set(socket, connection);
        resolve();
      });
    });
    response.once('prefinish', () => this.written(response.writableLength));
    return answered;
  }

  /** Takes note of what was written, now and then of what is left unread of it. */
  written(bytes: number): void {
    this.unlooked += bytes;
    if (this.unlooked < LOOK_BYTES) return;
    this.unlooked = 0;
    this.boundUnread();
  }

  /** Whether an answer is under way, in the middle of which nothing else may be written. */
  answering(socket: Socket): boolean {
    return (this.open.get(socket)?.requests.size ?? 0) > 0;
  }

  /** From now on it is a WebSocket's, with limits of its own. */
  upgraded(socket: Socket, upgraded: Upgraded, address: string): void {
    const connection = this.open.get(socket);
    if (connection) Object.assign(connection, { upgraded, address });
  }

  private admit(socket: Socket): void {
    socket.on('error', () => undefined); // What goes wrong closes the socket; nobody else needs to know.
    if (this.open.size >= this.bound && !this.giveWay()) {
      socket.destroy();
      return;
    }
    this.open.set(socket, {
      requests: new Set(),
      answered: Promise.resolve(),
      address: socket.remoteAddress ?? '',
      progress: new Progress(socket),
      read: 0,
    });
    socket.once('close', () => this.open.delete(socket));
  }

  private giveWay(): boolean {
    for (const [socket, { upgraded, requests }] of this.open) {
      if (upgraded ? !upgraded.idle() : [...requests].some(({ complete }) => complete)) continue;
      socket.destroy();
      this.open.delete(socket);
      return true;
    }
    return false;
  }

  /** Nothing came or went for a while: right while we still think, else the client takes nothing or has gone. */
  private quiet(socket: Socket): void {
    if (this.answering(socket) && socket.writableLength === 0) socket.setTimeout(this.limits.stallSeconds * 1000);
    else socket.destroy();
  }

  private boundUnread(): void {
    const unread = [...this.open]
      .map(([socket, connection]) => ({ socket, bytes: heldOf(socket, connection), ...connection }))
      .filter(({ bytes }) => bytes > 0)
      .map(({ socket, address, bytes, progress }) => ({ socket, address, bytes, stalledFor: progress.stalledFor() }));
    for (const { socket, address, bytes } of givingWay(unread, this.limits.maxUnreadMegabytes * 2 ** 20)) {
      this.refusals.note({ ...UNREAD, message: `${UNREAD.message} ${bytes} bytes waited on this one.` }, { address });
      socket.destroy();
      this.open.delete(socket);
    }
  }

  /** Ends who takes nothing; the GraphQL server switches the time limit of sockets off that it streams to. */
  private sweep(): void {
    this.boundUnread();
    const milliseconds = this.limits.stallSeconds * 1000;
    for (const [socket, { upgraded, progress }] of this.open) {
      if (progress.stalledFor() >= milliseconds) socket.destroy();
      else if (!upgraded && !socket.timeout) socket.setTimeout(milliseconds);
    }
  }
}

/** Bytes that are kept for a connection: of answers that its client has not read, and of what has not come to its end. */
function heldOf(socket: Socket, { upgraded, read }: Connection): number {
  return socket.writableLength + (upgraded ? upgraded.unfinished() : socket.bytesRead - read);
}

/** How many files the process may have open; no limit where the system does not tell. */
function descriptorLimit(): number {
  try {
    const [, limit] = /^Max open files\s+(\d+)/m.exec(readFileSync('/proc/self/limits', 'utf8')) ?? [];
    return limit === undefined ? Infinity : Number(limit);
  } catch {
    return Infinity;
  }
}
