/**
 * A proxy in front of an S3-compatible server that does on demand what servers and networks do: refuses, delays, hangs, cuts
 * bodies, loses answers. Signatures hold: the client's Host goes on to the server.
 */
import {
  type ClientRequest,
  createServer,
  type IncomingMessage,
  request as send,
  type Server,
  type ServerResponse,
} from 'node:http';
import type { AddressInfo } from 'node:net';

/** A request to the store, as faults are chosen by. */
export interface Asked {
  method: string;
  /** Decoded, behind the bucket: `sessions/…/log/000000.jsonl`; empty for requests to the bucket itself. */
  key: string;
  query: URLSearchParams;
  headers: IncomingMessage['headers'];
  /** `If-None-Match` or `If-Match`. */
  conditional: boolean;
  /** GET of the bucket. */
  listing: boolean;
}

/** What goes wrong; several may be combined with `delayMs`. */
export interface Fault {
  delayMs?: number;
  /** Answered without asking the server, with S3's code in the body. */
  status?: number;
  code?: string;
  headers?: Record<string, string>;
  /** Never answered; the connection stays open until the proxy heals or stops. */
  hang?: boolean;
  /** The connection is reset at once. */
  reset?: boolean;
  /** The server does its work and the answer gets lost: the client sees a reset. */
  loseAnswer?: boolean;
  /** So many bytes of the answer's body arrive, then the connection breaks. */
  cutAnswerAt?: number;
  /** So many bytes of the request's body reach the server, then both connections break. */
  cutRequestAt?: number;
}

export class FaultyProxy {
  /** Asked of every request; undefined passes it on. */
  fault: (asked: Asked) => Fault | undefined = () => undefined;
  readonly asked: Asked[] = [];
  private readonly held = new Set<ServerResponse>();
  private readonly server: Server;

  private constructor(private readonly target: URL) {
    this.server = createServer((request, response) => void this.serve(request, response));
    this.server.keepAliveTimeout = 0;
  }

  static async start(target: string): Promise<FaultyProxy> {
    const proxy = new FaultyProxy(new URL(target));
    await new Promise<void>((resolve) => proxy.server.listen(0, '127.0.0.1', resolve));
    return proxy;
  }

  get endpoint(): string {
    return `http://127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  /** No more faults; what hangs is reset. */
  heal(): void {
    this.fault = () => undefined;
    for (const response of this.held) response.destroy();
    this.held.clear();
  }

  async stop(): Promise<void> {
    this.heal();
    this.server.closeAllConnections();
    await new Promise((resolve) => this.server.close(resolve));
  }

  private async serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const asked = askedOf(request);
    this.asked.push(asked);
    const fault = this.fault(asked) ?? {};
    request.on('error', () => undefined);
    response.on('error', () => undefined);
    if (fault.delayMs !== undefined) await new Promise((resolve) => setTimeout(resolve, fault.delayMs));
    if (fault.reset) return void request.socket.resetAndDestroy();
    if (fault.hang) return this.hold(request, response);
    if (fault.status !== undefined) return refuse(request, response, fault);
    this.pass(request, response, fault);
  }

  private hold(request: IncomingMessage, response: ServerResponse): void {
    request.resume();
    this.held.add(response);
    response.once('close', () => this.held.delete(response));
  }

  private pass(request: IncomingMessage, response: ServerResponse, fault: Fault): void {
    const { hostname, port } = this.target;
    const { headers } = request;
    const upstream = send({ hostname, port, path: request.url, method: request.method, headers, agent: false });
    upstream.on('error', () => request.socket.resetAndDestroy());
    upstream.on('continue', () => response.writeContinue());
    upstream.on('response', (answer) => {
      if (fault.loseAnswer) {
        answer.resume().once('end', () => request.socket.resetAndDestroy());
        return;
      }
      response.writeHead(answer.statusCode ?? 502, answer.headers);
      if (fault.cutAnswerAt === undefined) answer.pipe(response);
      else cutAfter(answer, fault.cutAnswerAt, response, () => request.socket.destroy());
    });
    if (fault.cutRequestAt === undefined) request.pipe(upstream);
    else {
      cutAfter(request, fault.cutRequestAt, upstream, () => {
        upstream.destroy();
        request.socket.resetAndDestroy();
      });
    }
  }
}

function askedOf(request: IncomingMessage): Asked {
  const url = new URL(request.url ?? '/', 'http://proxy');
  const key = decodeURIComponent(url.pathname).split('/').slice(2).join('/');
  const { headers, method = 'GET' } = request;
  return {
    method,
    key,
    query: url.searchParams,
    headers,
    conditional: headers['if-none-match'] !== undefined || headers['if-match'] !== undefined,
    listing: method === 'GET' && key === '',
  };
}

function refuse(request: IncomingMessage, response: ServerResponse, { status = 500, code, headers }: Fault): void {
  const body = `<?xml version="1.0" encoding="UTF-8"?><Error><Code>${code ?? CODES[status] ?? 'InternalError'}</Code><Message>as asked for</Message></Error>`;
  request.resume().once('end', () => {
    response.writeHead(status, { 'content-type': 'application/xml', ...headers });
    response.end(request.method === 'HEAD' ? undefined : body);
  });
}

/** What S3 calls them. */
const CODES: Readonly<Record<number, string>> = {
  301: 'PermanentRedirect',
  400: 'AuthorizationHeaderMalformed',
  403: 'AccessDenied',
  409: 'ConditionalRequestConflict',
  412: 'PreconditionFailed',
  500: 'InternalError',
  501: 'NotImplemented',
  503: 'SlowDown',
};

function cutAfter(from: IncomingMessage, bytes: number, to: ServerResponse | ClientRequest, cut: () => void): void {
  let left = bytes;
  from.on('data', (part: Buffer) => {
    if (left <= 0) return;
    const passed = part.subarray(0, left);
    left -= part.length;
    to.write(passed, () => {
      if (left <= 0) cut();
    });
  });
  from.on('end', () => {
    if (left > 0) to.end();
  });
}
